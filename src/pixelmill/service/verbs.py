"""The verbs that every edge calls, and the wiring below them.

An edge (REST, CLI, triggers) parses its input into a pipeline and sources and calls one of these verbs;
nothing else is decided there. This module knows no HTTP, reads no environment and prints nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pixelmill.jobs.model import Job, LoggedEvent, Page, Priority, State, Task, Upload
from pixelmill.pipelines.spec import Pipeline
from pixelmill.service.settings import ServiceConfig
from pixelmill.targets.target import RunResult


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the owner whose things are seen, and the scopes that were granted."""

    owner: str
    scopes: frozenset[str]


class Service:
    """One embedded Pixelmill: store, job store, queue, pool, dispatcher, recorder.

    Every verb takes the owner first; what belongs to another owner raises :class:`NotFound`.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self.config = config

    async def start(self) -> None:
        """Lock the data folder, migrate, reconcile what a crash left, start pool and consumer."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Drain: take no new work, let running tasks end within ``drain_s``, end event streams, close."""
        raise NotImplementedError

    # -- one image now ---------------------------------------------------------------------------

    async def process(self, owner: str, pipeline: Pipeline, body: bytes, name: str = "") -> RunResult:
        """Run one image at interactive priority; raises :class:`Busy` after ``interactive_wait_s``."""
        raise NotImplementedError

    # -- uploads ---------------------------------------------------------------------------------

    async def put_upload(self, owner: str, name: str, body: AsyncIterator[bytes]) -> Upload:
        """Stream bytes into the store. Every call makes a new upload with its own id."""
        raise NotImplementedError

    # -- jobs ------------------------------------------------------------------------------------

    async def submit(
        self,
        owner: str,
        pipeline: Pipeline,
        *,
        uploads: Sequence[str] = (),
        sources: Sequence[str] = (),
        name: str = "",
        priority: Priority = Priority.NORMAL,
        tags: Mapping[str, str] | None = None,
        sealed: bool = True,
        idempotency_key: str | None = None,
        fingerprint: str = "",
    ) -> tuple[Job, bool]:
        """Record a job; when this returns, job and inputs survive ``kill -9``.

        ``uploads`` are upload ids, ``sources`` URIs (``file://`` below a source root, globs allowed there). The second
        value is False where the idempotency key returned a job that was there already; ``fingerprint`` tells a
        replay from another request under the same key (:class:`IdempotencyConflict`).
        """
        raise NotImplementedError

    async def extend(
        self,
        owner: str,
        job_id: str,
        *,
        uploads: Sequence[str] = (),
        sources: Sequence[str] = (),
        seal: bool = False,
    ) -> Job:
        """Add a page of tasks to a job that is not sealed, and seal it if asked."""
        raise NotImplementedError

    async def jobs(self, owner: str, *, limit: int = 50, cursor: str | None = None, state: State | None = None) -> Page:
        """Jobs (:class:`Job`), newest first."""
        raise NotImplementedError

    async def job(self, owner: str, job_id: str) -> Job:
        """One job."""
        raise NotImplementedError

    async def tasks(
        self,
        owner: str,
        job_id: str,
        *,
        limit: int = 100,
        cursor: str | None = None,
        state: State | None = None,
    ) -> Page:
        """Tasks (:class:`Task`) of a job, in the order they were submitted."""
        raise NotImplementedError

    async def task(self, owner: str, task_id: str) -> Task:
        """One task."""
        raise NotImplementedError

    async def attempts(self, owner: str, task_id: str) -> Sequence[Mapping[str, Any]]:
        """The attempts of a task that were lost before its last one, oldest first."""
        raise NotImplementedError

    async def cancel(self, owner: str, job_id: str) -> Job:
        """Cancel what has not ended; running tasks are stopped."""
        raise NotImplementedError

    async def retry(self, owner: str, job_id: str) -> Job:
        """Queue the failed and cancelled tasks again, in a new run."""
        raise NotImplementedError

    async def delete(self, owner: str, job_id: str) -> None:
        """Cancel, then remove the job, its results, and its inputs that no other job uses."""
        raise NotImplementedError

    # -- results ---------------------------------------------------------------------------------

    async def result(self, owner: str, task_id: str) -> tuple[Task, AsyncIterator[bytes] | None]:
        """The task and its result image in chunks (None where it gave data only).

        Raises :class:`IllegalTransition` where the task has not succeeded.
        """
        raise NotImplementedError

    async def input(self, owner: str, task_id: str) -> tuple[Task, AsyncIterator[bytes]]:
        """The task and its source's bytes in chunks."""
        raise NotImplementedError

    def archive(self, owner: str, job_id: str) -> AsyncIterator[bytes]:
        """A ZIP of all results of a job, streamed, with safe and distinct names; data as ``STEM.json``."""
        raise NotImplementedError

    # -- events ----------------------------------------------------------------------------------

    def events(
        self, owner: str, *, job_id: str | None = None, after: int | None = None
    ) -> AsyncIterator[LoggedEvent | None]:
        """Events after ``after`` (None: from now on), then live ones. None is a heartbeat, at most every 15 s.

        With ``job_id`` the stream ends after the job's last event. A slow reader is never buffered for: it
        reads from the log. Ends when the service stops.
        """
        raise NotImplementedError

    # -- tokens ----------------------------------------------------------------------------------

    async def authenticate(self, token: str) -> Caller:
        """Who holds the token; raises :class:`Unauthenticated`."""
        raise NotImplementedError

    # -- state of the machine --------------------------------------------------------------------

    async def nodes(self) -> Sequence[Mapping[str, Any]]:
        """Each node: load now, its targets and slots, and samples of its last hour."""
        raise NotImplementedError

    async def ready(self) -> Mapping[str, Any]:
        """Checks by name with ``ok`` and a sentence; ``ready`` is True where all are ok."""
        raise NotImplementedError

    def metrics(self) -> bytes:
        """Prometheus text."""
        raise NotImplementedError
