"""The blocking client: drives the flows with httpx and threads."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from pixelmill.client import flows
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
from pixelmill.client.sync_service import ServiceVerbs
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


class Client(ServiceVerbs):
    """A connection to a Pixelmill service; a context manager, and safe to share between threads.

    Raises the errors of :mod:`pixelmill.errors`: the service's own, or :class:`ConnectionFailed` after the attempts of
    ``retry`` are used up. ``traceparent``: the trace (W3C) that all that is asked belongs to.
    """

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
        self._http = httpx.Client(**client_options(url, token, traceparent))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    # -- verbs -----------------------------------------------------------------------------------

    def process(self, source: Source, pipeline: Any) -> Processed:
        """One image through a pipeline, now: a path, bytes, or ``(name, bytes)``."""
        return self._drive(flows.process(source, pipeline, self._policy))

    def submit(
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
    ) -> Job:
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
        return Job(self, self._drive(flow))

    def job(self, job_id: str) -> Job:
        """A job by its id; raises :class:`NotFound`."""
        return Job(self, self._drive(flows.status(job_id, self._policy)))

    def jobs(
        self, *, state: str | None = None, search: str | None = None, everybody: bool = False
    ) -> Iterator[JobStatus]:
        """Jobs, newest first. ``search``: part of a name, or an id.

        ``everybody``: those of all owners, which needs the scope ``admin``.
        """
        return map(JobStatus.read, self._list("/v1/jobs", state=state, q=search, all="1" if everybody else None))

    def dead_letters(self, *, job: str | None = None, everybody: bool = False) -> Iterator[DeadLetter]:
        """Tasks that failed because their attempts were used up, the latest first.

        ``everybody``: those of all owners, which needs the scope ``admin``.
        """
        return map(DeadLetter.read, self._list("/v1/dead-letters", job=job, all="1" if everybody else None))

    def redrive(self, tasks: Sequence[str] = (), *, job: str | None = None, everybody: bool = False) -> list[str]:
        """Queue dead letters again in a new run, by the ids of their tasks or all of a job; returns those found."""
        return self._drive(flows.redrive(tasks, job, self._policy, everybody=everybody))

    def montage(self, job_id: str, path: str | Path, **options: Any) -> Sheet:
        """A contact sheet of a job's results as one image file, in the format of its extension.

        ``options`` are those of the service: ``columns``, ``cell_width``, ``cell_height``, ``gap``, ``background``,
        ``labels``, ``font_size``, ``failed``, ``limit``, and ``format`` (``"jpeg,quality=90"``).
        """
        return self._drive(flows.montage(job_id, Path(path), self._policy, options))

    def events(self, *, after: str | None = None) -> Iterator[Event]:
        """Events of all jobs, without end; resumes by itself after a broken connection."""
        return self._events(EventStream("/v1/events", self._policy, after=after))

    # -- driving ---------------------------------------------------------------------------------

    def _list(self, path: str, **params: str | None) -> Iterator[Mapping[str, Any]]:
        cursor: str | None = None
        while True:
            items, cursor = self._drive(flows.list_page(path, self._policy, cursor, **params))
            yield from items
            if cursor is None:
                return

    def _drive(self, flow: Flow[T]) -> T:
        try:
            effect = next(flow)
            while True:
                try:
                    value = self._perform(effect)
                except BaseException as error:  # noqa: BLE001 -- handed to the flow, which lets it out again
                    effect = flow.throw(error)
                else:
                    effect = flow.send(value)
        except StopIteration as end:
            value_: T = end.value
            return value_

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Call(request):
                return self._call(request, None)
            case Save(request, path):
                return self._call(request, path)
            case Write(path, data):
                with part_file(path) as file, local_files(path):
                    file.write(data)
                return None
            case Sleep(seconds):
                return time.sleep(seconds)
            case Clock():
                return time.monotonic()
            case Parallel(parts, limit, on_done):
                return self._parallel(parts, limit, on_done)

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

    def _call(self, request: Request, save_to: Path | None) -> Response:
        with translated(self.url):
            response = self._http.send(self._build(request), stream=True)
            try:
                if save_to is None or response.status_code != 200:
                    response.read()
                    return response_of(response)
                with part_file(save_to) as file:
                    for chunk in response.iter_bytes(CHUNK):
                        with local_files(save_to):
                            file.write(chunk)
                return Response(response.status_code, dict(response.headers), b"")
            finally:
                response.close()

    def _parallel(self, parts: Iterable[Flow[Any]], limit: int, on_done: Callable[[Any], None] | None) -> list[Any]:
        values: dict[int, Any] = {}
        numbered = enumerate(parts)
        running: dict[Future[Any], int] = {}
        with ThreadPoolExecutor(limit) as pool:
            try:
                while True:
                    for index, flow in itertools.islice(numbered, 2 * limit - len(running)):
                        running[pool.submit(self._drive, flow)] = index
                    if not running:
                        return [values[index] for index in sorted(values)]
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        values[running.pop(future)] = value = future.result()
                        if on_done is not None:
                            on_done(value)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _events(self, stream: EventStream) -> Iterator[Event]:
        while True:
            error: ConnectionFailed | None = None
            try:
                with translated(self.url):
                    yield from self._connected(stream)
            except ConnectionFailed as failure:
                error = failure
            if error is None and stream.ended:
                return
            time.sleep(stream.lost(error))

    def _connected(self, stream: EventStream) -> Iterator[Event]:
        request = self._build(stream.request())
        request.extensions["timeout"] = STREAM_TIMEOUT.as_dict()
        response = self._http.send(request, stream=True)
        try:
            if response.status_code == 204:
                stream.nothing_left()
                return
            if response.status_code != 200:
                response.read()
                raise read_problem(response_of(response))
            for line in response.iter_lines():
                event = stream.feed(line)
                if event is not None:
                    yield event
        finally:
            response.close()


def _chunks(path: Path) -> Iterator[bytes]:
    with local_files(path), path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


class Job:
    """A job at the service. ``status`` is what was known last; ``refresh`` asks again."""

    def __init__(self, client: Client, status: JobStatus) -> None:
        self._client, self._policy = client, client._policy  # noqa: SLF001 -- client and job are one thing in two halves
        self.status = status

    @property
    def id(self) -> str:
        """The job's id."""
        return self.status.id

    def refresh(self) -> JobStatus:
        """Ask for the state now."""
        return self._keep(flows.status(self.id, self._policy))

    def wait(self, timeout: float | None = None, *, on_status: Callable[[JobStatus], None] | None = None) -> JobStatus:
        """Wait until the job has ended, at most ``timeout`` seconds (:class:`TimeoutError`)."""
        return self._keep(flows.wait(self.id, self._policy, timeout, on_status))

    def cancel(self) -> JobStatus:
        """Cancel what has not ended."""
        return self._keep(flows.act(self.id, "cancel", self._policy))

    def retry(self) -> JobStatus:
        """Queue the failed and cancelled tasks again."""
        return self._keep(flows.act(self.id, "retry", self._policy))

    def redrive(self) -> list[str]:
        """Queue the tasks again that failed because their attempts were used up; returns their ids."""
        return self._client.redrive(job=self.id)

    def delete(self) -> None:
        """Remove the job with its results."""
        self._drive(flows.delete(self.id, self._policy))

    def tasks(
        self,
        *,
        state: str | None = None,
        label: str | Sequence[str] | None = None,
        min_score: float | None = None,
        caption: str | None = None,
        faces: str | int | None = None,
    ) -> Iterator[TaskStatus]:
        """Tasks in the order they were submitted; those that a search finds (see the client's), the last first."""
        asked = flows.search_params(label, min_score, caption, faces)
        path = f"/v1/jobs/{segment(self.id)}/tasks"
        return map(TaskStatus.read, self._client._list(path, state=state, **asked))  # noqa: SLF001 -- see __init__

    def results(self) -> Iterator[Result]:
        """Tasks that succeeded, each with its image, one by one."""
        for task in self.tasks(state="succeeded"):
            yield self._drive(flows.result(task, self._policy))

    def events(self, *, after: str | None = "0") -> Iterator[Event]:
        """Events from the job's first (or those after an id) to its last; resumes after a broken connection."""
        path = f"/v1/jobs/{segment(self.id)}/events"
        return self._client._events(EventStream(path, self._policy, job_id=self.id, after=after))  # noqa: SLF001 -- see __init__

    def download(
        self, folder: str | Path, *, overwrite: bool = False, on_file: Callable[[Path], None] | None = None
    ) -> Download:
        """Every result into a folder, four at a time; files that are there are left alone unless ``overwrite``."""
        flow = flows.download(self.id, Path(folder), self._policy, overwrite=overwrite, on_file=on_file)
        return self._drive(flow)

    def archive(self, path: str | Path) -> Path:
        """All results as one ZIP file."""
        return self._drive(flows.archive(self.id, Path(path), self._policy))

    def montage(self, path: str | Path, **options: Any) -> Sheet:
        """A contact sheet of the results that are there now; see the client's ``montage``."""
        return self._client.montage(self.id, path, **options)

    def _drive(self, flow: Flow[T]) -> T:
        return self._client._drive(flow)  # noqa: SLF001 -- see __init__

    def _keep(self, flow: Flow[JobStatus]) -> JobStatus:
        now = self._drive(flow)
        self.status = replace(now, webhook=self.status.webhook)  # told once, when the job was made
        return self.status
