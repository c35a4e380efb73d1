"""Both clients against a real service."""

from __future__ import annotations

import http.server
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from service_process import ServiceProcess

from pixelmill import Pipeline, probe
from pixelmill.client import AsyncClient, Client, Event, JobStatus, Progress, RetryPolicy, Sheet, flows
from pixelmill.errors import (
    ConfigError,
    ConnectionFailed,
    CorruptImage,
    InvalidParameter,
    NotFound,
    ObjectNotFound,
    RequestError,
    UnknownOperation,
    UnsupportedFormat,
)

PIPELINE = "grayscale/resize:64/format:png"
QUICK = RetryPolicy(attempts=3, first_s=0.01, longest_s=0.02)


@pytest.fixture
def url(live: ServiceProcess) -> str:
    return live.url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


def test_process_gives_what_the_library_gives(client: Client, images: list[Path]) -> None:
    expected = Pipeline.parse(PIPELINE).run(images[0]).bytes
    for source in (images[0], str(images[0]), images[0].read_bytes(), ("named.jpg", images[0].read_bytes())):
        processed = client.process(source, PIPELINE)
        assert (processed.bytes, processed.media_type) == (expected, "image/png")
    assert set(processed.timings) >= {"decode", "apply", "encode"}
    assert client.process(images[0], Pipeline.parse(PIPELINE)).bytes == expected
    assert client.process(images[0], Pipeline.parse(PIPELINE).to_dict()).bytes == expected


def test_problems_become_the_errors_of_the_tree(client: Client, images: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UnknownOperation) as caught:
        client.process(images[0], "greyscale")
    assert "grayscale" in caught.value.context["nearest"]
    with pytest.raises(UnsupportedFormat):
        client.process(b"no image at all", PIPELINE)
    with pytest.raises(CorruptImage):
        client.process(images[0].read_bytes()[:300], PIPELINE)
    with pytest.raises(NotFound):
        client.job("job_that_never_was")
    with pytest.raises(ObjectNotFound):
        client.process(tmp_path / "absent.jpg", PIPELINE)
    with pytest.raises(ObjectNotFound, match="folder"):
        client.submit([tmp_path], PIPELINE)


