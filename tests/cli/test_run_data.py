"""`pixelmill run` where a pipeline gives data and no image."""

from __future__ import annotations

import json
from pathlib import Path

from cli_tools import Cli

from pixelmill import Pipeline


def test_data_of_one_source_is_printed(cli: Cli, pictures: Path) -> None:
    expected = Pipeline.parse("info/phash").run(pictures / "a.jpg").data
    for more in ([], ["-o", "-"], ["--workers", "1"]):
        done = cli("run", "info/phash", pictures / "a.jpg", *more)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == expected
        assert done.stderr == b""


def test_data_of_several_sources_are_lines_with_their_names(cli: Cli, pictures: Path) -> None:
    done = cli("run", "phash", pictures / "a.jpg", pictures / "b.png")
    assert done.returncode == 0, done.stderr
    lines = {line["source"]: line["data"] for line in map(json.loads, done.stdout.splitlines())}
    assert lines == {
        str(pictures / name): Pipeline.parse("phash").run(pictures / name).data for name in ("a.jpg", "b.png")
    }


def test_json_lines_and_folders_take_data_too(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    done = cli("run", "info", pictures / "a.jpg", "--json")
    line = json.loads(done.stdout.splitlines()[0])
    assert (line["state"], line["format"], line["size"], line["bytes"]) == ("succeeded", None, None, None)
    assert line["data"]["info"]["width"] == line["source_size"][0]
    done = cli("run", "info", pictures / "a.jpg", "-o", tmp_path / "out/")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.json"]
    assert json.loads((tmp_path / "out" / "a.json").read_text()) == {"info": line["data"]["info"]}


def test_existing_data_is_skipped_by_the_name_of_its_own_file(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.jpg").write_bytes(b"a picture is no result of info")
    (out / "b.json").write_text("mine")
    done = cli("run", "info", pictures / "a.jpg", pictures / "b.png", "-o", out, "--skip-existing")
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "a.json").read_text())["info"]["width"] > 0
    assert (out / "b.json").read_text() == "mine"
    refused = cli("run", "info", pictures / "b.png", "-o", f"{out}/")
    assert refused.returncode == 1
    assert b"b.json exists already" in refused.stderr


def test_an_image_still_needs_a_place(cli: Cli, pictures: Path) -> None:
    done = cli("run", "info/format:png", pictures / "a.jpg")
    assert done.returncode != 0
    assert b"Say where results go" in done.stderr
