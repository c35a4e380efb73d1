"""Runs over tiles in processes of their own: exact, ended when they must be, taken up where they were."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import tifffile
from big_images import order_of, scene, whole, write_tiff
from PIL import Image as PilImage

from pixelmill.errors import (
    ConfigError,
    CorruptImage,
    LimitExceeded,
    NotTileable,
    OutOfMemory,
    StorageFull,
    StorageUnavailable,
    TaskTimeout,
    WorkerCrashed,
)
from pixelmill.images.decode import decode
from pixelmill.targets.launch import MODULE, check_ranks, command, ranks_here
from pixelmill.targets.target import Progress
from pixelmill.targets.tiled_order import Report, TiledOrder
from pixelmill.targets.tiled_runs import run_order
from pixelmill.targets.tiled_settings import MpiConfig

MPI = MpiConfig(8, oversubscribe=True)
EDGES = "gaussian:2/canny:20,40/format:tiff"
SLOW = "denoise:7/format:tiff"
pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", autouse=True)
def _needs_mpi() -> None:
    missing = shutil.which("mpirun") is None and not command_or_none()
    if missing:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("no MPI here; pip install mpi4py mpich brings one")


def command_or_none() -> list[str]:
    try:
        return command(2, MPI)
    except Exception:  # noqa: BLE001 -- any reason is one to skip
        return []


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("picture") / "big.tif", scene(1300, 1000))


def nobody_is_left(pids: set[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


def family() -> set[int]:
    """All processes below this one that run a job over tiles, and what started them."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            if MODULE in child.cmdline() or child.name().startswith(("mpi", "hydra")):
                found.add(child.pid)
        except psutil.Error:
            continue
    return found


def ranks_of(pids: set[int]) -> list[int]:
    """Those that compute: Python, and not the program that started them."""
    return [pid for pid in sorted(pids) if psutil.pid_exists(pid) and psutil.Process(pid).name().startswith("python")]


@pytest.mark.parametrize("ranks", [0, 2, 3])
async def test_tiles_and_ranks_give_the_pixels_of_the_whole(picture: Path, tmp_path: Path, ranks: int) -> None:
    reports: list[Progress] = []
    order = order_of(EDGES, picture, tmp_path / "scratch", ranks=ranks, tile=256)
    outcome = await run_order(order, MPI, reports.append)
    assert outcome.size == (1300, 1000)
    assert outcome.format == "tiff"
    assert (tifffile.imread(order.target) == whole(EDGES, picture)).all()
    assert reports[-1].tiles == reports[-1].of > 1
    assert reports[-1].memory > 50_000_000 * max(1, ranks)
    assert nobody_is_left(family())


async def test_a_result_of_another_format_is_encoded_from_the_tiles(picture: Path, tmp_path: Path) -> None:
    text = "gaussian:2/format:png"
    order = order_of(text, picture, tmp_path / "scratch", ranks=2)
    outcome = await run_order(order, MPI, lambda _: None)
    assert outcome.format == "png"
    assert (decode((tmp_path / "scratch" / "result").read_bytes()).pixels == whole(text, picture)).all()


async def test_data_alone_needs_no_result(picture: Path, tmp_path: Path) -> None:
    order = order_of("histogram", picture, tmp_path / "scratch", ranks=2, tile=256)
    outcome = await run_order(order, MPI, lambda _: None)
    assert outcome.format is None
    assert "histogram" in outcome.data
    assert not Path(order.target).exists()


class Killing:
    """Kills a rank when the first tiles are written."""

    def __init__(self, which: int, number: int = signal.SIGKILL) -> None:
        self.which, self.number = which, number
        self.killed: set[int] = set()

    def __call__(self, progress: Progress) -> None:
        if progress.tiles >= 4 and not self.killed:
            self.killed = family()
            os.kill(ranks_of(self.killed)[self.which], self.number)


@pytest.mark.parametrize("which", [0, -1])
async def test_a_killed_rank_ends_the_run_and_the_next_one_goes_on(picture: Path, tmp_path: Path, which: int) -> None:
    order = order_of(SLOW, picture, tmp_path / "scratch", ranks=2, tile=128)
    killing = Killing(which)
    with pytest.raises(WorkerCrashed, match="next attempt"):
        await run_order(order, MPI, killing)
    assert killing.killed
    assert nobody_is_left(killing.killed)
    assert not Path(order.target).exists()
    reports: list[Progress] = []
    await run_order(order, MPI, reports.append)
    assert reports[-1].kept > 0
    assert (tifffile.imread(order.target) == whole(SLOW, picture)).all()