def test_a_job_from_files_to_results(client: Client, images: list[Path], tmp_path: Path) -> None:
    seen: list[Progress] = []
    job = client.submit(images, PIPELINE, name="six", tags={"album": "sea"}, on_progress=seen.append)
    assert [progress.done for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert (seen[-1].total, seen[-1].bytes) == (6, sum(path.stat().st_size for path in images))
    status = job.wait(60)
    assert (status.state, status.counts.succeeded) == ("succeeded", 6)
    assert (status.name, status.tags) == ("six", {"album": "sea"})
    assert [task.name for task in job.tasks()] == [path.name for path in images]
    expected = [Pipeline.parse(PIPELINE).run(path).bytes for path in images]
    assert [result.bytes for result in job.results()] == expected
    done = job.download(tmp_path / "out")
    assert [path.name for path in sorted(done.saved)] == [f"{index}.png" for index in range(6)]
    assert [path.read_bytes() for path in sorted(done.saved)] == expected
    with zipfile.ZipFile(job.archive(tmp_path / "all.zip")) as archive:
        assert sorted(archive.read(name) for name in archive.namelist()) == sorted(map(bytes, filter(None, expected)))
    assert job.id in {listed.id for listed in client.jobs(state="succeeded")}
    job.delete()
    with pytest.raises(NotFound):
        job.refresh()


def test_tasks_are_searched_by_what_was_found_in_them(client: Client, images: list[Path]) -> None:
    job = client.submit(images[:2], "faces:detector=haar", name="searched")
    assert job.wait(60).state == "succeeded"
    found = list(job.tasks(faces="0.."))
    assert {task.name for task in found} == {"0.jpg", "1.jpg"}
    assert {task.job for task in found} == {job.id}
    assert [task.id for task in client.tasks(faces=0, job=job.id)] == [task.id for task in job.tasks(faces=0)]
    assert list(client.tasks(label=["cat", "dog"], min_score=0.5, caption="on a beach", job=job.id)) == []
    assert job.refresh().labels == {}
    with pytest.raises(RequestError, match="what to search for"):
        next(client.tasks(job=job.id))


def test_a_contact_sheet_has_the_format_of_its_file_and_says_what_it_shows(
    client: Client, images: list[Path], tmp_path: Path
) -> None:
    job = client.submit([*images, ("torn.jpg", images[1].read_bytes()[:300])], PIPELINE)
    job.wait(60)
    sheet = job.montage(tmp_path / "sheet.png", columns=4, labels=False)
    assert sheet == Sheet(tmp_path / "sheet.png", cells=6, columns=4, rows=2, left_out=1)
    info = probe(sheet.path.read_bytes())
    assert (info.format, info.size) == ("png", (8 + 4 * 264, 8 + 2 * 264))
    marked = client.montage(job.id, tmp_path / "sheet", format="webp,quality=50", failed="mark")
    assert (marked.cells, marked.marked, marked.left_out) == (7, 1, 0)
    assert probe(marked.path.read_bytes()).format == "webp"
    with pytest.raises(InvalidParameter, match="cell_width"):
        job.montage(tmp_path / "no.png", cell_width=3)
    with pytest.raises(NotFound):
        client.montage("job_that_never_was", tmp_path / "no.png")
    assert not (tmp_path / "no.png").exists()


def test_a_download_resumes_and_leaves_nothing_half(client: Client, images: list[Path], tmp_path: Path) -> None:
    job = client.submit(images, PIPELINE)
    job.wait(60)
    first = job.download(tmp_path)
    first.saved[2].unlink()
    first.saved[3].write_bytes(b"torn")
    second = job.download(tmp_path)
    assert sorted(second.saved) == sorted([first.saved[2], first.saved[3]])
    assert len(second.skipped) == 4
    assert first.saved[3].read_bytes() != b"torn"
    assert not list(tmp_path.glob("*.part"))
    assert len(job.download(tmp_path, overwrite=True).saved) == 6


def test_same_names_and_bytes_stay_apart(client: Client, images: list[Path], tmp_path: Path) -> None:
    data = images[0].read_bytes()
    names = ["a.jpg", "a.jpg", "../../etc/a.jpg", "ä 漢 %2f?#.jpg", "x" * 300 + ".jpg"]
    job = client.submit([(name, data) for name in names], PIPELINE)
    assert job.wait(60).counts.succeeded == 5
    done = job.download(tmp_path / "deep" / "out")
    assert len(set(done.saved)) == 5
    assert {path.parent for path in done.saved} == {tmp_path / "deep" / "out"}


def test_failed_tasks_are_told_and_can_be_retried(client: Client, images: list[Path], tmp_path: Path) -> None:
    job = client.submit([images[0], ("torn.jpg", images[1].read_bytes()[:300])], PIPELINE)
    assert job.wait(60).state == "failed"
    (task,) = job.tasks(state="failed")
    assert task.error is not None
    assert (task.name, task.error["type"]) == ("torn.jpg", "corrupt-image")
    assert [task.name for task in job.download(tmp_path).failed] == ["torn.jpg"]
    assert not job.retry().is_final
    assert job.wait(60).counts.failed == 1


def test_events_tell_every_task_and_end_with_the_job(client: Client, images: list[Path]) -> None:
    job = client.submit(images, PIPELINE)
    events = list(job.events())
    ended = {event.data["id"] for event in events if event.type == "task" and event.data["state"] == "succeeded"}
    assert len(ended) == 6
    assert events[-1].ends_job
    ids = [int(event.id) for event in events]
    assert ids == sorted(set(ids))
    later = list(job.events(after=events[3].id))
    assert [event.id for event in later] == [event.id for event in events[4:]]
    assert list(job.events(after=events[-1].id)) == []


def test_a_large_job_grows_by_pages_and_is_sealed(
    client: Client, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "PAGE", 2)
    seen: list[Progress] = []
    job = client.submit(iter(images[:5]), "resize:16/format:jpeg", on_progress=seen.append)
    assert seen[-1].total is None
    status = job.wait(60)
    assert (status.sealed, status.counts.succeeded) == (True, 5)
    assert [task.name for task in job.tasks()] == [path.name for path in images[:5]]


def test_waiting_has_a_bound_and_cancel_ends_it(client: Client, images: list[Path]) -> None:
    job = client.submit(images, "resize:3000,3000,fit=fill,enlarge=true/sketch:full/format:jpeg")
    with pytest.raises(TimeoutError, match=job.id):
        job.wait(0.1)
    assert job.cancel().counts.queued == 0
    assert job.wait(30).state == "cancelled"


def test_operations_and_nodes_are_listed(client: Client) -> None:
    assert "canny" in {operation["name"] for operation in client.operations()}
    assert client.nodes()


def test_events_survive_the_death_of_the_service(mortal: ServiceProcess, images: list[Path]) -> None:
    """The stream goes on in the next life of the service, without a gap and without a repetition."""
    with Client(mortal.url, retry=RetryPolicy(attempts=12)) as client:
        job = client.submit(images * 4, "resize:500,500,fit=fill,enlarge=true/sketch:full/format:jpeg")
        events: list[Event] = []
        restart: threading.Thread | None = None
        for event in job.events():
            events.append(event)
            if restart is None and event.type == "task" and event.data["state"] == "succeeded":
                mortal.kill()
                restart = threading.Thread(target=mortal.start)
                restart.start()
        assert restart is not None
        restart.join(60)
        ids = [int(event.id) for event in events]
        assert ids == sorted(set(ids))
        ended = [event.data["id"] for event in events if event.type == "task" and event.data["state"] == "succeeded"]
        assert sorted(ended) == sorted(task.id for task in job.tasks())
        assert job.refresh().state == "succeeded"


def test_a_service_that_is_not_there_is_a_clear_failure() -> None:
    with Client("http://127.0.0.1:9", retry=QUICK) as client, pytest.raises(ConnectionFailed, match="pixelmill serve"):
        client.operations()


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://host", "http://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        Client(url)


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(
    url: str, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with Client(url, retry=QUICK) as client:
        assert client.process(images[0], PIPELINE).bytes


# -- the asynchronous client ---------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_asynchronous_client_does_the_same(url: str, images: list[Path], tmp_path: Path) -> None:
    async with AsyncClient(url) as client:
        expected = [Pipeline.parse(PIPELINE).run(path).bytes for path in images]
        assert (await client.process(images[0], PIPELINE)).bytes == expected[0]
        job = await client.submit(images, PIPELINE)
        events = [event async for event in job.events()]
        assert events[-1].ends_job
        assert (await job.wait(60)).state == "succeeded"
        assert [task.name async for task in job.tasks()] == [path.name for path in images]
        assert [result.bytes async for result in job.results()] == expected
        assert [task.id async for task in job.tasks(faces=1)] == []
        assert [task.id async for task in client.tasks(caption="nothing", job=job.id)] == []
        assert len((await job.download(tmp_path / "out")).saved) == 6
        assert zipfile.is_zipfile(await job.archive(tmp_path / "all.zip"))
        assert (await job.montage(tmp_path / "sheet.jpg", cell_width=32)).cells == len(images)
        assert probe((tmp_path / "sheet.jpg").read_bytes()).format == "jpeg"
        assert job.id in {listed.id async for listed in client.jobs()}
        assert "canny" in {operation["name"] for operation in await client.operations()}
        await job.delete()
        with pytest.raises(NotFound):
            await job.refresh()
        with pytest.raises(UnknownOperation):
            await client.submit(images, "greyscale")
        with pytest.raises(ObjectNotFound):
            await client.submit([*images, tmp_path / "absent"], PIPELINE)


# -- a service that misbehaves -------------------------------------------------------------------


@contextmanager
def misbehaving(*answers: tuple[int, dict[str, str], bytes] | None) -> Iterator[tuple[str, list[str]]]:
    """A server that gives these answers in turn, None for a connection that is closed without one."""
    script, asked = iter(answers), list[str]()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            asked.append(f"{self.command} {self.path} {self.headers.get('idempotency-key', '')}".strip())
            self.rfile.read(int(self.headers.get("content-length", 0)))
            found = next(script)
            self.close_connection = True
            if found is None:
                return
            status, headers, body = found
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), "connection": "close", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = answer  # noqa: N815 -- the names http.server asks for

        def log_message(self, *args: Any) -> None:
            """Stay silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


UPLOADED: tuple[int, dict[str, str], bytes] = (201, {}, b'{"id": "up_1", "name": "a", "size": 1}')
JOB = b'{"id": "job_1", "state": "queued", "counts": {"queued": 1}, "sealed": false}'


def test_a_lost_submit_is_repeated_with_the_same_key() -> None:
    draining = (503, {"retry-after": "0"}, b"")
    with misbehaving(UPLOADED, None, draining, (202, {}, JOB)) as (url, asked), Client(url, retry=QUICK) as client:
        assert client.submit([("a", b"x")], "invert").id == "job_1"
    upload, *submits = asked
    assert upload.startswith("PUT /v1/uploads/a")
    assert len(submits) == 3
    assert len(set(submits)) == 1
    assert len(submits[0].split()) == 3  # method, path, key


def test_a_page_whose_answer_was_lost_is_not_added_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "PAGE", 1)
    grown = JOB.replace(b'"queued": 1', b'"queued": 2').replace(b"false", b"true")
    created, settled = (202, dict[str, str](), JOB), (200, dict[str, str](), grown)
    with misbehaving(UPLOADED, created, UPLOADED, None, settled) as (url, asked), Client(url, retry=QUICK) as client:
        status: JobStatus = client.submit([("a", b"x"), ("b", b"y")], "invert").status
    assert (status.counts.total, status.sealed) == (2, True)
    assert [line.split()[:2] for line in asked[-2:]] == [["POST", "/v1/jobs/job_1/tasks"], ["GET", "/v1/jobs/job_1"]]


def test_a_torn_download_is_tried_again_and_never_seen_half(tmp_path: Path) -> None:
    torn = (200, {"content-length": "10"}, b"1234")
    with misbehaving((200, {}, JOB), torn, (200, {}, b"1234567890")) as (url, _), Client(url, retry=QUICK) as client:
        path = client.job("job_1").archive(tmp_path / "all.zip")
    assert path.read_bytes() == b"1234567890"
    assert [entry.name for entry in tmp_path.iterdir()] == ["all.zip"]


def test_a_download_that_never_succeeds_leaves_nothing(tmp_path: Path) -> None:
    torn = (200, {"content-length": "10"}, b"1234")
    with misbehaving((200, {}, JOB), torn, torn, torn) as (url, _), Client(url, retry=QUICK) as client:
        job = client.job("job_1")
        with pytest.raises(ConnectionFailed):
            job.archive(tmp_path / "all.zip")
    assert not list(tmp_path.iterdir())
