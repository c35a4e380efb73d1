from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from cli_tools import Cli, clean_environment, command, picture

from pixelmill import Pipeline, probe
from pixelmill.errors import CorruptImage, WorkerCrashed

MANY = 48
PIPELINE = "grayscale/resize:64,64,fit=inside/format:jpeg,quality=80"


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_keeps_its_shape_and_the_library_gives_the_same_bytes(
    cli: Cli, pictures: Path, tmp_path: Path
) -> None:
    done = cli("run", PIPELINE, pictures, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "out") == {"a.jpg", "b.jpg", "sub/c.jpg", "sub/a.jpeg"}
    assert b"4 of 4 written" in done.stderr
    assert b"1 files in the folders are left out" in done.stderr
    assert done.stdout == b""
    for source, result in (("a.jpg", "a.jpg"), ("b.png", "b.jpg"), ("sub/c.webp", "sub/c.jpg")):
        expected = Pipeline.parse(PIPELINE).run(pictures / source).bytes
        assert (tmp_path / "out" / result).read_bytes() == expected


def test_globs_and_files_mix_and_clashing_names_are_distinct_and_told(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    done = cli("run", PIPELINE, f"{pictures}/**/*.jp*g", pictures / "a.jpg", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "out") == {"a.jpg", "sub/a.jpeg", "a-2.jpg"}
    assert b"a-2 because another source has the name a" in done.stderr


def test_one_file_to_one_file_takes_the_format_of_its_extension(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "small.webp"
    done = cli("run", "resize:32", pictures / "a.jpg", "-o", out)
    assert done.returncode == 0, done.stderr
    assert probe(out.read_bytes()).format == "webp"


def test_a_file_in_the_place_of_the_folder_is_told_as_what_it_is(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("no folder")
    for out in ("taken/", "taken/below/"):
        done = cli("run", "resize:32", pictures / "a.jpg", "-o", f"{tmp_path}/{out}")
        assert done.returncode == 1
        assert b"a file is in the place of that folder" in done.stderr
        assert b"--overwrite" not in done.stderr


def test_stdin_goes_to_stdout_and_nothing_else_does(cli: Cli) -> None:
    done = cli("run", "resize:32/format:png", "-", "-o", "-", stdin=picture(1))
    assert done.returncode == 0, done.stderr
    assert probe(done.stdout).format == "png"
    assert done.stdout == Pipeline.parse("resize:32/format:png").run(picture(1)).bytes
    assert done.stderr == b""


def test_stdin_goes_through_the_pool_to_a_file_too(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", "resize:32/format:png", "-", "-o", tmp_path / "out/", "--timeout", "60s", stdin=picture(1))
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "out") == {"stdin.png"}
    piped = cli("run", "resize:32/format:png", "-", "-o", "-", "--workers", "1", stdin=picture(1))
    assert piped.stdout == (tmp_path / "out" / "stdin.png").read_bytes()


def test_what_fails_is_told_at_the_end_and_the_rest_is_done(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    (pictures / "torn.jpg").write_bytes(picture(9)[:200])
    (pictures / "text.png").write_text("no image at all")
    done = cli("run", PIPELINE, pictures, tmp_path / "absent.jpg", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert files(tmp_path / "out") == {"a.jpg", "b.jpg", "sub/c.jpg", "sub/a.jpeg"}
    message = done.stderr.decode()
    assert "4 of 7 written" in message
    for name, kind in (("torn.jpg", "corrupt-image"), ("text.png", "unsupported-format"), ("absent.jpg", "object-not")):
        assert any(name in line and kind in line for line in message.splitlines()), message
    assert "Traceback" not in message


def test_json_gives_a_line_a_source_and_a_summary(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    (pictures / "torn.jpg").write_bytes(picture(9)[:200])
    done = cli("run", PIPELINE, pictures, "-o", tmp_path / "out", "--json")
    assert done.returncode == 1
    *lines, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert last["summary"] | {"seconds": 0, "images_per_second": 0} == {
        "sources": 5, "succeeded": 4, "failed": 1, "skipped": 0, "seconds": 0, "images_per_second": 0,
    }  # fmt: skip
    by_name = {Path(line["source"]).name: line for line in lines}
    assert by_name["torn.jpg"]["error"]["type"] == CorruptImage.type
    good = by_name["a.jpg"]
    assert Path(good["output"]).stat().st_size == good["bytes"]
    assert (good["format"], good["size"], good["source_size"]) == ("jpeg", [64, 48], [160, 120])
    assert good["timings"]["decode_ms"] > 0


def test_the_progress_bar_is_drawn_where_asked_for(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    drawn = cli("run", PIPELINE, pictures, "-o", tmp_path / "one", "--progress")
    assert b"4/4" in drawn.stderr
    assert b"4/4" not in cli("run", PIPELINE, pictures, "-o", tmp_path / "two").stderr


def test_existing_results_are_refused_skipped_or_replaced_as_asked(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli("run", PIPELINE, pictures, "-o", out).returncode == 0
    (out / "a.jpg").write_bytes(b"mine")
    refused = cli("run", PIPELINE, pictures, "-o", out)
    assert refused.returncode == 1
    assert b"--skip-existing" in refused.stderr
    skipped = cli("run", PIPELINE, pictures, "-o", out, "--skip-existing", "--json")
    assert skipped.returncode == 0
    assert json.loads(skipped.stdout.splitlines()[-1])["summary"]["skipped"] == 4
    assert (out / "a.jpg").read_bytes() == b"mine"
    assert cli("run", PIPELINE, pictures, "-o", out, "--overwrite").returncode == 0
    assert (out / "a.jpg").read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "greyscale", "a.jpg", "-o", "x"), "grayscale"),
        (("run", "gaussian:0", "a.jpg", "-o", "x"), "0.1"),
        (("run", "resize:10,,", "a.jpg", "-o", "x"), "character 11"),
        (("run", "invert", "a.jpg"), "-o"),
        (("run", "invert", "a.jpg", "b.jpg", "-o", "-"), "several sources"),
        (("run", "invert", "a.jpg", "b.jpg", "-o", "x.png"), "folder"),
        (("run", "invert/format:png", "a.jpg", "-o", "x.jpg"), "format:png"),
        (("run", "invert", "a.jpg", "-o", "x.tga"), ".tga"),
        (("run", "invert", "a.jpg", "-o", "-", "--json"), "--json"),
        (("run", "invert", "a.jpg", "-o", "x", "--overwrite", "--skip-existing"), "--skip-existing"),
        (("run", "invert", "-", "-", "-o", "x"), "once"),
        (("run", "watermark:absent.png", "a.jpg", "-o", "x"), "absent.png"),
        (("run", "invert", "a.jpg", "-o", "x", "--workers", "many"), "--workers"),
        (("run", "invert", "a.jpg", "-o", "x", "--set", "max_byte=1"), "max_bytes"),
        (("run", "invert"), "SOURCE"),
        (("runn",), "run"),
        (("serve", "--port", "http"), "PIXELMILL_PORT"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
def test_a_wrong_command_line_ends_with_2_and_says_what_is_right(
    cli_here: Cli, arguments: tuple[str, ...], says: str
) -> None:
    done = cli_here(*arguments)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""


def test_limits_of_the_configuration_hold(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    done = cli("run", "invert", pictures / "a.jpg", "-o", tmp_path / "x.jpg", env={"PIXELMILL_MAX_SIDE": "100"})
    assert done.returncode == 1
    assert b"PIXELMILL_MAX_SIDE" in done.stderr
    assert not (tmp_path / "x.jpg").exists()


def test_explain_prints_the_plan_and_runs_nothing(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    done = cli("run", PIPELINE, pictures / "a.jpg", "-o", tmp_path / "out", "--explain")
    assert done.returncode == 0, done.stderr
    assert b"luma" in done.stdout
    assert not (tmp_path / "out").exists()
    record = json.loads(cli("run", PIPELINE, pictures / "a.jpg", "--explain", "--json").stdout)
    assert record["decode"]["color"] is False
    assert record["size"] == [64, 48]


def test_unwritable_results_are_a_clear_failure(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    done = cli("run", PIPELINE, pictures / "a.jpg", "-o", f"{tmp_path}/out/below/x.jpg")
    assert done.returncode == 1
    assert b"can't be written" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_source_that_takes_too_long_fails_alone(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    slow = pictures / "slow.jpg"
    slow.write_bytes(picture(7, 6000, 4000))
    # The full denoising of 24 megapixels takes minutes; the small ones are done in time.
    done = cli("run", "sketch:full/format:png", pictures, "-o", tmp_path / "out", "--timeout", "5s", "--json")
    assert done.returncode == 1
    failed = [line for line in map(json.loads, done.stdout.splitlines()) if line.get("state") == "failed"]
    assert [(Path(line["source"]).name, line["error"]["type"]) for line in failed] == [("slow.jpg", "task-timeout")]
    assert files(tmp_path / "out") == {"a.png", "b.png", "sub/c.png", "sub/a.png"}


def start(tmp_path: Path, source: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command("run", "sketch:full/format:jpeg", source, "-o", tmp_path / "out", *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        cwd=tmp_path,
        process_group=0,
    )


def wait_for_results(process: subprocess.Popen[bytes], out: Path) -> None:
    deadline = time.monotonic() + 60
    while not list(out.glob("*.jpg")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)  # between two looks; the bound is above


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Enough work to be interrupted in."""
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(MANY):
        (folder / f"{index:03}.jpg").write_bytes(picture(index, 480, 360))
    return folder


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_of_the_group_leaves_no_process_and_no_half_file(
    tmp_path: Path, many: Path, number: signal.Signals, code: int
) -> None:
    process = start(tmp_path, many)
    wait_for_results(process, tmp_path / "out")
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert b"Traceback" not in errors
    assert b"the same command with --skip-existing goes on" in errors
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive
    names = files(tmp_path / "out")
    assert 0 < len(names) < MANY
    assert all(not name.startswith(".") for name in names)
    for name in names:
        assert probe((tmp_path / "out" / name).read_bytes()).size == (480, 360)


def test_the_death_of_the_command_takes_its_pool_along(tmp_path: Path, many: Path) -> None:
    process = start(tmp_path, many)
    wait_for_results(process, tmp_path / "out")
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=30)
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive


def test_a_killed_worker_costs_nothing_but_another_attempt(tmp_path: Path, many: Path) -> None:
    process = start(tmp_path, many, "--json")
    wait_for_results(process, tmp_path / "out")
    zygote = psutil.Process(process.pid).children()
    workers = [worker for parent in zygote for worker in parent.children()]
    assert workers
    workers[0].kill()
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output.decode()[-1500:]
    assert len(files(tmp_path / "out")) == MANY
    assert WorkerCrashed.type not in output.decode()
