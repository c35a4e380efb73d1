"""The verbs of both clients as flows: which requests make up an upload, a job, a wait, a download. No I/O."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pixelmill.client.effects import Clock, Flow, Parallel, Sleep, Write, send
from pixelmill.client.naming import Names, extension
from pixelmill.client.retry import RetryPolicy
from pixelmill.client.sources import Local, Remote, Source, local, pages, understand
from pixelmill.client.values import Download, JobStatus, Processed, Progress, Result, Sheet, TaskStatus, Upload
from pixelmill.client.wire import Request, pipeline_text, post_json, read_data, read_processed, segment
from pixelmill.errors import ConnectionFailed

PAGE = 1_000  # uploads or addresses in one request
LIST_PAGE = 500
TRANSFERS = 4  # uploads or downloads at once
SHEET_S = 660.0  # a little more than the service gives itself
FIRST_POLL_S, LONGEST_POLL_S = 0.05, 1.0

OnProgress = Callable[[Progress], None]


def process(source: Source, pipeline: Any, policy: RetryPolicy) -> Flow[Processed]:
    """One image through a pipeline, now."""
    item = local(source)
    params = {"pipeline": pipeline_text(pipeline), "name": _short(item.name)}
    headers = {"content-type": "application/octet-stream"}
    request = Request("POST", "/v1/process", params=params, headers=headers, body=item.body)
    processed = read_processed((yield from send(request, policy)))
    if processed.data is None:
        # More data than a header may hold: ask for it alone. The work is done twice, which is rare and harmless.
        again = Request("POST", "/v1/process", params={**params, "data": "1"}, headers=headers, body=item.body)
        return replace(processed, data=read_processed((yield from send(again, policy))).data)
    return processed


def upload(item: Local, policy: RetryPolicy) -> Flow[Upload]:
    """One file or bytes to the service, to be used by a job."""
    # Sent twice it makes two uploads; the one nobody uses expires.
    headers = {"content-type": "application/octet-stream"}
    request = Request("PUT", f"/v1/uploads/{segment(_short(item.name))}", headers=headers, body=item.body)
    record = (yield from send(request, policy)).json()
    return Upload(str(record["id"]), str(record.get("name", item.name)), int(record.get("size") or item.size))


def _short(name: str) -> str:
    """A name that fits into a URL; the end, with the extension, is kept."""
    return name[-200:] or "image"


def submit(
    sources: Iterable[Source],
    pipeline: Any,
    policy: RetryPolicy,
    *,
    name: str = "",
    priority: str = "normal",
    tags: Mapping[str, str] | None = None,
    webhook: str = "",
    ranks: int | None = None,
    on_progress: OnProgress | None = None,
) -> Flow[JobStatus]:
    """Upload what is local and make one job of all; beyond ``PAGE`` sources it grows by pages and is then sealed."""
    total = len(sources) if isinstance(sources, Sequence) else None
    sent = _Sent(total, on_progress)
    key = uuid.uuid4().hex
    job: JobStatus | None = None
    for page, last in pages(map(understand, sources), PAGE):
        members = yield from _upload_page(page, policy, sent)
        if job is None:
            body = {"pipeline": pipeline_json(pipeline), "name": name, "priority": priority, "tags": dict(tags or {})}
            body |= {"webhook": webhook} if webhook else {}
            body |= {"mpi": {"ranks": ranks}} if ranks else {}
            request = post_json("/v1/jobs", {**body, **members, "sealed": last}, headers={"idempotency-key": key})
            job = JobStatus.read((yield from send(request, policy)).json())
        else:
            made = job.webhook  # told in the first answer only
            job = replace((yield from _extend(job, {**members, "seal": last}, len(page), policy)), webhook=made)
    assert job is not None, "pages() gives at least one page"
    return job


def pipeline_json(pipeline: Any) -> Any:
    """A pipeline as a request's body holds it: JSON as it is, anything else as text."""
    return pipeline if isinstance(pipeline, (list, dict)) else str(pipeline)


