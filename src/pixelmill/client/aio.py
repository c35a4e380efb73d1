"""The asynchronous client: drives the same flows with httpx and anyio, under asyncio or trio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import httpx

from pixelmill.client import flows
from pixelmill.client.aio_service import AsyncServiceVerbs
from pixelmill.client.effects import Call, Clock, Effect, Flow, Parallel, Save, Sleep, Write
from pixelmill.client.http import (
    CHUNK,
    DEFAULT_URL,
    STREAM_TIMEOUT,
    client_options,
    headers_of,
    local_files,
    part_file,
    response_of,
    timeout_of,
    translated,
)
from pixelmill.client.retry import RetryPolicy
from pixelmill.client.sources import Source
from pixelmill.client.sse import EventStream
from pixelmill.client.values import (
    DeadLetter,
    Download,
    Event,
    JobStatus,
    Processed,
    Progress,
    Result,
    Sheet,
    TaskStatus,
)
from pixelmill.client.wire import Request, Response, read_problem, segment
from pixelmill.errors import ConnectionFailed

T = TypeVar("T")


class AsyncClient(AsyncServiceVerbs):
    """The asynchronous counterpart of :class:`pixelmill.client.Client`: same verbs, same values, same errors."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        token: str | None = None,
        *,
        retry: RetryPolicy | None = None,
        traceparent: str | None = None,
    ) -> None:
        self.url = url
        self._policy = retry or RetryPolicy()
        self._http = httpx.AsyncClient(**client_options(url, token, traceparent))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    # -- verbs -----------------------------------------------------------------------------------

    async def process(self, source: Source, pipeline: Any) -> Processed:
        """One image through a pipeline, now: a path, bytes, or ``(name, bytes)``."""
        return await self._drive(flows.process(source, pipeline, self._policy))

    async def submit(
        self,
        sources: Iterable[Source],
        pipeline: Any,
        *,
        name: str = "",
        priority: str = "normal",
        tags: Mapping[str, str] | None = None,
        webhook: str = "",
        ranks: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> AsyncJob:
        """Upload files and bytes, four at a time, and make one job of them and of the addresses among ``sources``.

        ``webhook``: an address that is told when the job ends; the secret of its signatures is in ``status.webhook``.
        ``ranks``: MPI ranks that each image is spread over, where the service runs any.
        """
        flow = flows.submit(
            sources,
            pipeline,
            self._policy,
            name=name,
            priority=priority,
            tags=tags,
            webhook=webhook,
            ranks=ranks,
            on_progress=on_progress,
        )
        return AsyncJob(self, await self._drive(flow))

    async def job(self, job_id: str) -> AsyncJob:
        """A job by its id; raises :class:`NotFound`."""
        return AsyncJob(self, await self._drive(flows.status(job_id, self._policy)))

    async def jobs(
        self, *, state: str | None = None, search: str | None = None, everybody: bool = False
    ) -> AsyncIterator[JobStatus]:
        """Jobs, newest first. ``search``: part of a name, or an id.

        ``everybody``: those of all owners, which needs the scope ``admin``.
        """
        async for record in self._list("/v1/jobs", state=state, q=search, all="1" if everybody else None):
            yield JobStatus.read(record)

    async def dead_letters(self, *, job: str | None = None, everybody: bool = False) -> AsyncIterator[DeadLetter]:
        """Tasks that failed because their attempts were used up, the latest first.

        ``everybody``: those of all owners, which needs the scope ``admin``.
        """
        async for record in self._list("/v1/dead-letters", job=job, all="1" if everybody else None):
            yield DeadLetter.read(record)

    async def redrive(self, tasks: Sequence[str] = (), *, job: str | None = None, everybody: bool = False) -> list[str]:
        """Queue dead letters again in a new run, by the ids of their tasks or all of a job; returns those found."""
        return await self._drive(flows.redrive(tasks, job, self._policy, everybody=everybody))

    async def montage(self, job_id: str, path: str | Path, **options: Any) -> Sheet:
        """A contact sheet of a job's results as one image file, in the format of its extension.

        ``options`` are those of the service: ``columns``, ``cell_width``, ``cell_height``, ``gap``, ``background``,
        ``labels``, ``font_size``, ``failed``, ``limit``, and ``format`` (``"jpeg,quality=90"``).
        """
        return await self._drive(flows.montage(job_id, Path(path), self._policy, options))

    def events(self, *, after: str | None = None) -> AsyncIterator[Event]:
        """Events of all jobs, without end; resumes by itself after a broken connection."""
        return self._events(EventStream("/v1/events", self._policy, after=after))

    # -- driving ---------------------------------------------------------------------------------

    async def _list(self, path: str, **params: str | None) -> AsyncIterator[Mapping[str, Any]]:
        cursor: str | None = None
        while True:
            items, cursor = await self._drive(flows.list_page(path, self._policy, cursor, **params))
            for item in items:
                yield item
            if cursor is None:
                return

    async def _drive(self, flow: Flow[T]) -> T:
        try:
            effect = next(flow)
            while True:
                try:
                    value = await self._perform(effect)
                except BaseException as error:  # noqa: BLE001 -- handed to the flow, which lets it out again
                    effect = flow.throw(error)
                else:
                    effect = flow.send(value)
        except StopIteration as end:
            value_: T = end.value
            return value_

    async def _perform(self, effect: Effect) -> Any:
        match effect:
            case Call(request):
                return await self._call(request, None)
            case Save(request, path):
                return await self._call(request, path)
            case Write(path, data):
                with part_file(path) as file, local_files(path):
                    file.write(data)
                return None
            case Sleep(seconds):
                return await anyio.sleep(seconds)
            case Clock():
                return anyio.current_time()
            case Parallel(parts, limit, on_done):
                return await self._parallel(parts, limit, on_done)

    def _build(self, request: Request) -> httpx.Request:
        body = request.body
        return self._http.build_request(
            request.method,
            request.path,
            params=dict(request.params) or None,
            headers=headers_of(request),
            content=_chunks(body) if isinstance(body, Path) else body,
            timeout=timeout_of(request),
        )

    async def _call(self, request: Request, save_to: Path | None) -> Response:
        with translated(self.url):
            response = await self._http.send(self._build(request), stream=True)
            try:
                if save_to is None or response.status_code != 200:
                    await response.aread()
                    return response_of(response)
                with part_file(save_to) as file:
                    async for chunk in response.aiter_bytes(CHUNK):
                        with local_files(save_to):
                            await anyio.to_thread.run_sync(file.write, chunk)
                return Response(response.status_code, dict(response.headers), b"")
            finally:
                await response.aclose()

    async def _parallel(
        self, parts: Iterable[Flow[Any]], limit: int, on_done: Callable[[Any], None] | None
    ) -> list[Any]:
        values: dict[int, Any] = {}
        numbered = enumerate(parts)

        async def lane() -> None:
            for index, flow in numbered:
                values[index] = value = await self._drive(flow)
                if on_done is not None:
                    on_done(value)

        try:
            async with anyio.create_task_group() as group:
                for _ in range(limit):
                    group.start_soon(lane)
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        return [values[index] for index in sorted(values)]

    async def _events(self, stream: EventStream) -> AsyncIterator[Event]:
        while True:
            error: ConnectionFailed | None = None
            try:
                with translated(self.url):
                    async for event in self._connected(stream):
                        yield event
            except ConnectionFailed as failure:
                error = failure
            if error is None and stream.ended:
                return
            await anyio.sleep(stream.lost(error))

    async def _connected(self, stream: EventStream) -> AsyncIterator[Event]:
        request = self._build(stream.request())
        request.extensions["timeout"] = STREAM_TIMEOUT.as_dict()
        response = await self._http.send(request, stream=True)
        try:
            if response.status_code == 204:
                stream.nothing_left()
                return
            if response.status_code != 200:
                await response.aread()
                raise read_problem(response_of(response))
            async for line in response.aiter_lines():
                event = stream.feed(line)
                if event is not None:
                    yield event
        finally:
            await response.aclose()


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with local_files(path):
        async with await anyio.open_file(path, "rb") as file:
            while chunk := await file.read(CHUNK):
                yield chunk


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first real error of a group: the flows of one call fail for one reason that matters."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class AsyncJob:
    """A job at the service. ``status`` is what was known last; ``refresh`` asks again."""

    def __init__(self, client: AsyncClient, status: JobStatus) -> None:
        self._client, self._policy = client, client._policy  # noqa: SLF001 -- client and job are one thing in two halves
        self.status = status

    @property
    def id(self) -> str:
        """The job's id."""
        return self.status.id

    async def refresh(self) -> JobStatus:
        """Ask for the state now."""
        return await self._keep(flows.status(self.id, self._policy))

    async def wait(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 -- the same verb as the blocking client's
        *,
        on_status: Callable[[JobStatus], None] | None = None,
    ) -> JobStatus:
        """Wait until the job has ended, at most ``timeout`` seconds (:class:`TimeoutError`)."""
        return await self._keep(flows.wait(self.id, self._policy, timeout, on_status))

    async def cancel(self) -> JobStatus:
        """Cancel what has not ended."""
        return await self._keep(flows.act(self.id, "cancel", self._policy))

    async def retry(self) -> JobStatus:
        """Queue the failed and cancelled tasks again."""
        return await self._keep(flows.act(self.id, "retry", self._policy))

    async def redrive(self) -> list[str]:
        """Queue the tasks again that failed because their attempts were used up; returns their ids."""
        return await self._client.redrive(job=self.id)

    async def delete(self) -> None:
        """Remove the job with its results."""
        await self._drive(flows.delete(self.id, self._policy))

    async def tasks(
        self,
        *,
        state: str | None = None,
        label: str | Sequence[str] | None = None,
        min_score: float | None = None,
        caption: str | None = None,
        faces: str | int | None = None,
    ) -> AsyncIterator[TaskStatus]:
        """Tasks in the order they were submitted; those that a search finds (see the client's), the last first."""
        asked = flows.search_params(label, min_score, caption, faces)
        path = f"/v1/jobs/{segment(self.id)}/tasks"
        async for record in self._client._list(path, state=state, **asked):  # noqa: SLF001 -- see __init__
            yield TaskStatus.read(record)

    async def results(self) -> AsyncIterator[Result]:
        """Tasks that succeeded, each with its image, one by one."""
        async for task in self.tasks(state="succeeded"):
            yield await self._drive(flows.result(task, self._policy))

    def events(self, *, after: str | None = "0") -> AsyncIterator[Event]:
        """Events from the job's first (or those after an id) to its last; resumes after a broken connection."""
        path = f"/v1/jobs/{segment(self.id)}/events"
        return self._client._events(EventStream(path, self._policy, job_id=self.id, after=after))  # noqa: SLF001 -- see __init__

    async def download(
        self, folder: str | Path, *, overwrite: bool = False, on_file: Callable[[Path], None] | None = None
    ) -> Download:
        """Every result into a folder, four at a time; files that are there are left alone unless ``overwrite``."""
        flow = flows.download(self.id, Path(folder), self._policy, overwrite=overwrite, on_file=on_file)
        return await self._drive(flow)

    async def archive(self, path: str | Path) -> Path:
        """All results as one ZIP file."""
        return await self._drive(flows.archive(self.id, Path(path), self._policy))

    async def montage(self, path: str | Path, **options: Any) -> Sheet:
        """A contact sheet of the results that are there now; see the client's ``montage``."""
        return await self._client.montage(self.id, path, **options)

    async def _drive(self, flow: Flow[T]) -> T:
        return await self._client._drive(flow)  # noqa: SLF001 -- see __init__

    async def _keep(self, flow: Flow[JobStatus]) -> JobStatus:
        now = await self._drive(flow)
        self.status = replace(now, webhook=self.status.webhook)  # told once, when the job was made
        return self.status
