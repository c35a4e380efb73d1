"""What ends a run early: a tile that fails, a full disk, somebody who stops it. Nothing is left, nobody waits."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.tiling.synthetic import MIXED, leveled, numbered, program_of, reach, whole

from pixelmill.errors import Cancelled, CorruptImage, NotApplicable, OutOfMemory, RunError, StorageDenied, StorageFull
from pixelmill.images.image import Image, Size
from pixelmill.images.region_memory import MemoryReader, MemoryWriter
from pixelmill.images.regions import Raster, Region
from pixelmill.operations.passes import Array, Map, Pass, Place
from pixelmill.tiling.compiler import ANY, Wishes
from pixelmill.tiling.program import Program
from pixelmill.tiling.progress import Progress
from pixelmill.tiling.scratch import Scratch
from pixelmill.tiling.threads import run_tiled

PIXELS = np.random.default_rng(5).integers(0, 256, (400, 640), np.uint8)


class Watching(MemoryWriter):
    """Knows how it ended."""

    def __init__(self, raster: Raster) -> None:
        super().__init__(raster, ANY)
        self.aborted = self.finished = False
        self.order: list[Region] = []

    def write(self, region: Region, pixels: Array) -> None:
        self.order.append(region)
        super().write(region, pixels)

    def finish(self) -> None:
        super().finish()
        self.finished = True

    def abort(self) -> None:
        super().abort()
        self.aborted = True


class InOrder(Watching):
    in_order = True


def made(passes: list[Pass], tile: int = 64, workers: int = 2) -> tuple[Program, MemoryReader, Watching]:
    reader = MemoryReader(Image(PIXELS))
    program = program_of(passes, reader.raster, Wishes(workers=workers, tile=tile))
    assert program.result is not None
    return program, reader, Watching(program.result)


def failing(error: BaseException) -> Map:
    def apply(pixels: Array, place: Place) -> Array:
        if place.number == 17:
            raise error
        return pixels

    return Map("failing", apply)


def out_of_memory() -> cv2.error:
    error = cv2.error("no memory")
    error.code = cv2.Error.StsNoMem
    error.err = "Failed to allocate"
    return error


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (NotApplicable("Not here."), NotApplicable, "Step 2: Not here."),
        (MemoryError(), OutOfMemory, "Step 2"),
        (out_of_memory(), OutOfMemory, "Step 2"),
        (cv2.error("assertion"), RunError, "Step 2: failing failed"),
        (ZeroDivisionError("a mistake"), ZeroDivisionError, "a mistake"),
    ],
)
def test_the_error_of_a_tile_ends_the_run_and_takes_the_result_back(
    error: BaseException, kind: type[BaseException], says: str
) -> None:
    program, reader, writer = made([reach(1), failing(error)])
    threads = threading.active_count()
    with pytest.raises(kind, match=says):
        run_tiled(program, reader, writer)
    assert writer.aborted
    assert not writer.finished
    assert threading.active_count() == threads


def test_a_source_that_breaks_half_way_ends_the_run() -> None:
    class Broken(MemoryReader):
        def read(self, region: Region) -> Array:
            if region.bottom > 200:
                raise CorruptImage("The tile at row 200 can't be decoded.")
            return super().read(region)

    program, _, writer = made([reach(1)])
    with pytest.raises(CorruptImage, match="row 200"):
        run_tiled(program, Broken(Image(PIXELS)), writer)
    assert writer.aborted


def test_a_result_that_cannot_be_written_ends_the_run() -> None:
    class Full(Watching):
        def write(self, region: Region, pixels: Array) -> None:
            if region.top > 200:
                raise StorageFull("The disk is full.")
            super().write(region, pixels)

    program, reader, _ = made([reach(1)])
    full = Full(Raster(Size(640, 400), 1, np.dtype(np.uint8)))
    with pytest.raises(StorageFull):
        run_tiled(program, reader, full)
    assert full.aborted


def test_a_run_that_is_stopped_ends_behind_the_tiles_at_work_and_leaves_nothing() -> None:
    seen = threading.Event()
    computed: list[int] = []

    def slow(pixels: Array, place: Place) -> Array:
        computed.append(place.number)
        seen.set()
        stopped.wait(20)
        return pixels

    stopped = threading.Event()

    def stop() -> bool:
        if seen.is_set():
            stopped.set()
        return seen.is_set()

    program, reader, writer = made([Map("slow", slow)])
    with pytest.raises(Cancelled):
        run_tiled(program, reader, writer, stop=stop)
    assert writer.aborted
    assert not writer.finished
    assert len(computed) <= 2 * program.lanes  # of 70


def test_an_interrupt_in_the_thread_that_watches_ends_the_run() -> None:
    def interrupted(_: Progress) -> None:
        raise KeyboardInterrupt

    program, reader, writer = made([reach(1)])
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run_tiled(program, reader, writer, progress=interrupted)
    assert writer.aborted
    assert threading.active_count() == threads


def test_opencv_has_as_many_threads_as_before_whatever_happened() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        seen: set[int] = set()

        def look(pixels: Array, place: Place) -> Array:
            seen.add(cv2.getNumThreads())
            if place.number == 20:
                raise NotApplicable("No.")
            return pixels

        program, reader, writer = made([Map("look", look)])
        with pytest.raises(NotApplicable):
            run_tiled(program, reader, writer)
        assert seen == {1}
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("tile", [64, 100, 400])
def test_a_writer_that_needs_an_order_gets_tiles_row_by_row(tile: int) -> None:
    program, reader, _ = made([reach(2)], tile, workers=3)
    assert program.result is not None
    writer = InOrder(program.result)
    run_tiled(program, reader, writer)
    assert writer.order == [program.stages[0].grid.core(n) for n in range(program.stages[0].grid.tiles)]
    assert np.array_equal(writer.image.pixels, whole([reach(2)], PIXELS)[0])


class FromTheTop(MemoryReader):
    """Decodes from top to bottom: what lies above the last row that was read costs a new beginning."""

    in_order = True

    def __init__(self) -> None:
        super().__init__(Image(PIXELS))
        self.begun, self.bottom = 0, 10**9

    def read(self, region: Region) -> Array:
        if region.top < self.bottom:
            self.begun += 1
        self.bottom = region.bottom
        assert region.width == self.raster.size.width, "rows are read as a whole"
        return super().read(region)


def test_a_source_that_decodes_from_the_top_is_decoded_once_a_sweep() -> None:
    reader = FromTheTop()
    passes: list[Pass] = [reach(3), reach(2)]
    program = program_of(passes, reader.raster, Wishes(workers=1, bands=True))
    assert program.result is not None
    writer = Watching(program.result)
    run_tiled(program, reader, writer)
    assert reader.begun == len([stage for stage in program.stages if stage.start == -1])
    assert np.array_equal(writer.image.pixels, whole(passes, PIXELS)[0])


def test_every_tile_is_told_of_and_the_last_report_of_a_sweep_is_whole() -> None:
    told: list[Progress] = []
    program, reader, writer = made([reach(1), leveled(), MIXED])
    run_tiled(program, reader, writer, progress=told.append)
    ends = [item for item in told if item.tiles == item.of_tiles]
    assert [item.stage for item in ends][-1] == len(program.stages) == 2
    assert {item.stage for item in ends} == {1, 2}
    assert told[-1].share == 1.0
    assert told[-1].written == PIXELS.size
    assert [item.share for item in told] == sorted(item.share for item in told)


class Log:
    def __init__(self, done: set[int]) -> None:
        self.done, self.added = done, list[int]()

    def has(self, number: int) -> bool:
        return number in self.done

    def add(self, number: int) -> None:
        self.added.append(number)


def test_a_run_that_goes_on_computes_only_what_is_missing() -> None:
    computed: list[int] = []

    def counted(pixels: Array, place: Place) -> Array:
        computed.append(place.number)
        return pixels

    program, reader, writer = made([leveled(), Map("counted", counted)])
    log = Log(set(range(0, program.stages[-1].grid.tiles, 2)))
    missing = [n for n in range(program.stages[-1].grid.tiles) if n % 2]
    writer._written = PIXELS.size - sum(program.stages[-1].grid.core(n).pixels for n in missing)
    run_tiled(program, reader, writer, done=log)
    assert sorted(computed) == sorted(log.added) == missing


def test_what_is_written_stays_for_the_run_that_goes_on() -> None:
    program, reader, writer = made([failing(NotApplicable("No."))])
    log = Log(set())
    with pytest.raises(NotApplicable):
        run_tiled(program, reader, writer, done=log)
    assert not writer.aborted
    assert log.added


def test_scratch_files_have_no_name_and_are_gone_behind_a_run(tmp_path: Path) -> None:
    program, reader, writer = made([reach(1), numbered(keeps=True), reach(1)])
    assert program.stores
    with Scratch(tmp_path, memory_bytes=0) as scratch:
        run_tiled(program, reader, writer, scratch=scratch)
        assert list(tmp_path.iterdir()) == []
        assert open_in(tmp_path) == 0


def open_in(folder: Path) -> int:
    """Descriptors of this process that lie in a folder."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += str(folder) in str(entry.readlink())
        except OSError:
            continue
    return found


