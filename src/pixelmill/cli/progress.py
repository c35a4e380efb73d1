"""What a person sees of a batch: a progress bar with rate and time left, and a table of what failed. All on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SHOWN = 72
"""Characters of a source's name in a table."""
MOST_ROWS = 20
REFRESH_PER_SECOND = 4  # each refresh costs milliseconds


@dataclass(slots=True)
class Failure:
    """A row of the table."""

    name: str
    kind: str
    why: str


@dataclass(slots=True)
class Tally:
    """Counts of a batch, and its failures."""

    succeeded: int = 0
    skipped: int = 0
    failures: list[Failure] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    @property
    def done(self) -> int:
        """Sources that have ended."""
        return self.succeeded + self.skipped + len(self.failures)

    @property
    def seconds(self) -> float:
        """Since the batch began."""
        return time.perf_counter() - self.started

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.succeeded / self.seconds if self.seconds else 0.0


class Drawn:
    """What all bars have in common: they are drawn from ``with`` on until its end, where there is one to draw."""

    _progress: Progress | None = None

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def finish(self) -> None:
        """Draw it for the last time, so that others may print."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class Bar(Drawn):
    """A bar that is drawn where ``shown``; else every call does nothing and Rich is not imported."""

    def __init__(self, description: str, total: int | None, *, shown: bool) -> None:
        self._task: TaskID
        if shown:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
                refresh_per_second=REFRESH_PER_SECOND,
            )
            self._task = self._progress.add_task(description, total=total, rate="", note="")
        self._start = time.perf_counter()

    def update(self, done: int, *, total: int | None = None, note: str = "") -> None:
        """Show that ``done`` have ended."""
        if self._progress is None:
            return
        seconds = time.perf_counter() - self._start
        rate = f"{done / seconds:.1f}/s" if seconds > 0 else ""
        self._progress.update(self._task, completed=done, total=total, rate=rate, note=note)


def is_shown(wanted: bool | None) -> bool:
    """Whether to draw: as asked, else where stderr is a terminal."""
    return sys.stderr.isatty() if wanted is None else wanted


def _end(name: str) -> str:
    """A long path without its beginning: the end tells files apart."""
    return name if len(name) <= SHOWN else "…" + name[1 - SHOWN :]


def print_failures(failures: Sequence[Failure]) -> None:
    """The table of what failed and why, to stderr."""
    from rich.console import Console
    from rich.table import Column, Table

    from pixelmill.cli.tables import PIPED_WIDTH, plain

    # Piped into a file, lines must not be cut to the 80 columns that Rich assumes.
    console = Console(stderr=True, width=None if sys.stderr.isatty() else PIPED_WIDTH)
    source = Column("source", overflow="fold")
    table = Table(source, "error", "why", title=f"{len(failures):,} failed", title_justify="left")
    for failure in failures[:MOST_ROWS]:
        table.add_row(*(plain(text) for text in (_end(failure.name), failure.kind, failure.why)))
    console.print(table)
    if len(failures) > MOST_ROWS:
        console.print(f"and {len(failures) - MOST_ROWS:,} more (see them all with --json).")


class Transfer(Drawn):
    """A bar of bytes; where it is not ``shown`` every call does nothing and Rich is not imported."""

    def __init__(self, *, shown: bool) -> None:
        self._tasks: dict[str, TaskID] = {}
        if shown:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                refresh_per_second=REFRESH_PER_SECOND,
            )

    def update(self, name: str, done: int, total: int) -> None:
        """So many bytes of that file are here."""
        if self._progress is None:
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[name], completed=done, total=total)
