"""`pixelmill run --mpi N`: the pixels of a plain run; Ctrl-C leaves neither ranks nor anything at the destination."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import tifffile
from big_images import scene, whole, write_tiff
from service_process import wait_until

from pixelmill.errors import PixelmillError
from pixelmill.targets.launch import command
from pixelmill.targets.tiled_settings import MpiConfig

MORE = ("--set", "mpi_oversubscribe=true")


@pytest.fixture(scope="module", autouse=True)
def _needs_mpi() -> None:
    try:
        command(2, MpiConfig(2))
    except PixelmillError as error:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(str(error))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("picture") / "big.tif", scene(1500, 1200))


def line(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "pixelmill", "run", *map(str, arguments)]


def has_written(folder: Path) -> bool:
    return any(path.stat().st_size > 1_000 for path in folder.glob(".pixelmill-*/spool-*"))


def refused(*arguments: str | Path) -> str:
    done = subprocess.run(line(*arguments), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    return done.stderr


def test_ranks_write_what_one_process_writes_and_say_how_far_they_are(picture: Path, tmp_path: Path) -> None:
    dest = tmp_path / "out" / "edges.tif"
    arguments = line(
        "gaussian:2/canny:20,40", picture, "-o", dest, "--mpi", "2", "--tile", "256", "--json", "--progress", *MORE
    )
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[0])
    assert (report["state"], report["ranks"], report["size"]) == ("succeeded", 2, [1500, 1200])
    assert (tifffile.imread(dest) == whole("gaussian:2/canny:20,40/format:tiff", picture)).all()
    assert [path.name for path in dest.parent.iterdir()] == ["edges.tif"]
    for word in ("tiles", "MP/s", "MB", "left"):
        assert word in done.stderr
    again = subprocess.run(arguments, capture_output=True, text=True, timeout=100)
    assert again.returncode == 1
    assert "edges.tif" in again.stderr + again.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_ranks_and_leaves_nothing(picture: Path, tmp_path: Path, number: signal.Signals) -> None:
    dest = tmp_path / "out.tif"
    arguments = line("denoise:7", picture, "-o", dest, "--mpi", "2", "--tile", "64", *MORE)
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as command_:
        wait_until(lambda: has_written(tmp_path), "tiles are written")
        family = psutil.Process(command_.pid).children(recursive=True)
        assert len(family) >= 3
        command_.send_signal(number)
        assert command_.wait(30) == 128 + number
    assert not any(one.is_running() and one.status() != "zombie" for one in family)
    assert list(tmp_path.iterdir()) == []


def test_more_ranks_than_cores_and_formats_that_ranks_do_not_write_are_refused(picture: Path, tmp_path: Path) -> None:
    assert "mpi_oversubscribe" in refused("invert", picture, "-o", tmp_path / "a.tif", "--mpi", "999")
    assert "Leave --mpi out" in refused("invert", picture, "-o", tmp_path / "a.dzi", "--mpi", "1")
    assert list(tmp_path.iterdir()) == []
