"""Runs a program over MPI ranks: the contract of ``threads.py``, and the same pixels, whatever the number of ranks.

Each rank has a band of whole rows of tiles. It reads the source itself, halos too, and writes its own tiles. Pixels
between two sweeps stay with the rank that made them; before a sweep that reads them, the rows that others need travel
by Sendrecv. What looks have told goes to the first rank, which concludes for all.

Waiting is polite: MPI's own waits would take a core from the ranks that still work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import psutil
from numpy.typing import NDArray

from pixelmill.errors import MissingExtra
from pixelmill.images.image import Size
from pixelmill.images.regions import Raster, Region, RegionReader, RegionWriter
from pixelmill.tiling.lanes import Lanes
from pixelmill.tiling.program import AHEAD, Program
from pixelmill.tiling.progress import Progress, TileLog
from pixelmill.tiling.scratch import Scratch, Store
from pixelmill.tiling.stage import SOURCE, Stage
from pixelmill.tiling.threads import Found, Run, Tellings

Communicator: TypeAlias = Any
"""``mpi4py.MPI.Comm``; the library is an extra, and imported by who starts ranks."""

PIECE_BYTES = 32_000_000
"""Of rows that travel at once."""
_PROGRESS, _GIVEN, _SHARED, _ROWS = 101, 102, 103, 104
_WAIT_S, _LONGEST_S = 0.0005, 0.02

_NOTHING = np.empty(0, np.uint8)
Rows: TypeAlias = tuple[int, int]
"""The first row, and the one behind the last."""


@dataclass(frozen=True, slots=True)
class Told:
    """How far all ranks are together, and their resident bytes."""

    progress: Progress
    memory: int


def run_ranks(
    program: Program,
    reader: RegionReader,
    writer: RegionWriter | Callable[[Raster], RegionWriter] | None,
    team: Team,
    *,
    workers: int = 1,
    scratch: Scratch | None = None,
    progress: Callable[[Told], None] | None = None,
    done: TileLog | None = None,
) -> tuple[Found, ...]:
    """This rank's part of a run; called on every rank with equal arguments, and returns when all are through.

    Each rank has a reader, a writer for its own tiles, which is finished here, and a scratch of its own. Nothing else
    is as for ``run_tiled``: there is no ``stop`` (who starts ranks ends them), and where a rank raises, the others wait
    for it until they are ended: start them with ``python -m mpi4py``, and let no exception be the end of one alone.

    Args:
        program: compiled from the same wishes on each rank.
        reader: of the source.
        writer: of this rank's tiles, or what makes it; None where only data are wanted.
        team: all ranks.
        workers: threads of this rank that compute.
        scratch: of this rank.
        progress: called on the first rank alone.
        done: tiles that are written already, the same on each rank.

    Raises:
        What ``run_tiled`` raises.
    """
    run = _RankRun(program, reader, writer, done, None, team=team, told=progress)
    run.to_the_end(Lanes(workers, AHEAD), scratch)
    run.leave()
    return run.found()


def started_mpi() -> Any:
    """The library, which starts MPI in this process; raises :class:`MissingExtra`."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # it is not there, or finds no MPI
        raise MissingExtra('Running over MPI ranks needs mpi4py and an MPI: pip install "pixelmill[mpi]"') from error
    return MPI


class Team:
    """The ranks of a run, as this one sees them. Only the thread that has made it calls it."""

    def __init__(self, comm: Communicator) -> None:
        self._comm = comm
        self.rank, self.size = int(comm.Get_rank()), int(comm.Get_size())
        self._process = psutil.Process()
        self._nobody = int(started_mpi().PROC_NULL) if self.size > 1 else -1
        self._request: Any = None

    def gather(self, value: Any, meanwhile: Callable[[], None] = lambda: None) -> list[Any] | None:
        """The values of all ranks in their order, on the first; None on the others, at once."""
        if self.rank:
            self._comm.send(value, dest=0, tag=_GIVEN)
            return None
        values = [value]
        for source in range(1, self.size):
            self._await(source, _GIVEN, meanwhile)
            values.append(self._comm.recv(source=source, tag=_GIVEN))
        return values

    def share(self, value: Any = None) -> Any:
        """The first rank's value, on all."""
        if self.rank == 0:
            for dest in range(1, self.size):
                self._comm.send(value, dest=dest, tag=_SHARED)
            return value
        self._await(0, _SHARED)
        return self._comm.recv(source=0, tag=_SHARED)

    def all(self, value: Any, meanwhile: Callable[[], None] = lambda: None) -> list[Any]:
        """The values of all ranks, on all."""
        values: list[Any] = self.share(self.gather(value, meanwhile))
        return values

    def _await(self, source: int, tag: int, meanwhile: Callable[[], None] = lambda: None) -> None:
        pause = _WAIT_S
        while not self._comm.iprobe(source=source, tag=tag):
            meanwhile()
            time.sleep(pause)
            pause = min(_LONGEST_S, 2 * pause)

    def tell(self, value: Any) -> None:
        """Say something to the first rank, unless it has not taken what was said before."""
        if self._request is None or self._request.test()[0]:
            self._request = self._comm.isend((value, self.resident()), dest=0, tag=_PROGRESS)

    def heard(self) -> Iterator[tuple[int, Any, int]]:
        """Rank, value and resident bytes of all that was told meanwhile."""
        for source in range(1, self.size):
            while self._comm.iprobe(source=source, tag=_PROGRESS):
                yield (source, *self._comm.recv(source=source, tag=_PROGRESS))

    def resident(self) -> int:
        """Bytes of this process."""
        return int(self._process.memory_info().rss)

    def exchange(self, dest: int, sent: NDArray[Any] | None, source: int, received: NDArray[Any] | None) -> None:
        """Send pixels to one rank and receive those of another into ``received``; None is nothing to send or to get."""
        self._comm.Sendrecv(
            _NOTHING if sent is None else np.ascontiguousarray(sent).view(np.uint8).reshape(-1),
            dest=self._nobody if sent is None else dest,
            sendtag=_ROWS,
            recvbuf=_NOTHING if received is None else received.view(np.uint8).reshape(-1),
            source=self._nobody if received is None else source,
            recvtag=_ROWS,  # by default any: then what is told of progress would be taken for pixels
        )


