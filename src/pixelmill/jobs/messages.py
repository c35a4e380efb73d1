"""What a queue carries of a task: all that a worker needs to run it, and nothing that it must ask the job store for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pixelmill.errors import JobError
from pixelmill.images.limits import Limits, TiledLimits
from pixelmill.jobs.model import UNBOUND, Job, JobBounds, NewTask, Priority

PRIORITY_NUMBERS: Mapping[Priority, int] = {Priority.INTERACTIVE: 0, Priority.NORMAL: 1, Priority.BATCH: 2}
"""A queue takes smaller numbers first."""
CLASSES = len(PRIORITY_NUMBERS)


def queue_number(priority: Priority, *, models: bool = False) -> int:
    """The class of a message in the database's queue: tasks that want learned models have classes of their own.

    So that they can be left where they are while there is no room for them, however many stand before others.
    """
    return PRIORITY_NUMBERS[priority] + (CLASSES if models else 0)


def urgency(number: int) -> int:
    """The number of the priority, of a class of either kind."""
    return number % CLASSES


@dataclass(frozen=True, slots=True)
class RunBounds:
    """Bounds that tasks of a store get: limits of the image, seconds of a run, deliveries before it fails.

    ``tiled``: those of images that are too large for ``limits`` (None: they are refused). ``ranks``: the most MPI
    ranks that a job may ask for; of one job, see :meth:`within`, those that it has asked for.
    """

    limits: Limits = field(default_factory=Limits)
    timeout_s: float = 60.0
    max_attempts: int = 3
    tiled: TiledLimits | None = None
    ranks: int = 0

    def within(self, bounds: JobBounds) -> RunBounds:
        """These, and those of one job where they are smaller."""
        if bounds == UNBOUND:
            return replace(self, ranks=0)

        def least(own: float, wanted: float | None) -> Any:
            return own if wanted is None else min(own, wanted)

        of_image = (bounds.max_bytes, bounds.max_pixels, bounds.max_side)
        timeout_s = least(self.timeout_s, bounds.timeout_s)
        tiled = self.tiled
        if tiled is not None:
            tiled = replace(tiled.lowered(*of_image), timeout_s=least(tiled.timeout_s, bounds.timeout_s))
        return replace(
            self,
            limits=self.limits.lowered(*of_image),
            timeout_s=timeout_s,
            max_attempts=least(self.max_attempts, bounds.max_attempts),
            tiled=tiled,
            ranks=min(self.ranks, bounds.ranks or 0),
        )


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """One task as a worker sees it. ``pipeline`` is canonical JSON; ``images`` maps its references to store keys.

    ``tiled`` and ``ranks``: see :class:`RunBounds`; in the JSON only where they say something, for older workers refuse
    members that they don't know. ``trace`` (``tracing.TraceContext.to_text``) and ``queued`` (seconds since the epoch;
    0: not known) travel beside the JSON, with the message of the queue.
    """

    task: str
    run: int
    job: str
    owner: str
    name: str
    pipeline: str
    source: str
    images: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    timeout_s: float = 60.0
    max_attempts: int = 3
    tiled: TiledLimits | None = None
    ranks: int = 0
    trace: str = ""
    queued: float = field(default=0.0, compare=False)

    @property
    def id(self) -> str:
        """The message's id: task and run."""
        return message_id(self.task, self.run)

    def to_json(self) -> str:
        """Compact JSON."""
        record = {name: getattr(self, name) for name in _FIELDS}
        record["images"] = dict(self.images)
        record["limits"] = asdict(self.limits)
        record |= {"tiled": asdict(self.tiled)} if self.tiled is not None else {}
        record |= {"ranks": self.ranks} if self.ranks else {}
        return json.dumps(record, separators=(",", ":"))

    @classmethod
    def from_json(cls, body: str, *, trace: str = "", queued: float = 0.0) -> TaskMessage:
        """The inverse of :meth:`to_json`, with what travelled beside it; raises :class:`JobError` for anything else."""
        try:
            record: dict[str, Any] = json.loads(body)
            record["limits"] = Limits(**record["limits"])
            if (tiled := record.get("tiled")) is not None:
                record["tiled"] = TiledLimits(**tiled)
            return cls(**record, trace=trace, queued=queued)
        except (ValueError, TypeError, KeyError) as error:
            raise JobError(f"A queued message can't be read ({error}); it comes from another version.") from error


_FIELDS = tuple(name for name in TaskMessage.__dataclass_fields__ if name not in {"tiled", "ranks", "trace", "queued"})


def message_id(task: str, run: int) -> str:
    """A task is queued at most once in each run."""
    return f"{task}/{run}"


def split_message_id(text: str) -> tuple[str, int]:
    """The inverse of :func:`message_id`; raises :class:`ValueError`."""
    task, slash, run = text.rpartition("/")
    if not slash:
        raise ValueError(f"not the id of a task's message: {text!r}")
    return task, int(run)


def bodies(job: Job, bounds: RunBounds, tasks: Iterable[tuple[NewTask, int]]) -> Iterator[str]:
    """The bodies of many tasks (each with its run) of one job; what they share is encoded once."""
    bounds = bounds.within(job.bounds)
    marker = TaskMessage(
        task="",
        run=0,
        job=job.id,
        owner=job.owner,
        name="",
        pipeline=job.pipeline,
        source="",
        images=job.images,
        limits=bounds.limits,
        timeout_s=bounds.timeout_s,
        max_attempts=bounds.max_attempts,
        tiled=bounds.tiled,
        ranks=bounds.ranks,
    )
    shared = json.loads(marker.to_json())
    for own in ("task", "run", "name", "source"):
        del shared[own]
    tail = json.dumps(shared, separators=(",", ":"))[1:]
    for task, run in tasks:
        own_part = json.dumps(
            {"task": task.id, "run": run, "name": task.name, "source": task.source}, separators=(",", ":")
        )
        yield f"{own_part[:-1]},{tail}"