async def test_tiles_of_a_source_that_was_replaced_are_not_taken_up(picture: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.tif"
    shutil.copy(picture, source)
    order = order_of(SLOW, source, tmp_path / "scratch", ranks=2, tile=128)
    with pytest.raises(WorkerCrashed):
        await run_order(order, MPI, Killing(-1))
    spools = {path: path.stat().st_size for path in (tmp_path / "scratch").glob("spool-*")}
    assert max(spools.values()) > 10_000
    write_tiff(source, scene(1300, 1000, seed=2))
    reports: list[Progress] = []
    await run_order(order, MPI, reports.append)
    assert reports[-1].kept == 0
    assert (tifffile.imread(order.target) == whole(SLOW, source)).all()


async def test_a_source_that_changes_under_the_ranks_gives_no_result(picture: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.tif"
    shutil.copy(picture, source)
    order = order_of(SLOW, source, tmp_path / "scratch", ranks=2, tile=128)

    def tell(progress: Progress) -> None:
        if 0 < progress.tiles < progress.of:
            os.utime(source, (1, 1))

    with pytest.raises(StorageUnavailable, match="changed while"):
        await run_order(order, MPI, tell)
    assert not Path(order.target).exists()


async def test_data_of_more_than_a_megabyte_arrives(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (600, 600), np.uint8)
    source = tmp_path / "noise.tif"
    tifffile.imwrite(source, noise)
    text = "/".join(["components:data"] * 16)
    outcome = await run_order(order_of(text, source, tmp_path / "scratch"), MPI, lambda _: None)
    assert len(outcome.data) == 16
    assert len(json.dumps(outcome.to_dict())) > 1_000_000


async def test_an_animation_is_refused_unless_a_still_image_is_wanted(tmp_path: Path) -> None:
    frames = [PilImage.fromarray(np.full((90, 100), value, np.uint8)) for value in (0, 100, 200)]
    source = tmp_path / "moving.gif"
    frames[0].save(source, save_all=True, append_images=frames[1:])
    with pytest.raises(NotTileable, match="3 frames"):
        await run_order(order_of("invert", source, tmp_path / "scratch"), MPI, lambda _: None)
    order = order_of("invert/format:tiff", source, tmp_path / "scratch")
    await run_order(order, MPI, lambda _: None)
    assert (decode(Path(order.target).read_bytes()).pixels == 255).all()


async def test_cancelling_ends_all_processes_and_the_next_run_goes_on(picture: Path, tmp_path: Path) -> None:
    order = order_of(SLOW, picture, tmp_path / "scratch", ranks=2, tile=128)
    begun = asyncio.Event()
    seen: set[int] = set()

    def tell(progress: Progress) -> None:
        if progress.tiles >= 2:
            seen.update(family())
            begun.set()

    running = asyncio.create_task(run_order(order, MPI, tell))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(seen) >= 3
    assert nobody_is_left(seen)
    reports: list[Progress] = []
    await run_order(order, MPI, reports.append)
    assert reports[-1].kept > 0


async def test_who_started_it_dies_and_so_do_the_ranks(picture: Path, tmp_path: Path) -> None:
    order = order_of(SLOW, picture, tmp_path / "scratch", ranks=2, tile=128)
    code = (
        "import asyncio, sys; from pixelmill.targets.tiled_order import TiledOrder\n"
        "from pixelmill.targets.tiled_runs import run_order; from pixelmill.targets.tiled_settings import MpiConfig\n"
        "order = TiledOrder.from_line(sys.stdin.readline())\n"
        "asyncio.run(run_order(order, MpiConfig(8), lambda p: print(p.tiles, flush=True)))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        starter.stdin.write(order.to_line())
        starter.stdin.flush()
        while int(await asyncio.to_thread(starter.stdout.readline)) < 2:
            pass
        members = family()
        assert len(ranks_of(members)) >= 2
        starter.kill()
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in members if psutil.pid_exists(pid)], timeout=10)
    assert not alive


async def test_a_run_ends_at_its_time_limit_and_over_its_memory(picture: Path, tmp_path: Path) -> None:
    with pytest.raises(TaskTimeout, match="PIXELMILL_TILED_TIMEOUT"):
        await run_order(order_of(SLOW, picture, tmp_path / "a", ranks=2, timeout_s=1.0), MPI, lambda _: None)
    order = order_of(SLOW, picture, tmp_path / "b", ranks=2)
    small = TiledOrder(**{name: getattr(order, name) for name in order.__slots__} | {"memory_bytes": 50_000_000})
    with pytest.raises(OutOfMemory, match="PIXELMILL_TILED_MEMORY"):
        await run_order(small, MPI, lambda _: None)
    assert nobody_is_left(family())


async def test_errors_of_a_rank_are_told_as_what_they_are(picture: Path, tmp_path: Path) -> None:
    with pytest.raises(NotTileable):
        await run_order(order_of("grabcut/format:tiff", picture, tmp_path / "a", ranks=2), MPI, lambda _: None)
    body = picture.read_bytes()
    broken = tmp_path / "broken.tif"
    # The directory stands at the end or the front; what is destroyed is pixels in between.
    half = len(body) // 2
    broken.write_bytes(body[:half] + bytes(20_000) + body[half + 20_000 :])
    with pytest.raises(CorruptImage):
        await run_order(order_of(EDGES, broken, tmp_path / "b", ranks=2, tile=256), MPI, lambda _: None)
    assert not (tmp_path / "b" / "result").exists()


async def test_a_full_disk_is_told_and_leaves_no_result(picture: Path, tmp_path: Path) -> None:
    """A real one: a file system of its own that is too small for the spools."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        order = order_of(SLOW, picture, disk / "scratch", ranks=2, tile=128)
        with pytest.raises(StorageFull):
            await run_order(order, MPI, lambda _: None)
        assert not Path(order.target).exists()
        assert not list((disk / "scratch").glob("*result*"))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_ranks_that_would_compute_other_pixels_are_refused(picture: Path, tmp_path: Path) -> None:
    """One rank's OpenCV is told, by its own switch, to leave the newest instructions of this CPU alone."""
    order = order_of(EDGES, picture, tmp_path / "scratch", ranks=2)
    whole_command = command(2, MPI)
    at = whole_command.index("-n")
    before, job = whole_command[:at], whole_command[at + 2 :]
    mixed = [*before, "-n", "1", *job, ":", "-n", "1", "-env", "OPENCV_CPU_DISABLE", disabled(), *job]
    with subprocess.Popen(mixed, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ranks:
        assert ranks.stdin is not None
        assert ranks.stdout is not None
        ranks.stdin.write(order.to_line())
        ranks.stdin.flush()  # and left open: its end would be that of the ranks
        told = await asyncio.to_thread(ranks.stdout.readlines)
    assert ranks.returncode != 0
    (error,) = [one.error for line in told if (one := Report.from_line(line)) and one.error]
    assert isinstance(error, ConfigError)
    assert "MPI rank 1" in str(error)
    assert "CPU" in str(error)


def disabled() -> str:
    """An instruction set of this CPU that OpenCV would use, as its own switch names it."""
    optional = [name.strip("*") for name in cv2.getCPUFeaturesLine().split() if name[0] == "*" and name[-1] != "?"]
    if not optional:
        pytest.skip("this CPU has nothing that OpenCV can do without")
    return optional[-1]


def test_more_ranks_than_cores_are_a_mistake_unless_they_are_meant() -> None:
    with pytest.raises(LimitExceeded, match="mpi_oversubscribe"):
        check_ranks(3, MpiConfig(8), cores=2)
    check_ranks(4, MpiConfig(8, hosts=("a", "b")), cores=2)
    check_ranks(9, MPI, cores=2)
    assert ranks_here(8, MpiConfig(4), cores=2) == 2
    assert ranks_here(8, MpiConfig(4, oversubscribe=True), cores=2) == 4
    assert ranks_here(8, MpiConfig(0), cores=2) == 0


def test_hosts_stand_in_the_command_and_come_from_the_configuration() -> None:
    line = command(4, MpiConfig(4, hosts=("left", "right")))
    assert line[line.index("-hosts") + 1] == "left,right"
    assert line[-6:] == [sys.executable, "-m", "mpi4py", "-m", MODULE, "--mpi"]


async def test_a_result_whose_size_is_found_on_the_way_is_cut_the_same(picture: Path, tmp_path: Path) -> None:
    text = "pad:left=100,top=70,right=30,bottom=10,background=ffffff/trim/format:tiff"
    order = order_of(text, picture, tmp_path / "scratch", ranks=2, tile=256)
    outcome = await run_order(order, MPI, lambda _: None)
    assert outcome.size == (1300, 1000)
    assert (tifffile.imread(order.target) == whole(text, picture)).all()
