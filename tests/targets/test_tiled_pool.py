"""Which images the pool runs whole and which in tiles, and the folders of those."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from big_images import scene, whole, write_tiff

from pixelmill.errors import Busy, LimitExceeded, StorageFull, TargetUnavailable
from pixelmill.images.decode import decode
from pixelmill.images.limits import Limits, TiledLimits
from pixelmill.pipelines.spec import Pipeline
from pixelmill.storage.options import StoreSpec
from pixelmill.targets.local import LocalPool
from pixelmill.targets.needs import TILES, needs
from pixelmill.targets.target import FarSource, Progress, RunRequest, measured, near
from pixelmill.targets.task_folders import TaskFolders
from pixelmill.targets.tiled import TiledPool, _seldom
from pixelmill.targets.tiled_order import TiledOrder
from pixelmill.targets.tiled_settings import MpiConfig, TiledConfig

pytestmark = pytest.mark.anyio
TILED = TiledLimits(10**9, 10**9, 10**6, 60.0)
EDGES = "gaussian:2/sobel/format:tiff"


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("picture") / "big.tif", scene(700, 600))


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[TiledPool]:
    target = TiledPool(LocalPool(workers=1), TiledConfig(tmp_path / "scratch", cores=2))
    await target.start()
    yield target
    await target.stop()


def request_of(source: Path, text: str = EDGES) -> RunRequest:
    small = Limits(max_pixels=100_000)
    return RunRequest("task_1/0", Pipeline.parse(text).to_json(), source, limits=small, tiled=TILED)


async def test_what_is_too_large_runs_in_tiles_and_what_is_not_runs_whole(
    pool: TiledPool, picture: Path, tmp_path: Path
) -> None:
    request = request_of(picture)
    result = await pool.run(request)
    assert result.file is not None
    assert (decode(result.file.read_bytes()).pixels == whole(EDGES, picture)).all()
    assert measured(request, result)["bytes"] == result.file.stat().st_size
    result.discard()
    assert not list((tmp_path / "scratch").iterdir())
    at_once = await pool.run(replace(request, limits=Limits()))
    assert at_once.file is None
    assert (at_once.outcome.image.pixels == whole(EDGES, picture)).all()
    with pytest.raises(LimitExceeded):
        await pool.run(replace(request, tiled=None))
    with pytest.raises(LimitExceeded):
        await pool.run(replace(request, tiled=replace(TILED, max_pixels=100)))


async def test_an_object_that_no_other_process_can_open_is_fetched_once(pool: TiledPool, picture: Path) -> None:
    body = picture.read_bytes()

    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    source = FarSource(len(body), stream, StoreSpec("memory:"), "uploads/ann/up_1")
    request = replace(request_of(picture), source=source)
    assert TILES in needs(request)
    result = await pool.run(request)
    assert result.file is not None
    assert (decode(result.file.read_bytes()).pixels == whole(EDGES, picture)).all()
    with pytest.raises(TargetUnavailable):
        near(source, "A joined node")


async def test_other_bytes_under_the_same_names_are_another_run(pool: TiledPool, picture: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.png"
    overlay.write_bytes(b"one")

    async def order(request: RunRequest) -> TiledOrder:
        return await pool._order(request, tmp_path, 0)

    request = replace(request_of(picture), source=b"a source", images={"a": b"image", "b": overlay})
    first = (await order(request)).digest()
    assert (await order(request)).digest() == first
    assert (await order(replace(request, source=b"B source"))).digest() != first
    assert (await order(replace(request, images={"a": b"IMAGE", "b": overlay}))).digest() != first
    overlay.write_bytes(b"another")
    assert (await order(request)).digest() != first


async def test_a_copy_of_an_object_that_has_changed_is_not_used_again(pool: TiledPool, tmp_path: Path) -> None:
    async def copy(body: bytes, version: str) -> bytes:
        async def stream() -> AsyncIterator[bytes]:
            yield body

        far = FarSource(len(body), stream, StoreSpec("memory:"), "uploads/ann/up_1", version)
        found = await pool._order(replace(request_of(tmp_path), source=far), tmp_path / "scratch", 0)
        return Path(found.source).read_bytes()

    (tmp_path / "scratch").mkdir()
    assert await copy(b"first", "1") == b"first"
    assert await copy(b"other", "1") == b"first"
    assert await copy(b"other", "2") == b"other"
    assert len(list((tmp_path / "scratch").iterdir())) == 1


async def test_ranks_that_this_machine_does_not_give_are_threads(picture: Path, tmp_path: Path) -> None:
    config = TiledConfig(tmp_path, cores=2, mpi=MpiConfig(0))
    target = TiledPool(LocalPool(workers=1), config)
    await target.start()
    try:
        result = await target.run(replace(request_of(picture), ranks=4))
        assert result.worker == "2 threads"
    finally:
        await target.stop()


def test_few_of_many_reports_are_handed_on() -> None:
    told: list[Progress] = []
    tell = _seldom(told.append)
    for tiles in range(1_000):
        tell(Progress(tiles, 1_000))
    assert [one.tiles for one in told] == [0]


class TestTaskFolders:
    def test_a_folder_is_one_tasks_at_a_time(self, tmp_path: Path) -> None:
        folders = TaskFolders(tmp_path, 10**9, 3600)
        with folders.folder("task_1/0") as folder, pytest.raises(Busy), folders.folder("task_1/0"):
            pass
        with folders.folder("task_1/0") as again:
            assert again == folder
            assert again.parent == tmp_path

    def test_old_folders_go_and_then_the_oldest_until_all_fit(self, tmp_path: Path) -> None:
        folders = TaskFolders(tmp_path, 150_000, 3600)
        for age, name in ((9_000, "old"), (300, "older"), (200, "newer"), (100, "busy")):
            with folders.folder(name) as folder:
                (folder / "spool").write_bytes(b"x" * 100_000)
            os.utime(folder, (folder.stat().st_mtime - age,) * 2)
        with folders.folder("busy"):
            assert folders.sweep() == 3
        assert {path.name for path in tmp_path.iterdir()} == {"busy"}
        with pytest.raises(StorageFull, match="PIXELMILL_SCRATCH_BYTES"):
            folders.check_room(10**9)

    def test_names_of_tasks_lead_nowhere_else(self, tmp_path: Path) -> None:
        with TaskFolders(tmp_path, 10**9, 3600).folder("../../etc/0") as folder:
            assert folder.parent == tmp_path