def test_a_scratch_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    program, reader, writer = made([numbered(keeps=True)])
    with (
        Scratch(tmp_path / "absent", memory_bytes=0) as scratch,
        pytest.raises(StorageDenied, match=r"absent.*PIXELMILL_SCRATCH"),
    ):
        run_tiled(program, reader, writer, scratch=scratch)
    assert writer.aborted


def test_more_scratch_than_is_allowed_is_refused_before_it_is_written(tmp_path: Path) -> None:
    program, reader, writer = made([numbered(keeps=True)])
    with (
        Scratch(tmp_path, memory_bytes=0, disk_bytes=1000) as scratch,
        pytest.raises(StorageFull, match="PIXELMILL_SCRATCH_BYTES"),
    ):
        run_tiled(program, reader, writer, scratch=scratch)


def test_a_disk_that_fills_up_half_way_is_told_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real limit of the process on the size of files: the same error path as a full disk."""
    import resource
    import signal

    program, reader, writer = made([numbered(keeps=True), reach(1)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with Scratch(tmp_path, memory_bytes=0) as scratch, pytest.raises(StorageFull, match=str(tmp_path)):
            run_tiled(program, reader, writer, scratch=scratch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert writer.aborted
    assert open_in(tmp_path) == 0


def test_a_pass_that_gives_another_shape_than_it_says_is_refused() -> None:
    program, reader, writer = made([Map("lying", lambda pixels, place: pixels[:-1])])
    with pytest.raises(RunError, match="lying"):
        run_tiled(program, reader, writer)
    program, reader, writer = made([Map("lying", lambda pixels, place: pixels.astype(np.float32))])
    with pytest.raises(RunError, match="float32"):
        run_tiled(program, reader, writer)


def test_the_two_stores_are_one_contract(tmp_path: Path) -> None:
    rng: Any = np.random.default_rng(2)
    for channels, dtype in ((1, np.uint8), (3, np.uint16), (4, np.float32), (1, np.int32)):
        raster = Raster(Size(1500, 300), channels, np.dtype(dtype))
        pixels = (rng.random(raster.shape(Region(0, 0, 1500, 300))) * 200).astype(dtype)
        for memory in (0, 10**9):
            with Scratch(tmp_path, memory_bytes=memory) as scratch:
                store = scratch.make(raster, Size(1024, 128))
                for region in (Region(0, 0, 1024, 128), Region(1024, 0, 476, 128), Region(0, 128, 1500, 100)):
                    store.write(region, region.of(pixels, Region(0, 0, 1500, 300)))
                store.write(Region(0, 228, 777, 72), pixels[228:300, :777])
                store.write(Region(777, 228, 723, 72), pixels[228:300, 777:])
                for region in (Region(0, 0, 1500, 300), Region(500, 100, 600, 150), Region(1499, 299, 1, 1)):
                    assert np.array_equal(store.read(region), region.of(pixels, Region(0, 0, 1500, 300)))
                store.close()
                store.close()
