"""Event streams: live, resumable from any id, ended with the job or the service, no burden if their reader is slow."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from live_service import LiveService, assert_problem

PIPELINE = "grayscale/resize:32,24,fit=fill/format:png"
SLOW = "resize:1600,1200,fit=fill,enlarge=true/sketch:denoise=full/format:jpeg"
Event = tuple[int, str, dict[str, Any]]


def events(stream: httpx.Response) -> Iterator[Event]:
    """What a browser would hand to a page."""
    number, kind, data = "", "", ""
    for line in stream.iter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            number = value
        elif name == "event":
            kind = value
        elif name == "data":
            data = value
        elif not line and data:
            yield int(number), kind, json.loads(data)
            data = ""


def submit(client: httpx.Client, pictures: list[bytes], count: int, pipeline: str = PIPELINE) -> str:
    files = [("files", (f"{number}.jpg", pictures[number % 6])) for number in range(count)]
    return str(client.post("/v1/jobs", data={"pipeline": pipeline}, files=files).json()["id"])


def whole_log(client: httpx.Client, job: str) -> list[Event]:
    with client.stream("GET", f"/v1/jobs/{job}/events", params={"after": 0}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        return list(events(stream))


def test_a_job_s_stream_tells_all_and_ends_with_it(client: httpx.Client, pictures: list[bytes]) -> None:
    job = submit(client, pictures, 5)
    log = whole_log(client, job)
    numbers = [number for number, _, _ in log]
    assert numbers == sorted(set(numbers))
    assert all(data["job"] == job and data["at"].endswith("Z") for _, _, data in log)
    done = [data["name"] for _, kind, data in log if kind == "task" and data["state"] == "succeeded"]
    assert sorted(done) == [f"{number}.jpg" for number in range(5)]
    _, kind, data = log[-1]
    assert (kind, data["state"], data["counts"]["succeeded"]) == ("job", "succeeded", 5)


@pytest.mark.parametrize("how", ["header", "query"])
def test_a_stream_resumes_where_it_broke(client: httpx.Client, pictures: list[bytes], how: str) -> None:
    job = submit(client, pictures, 6)
    log = whole_log(client, job)
    middle = log[len(log) // 2][0]
    options: dict[str, Any] = (
        {"headers": {"last-event-id": str(middle)}, "params": {"after": 0}}
        if how == "header"
        else {"params": {"after": middle}}
    )
    with client.stream("GET", f"/v1/jobs/{job}/events", **options) as stream:
        assert list(events(stream)) == [event for event in log if event[0] > middle]


def test_an_ended_job_with_nothing_new_tells_browsers_to_stop(client: httpx.Client, pictures: list[bytes]) -> None:
    job = submit(client, pictures, 1)
    last = whole_log(client, job)[-1][0]
    answer = client.get(f"/v1/jobs/{job}/events", headers={"last-event-id": str(last)})
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 30, "\u0661"])
def test_an_event_id_is_a_number(client: httpx.Client, after: str) -> None:
    assert_problem(client.get("/v1/events", params={"after": after}), 400, "invalid-request")


def test_the_stream_of_all_jobs_is_live(client: httpx.Client, pictures: list[bytes]) -> None:
    with client.stream("GET", "/v1/events") as stream:
        job = submit(client, pictures, 3)
        for _, kind, data in events(stream):
            if (kind, data["job"], data["state"]) == ("job", job, "succeeded"):
                break
        else:
            raise AssertionError("the stream ended")


def test_head_of_a_stream_does_not_wait(client: httpx.Client) -> None:
    assert client.head("/v1/events").status_code == 200


def test_a_reader_that_goes_away_is_let_go(start: Any, pictures: list[bytes]) -> None:
    service: LiveService = start()
    with service.client() as client:
        for _ in range(5):
            with client.stream("GET", "/v1/events") as stream:
                next(stream.iter_raw())
        # Each closed stream's request ends, and says so.
        for _ in range(200):
            if len(service.log_lines("request.done")) >= 5 + 1:
                break
            client.get("/healthz")
        assert sum(line["path"] == "/v1/events" for line in service.log_lines("request.done")) == 5


def test_a_slow_reader_holds_nobody_up_and_loses_nothing(start: Any, pictures: list[bytes]) -> None:
    service: LiveService = start()
    with service.client() as client, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", service.port))
        slow.sendall(b"GET /v1/events?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        jobs = [submit(client, pictures, 300) for _ in range(2)]
        logs = [whole_log(client, job) for job in jobs]
        slow.settimeout(20)
        received = b""
        last = logs[-1][-1][0]
        while f"id: {last}\n".encode() not in received:
            piece = slow.recv(4096)
            assert piece, "the stream ended before its last event"
            received += piece
        told = {int(line[4:]) for line in received.split(b"\n") if line.startswith(b"id: ")}
        assert told >= {number for log in logs for number, _, _ in log}


def test_a_reader_that_takes_nothing_is_given_up(start: Any, pictures: list[bytes]) -> None:
    service: LiveService = start(api={"send_stall_s": 0.2})
    with service.client() as client, socket.socket() as stuck:
        large = b"no image" * 4_000_000  # more than the kernel's buffers hold
        files = [("files", ("a.jpg", large))]
        job = client.post("/v1/jobs", data={"pipeline": PIPELINE}, files=files).json()["id"]
        path = client.get(f"/v1/jobs/{job}/tasks").json()["items"][0]["links"]["input"]
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", service.port))
        stuck.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        # Nothing is read, so without a bound the request would never end.
        for _ in range(1_000):
            if any(line["path"] == path for line in service.log_lines("request.done")):
                break
            client.get("/healthz")
        else:
            raise AssertionError("the request is still open")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_open_streams_and_the_service(start: Any, pictures: list[bytes], number: signal.Signals) -> None:
    service: LiveService = start(api={"drain_s": 20.0}, service={"drain_s": 20.0})
    with service.client() as client, client.stream("GET", "/v1/events") as stream:
        pieces = stream.iter_raw()
        next(pieces)
        service.signal(number)
        list(pieces)  # a whole answer: the chunked body has its end
        assert service.process.wait(15) == 0


def test_who_follows_a_job_is_told_that_it_was_deleted(start: Any, pictures: list[bytes]) -> None:
    service = start()
    with service.client() as client:
        job = submit(client, pictures, 3, SLOW)
        with client.stream("GET", f"/v1/jobs/{job}/events", params={"after": 0}) as stream:
            told = events(stream)
            assert next(told)[1] == "job"
            assert client.delete(f"/v1/jobs/{job}").status_code == 204
            assert [kind for _, kind, _ in told][-1] == "deleted"
        assert_problem(client.get(f"/v1/jobs/{job}/events"), 404, "not-found")
    assert service.stop() == 0
    assert not service.log_lines("request.failed")


def test_an_id_from_before_the_data_folder_was_made_anew_hides_nothing(
    client: httpx.Client, pictures: list[bytes]
) -> None:
    with client.stream("GET", "/v1/events", headers={"last-event-id": "999999999"}) as stream:
        lines = stream.iter_lines()
        assert next(lines) == ": connected"
        job = submit(client, pictures, 1)
        assert any(job in line for line in lines)