@dataclass(slots=True)
class _RankRun(Run):
    """A run that knows its own tiles, and asks the others for what it lacks."""

    team: Team = field(kw_only=True)
    told: Callable[[Told], None] | None = field(kw_only=True, default=None)
    others: dict[int, tuple[tuple[int, int, int, int], int]] = field(default_factory=dict)
    now: tuple[Stage, int] | None = None

    def numbers(self, stage: Stage) -> Sequence[int]:
        """A band of whole rows."""
        return stage.grid.bands(self.team.size)[self.team.rank]

    def made_store(self, number: int, stage: Stage) -> Store:
        """Of the rows of the own band alone."""
        spec = self.program.stores[number]
        return BandStore(self.scratch, spec.raster, spec.tile, rows_of(stage, self.numbers(stage)))

    def begin(self, stage: Stage) -> None:
        """Get the rows that tiles of this rank need and others have."""
        if stage.start == SOURCE or self.team.size == 1:
            return
        store = self.stores[stage.start]
        assert isinstance(store, BandStore)
        needed = needed_rows(stage, self.numbers(stage))
        store.forget()
        fetch(store, self.team.all((store.rows, needed), self.hear), self.team)

    def concluded(self, survey: int, tellings: Tellings) -> Any:
        """By the first rank, for all."""
        gathered = self.team.gather(tellings.all() if self.team.rank else None, self.hear)
        concluded = None
        if gathered is not None:
            for parts in gathered[1:]:
                tellings.merge(parts)
            # Named, for a dataclass with slots is another class than the one that super() would look for.
            concluded = Run.concluded(self, survey, tellings)
        return self.team.share(concluded)

    def tell(self, stage: Stage, tiles: int) -> None:
        """To the first rank, which adds up."""
        self.now = (stage, tiles)
        if self.team.rank:
            self.team.tell(self.far())
            return
        self.hear()

    def far(self) -> tuple[int, int, int, int]:
        """Number of the sweep, tiles of it that are done, bytes that were read and written."""
        stage, tiles = self.now or (self.program.stages[0], 0)
        return stage.number, tiles, self.read, self.written

    def leave(self) -> None:
        """The end of it, for all at once: what was told is heard by this run, and not by the next one."""
        gathered = self.team.gather((self.far(), self.team.resident()), self.hear)
        if gathered is not None:
            self.hear()
            self.others = dict(enumerate(gathered[1:], 1))
            self.hear()
        self.team.share()

    def hear(self) -> None:
        """Take what others have told, and hand on the sum."""
        for source, value, memory in self.team.heard():
            self.others[source] = (value, memory)
        if self.told is None or self.now is None:
            return
        stage, tiles = self.now
        same = [value for value, _ in self.others.values() if value[0] == stage.number]
        ahead = sum(
            len(stage.grid.bands(self.team.size)[source])
            for source, (value, _) in self.others.items()
            if value[0] > stage.number
        )
        self.told(
            Told(
                self.progress_of(
                    stage,
                    tiles + ahead + sum(value[1] for value in same),
                    self.read + sum(value[2] for value, _ in self.others.values()),
                    self.written + sum(value[3] for value, _ in self.others.values()),
                ),
                self.team.resident() + sum(memory for _, memory in self.others.values()),
            )
        )