class _Sent:
    """Adds up what was uploaded and tells the caller."""

    def __init__(self, total: int | None, on_progress: OnProgress | None) -> None:
        self._total, self._tell = total, on_progress
        self._done = self._bytes = 0

    def add(self, files: int, size: int) -> None:
        self._done += files
        self._bytes += size
        if self._tell is not None:
            self._tell(Progress(self._done, self._total, self._bytes))


def _upload_page(page: Sequence[Local | Remote], policy: RetryPolicy, sent: _Sent) -> Flow[dict[str, list[str]]]:
    uris = [item.uri for item in page if isinstance(item, Remote)]
    flows = (upload(item, policy) for item in page if isinstance(item, Local))
    done: Sequence[Upload] = yield Parallel(flows, TRANSFERS, lambda made: sent.add(1, made.size))
    if uris:
        sent.add(len(uris), 0)
    return {"uploads": [made.id for made in done], "sources": uris}


def _extend(job: JobStatus, body: Mapping[str, Any], added: int, policy: RetryPolicy) -> Flow[JobStatus]:
    """Add a page exactly once, though the service has no key for it: a lost answer is settled by the job's count."""
    request = post_json(f"/v1/jobs/{segment(job.id)}/tasks", body, repeatable=False)
    for attempt in range(1, policy.attempts + 1):
        try:
            return JobStatus.read((yield from send(request, policy)).json())
        except ConnectionFailed:
            if attempt == policy.attempts:
                raise
            yield Sleep(policy.backoff(attempt))
            now = yield from status(job.id, policy)
            if now.counts.total >= job.counts.total + added and now.sealed == body["seal"]:
                return now
    raise AssertionError("the loop returns or raises")


def status(job_id: str, policy: RetryPolicy) -> Flow[JobStatus]:
    """A job as it is now."""
    return JobStatus.read((yield from send(Request("GET", f"/v1/jobs/{segment(job_id)}"), policy)).json())


def act(job_id: str, verb: str, policy: RetryPolicy) -> Flow[JobStatus]:
    """``cancel`` or ``retry``: done twice, either leaves the same state."""
    request = Request("POST", f"/v1/jobs/{segment(job_id)}/{verb}")
    return JobStatus.read((yield from send(request, policy)).json())


def delete(job_id: str, policy: RetryPolicy) -> Flow[None]:
    """Remove a job with its results."""
    yield from send(Request("DELETE", f"/v1/jobs/{segment(job_id)}"), policy)


def wait(
    job_id: str, policy: RetryPolicy, timeout: float | None, on_status: Callable[[JobStatus], None] | None
) -> Flow[JobStatus]:
    """Poll until the job has ended; raises :class:`TimeoutError` after ``timeout`` seconds."""
    start = yield Clock()
    pause = FIRST_POLL_S
    while True:
        now = yield from status(job_id, policy)
        if on_status is not None:
            on_status(now)
        if now.is_final:
            return now
        left = None if timeout is None else timeout - ((yield Clock()) - start)
        if left is not None and left <= 0:
            raise TimeoutError(f"Job {job_id} is still {now.state} after {timeout:g} s ({now.counts.done} tasks done).")
        yield Sleep(pause if left is None else min(pause, left))
        pause = min(LONGEST_POLL_S, pause * 1.5)


def redrive(tasks: Sequence[str], job: str | None, policy: RetryPolicy, *, everybody: bool = False) -> Flow[list[str]]:
    """Queue dead letters again, by pages; done twice it leaves the same state. The ids of the tasks that were found."""
    wanted: list[dict[str, Any]] = [{"job": job}] if job is not None else []
    wanted += [{"tasks": list(tasks[at : at + PAGE])} for at in range(0, len(tasks), PAGE)]
    done: list[str] = []
    for page in wanted:
        request = post_json("/v1/dead-letters/redrive", {**page, "all": everybody})
        done += (yield from send(request, policy)).json()["tasks"]
    return done


def get_json(path: str, policy: RetryPolicy, params: Mapping[str, str] | None = None) -> Flow[Any]:
    """The JSON of a GET."""
    return (yield from send(Request("GET", path, params=params or {}), policy)).json()


