"""`preset:NAME` and `format:auto` on the command line: where they come from, and which files result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_tools import Cli, picture

from pixelmill.pipelines.presets import BUILT_IN

MINE = '[presets]\nsmall = "resize:40/format:png"\ntiny = "preset:small/resize:8"\n'


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The folder that commands run in, with a configuration."""
    folder = tmp_path / "cwd"
    folder.mkdir(exist_ok=True)
    (folder / "pixelmill.toml").write_text(MINE)
    return folder


def test_presets_are_listed_built_in_and_ones_own(cli: Cli, here: Path) -> None:
    listed = json.loads(cli("presets", "--json", cwd=here).stdout)
    assert [item["name"] for item in listed] == [*(preset.name for preset in BUILT_IN), "small", "tiny"]
    assert listed[-1] == {
        "name": "tiny",
        "title": "tiny",
        "summary": "",
        "built_in": False,
        "form": "preset:small/resize:8",
        "pipeline": "resize:40/resize:8/format:png",
        "images": [],
        "available": True,
        "missing": [],
    }
    assert cli("presets", "tiny", cwd=here).stdout.decode().strip() == listed[-1]["pipeline"]
    text = cli("presets", cwd=here).stdout.decode()
    assert all(item["name"] in text for item in listed)


def test_run_takes_presets_in_one_process_and_in_the_pool(cli: Cli, here: Path, pictures: Path) -> None:
    one = cli("run", "preset:tiny", pictures / "a.jpg", "-o", "one/", "--json", cwd=here)
    assert json.loads(one.stdout.splitlines()[0])["size"][0] == 8, one.stderr
    many = cli("run", "preset:tiny", pictures, "-o", "many", "--json", "--workers", "1", cwd=here)
    assert many.returncode == 0, many.stderr
    assert sorted(path.name for path in (here / "many").rglob("*.*")) == ["a.png", "a.png", "b.png", "c.png"]


def test_an_unknown_preset_names_the_nearest(cli: Cli, here: Path, pictures: Path) -> None:
    done = cli("run", "preset:smal", pictures / "a.jpg", "-o", "x/", cwd=here)
    assert done.returncode == 2
    assert b"Did you mean small" in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[presets]\nbad = "rezise:3"', ["pixelmill.toml", "bad", "rezise", "resize"]),
        ('[presets]\nUpper = "invert"', ["pixelmill.toml", "Upper", "small letter"]),
        ("[presets]\nnumber = 3", ["pixelmill.toml", "number", "text in quotes"]),
        ("presets = 3", ["pixelmill.toml", "table"]),
        ('[presets]\na = "preset:b"\nb = "preset:a"', ["pixelmill.toml", "holds itself"]),
    ],
)
@pytest.mark.parametrize("command", ["presets", "serve"])
def test_a_wrong_preset_is_told_with_file_and_name(
    cli_here: Cli, here: Path, command: str, text: str, words: list[str]
) -> None:
    (here / "pixelmill.toml").write_text(text)
    done = cli_here(command, cwd=here)
    assert done.returncode == 2
    assert all(word in done.stderr.decode() for word in words), done.stderr


def test_auto_gives_files_the_extension_of_what_was_chosen(cli: Cli, here: Path, pictures: Path) -> None:
    done = cli("run", "format:auto,accept=webp", pictures, "-o", "out", "--json", "--workers", "1", cwd=here)
    lines = [json.loads(line) for line in done.stdout.splitlines()][:-1]
    assert {line["format"] for line in lines} == {"webp"}
    assert all(Path(line["output"]).suffix == ".webp" for line in lines)
    assert all((here / line["output"]).read_bytes()[8:12] == b"WEBP" for line in lines)


def test_auto_skips_what_has_a_result_of_any_format(cli: Cli, here: Path, pictures: Path) -> None:
    (here / "out").mkdir()
    (here / "out" / "a.jpg").write_bytes(picture(1))
    done = cli("run", "format:auto,accept=webp", pictures / "a.jpg", "-o", "out", "--skip-existing", "--json", cwd=here)
    assert json.loads(done.stdout.splitlines()[0]) == {
        "source": str(pictures / "a.jpg"),
        "state": "skipped",
        "output": "out/a.jpg",
    }
    again = cli("run", "format:auto,accept=webp", pictures / "a.jpg", "-o", "out", cwd=here)
    assert again.returncode == 0, again.stderr  # another name: nothing is replaced
    refused = cli("run", "format:auto,accept=webp", pictures / "a.jpg", "-o", "out", cwd=here)
    assert refused.returncode == 1
    assert b"exists already" in refused.stderr


def test_a_files_name_narrows_auto(cli: Cli, here: Path, pictures: Path) -> None:
    done = cli("run", "format:auto", pictures / "a.jpg", "-o", "x.png", "--json", cwd=here)
    assert json.loads(done.stdout.splitlines()[0])["format"] == "png"
    refused = cli("run", "format:auto,accept=webp", pictures / "a.jpg", "-o", "x.tiff", cwd=here)
    assert refused.returncode == 2
    assert b"may choose webp" in refused.stderr


def test_explain_says_auto(cli: Cli, here: Path, pictures: Path) -> None:
    record = json.loads(cli("run", "preset:web", pictures / "a.jpg", "--explain", "--json", cwd=here).stdout)
    assert record["format"] == "auto"
    assert record["pipeline"] == "resize:1600,1600,fit=inside/format:auto"