def rows_of(stage: Stage, numbers: Sequence[int]) -> Rows:
    """The rows of the image at the end of a sweep that these tiles (whole rows of them) are."""
    if not numbers:
        return (0, 0)
    return stage.grid.core(numbers[0]).top, stage.grid.core(numbers[-1]).bottom


def needed_rows(stage: Stage, numbers: Sequence[int]) -> Rows:
    """The rows of the image at its start that they need."""
    wanted = [stage.trace(stage.grid.core(number))[1] for number in numbers]
    return (min(region.top for region in wanted), max(region.bottom for region in wanted)) if wanted else (0, 0)


def common(one: Rows, other: Rows) -> Rows:
    """The rows that both have; (0, 0) where there are none."""
    first, last = max(one[0], other[0]), min(one[1], other[1])
    return (first, last) if first < last else (0, 0)


def pieces(own: Rows, needed: Rows, given: Rows, most: int) -> list[Rows]:
    """What somebody with ``own`` rows, who needs ``needed``, gets of ``given``; in pieces of at most ``most`` rows."""
    found: list[Rows] = []
    for part in (
        ((needed[0], min(needed[1], own[0])), (max(needed[0], own[1]), needed[1])) if own[0] < own[1] else (needed,)
    ):
        first, last = common(part, given) if part[0] < part[1] else (0, 0)
        found += [(top, min(top + most, last)) for top in range(first, last, most)]
    return found


def fetch(store: BandStore, facts: Sequence[tuple[Rows, Rows]], team: Team) -> None:
    """Give every rank the rows that it needs. ``facts``: by rank, the rows that it has and those that it needs.

    In as many rounds as there are other ranks; in each, everybody sends to one and receives from another, piece by
    piece. Both sides of a pair count the same pieces, so nobody waits for one that isn't sent.
    """
    raster = store.raster
    row = raster.shape(Region(0, 0, raster.size.width, 1))[1:]
    most = max(1, PIECE_BYTES // max(1, int(np.prod(row)) * raster.dtype.itemsize))
    for shift in range(1, team.size):
        dest, source = (team.rank + shift) % team.size, (team.rank - shift) % team.size
        out = pieces(*facts[dest], facts[team.rank][0], most)
        back = pieces(*facts[team.rank], facts[source][0], most)
        for index in range(max(len(out), len(back))):
            sent = store.rows_at(out[index]) if index < len(out) else None
            received = None
            if index < len(back):
                received = np.empty((back[index][1] - back[index][0], *row), raster.dtype)
            team.exchange(dest, sent, source, received)
            if received is not None:
                store.add(back[index], received)


class BandStore:
    """A :class:`Store` of the rows that this rank has made, and of those it was given for the sweep that is at work."""

    def __init__(self, scratch: Scratch, raster: Raster, tile: Size, rows: Rows) -> None:
        self.raster, self.rows = raster, rows
        self._scratch, self._tile = scratch, tile
        self._own = self._made(rows)
        self._given: list[tuple[Rows, Store]] = []

    def _made(self, rows: Rows) -> Store | None:
        if rows[0] == rows[1]:
            return None
        size = Size(self.raster.size.width, rows[1] - rows[0])
        return self._scratch.make(Raster(size, self.raster.channels, self.raster.dtype), self._tile)

    def write(self, region: Region, pixels: NDArray[Any]) -> None:
        """Keep pixels of the own rows."""
        assert self._own is not None, "a rank without tiles writes nothing"
        self._own.write(region._replace(top=region.top - self.rows[0]), pixels)

    def read(self, region: Region) -> NDArray[Any]:
        """Pixels of rows that are here."""
        own = [(self.rows, self._own)] if self._own is not None else []
        result: NDArray[Any] | None = None
        for rows, store in (*own, *self._given):
            first, last = common(rows, (region.top, region.bottom))
            if first == last:
                continue
            part = Region(region.left, first, region.width, last - first)
            block = store.read(part._replace(top=first - rows[0]))
            if part == region:
                return block
            if result is None:
                result = np.empty(self.raster.shape(region), self.raster.dtype)
            part.of(result, region)[...] = block
        assert result is not None, "rows that nobody has fetched"
        return result

    def rows_at(self, rows: Rows) -> NDArray[Any]:
        """Whole rows, of the own ones."""
        return self.read(Region(0, rows[0], self.raster.size.width, rows[1] - rows[0]))

    def add(self, rows: Rows, pixels: NDArray[Any]) -> None:
        """Rows of somebody else, until :meth:`forget`."""
        store = self._made(rows)
        assert store is not None
        store.write(Region(0, 0, self.raster.size.width, rows[1] - rows[0]), pixels)
        self._given.append((rows, store))

    def forget(self) -> None:
        """Give back the rows of others."""
        while self._given:
            self._scratch.give_back(self._given.pop()[1])

    def close(self) -> None:
        """Give everything back."""
        self.forget()
        own, self._own = self._own, None
        if own is not None:
            self._scratch.give_back(own)
