"""The verbs that every edge calls. Wiring and background work stand in ``wiring.py`` and ``upkeep.py``.

An edge (REST, CLI, triggers) parses its input into a pipeline and sources and calls one of these verbs;
nothing else is decided there. This module knows no HTTP, reads no environment and prints nothing.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from pixelmill import tracing
from pixelmill.errors import (
    IllegalTransition,
    LimitExceeded,
    NotFound,
    QueueFull,
    RequestError,
    ShuttingDown,
    StorageError,
)
from pixelmill.jobs.model import (
    UNBOUND,
    Counts,
    Job,
    JobBounds,
    LoggedEvent,
    NewTask,
    Page,
    Priority,
    State,
    Task,
    Upload,
)
from pixelmill.jobs.notices import NewWebhook
from pixelmill.operations.montage import Montage
from pixelmill.pipelines.output import Output
from pixelmill.pipelines.spec import Pipeline
from pixelmill.service.about import load_now
from pixelmill.service.caller import Caller
from pixelmill.service.dead_letters import DeadLetterVerbs
from pixelmill.service.links import Links
from pixelmill.service.live import Live, Sampler
from pixelmill.service.parts import Parts
from pixelmill.service.sessions import SessionVerbs
from pixelmill.service.settings import ServiceConfig
from pixelmill.service.thumbnails import Thumbnail, Wanted
from pixelmill.service.triggering import Triggering
from pixelmill.service.webhook_verbs import WebhookVerbs
from pixelmill.service.wiring import Wiring
from pixelmill.storage.named import SourceObject, names_bucket
from pixelmill.storage.sources import SourceFile, expand_sources
from pixelmill.targets.link import Pipe
from pixelmill.targets.target import RunRequest, RunResult

HEARTBEAT_S = 15.0
EVENT_PAGE = 500
MAX_PAGE = 100_000
"""Uploads, sources, and files that wild cards stand for, in one call; larger jobs grow by pages."""
MAX_VISITED = 1_000_000
"""Folder entries that the wild cards of one call may look at."""


def new_id(prefix: str) -> str:
    """An id that sorts by time and can't be guessed: 48 bits of milliseconds, 80 random bits."""
    return f"{prefix}_{int(time.time() * 1000):012x}{secrets.token_hex(10)}"


def check_page(count: int) -> None:
    """Raise :class:`LimitExceeded` for more uploads and sources than one call may name."""
    if count > MAX_PAGE:
        raise LimitExceeded(
            f"One request may name {MAX_PAGE:,} uploads and sources. Submit the job with sealed=false and add "
            "the rest by pages.",
            limit="sources in one request",
            value=count,
            maximum=MAX_PAGE,
        )


