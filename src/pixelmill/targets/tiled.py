"""The local pool, with runs over tiles beside it: for images that are too large to be held, and for who asks for ranks.

Whether an image is too large is found by trying: a pool process looks at its header and refuses it at once. One run
over tiles goes on at a time, for it uses all cores; others wait for it, each on its slot.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from pixelmill import logs
from pixelmill.errors import (
    LimitExceeded,
    NotTileable,
    PixelmillError,
    ShuttingDown,
    StorageUnavailable,
    TaskTimeout,
    WorkerCrashed,
)
from pixelmill.images.formats import identify
from pixelmill.images.image import Size
from pixelmill.images.limits import Limits, TiledLimits
from pixelmill.images.probe import probe
from pixelmill.images.region_readers import open_regions
from pixelmill.storage.faults import translated
from pixelmill.targets.launch import ranks_here
from pixelmill.targets.local import LocalPool
from pixelmill.targets.target import FarSource, Progress, RunRequest, RunResult, TargetLoad
from pixelmill.targets.task_folders import TaskFolders
from pixelmill.targets.tiled_order import TiledOrder, file_identity
from pixelmill.targets.tiled_runs import run_order
from pixelmill.targets.tiled_settings import TiledConfig

SMALL_PIXELS = 4_000_000
"""An image up to this size is run whole, whatever was asked for: ranks take longer to start than it takes."""
TAKEN_UP = (WorkerCrashed, TaskTimeout, StorageUnavailable)
"""Ends of an attempt after which another one goes on from what is written. A full disk is none: what fills it goes."""
HEAD_BYTES = 1 << 20
TELL_S = 1.0
TELLS = 100
"""How often a run tells how far it is: each second at most, and this many times in all about."""


class TiledPool:
    """A :class:`Target`: ``pool``, and runs over tiles as ``config`` allows."""

    def __init__(self, pool: LocalPool, config: TiledConfig) -> None:
        self._pool, self._config = pool, config
        self.name = pool.name
        self._folders = TaskFolders(config.scratch, config.scratch_bytes, config.kept_s)
        self._turn = asyncio.Lock()
        self._members: dict[int, psutil.Process] = {}  # of the run that goes on
        self._running: set[asyncio.Task[RunResult]] = set()
        self._ended = False

    async def start(self) -> None:
        """Start the pool."""
        await self._pool.start()

    async def stop(self) -> None:
        """End everything."""
        await self.end_runs()
        await self._pool.stop()

    async def end_runs(self) -> None:
        """End the runs over tiles; what they have written stays for the next attempt."""
        self._ended = True
        for running in list(self._running):
            running.cancel()
        if self._running:
            await asyncio.wait(self._running)

    def processes(self) -> list[int]:
        """Ids of all processes of the pool, and of the run over tiles that goes on; for load samples."""
        return [*self._pool.processes(), *list(self._members)]

    def load(self) -> TargetLoad:
        """That of the pool: a run over tiles is one of its tasks, as the dispatcher counts them."""
        return self._pool.load()

    async def run(self, request: RunRequest) -> RunResult:
        """Whole where that is possible and nobody has asked for ranks, else over tiles."""
        if request.kind != "image":
            return await self._pool.run(request)
        if isinstance(request.source, FarSource):
            return await self._in_turn(request)
        if self._ranks(request) and not await asyncio.to_thread(_is_small, request):
            try:
                return await self._in_turn(request)
            except NotTileable:
                pass  # it may fit whole
        try:
            return await self._pool.run(request)
        except LimitExceeded:
            if request.tiled is None:
                raise
            return await self._in_turn(request)

    def _ranks(self, request: RunRequest) -> int:
        return ranks_here(request.ranks, self._config.mpi, self._config.cores) if request.ranks else 0

    async def _in_turn(self, request: RunRequest) -> RunResult:
        """As a task of its own, so that the end of this process can end it."""
        if self._ended:
            raise ShuttingDown("This worker is ending; the task is given to another one.")
        running = asyncio.create_task(self._alone(request))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            asked = asyncio.current_task()
            if running.cancelled() and asked is not None and not asked.cancelling():
                raise ShuttingDown("This worker ended while the task ran over tiles; it was put back.") from None
            running.cancel()
            await asyncio.wait([running])
            raise

    async def _alone(self, request: RunRequest) -> RunResult:
        async with self._turn:
            await asyncio.to_thread(self._folders.sweep)
            started = time.perf_counter()
            with self._folders.folder(request.id) as folder:
                try:
                    result = await self._over_tiles(request, folder)
                except PixelmillError as error:
                    if not isinstance(error, TAKEN_UP):
                        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                    raise
            logs.event(
                "tiled.ended", task=request.id, worker=result.worker, seconds=round(time.perf_counter() - started, 2)
            )
            return result

    async def _over_tiles(self, request: RunRequest, folder: Path) -> RunResult:
        ranks = self._ranks(request)
        order = await self._order(request, folder, ranks)
        self._members.clear()
        try:
            outcome = await run_order(order, self._config.mpi, _seldom(request.tell), self._members)
        finally:
            self._members.clear()
        file = Path(order.target)
        return RunResult(
            outcome,
            self.name,
            f"{ranks} MPI ranks" if ranks else f"{order.threads} threads",
            file=file if outcome.format is not None else None,
            discard=functools.partial(shutil.rmtree, folder, ignore_errors=True),
        )

    async def _order(self, request: RunRequest, folder: Path, ranks: int) -> TiledOrder:
        limits = request.tiled or TiledLimits(
            request.limits.max_bytes, request.limits.max_pixels, request.limits.max_side, request.timeout_s
        )
        source, store, options = request.source, "", {}
        if isinstance(source, FarSource):
            limits.check_bytes(source.size)
            place, store, options = source.key, source.spec.uri, dict(source.spec.options)
            identity = f"{source.key}-{source.version}"
            if "://" not in store or store.startswith("file:"):  # one of a kind that another process can't open
                await asyncio.to_thread(self._folders.check_room, source.size)
                place, store, options = str(await _fetched(source, folder)), "", {}
        else:
            place = str(await asyncio.to_thread(_as_file, source, folder / "source"))
            identity = await asyncio.to_thread(_identity, source)
        images = {
            reference: str(await asyncio.to_thread(_as_file, image, folder / f"image-{number}"))
            for number, (reference, image) in enumerate(sorted(request.images.items()))
        }
        parts = [await asyncio.to_thread(_identity, image) for _, image in sorted(request.images.items())]
        return TiledOrder(
            pipeline=request.pipeline,
            source=place,
            folder=str(folder),
            target=str(folder / "result"),
            limits=limits,
            memory_bytes=self._config.memory_bytes,
            ranks=ranks,
            threads=1 if ranks else self._config.cores,
            images=images,
            store=store,
            options=options,
            identity=" ".join((identity, *parts)),
            scratch_bytes=self._config.scratch_bytes,
        )


def _seldom(tell: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Hand on a few of many reports: those that come at least a second and a hundredth of the way after the last."""
    last = (-1.0, 0.0)

    def told(progress: Progress) -> None:
        nonlocal last
        now, share = time.monotonic(), progress.tiles / max(1, progress.of)
        first = last[0] < 0
        if first or (now - last[0] >= TELL_S and share - last[1] >= 1 / TELLS):
            last = (now, share)
            tell(progress)

    return told


