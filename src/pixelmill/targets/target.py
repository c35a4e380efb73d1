"""The contract of a target: a place that can run a task now.

A target knows pipelines (as JSON), bytes and limits; it knows nothing of jobs, queues or gates.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pixelmill.images.limits import Limits
from pixelmill.pipelines.outcome import Outcome


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One source through one pipeline, with its bounds.

    ``pipeline`` is canonical JSON. ``source`` and ``images`` (by the reference that the pipeline uses) are
    bytes, or a file that a process on this machine can read. ``source_name`` is shown in errors only. Of the kind
    ``sheet`` the source is the document of a contact sheet, and ``images`` are its thumbnails, as bytes.
    ``source_key``: where the source lies in the service's store too, for targets that can be sent a link. ``trace``:
    what the work belongs to where it came from another process (``tracing.TraceContext.to_text``).
    """

    id: str
    pipeline: str
    source: bytes | Path
    images: Mapping[str, bytes | Path] = field(default_factory=dict)
    source_name: str = ""
    limits: Limits = field(default_factory=Limits)
    timeout_s: float = 60.0
    kind: Literal["image", "sheet"] = "image"
    source_key: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class RunResult:
    """The outcome and where it came from: target name and process id (or the like); and what it cost.

    ``cold``: it was the first task of its process, container or function instance.
    """

    outcome: Outcome
    target: str
    worker: str
    cost: float = 0.0
    cold: bool = False


def measured(request: RunRequest, result: RunResult) -> dict[str, Any]:
    """The outcome as it is recorded: plain values, with the bytes of source and result instead of the bytes."""
    outcome = result.outcome
    record = outcome.to_dict()
    record["bytes"] = None if outcome.bytes is None else len(outcome.bytes)
    source = request.source
    if isinstance(source, bytes):
        record["source_bytes"] = len(source)
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
