"""What the client hands out: frozen values read from the service's JSON.

Readers ignore members they don't know, so an older client works with a newer service.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Counts:
    """Tasks of a job by state."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All tasks."""
        return self.queued + self.running + self.done

    @property
    def done(self) -> int:
        """Tasks that have ended."""
        return self.succeeded + self.failed + self.cancelled

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Counts:
        """From the ``counts`` member of a job."""
        return cls(**{name: int(record.get(name, 0)) for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job as it was when it was asked for. Times are ISO 8601 text in UTC, or None.

    ``webhook``: the one that was made with the job, with its secret; only in the answer to its submission.
    ``labels``: what ``auto_tag`` said of most tasks, with their number; only where one job was asked for.
    """

    id: str
    state: str
    counts: Counts
    pipeline: str = ""
    name: str = ""
    sealed: bool = True
    created: str | None = None
    started: str | None = None
    ended: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    webhook: Webhook | None = None
    owner: str = ""
    labels: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """True once no task of the job will run any more."""
        return self.state in FINAL_STATES

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> JobStatus:
        """From a job's JSON."""
        return cls(
            id=str(record["id"]),
            state=str(record["state"]),
            counts=Counts.read(record.get("counts") or {}),
            pipeline=str(record.get("pipeline") or ""),
            name=str(record.get("name") or ""),
            sealed=bool(record.get("sealed", True)),
            created=record.get("created"),
            started=record.get("started"),
            ended=record.get("ended"),
            tags=record.get("tags") or {},
            webhook=Webhook.read(record["webhook"]) if record.get("webhook") else None,
            owner=str(record.get("owner") or ""),
            labels=record.get("labels") or {},
        )


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """One source through one pipeline.

    ``outcome`` has ``format``, ``media_type``, ``size``, ``frames``, ``bytes`` (None for data only), ``data`` and
    ``timings``; ``error`` has ``type`` (the slug of an error of the tree) and ``detail``. ``uri`` is None for uploads.
    """

    id: str
    state: str
    name: str
    uri: str | None = None
    attempts: int = 0
    target: str | None = None
    worker: str | None = None
    why: str | None = None
    cost: float = 0.0
    queued: str | None = None
    started: str | None = None
    ended: str | None = None
    outcome: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    job: str = ""

    @property
    def has_image(self) -> bool:
        """True where the result holds image bytes."""
        return bool(self.outcome and self.outcome.get("bytes") is not None)

    @property
    def data(self) -> Mapping[str, Any]:
        """What operations found out, or nothing."""
        return (self.outcome or {}).get("data") or {}

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> TaskStatus:
        """From a task's JSON."""
        known = {name: record[name] for name in cls.__slots__ if name in record}
        source = record.get("source")
        if isinstance(source, Mapping):
            known["uri"] = source.get("uri")
        if isinstance(known.get("error"), Mapping):
            known["error"] = {**known["error"], "type": slug_of(known["error"].get("type"))}
        return cls(**known)


def slug_of(type_uri: Any) -> str:
    """The stable last part of a problem's ``type``, which is a URI or the slug itself."""
    return str(type_uri or "").rstrip("/").rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A task that failed because its attempts were used up; ``error`` has ``type`` (a slug) and ``detail``."""

    task: str
    job: str
    name: str = ""
    owner: str = ""
    run: int = 0
    attempts: int = 0
    ended: str | None = None
    error: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> DeadLetter:
        """From a dead letter's JSON."""
        known = {name: record[name] for name in cls.__slots__ if name in record}
        if isinstance(known.get("error"), Mapping):
            known["error"] = {**known["error"], "type": slug_of(known["error"].get("type"))}
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Processed:
    """The answer of ``process``: image bytes (None for data only), data, and milliseconds by part of the work.

    ``target``: where it ran; None where the service doesn't say.
    """

    bytes: builtins.bytes | None
    media_type: str | None
    data: Mapping[str, Any] | None = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A task that succeeded, with its image bytes (None for data only)."""

    task: TaskStatus
    bytes: builtins.bytes | None


@dataclass(frozen=True, slots=True)
class Upload:
    """Bytes that wait at the service to be used by a job."""

    id: str
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Event:
    """An entry of the log: ``type`` is ``task``, ``progress``, ``job`` or ``deleted``; ``id`` resumes a stream."""

    id: str
    type: str
    data: Mapping[str, Any]

    @property
    def ends_job(self) -> bool:
        """True where the job has ended with it (a retry may make it go on)."""
        return self.type == "deleted" or (self.type == "job" and self.data.get("state") in FINAL_STATES)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far ``submit`` has come: files sent, of how many (None where the sources are an iterator), and bytes."""

    done: int
    total: int | None
    bytes: int


@dataclass(frozen=True, slots=True)
class Download:
    """What ``download`` did: files written, files that were there already, tasks that gave nothing."""

    saved: Sequence[Path]
    skipped: Sequence[Path]
    failed: Sequence[TaskStatus]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A contact sheet that was written: how its ``cells`` stand, how many of them are ``marked`` as without an image.

    ``left_out``: tasks that have ended and are not shown; ``unfinished``: tasks that may still give a result.
    """

    path: Path
    cells: int = 0
    columns: int = 0
    rows: int = 0
    marked: int = 0
    left_out: int = 0
    unfinished: int = 0

    @classmethod
    def read(cls, path: Path, record: Mapping[str, Any]) -> Sheet:
        """From the data that come beside the image."""
        names = ("cells", "columns", "rows", "marked", "left_out", "unfinished")
        return cls(path, **{name: int(record.get(name, 0)) for name in names})


@dataclass(frozen=True, slots=True)
class Link:
    """An address that works without a token until it ``expires``; send it ``method`` with all of ``headers``."""

    url: str
    method: str
    headers: Mapping[str, str] = field(default_factory=dict)
    expires: str | None = None


@dataclass(frozen=True, slots=True)
class UploadLink:
    """A link to put the bytes of a new upload by, ``max_bytes`` at most; then complete the upload by its ``id``."""

    id: str
    link: Link
    max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Webhook:
    """An endpoint that is told when jobs end; ``secret`` is known only from the answer that made it."""

    id: str
    url: str
    job: str | None = None
    created: str | None = None
    secret: str | None = field(default=None, repr=False)

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Webhook:
        """From a webhook's JSON."""
        return cls(**{name: record[name] for name in cls.__slots__ if name in record})


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to a webhook: ``state`` (waiting, delivered, failed), attempts, status or error of the last one."""

    id: str
    webhook: str
    job: str
    state: str
    type: str = "job.ended"
    attempts: int = 0
    next_attempt: str | None = None
    status: int | None = None
    error: str | None = None
    created: str | None = None
    ended: str | None = None

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Delivery:
        """From a delivery's JSON."""
        return cls(**{name: record[name] for name in cls.__slots__ if name in record})
