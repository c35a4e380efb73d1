"""The contract of a target: a place that can run a task now.

A target knows pipelines (as JSON), bytes and limits; it knows nothing of jobs, queues or gates.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pixelmill.errors import TargetUnavailable
from pixelmill.images.limits import Limits, TiledLimits
from pixelmill.pipelines.outcome import Outcome
from pixelmill.storage.options import StoreSpec


@dataclass(frozen=True, slots=True)
class FarSource:
    """A source in a store that is too large to be held whole.

    ``stream`` gives its ``size`` bytes in chunks, each time anew. ``spec`` and ``key``: where it lies, for a process
    that can read parts of it itself. ``version`` tells its state from one that another attempt has seen.
    """

    size: int
    stream: Callable[[], AsyncIterator[bytes]]
    spec: StoreSpec
    key: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One source through one pipeline, with its bounds.

    ``pipeline`` is canonical JSON. ``source`` and ``images`` (by the reference that the pipeline uses) are
    bytes, or a file that a process on this machine can read; a source beyond ``limits`` may be a :class:`FarSource`.
    ``source_name`` is shown in errors only. Of the kind ``sheet`` the source is the document of a contact sheet, and
    ``images`` are its thumbnails, as bytes. ``source_key``: where the source lies in the service's store too, for
    targets that can be sent a link. ``trace``: what the work belongs to where it came from another process
    (``tracing.TraceContext.to_text``).

    ``tiled``: bounds of an image that is too large for ``limits``, for targets that can cut it into tiles (None: it is
    refused); ``ranks``: over how many MPI ranks to spread it. ``tell`` is called, in the event loop, with how far a
    long run is (:class:`Progress`). The three stay on this machine.
    """

    id: str
    pipeline: str
    source: bytes | Path | FarSource
    images: Mapping[str, bytes | Path] = field(default_factory=dict)
    source_name: str = ""
    limits: Limits = field(default_factory=Limits)
    timeout_s: float = 60.0
    kind: Literal["image", "sheet"] = "image"
    source_key: str = ""
    trace: str = ""
    tiled: TiledLimits | None = None
    ranks: int = 0
    tell: Callable[[Progress], None] = field(default=lambda _: None, compare=False)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run over tiles is: passes over the image count each tile once.

    ``pixels_s``: pixels of the result a second, ``memory`` resident bytes of all its processes, ``left_s`` seconds that
    are left (None: not known yet). ``kept``: tiles that an attempt before had written.
    """

    tiles: int
    of: int
    pixels_s: float = 0.0
    memory: int = 0
    left_s: float | None = None
    kept: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, rounded for people."""
        left = None if self.left_s is None else round(self.left_s, 1)
        return {
            "tiles": self.tiles,
            "of": self.of,
            "megapixels_s": round(self.pixels_s / 1e6, 2),
            "memory": self.memory,
            "seconds_left": left,
            "kept": self.kept,
        }


@dataclass(frozen=True, slots=True)
class RunResult:
    """The outcome and where it came from: target name and process id (or the like); and what it cost.

    ``cold``: it was the first task of its process, container or function instance. ``file`` holds the encoded image
    where it is too large to be bytes of the outcome; who has it no longer needed calls ``discard``.
    """

    outcome: Outcome
    target: str
    worker: str
    cost: float = 0.0
    cold: bool = False
    file: Path | None = None
    discard: Callable[[], None] = field(default=lambda: None, compare=False)


def near(source: bytes | Path | FarSource, place: str) -> bytes | Path:
    """The source of a run that holds the image whole; raises :class:`TargetUnavailable` for one that can't be held."""
    if isinstance(source, FarSource):
        raise TargetUnavailable(
            f"{place} runs no images that are so large ({source.size:,} bytes). The task waits for a worker that cuts "
            "them into tiles.",
            fault=False,
            billed="none",
        )
    return source


def measured(request: RunRequest, result: RunResult) -> dict[str, Any]:
    """The outcome as it is recorded: plain values, with the bytes of source and result instead of the bytes."""
    outcome = result.outcome
    record = outcome.to_dict()
    record["bytes"] = None if outcome.bytes is None else len(outcome.bytes)
    if result.file is not None:
        with suppress(OSError):
            record["bytes"] = result.file.stat().st_size
    source = request.source
    if isinstance(source, bytes):
        record["source_bytes"] = len(source)
    elif isinstance(source, FarSource):
        record["source_bytes"] = source.size
    else:
        with suppress(OSError):  # it was removed meanwhile: then nobody knows
            record["source_bytes"] = source.stat().st_size
    if result.cold:
        record["cold"] = True
    return record


@dataclass(frozen=True, slots=True)
class TargetLoad:
    """What a target is doing: tasks running now, tasks it can run at once, processes restarted so far.

    A target that is not ``healthy`` refuses every task at once, and gives its ``reason``. ``model_slots``: tasks that
    want learned models, beside ``capacity`` others, that it can run at once; 0: they take room like all others.
    """

    running: int
    capacity: int
    restarts: int = 0
    healthy: bool = True
    reason: str = ""
    model_slots: int = 0


class Target(Protocol):
    """A place that runs tasks. ``run`` raises :class:`PixelmillError` for every failure."""

    name: str

    async def start(self) -> None:
        """Get ready; returns when the first task can run."""
        ...

    async def stop(self) -> None:
        """End everything it started, at once; running tasks raise :class:`Cancelled`."""
        ...

    def load(self) -> TargetLoad:
        """The load now."""
        ...

    async def run(self, request: RunRequest) -> RunResult:
        """Run one task. Cancelling the await ends the work (a pool process is killed) and frees its room."""
        ...
