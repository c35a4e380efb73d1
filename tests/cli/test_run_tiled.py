"""`pixelmill run` in tiles: large sources by themselves, small ones where that is asked for."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_tools import Cli, clean_environment, command, picture
from numpy.typing import NDArray

from pixelmill import Image, Pipeline
from pixelmill.images.decode import decode
from pixelmill.images.image import Size
from pixelmill.images.limits import Limits
from pixelmill.images.region_writers import create_regions
from pixelmill.images.regions import Raster, Region

Pixels = NDArray[np.uint8]


def photograph(width: int, height: int, channels: int = 1) -> Pixels:
    rng = np.random.default_rng(4)
    shape = (height, width) if channels == 1 else (height, width, channels)
    noise = rng.integers(0, 256, shape, np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.asarray(cv2.normalize(smooth, smooth, 0, 255, cv2.NORM_MINMAX), np.uint8)


def write_tiff(path: Path, width: int, height: int, channels: int = 1) -> Pixels:
    pixels = photograph(width, height, channels)
    writer = create_regions(path, Raster(Size(width, height), channels, np.dtype(np.uint8)))
    writer.write(Region(0, 0, width, height), pixels)
    writer.finish()
    return pixels


def pixels_of(path: Path) -> Pixels:
    found = decode(path.read_bytes(), limits=Limits(10**10, 10**10, 10**6)).pixels
    assert found.dtype == np.uint8
    return found.astype(np.uint8)


def leftovers(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_an_image_beyond_the_limits_runs_in_tiles_and_gives_what_the_whole_gives(cli: Cli, tmp_path: Path) -> None:
    pixels = write_tiff(tmp_path / "large.tif", 1500, 1100)
    small = {"PIXELMILL_MAX_PIXELS": "1000000"}
    done = cli("run", "gaussian:2/canny:20,40", tmp_path / "large.tif", "-o", tmp_path / "out.tif", env=small)
    assert done.returncode == 0, done.stderr
    expected = Pipeline.parse("gaussian:2/canny:20,40/format:png").run(Image(pixels)).image.pixels
    assert np.array_equal(pixels_of(tmp_path / "out.tif"), expected)
    assert leftovers(tmp_path) == ["cwd", "large.tif", "out.tif"]


def test_what_takes_more_memory_than_there_is_runs_in_tiles(cli: Cli, tmp_path: Path) -> None:
    write_tiff(tmp_path / "large.tif", 4000, 4000, 3)
    tight = {"PIXELMILL_MEMORY": "100MB"}
    done = cli("run", "unsharp", tmp_path / "large.tif", "-o", "x.tif", "--explain", env=tight)
    assert done.returncode == 0, done.stderr
    told = done.stdout.decode()
    assert "in tiles: the whole image would take about" in told
    assert "sweep 1" in told
    assert "unsharp: local, cv2-exact, halo" in told
    assert "computed twice" in told
    assert "MB of memory at the peak" in told
    whole = cli("run", "unsharp", tmp_path / "large.tif", "-o", "x.tif", "--explain")
    assert b"in tiles" not in whole.stdout


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_tiles_are_forced_on_small_images_of_any_format(cli: Cli, tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"a.{suffix}"
    source.write_bytes(picture(1, suffix=f".{suffix}"))
    out = tmp_path / "out.png"
    done = cli("run", "gaussian:1.5/equalize/dilate", source, "-o", out, "--tile", "64", "--json")
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[0])
    assert line["tiles"] >= 2 * 3
    expected = Pipeline.parse("gaussian:1.5/equalize/dilate/format:png").run(source).image.pixels
    assert np.array_equal(decode(out.read_bytes()).pixels, expected)


def test_several_sources_and_folders_run_in_tiles_one_after_the_other(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    done = cli("run", "median/format:png", pictures, "-o", tmp_path / "out", "--tile", "64")
    assert done.returncode == 0, done.stderr
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"a.png", "b.png", "sub/c.png", "sub/a.png"}


def test_tiles_go_to_standard_output_and_come_from_standard_input(cli: Cli) -> None:
    done = cli("run", "invert/format:png", "-", "-o", "-", "--tile", "64", stdin=picture(1))
    assert done.returncode == 0, done.stderr
    assert np.array_equal(decode(done.stdout).pixels, Pipeline.parse("invert/format:png").run(picture(1)).image.pixels)


def test_a_step_that_needs_the_whole_image_is_refused_with_the_size_at_which_it_would_fit(
    cli: Cli, tmp_path: Path
) -> None:
    write_tiff(tmp_path / "large.tif", 1500, 1000, 3)
    small = {"PIXELMILL_MAX_PIXELS": "1000000"}
    done = cli("run", "gaussian:1/grabcut", tmp_path / "large.tif", "-o", tmp_path / "out.tif", env=small)
    assert done.returncode == 1
    message = done.stderr.decode()
    assert "Step 2: grabcut needs the whole image" in message
    assert "1,224×816" in message
    assert leftovers(tmp_path) == ["cwd", "large.tif"]


def test_what_an_analysis_finds_is_printed(cli: Cli, tmp_path: Path) -> None:
    pixels = write_tiff(tmp_path / "large.tif", 700, 500)
    done = cli("run", "threshold/components", tmp_path / "large.tif", "-o", tmp_path / "out.tif", "--tile", "128")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found == json.loads(json.dumps(dict(Pipeline.parse("threshold/components").run(Image(pixels)).data)))


def test_metadata_that_tiles_do_not_carry_is_said_once(cli: Cli, tmp_path: Path) -> None:
    write_tiff(tmp_path / "large.tif", 300, 200)
    arguments = ("run", "invert/metadata:keep", tmp_path / "large.tif", "-o", tmp_path / "out.tif", "--tile", "64")
    said = b"EXIF, XMP and IPTC of the source are not carried"
    explained = cli(*arguments, "--explain")
    assert explained.stdout.count(said) == 1
    record = json.loads(cli(*arguments, "--explain", "--json").stdout)
    assert record["tiles"]["not_carried"] == ["exif", "xmp", "iptc"]
    done = cli(*arguments)
    assert done.returncode == 0
    assert done.stderr.count(said) == 1


def test_existing_results_are_refused_skipped_or_replaced(cli: Cli, tmp_path: Path) -> None:
    write_tiff(tmp_path / "large.tif", 300, 200)
    out = tmp_path / "out.tif"
    out.write_bytes(b"mine")
    arguments = ("run", "invert", tmp_path / "large.tif", "-o", out, "--tile", "64")
    refused = cli(*arguments)
    assert refused.returncode == 1
    assert b"--skip-existing" in refused.stderr
    assert cli(*arguments, "--skip-existing").returncode == 0
    assert out.read_bytes() == b"mine"
    assert cli(*arguments, "--overwrite").returncode == 0
    assert pixels_of(out).shape == (200, 300)


def test_a_truncated_source_is_a_clear_error_and_leaves_no_result(cli: Cli, tmp_path: Path) -> None:
    write_tiff(tmp_path / "large.tif", 1500, 1100)
    whole = (tmp_path / "large.tif").read_bytes()
    (tmp_path / "torn.tif").write_bytes(whole[: len(whole) // 2])
    small = {"PIXELMILL_MAX_PIXELS": "1000000"}
    done = cli("run", "gaussian:2", tmp_path / "torn.tif", "-o", tmp_path / "out.tif", env=small)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert leftovers(tmp_path) == ["cwd", "large.tif", "torn.tif"]


def test_the_bar_tells_tiles_speed_memory_and_time_left(cli: Cli, tmp_path: Path) -> None:
    write_tiff(tmp_path / "large.tif", 700, 500)
    done = cli("run", "equalize", tmp_path / "large.tif", "-o", tmp_path / "out.tif", "--tile", "512", "--progress")
    assert done.returncode == 0, done.stderr
    shown = done.stderr.decode()
    for part in ("sweep 2/2", "2/2 tiles", "MP/s", "MB", "left"):
        assert part in shown, shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    write_tiff(tmp_path / "large.tif", 3000, 3000, 3)
    arguments = command("run", "denoise:10", tmp_path / "large.tif", "-o", tmp_path / "out.tif", "--tile", "256")
    running = subprocess.Popen(arguments, env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not any(name.endswith(".part") for name in leftovers(tmp_path)):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)  # between two looks; the bound is above
    running.send_signal(number)
    running.communicate(timeout=60)
    assert running.returncode == 128 + number
    assert leftovers(tmp_path) == ["large.tif"]


def test_among_several_files_the_large_one_runs_in_tiles_and_the_others_whole(cli: Cli, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    pixels = write_tiff(folder / "large.tif", 1500, 1100)
    (folder / "small.png").write_bytes(picture(1, suffix=".png"))
    small = {"PIXELMILL_MAX_PIXELS": "1000000"}
    done = cli("run", "gaussian:2", folder, "-o", out, "--json", env=small)
    assert done.returncode == 0, done.stdout + done.stderr
    *reports, summary = map(json.loads, done.stdout.splitlines())
    assert [("tiles" in report, Path(report["output"]).name) for report in reports] == [
        (False, "small.png"),
        (True, "large.tif"),
    ]
    assert summary["summary"]["failed"] == 0
    whole = Pipeline.parse("gaussian:2/format:png").run(Image(pixels)).image.pixels
    assert np.array_equal(pixels_of(out / "large.tif"), whole)
    told = cli("run", "gaussian:2", folder, "-o", out, "--explain", env=small)
    assert b"in tiles" in told.stdout
    steps = "gaussian:1/grabcut"  # it can't be done in tiles
    refused = cli("run", steps, folder, "-o", tmp_path / "other", env=small)
    assert refused.returncode == 1
    assert b"needs the whole image" in refused.stderr
    assert leftovers(tmp_path / "other") == ["small.json", "small.png"]