def _is_small(request: RunRequest) -> bool:
    """Whether it is run whole in less time than ranks take to start; what can't be read is, and says why.

    Only what says the size is read: this process is the service's.
    """
    source = request.source
    assert not isinstance(source, FarSource)
    try:
        return _size_of(source, request.limits).pixels <= SMALL_PIXELS
    except LimitExceeded:
        return False
    except (OSError, PixelmillError):
        return True


def _size_of(source: bytes | Path, limits: Limits) -> Size:
    if isinstance(source, Path):
        with source.open("rb") as file:
            head = file.read(HEAD_BYTES)
    else:
        head = source
    if identify(head[:4_096]).name != "tiff":
        return probe(head, limits).size
    reader = open_regions(source, whole=limits)  # a TIFF says it anywhere in the file
    try:
        return reader.raster.size
    finally:
        reader.close()


def _as_file(part: bytes | Path, path: Path) -> Path:
    """The part as a file that processes can open: bytes are written, where an attempt before has not done it."""
    if isinstance(part, Path):
        return part
    try:
        if not (_has(path, len(part)) and path.read_bytes() == part):
            path.write_bytes(part)
    except OSError as error:
        raise translated(error, "write", str(path)) from error
    return path


def _identity(part: bytes | Path) -> str:
    """What tells it from another that had its name when an attempt before began."""
    if isinstance(part, bytes):
        return hashlib.sha256(part).hexdigest()
    try:
        return file_identity(part)
    except OSError as error:
        raise translated(error, "read", str(part)) from error


def _has(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _remove(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        path.unlink(missing_ok=True)


async def _fetched(source: FarSource, folder: Path) -> Path:
    """A copy of the object in the task's folder; one of an attempt before is used again where it is whole."""
    path = folder / f"source-{hashlib.sha256(source.version.encode()).hexdigest()[:16]}"
    part = path.with_suffix(".part")
    try:
        if await asyncio.to_thread(_has, path, source.size):
            return path
        await asyncio.to_thread(_remove, folder, "source-*")
        with await asyncio.to_thread(part.open, "wb") as file:
            async for chunk in source.stream():
                await asyncio.to_thread(file.write, chunk)
        await asyncio.to_thread(os.replace, part, path)
    except OSError as error:
        raise translated(error, "write", str(path)) from error
    return path