class Service:
    """One embedded Pixelmill: store, job store, queue, pool, dispatcher, recorder.

    Every verb takes the owner first; what belongs to another owner raises :class:`NotFound`.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self.config = config
        self._parts = Parts(config)
        self._wiring = Wiring(self._parts)
        self._draining = False
        self._live = Live(Sampler(self._parts, self._wiring).take)
        self.links = Links(self._parts, new_id)
        self.webhooks = WebhookVerbs(self._parts, new_id)
        self.sessions = SessionVerbs(self._parts)
        self.saved = self._parts.saved
        self.found = self._parts.found
        self.dead_letters = DeadLetterVerbs(self._parts, self._take_work)
        self.triggering = Triggering(self._parts, new_id)

    @property
    def metrics(self) -> Any:
        """The counters of this process (:class:`pixelmill.metrics.Metrics`)."""
        return self._parts.metrics

    async def start(self) -> None:
        """Lock the data folder, migrate, reconcile what a crash left, start pool and consumer."""
        await self._wiring.start()

    async def stop(self) -> None:
        """Drain: take no new work, let running tasks end within ``drain_s``, end event streams, close."""
        self._draining = True
        await self._live.stop()
        await self._wiring.stop()

    def drain(self) -> None:
        """Refuse new work from now on and end the event streams; what runs goes on until ``stop``."""
        self._draining = True
        self._parts.bus.close()

    def _take_work(self) -> None:
        if self._draining:
            raise ShuttingDown("The service is shutting down. Send the request again in a moment.", retry_after=5)

    # -- one image now ---------------------------------------------------------------------------

    async def process(
        self,
        owner: str,
        pipeline: Pipeline,
        body: bytes,
        name: str = "",
        *,
        images: Mapping[str, bytes] | None = None,
        timeout_s: float | None = None,
    ) -> RunResult:
        """Run one image at interactive priority; raises :class:`Busy` after ``interactive_wait_s``.

        ``images`` by reference, where they came with the request: then none is looked for here. ``timeout_s``: a
        limit below the service's own.
        """
        self._take_work()
        config = self.config
        for part in (body, *(images or {}).values()):
            config.limits.check_bytes(len(part))
        self._parts.parameters.check_models(pipeline)
        given: dict[str, bytes | Path] = dict(images or {})
        if not given.keys() >= {*pipeline.images(), *pipeline.font_references}:
            async with self._parts.keep_blobs():
                pipeline, keys = await self._parts.parameters.resolve(owner, pipeline)
                given = {ref: await self._parts.store.get(key) for ref, key in keys.items()}
        request = RunRequest(
            id=new_id("run"),
            pipeline=pipeline.to_json(),
            source=body,
            images=given,
            source_name=name,
            limits=config.limits,
            timeout_s=config.timeout_s if timeout_s is None else min(timeout_s, config.timeout_s),
        )
        self.metrics.bytes_received(len(body))
        return await self._parts.interactive.run(request)

    def check_upload(self, count: int) -> None:
        """Raise :class:`LimitExceeded` for more bytes than a file of a job may have."""
        if count > self.config.max_upload or self.config.tiled is None:
            self.config.limits.check_bytes(count)

    # -- uploads ---------------------------------------------------------------------------------

    async def put_upload(self, owner: str, name: str, body: AsyncIterator[bytes]) -> Upload:
        """Stream bytes into the store. Every call makes a new upload with its own id."""
        upload = await self.store_upload(owner, name, body)
        await self.record_uploads([upload])
        return upload

    async def store_upload(self, owner: str, name: str, body: AsyncIterator[bytes]) -> Upload:
        """Only the first half of :meth:`put_upload`: the upload is not known before :meth:`record_uploads`.

        For forms of many files: recording them together saves a transaction each. What is stored and never
        recorded (the process died) is swept when the service starts.
        """
        self._take_work()
        upload_id = new_id("up")
        key = f"uploads/{owner}/{upload_id}"
        try:
            with tracing.part("store.put", "client"):
                info = await self._parts.store.put(key, body, limit=self.config.max_upload)
        except StorageError as error:
            self.metrics.store_failed("put", error.type)
            raise
        self.metrics.bytes_received(info.size)
        now = time.time()
        return Upload(upload_id, owner, name, key, info.size, now, now + self.config.upload_ttl_s)

    async def record_uploads(self, uploads: Sequence[Upload]) -> None:
        """The second half of :meth:`put_upload`; where it fails, the bytes are removed again."""
        try:
            await self._parts.uploads.add(*uploads)
        except BaseException:
            await self._parts.store.delete([upload.key for upload in uploads])
            raise

    # -- jobs ------------------------------------------------------------------------------------

    @tracing.traced("job.submit", "producer")
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
        webhook: NewWebhook | None = None,
        objects: Sequence[SourceObject] = (),
        bounds: JobBounds = UNBOUND,
    ) -> tuple[Job, bool]:
        """Record a job; when this returns, job and inputs survive ``kill -9``.

        ``uploads`` are upload ids, ``sources`` URIs (``file://`` below a source root, objects of configured stores;
        globs allowed). The second value is False where the idempotency key returned a job that was there already;
        ``fingerprint`` tells a replay from another request under the same key (:class:`IdempotencyConflict`).
        ``webhook`` (see ``webhooks.new``) becomes one of this job alone. ``objects`` were found already, and are not
        looked for: whoever reads one checks its address, and one that can't be read fails alone. ``bounds`` narrow the
        service's own for the runs of this job. MPI ranks are given to who asks for them where the service allows any.
        """
        self._take_work()
        self._check_ranks(bounds.ranks)
        key = (idempotency_key, fingerprint) if idempotency_key else None
        if key is not None and (before := await self._parts.jobs.replayed(owner, *key)) is not None:
            return before, False
        tasks = await self._new_tasks(owner, uploads, sources, objects)
        if not tasks and sealed:
            raise RequestError("A job needs at least one upload or source, or sealed=false to add them by pages.")
        job = Job(
            id=new_id("job"),
            owner=owner,
            pipeline=pipeline.to_json(),
            state=State.QUEUED,
            counts=Counts(queued=len(tasks)),
            created=time.time(),
            name=name,
            priority=priority,
            tags=dict(tags or {}),
            sealed=sealed,
            bounds=bounds,
            trace=tracing.carried(),
        )
        webhook = None if webhook is None else replace(webhook, job=job.id)
        async with self._parts.keep_blobs() if pipeline.images() or pipeline.font_references else nullcontext():
            resolved, images = await self._parts.parameters.resolve(owner, pipeline)
            job = replace(job, pipeline=resolved.to_json(), images=images)
            job, created = await self._parts.jobs.create_job(
                job, tasks, uploads=uploads, idempotency=key, webhook=webhook
            )
        if created:
            self._parts.bus.publish(owner, job.id)
            self._parts.wake()
        return job, created

    def _check_ranks(self, ranks: int | None) -> None:
        most = self.config.mpi.max_ranks
        if not ranks or ranks <= most:
            return
        if not most:
            raise RequestError(
                "This service runs nothing over MPI. Leave 'mpi' out, or have its operator set mpi_max_ranks.",
                field="mpi",
            )
        raise LimitExceeded(
            f"A job may ask for {most} MPI ranks here, not for {ranks}.", limit="ranks", value=ranks, maximum=most
        )

    async def extend(
        self, owner: str, job_id: str, *, uploads: Sequence[str] = (), sources: Sequence[str] = (), seal: bool = False
    ) -> Job:
        """Add a page of tasks to a job that is not sealed, and seal it if asked."""
        self._take_work()
        tasks = await self._new_tasks(owner, uploads, sources)
        job = await self._parts.jobs.add_tasks(owner, job_id, tasks, uploads=uploads, seal=seal)
        self._parts.bus.publish(owner, job_id)
        self._parts.wake()
        return job

    async def _new_tasks(
        self, owner: str, uploads: Sequence[str], sources: Sequence[str], objects: Sequence[SourceObject] = ()
    ) -> list[NewTask]:
        """Tasks for uploads, sources and objects; their inputs are in place when this returns."""
        check_page(len(uploads) + len(sources) + len(objects))
        found = await self._parts.uploads.get(owner, uploads) if uploads else []
        tasks = [NewTask(new_id("task"), upload.name, f"key:{upload.key}", upload.size) for upload in found]
        for buckets, group in itertools.groupby(sources, names_bucket):
            uris = list(group)
            tasks += await (self._of_buckets(uris) if buckets else self._of_folders(uris))
            check_page(len(tasks))
        tasks += [NewTask(new_id("task"), one.name, one.uri, one.size) for one in objects]
        depth = self._wiring.housekeeping.waiting
        if depth + len(tasks) > self.config.max_queued:
            raise QueueFull(
                f"{depth:,} tasks wait already; {len(tasks):,} more would pass the bound of "
                f"{self.config.max_queued:,}. Try again when some have ended.",
                retry_after=60,
            )
        return tasks

    async def _of_folders(self, sources: Sequence[str]) -> list[NewTask]:
        files = await self._parts.in_search(self._files, sources)
        return [NewTask(new_id("task"), file.name, file.path.as_uri(), file.size) for file in files]

    async def _of_buckets(self, sources: Sequence[str]) -> list[NewTask]:
        found = await self._parts.sources.expand(sources, max_files=MAX_PAGE, max_visited=MAX_VISITED)
        return [NewTask(new_id("task"), one.name, one.uri, one.size) for one in found]

    def _files(self, sources: Sequence[str]) -> list[SourceFile]:
        return list(expand_sources(sources, self.config.source_roots, max_files=MAX_PAGE, max_visited=MAX_VISITED))

    async def jobs(
        self,
        owner: str | None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        state: State | None = None,
        search: str = "",
    ) -> Page:
        """Jobs (:class:`Job`), newest first; ``owner`` None: of every owner. ``search``: part of a name, or an id."""
        return await self._parts.jobs.list_jobs(owner, limit=limit, cursor=cursor, state=state, search=search)

    async def owner_of_job(self, job_id: str) -> str | None:
        """Whose it is (None where there is none), for callers who may act for every owner."""
        return await self._parts.jobs.owner_of_job(job_id)

    async def owner_of_task(self, task_id: str) -> str | None:
        """The same of a task."""
        return await self._parts.jobs.owner_of_task(task_id)

    async def job(self, owner: str, job_id: str) -> Job:
        """One job."""
        return await self._parts.jobs.job(owner, job_id)

    async def tasks(
        self, owner: str, job_id: str, *, limit: int = 100, cursor: str | None = None, state: State | None = None
    ) -> Page:
        """Tasks (:class:`Task`) of a job, in the order they were submitted."""
        return await self._parts.jobs.list_tasks(owner, job_id, limit=limit, cursor=cursor, state=state)

    async def task(self, owner: str, task_id: str) -> Task:
        """One task."""
        return await self._parts.jobs.task(owner, task_id)

    async def attempts(self, owner: str, task_id: str) -> Sequence[Mapping[str, Any]]:
        """The attempts of a task that were lost before its last one, oldest first."""
        return await self._parts.jobs.attempts(owner, task_id)

    async def cancel(self, owner: str, job_id: str) -> Job:
        """Cancel what has not ended; running tasks are stopped, those of other processes soon after."""
        job, held = await self._parts.jobs.cancel(owner, job_id)
        await self._parts.stop_tasks(held)
        self._parts.bus.publish(owner, job_id)
        return job

    async def retry(self, owner: str, job_id: str) -> Job:
        """Queue the failed and cancelled tasks again, in a new run."""
        self._take_work()
        job = await self._parts.jobs.retry(owner, job_id)
        self._parts.bus.publish(owner, job_id)
        self._parts.wake()
        return job

    async def delete(self, owner: str, job_id: str) -> None:
        """Cancel, then remove the job, its results, and its inputs that no other job uses."""
        await self._parts.stop_tasks(await self._parts.jobs.delete(owner, job_id))
        self._wiring.housekeeping.collect_soon()
        self._parts.bus.publish(owner, job_id)

    # -- results ---------------------------------------------------------------------------------

    async def result(self, owner: str, task_id: str) -> tuple[Task, AsyncIterator[bytes] | None]:
        """The task and its result image in chunks (None where it gave data only).

        Raises :class:`IllegalTransition` where the task has not succeeded.
        """
        task = await self._parts.jobs.task(owner, task_id)
        if task.state is not State.SUCCEEDED:
            raise IllegalTransition(
                f"Task {task_id} has no result: it is {task.state}.", state=str(task.state), error=task.error
            )
        self.metrics.bytes_sent((task.outcome or {}).get("bytes") or 0)
        return task, self._parts.results.image(task)

    async def input(self, owner: str, task_id: str) -> tuple[Task, AsyncIterator[bytes]]:
        """The task and its source's bytes in chunks."""
        task = await self._parts.jobs.task(owner, task_id)
        return task, self._parts.results.input(task)

    def archive(self, owner: str, job_id: str) -> AsyncIterator[bytes]:
        """A ZIP of all results of a job, streamed, with safe and distinct names; data as ``STEM.json``."""
        return self._parts.results.archive(owner, job_id)

    async def montage(
        self, owner: str, job_id: str, montage: Montage, output: Output, reserve: Callable[[int], None]
    ) -> RunResult:
        """A contact sheet of the results that are there now; see :meth:`Montages.make`."""
        self._take_work()
        return await self._parts.montages.make(owner, job_id, montage, output, reserve)

    async def thumbnail(self, task: Task, wanted: Wanted) -> Thumbnail:
        """A small picture of a task's result or input; see :meth:`Thumbnails.get`."""
        self._take_work()
        return await self._parts.thumbnails.get(task, wanted)

    # -- events ----------------------------------------------------------------------------------

    async def newest_event(self) -> int:
        """The id after which events are new."""
        return await self._parts.event_log.last_id()

    async def events(
        self, owner: str | None, *, job_id: str | None = None, after: int | None = None
    ) -> AsyncIterator[LoggedEvent | None]:
        """Events after ``after`` (None: from now on), then live ones. None is a heartbeat, at most every 15 s.

        ``owner`` None: of every owner. With ``job_id`` (of an owner) the stream ends after the last event of a job that
        has ended or was deleted. Nothing is buffered for a slow reader: it reads from the log at its own pace. Ends
        when the service drains.
        """
        log, bus = self._parts.event_log, self._parts.bus
        of_job = None if owner is None or job_id is None else (owner, job_id)
        if of_job is not None:
            await self.job(*of_job)
        newest = await log.last_id()
        # An id from before the data folder was made anew would hide all that happens until it is reached.
        last = newest if after is None else min(after, newest)
        async with bus.subscribe(owner, job_id) as news:
            while True:
                # The state is read before the log: if it is final, the log holds its last event.
                ended = of_job is not None and await self._has_ended(*of_job)
                page = await log.after(owner, last, job=job_id, limit=EVENT_PAGE)
                for event in page:
                    last = event.id
                    yield event
                if page:
                    continue
                if ended or news.closed:
                    return
                if not await news.wait(HEARTBEAT_S):
                    yield None

    async def _has_ended(self, owner: str, job_id: str) -> bool:
        """True where the log holds the last event of the job, which may be that it was deleted."""
        try:
            return (await self.job(owner, job_id)).state.is_final
        except NotFound:
            return True

    # -- tokens ----------------------------------------------------------------------------------

    async def authenticate(self, token: str) -> Caller:
        """Who holds the token; raises :class:`Unauthenticated`."""
        found = await self._parts.tokens.authenticate(token)
        return Caller(found.owner, found.scopes)

    async def authenticate_session(self, secret: str) -> Caller:
        """Who holds the session; raises :class:`Unauthenticated`."""
        return (await self.sessions.look(secret)).caller

    async def has_tokens(self) -> bool:
        """Whether any valid token exists: what an address other than loopback needs."""
        now = time.time()
        return any(
            token.revoked is None and (token.expires is None or token.expires > now)
            for token in await self._parts.tokens.list()
        )

    # -- state of the machine --------------------------------------------------------------------

    async def nodes(self) -> Sequence[Mapping[str, Any]]:
        """Each node of all services: load now, its targets and slots; for our own also samples of the last hour."""
        return await self._wiring.fleet()

    async def serve_node(self, pipe: Pipe, allowed: Callable[[], Awaitable[object]]) -> None:
        """Serve the connection of a node; ``allowed`` raises when it may not stay."""
        await self._parts.nodes.serve(pipe, allowed)

    def load(self) -> Mapping[str, Any]:
        """What the own pool does now, and whether its gate is open."""
        parts = self._parts
        return load_now(parts.pool, parts.dispatcher, parts.load, draining=self._draining)

    def live(self) -> AsyncGenerator[bytes | None]:
        """What the service does, as JSON, once a second; see :meth:`Sampler.sample`. None is a heartbeat."""
        return self._live.follow()

    def history(self, span: str) -> Mapping[str, Any]:
        """Metrics of the last ``hour`` by second, or ``day`` by minute: columns, oldest first."""
        return self._parts.history.table(span)

    def summary(self, span: str) -> Mapping[str, Any]:
        """Every metric of the last ``minute``, ``hour`` or ``day`` in one document."""
        return self._parts.history.summary(span)

    async def ready(self) -> Mapping[str, Any]:
        """Checks by name with ``ok`` and a sentence; ``ready`` is True where all that are needed are ok."""
        checks = await self._wiring.checks()
        if self._draining:
            checks["draining"] = {"ok": False, "detail": "The service is shutting down."}
        ready = all(check["ok"] or not check.get("needed", True) for check in checks.values())
        return {"ready": ready, "checks": checks}