def list_page(
    path: str, policy: RetryPolicy, cursor: str | None, **params: str | None
) -> Flow[tuple[list[Mapping[str, Any]], str | None]]:
    """One page of a list, and the cursor of the next."""
    given = {name: value for name, value in params.items() if value is not None}
    query = {"limit": str(LIST_PAGE), **given, **({"cursor": cursor} if cursor else {})}
    record = yield from get_json(path, policy, query)
    return list(record["items"]), record.get("next")


def search_params(
    label: str | Sequence[str] | None, min_score: float | None, caption: str | None, faces: str | int | None
) -> dict[str, str | None]:
    """The query of a search over what was found in tasks."""
    return {
        "label": label if label is None or isinstance(label, str) else ",".join(label),
        "min_score": None if min_score is None else str(min_score),
        "caption": caption,
        "faces": None if faces is None else str(faces),
    }


def result(task: TaskStatus, policy: RetryPolicy) -> Flow[Result]:
    """The image of a task that succeeded."""
    if not task.has_image:
        return Result(task, None)
    response = yield from send(Request("GET", f"/v1/tasks/{segment(task.id)}/result"), policy)
    return Result(task, response.body)


def archive(job_id: str, path: Path, policy: RetryPolicy) -> Flow[Path]:
    """All results of a job as one ZIP file."""
    yield from send(Request("GET", f"/v1/jobs/{segment(job_id)}/archive"), policy, save_to=path)
    return path


def montage(job_id: str, path: Path, policy: RetryPolicy, options: Mapping[str, Any]) -> Flow[Sheet]:
    """A contact sheet of a job's results as one image file; its format is that of the path, unless the options say."""
    wanted = {"format": path.suffix.removeprefix("."), **options}
    params = {name: _word(value) for name, value in wanted.items() if value not in (None, "")}
    # All results are read for it, so an answer that was lost is not asked for again.
    request = Request("GET", f"/v1/jobs/{segment(job_id)}/montage", params=params, repeatable=False, answer_s=SHEET_S)
    response = yield from send(request, policy, save_to=path)
    return Sheet.read(path, (read_data(response) or {}).get("montage") or {})


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def download(
    job_id: str,
    folder: Path,
    policy: RetryPolicy,
    *,
    overwrite: bool = False,
    on_file: Callable[[Path], None] | None = None,
) -> Flow[Download]:
    """Every result into ``folder``. A file that is there with the right size is left alone (it resumes).

    ``overwrite``: fetch it all the same, for the right size doesn't prove that it is this job's.
    """
    names = Names()
    saved: list[Path] = []
    skipped: list[Path] = []
    failed: list[TaskStatus] = []

    def keep(path: Path) -> None:
        saved.append(path)
        if on_file is not None:
            on_file(path)

    cursor: str | None = None
    while True:
        items, cursor = yield from list_page(f"/v1/jobs/{segment(job_id)}/tasks", policy, cursor)
        wanted: list[tuple[TaskStatus, Path]] = []
        for task in map(TaskStatus.read, items):
            stem = names.stem(task.name)
            if task.state != "succeeded":
                failed.append(task)
                continue
            if task.data:
                yield Write(folder / f"{stem}.json", _data_file(task.data))
                if not task.has_image:
                    keep(folder / f"{stem}.json")
            if task.has_image:
                path = folder / f"{stem}{extension(task)}"
                (skipped.append(path) if not overwrite and _is_there(path, task) else wanted.append((task, path)))
        yield Parallel(_downloads(wanted, policy), TRANSFERS, keep)
        if cursor is None:
            return Download(saved, skipped, failed)


def _downloads(wanted: Sequence[tuple[TaskStatus, Path]], policy: RetryPolicy) -> Iterator[Flow[Path]]:
    for task, path in wanted:
        yield _download(task, path, policy)


def _download(task: TaskStatus, path: Path, policy: RetryPolicy) -> Flow[Path]:
    yield from send(Request("GET", f"/v1/tasks/{segment(task.id)}/result"), policy, save_to=path)
    return path


def _is_there(path: Path, task: TaskStatus) -> bool:
    try:
        return path.stat().st_size == (task.outcome or {}).get("bytes")
    except OSError:
        return False


def _data_file(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()
