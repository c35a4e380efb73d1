"""The server around the application: its address, its bounds on connections, and how it ends."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from live_service import LiveService, assert_problem

from pixelmill.api.server import bind, url_of
from pixelmill.api.settings import ApiSettings
from pixelmill.errors import ConfigError

SLOW = "resize:1600,1200,fit=fill,enlarge=true/sketch:denoise=full/format:jpeg"


def connect(service: LiveService) -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", service.port))
    raw.settimeout(20)
    return raw


def takes_connections(service: LiveService) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", service.port)) == 0


def everything(raw: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    received = b""
    try:
        while piece := raw.recv(65_536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def test_an_address_in_use_is_told_as_such() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"in use by another program.*--port"):
            bind("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host", "x" * 100])
def test_an_address_that_is_not_ours_is_told_as_such(host: str) -> None:
    with pytest.raises(ConfigError, match="no address of this machine"):
        bind(host, 0)


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:")])
def test_the_address_that_people_are_told(host: str, url: str) -> None:
    with bind(host, 0) as listener:
        assert url_of(listener, ApiSettings(host=host)) == f"{url}{listener.getsockname()[1]}"


def test_a_bound_socket_takes_no_connection_before_the_service_can_answer() -> None:
    with bind("127.0.0.1", 0) as listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname())


def test_a_folder_in_use_is_told_as_such(start: Any) -> None:
    first: LiveService = start()
    second: LiveService = start(data=first.data)
    assert second.refusal.startswith("invalid-configuration Another Pixelmill service")
    assert second.process.returncode == 2


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A service with little patience."""
    patience = {"header_timeout_s": 0.3, "idle_s": 0.3, "max_header_bytes": 4_000, "keep_alive_s": 1}
    with LiveService(tmp_path_factory.mktemp("strict") / "data", api=patience) as service:
        yield service


def test_who_never_sends_a_request_is_let_go(strict: LiveService) -> None:
    with connect(strict) as raw:
        assert everything(raw) == b""


def test_who_never_ends_a_head_is_let_go(strict: LiveService) -> None:
    with connect(strict) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        assert everything(raw).startswith(b"HTTP/1.1 408 ")


def test_who_goes_quiet_between_requests_is_let_go(strict: LiveService) -> None:
    with connect(strict) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert everything(raw).count(b"HTTP/1.1 200 OK") == 1


def test_who_stops_within_a_body_gets_408(strict: LiveService) -> None:
    with connect(strict) as raw:
        raw.sendall(b"PUT /v1/uploads/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
        answer = everything(raw)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 5_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 5_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 300 + b"\r\n",
    ],
    ids=["line", "header", "many headers"],
)
def test_a_head_is_bounded(strict: LiveService, head: bytes) -> None:
    with connect(strict) as raw:
        raw.sendall(head)
        assert everything(raw).startswith(b"HTTP/1.1 431 ")


def test_a_head_without_end_is_bounded(strict: LiveService) -> None:
    sent = 0
    with connect(strict) as raw, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        raw.sendall(b"GET / HTTP/1.1\r\nX: ")
        while sent < 100_000_000:
            raw.sendall(b"y" * 100_000)
            sent += 100_000
    assert sent < 50_000_000


@pytest.mark.parametrize(
    "request_", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0\x01"]
)
def test_what_is_no_http_gets_400(strict: LiveService, request_: bytes) -> None:
    with connect(strict) as raw:
        raw.sendall(request_)
        assert everything(raw).startswith(b"HTTP/1.1 400 ")


def test_a_refused_body_is_not_read_for_ever_and_the_connection_stays(shared_service: LiveService) -> None:
    with connect(shared_service) as raw:
        length = 200_000_000
        head = f"PUT /v1/uploads/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
        raw.sendall(head.encode())
        answer = b""
        while b"}}" not in answer:
            answer += raw.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 413 ")


def test_requests_in_a_row_and_at_once_on_one_connection(shared_service: LiveService) -> None:
    with connect(shared_service) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        answer = b""
        while answer.count(b"HTTP/1.1 200 OK") < 20:
            answer += raw.recv(65_536)


def test_too_many_requests_at_once_get_429(start: Any, pictures: list[bytes]) -> None:
    service: LiveService = start(api={"max_requests": 1})
    with service.client() as client, client.stream("GET", "/v1/events") as stream:
        chunks = stream.iter_raw()  # kept: a generator that is collected closes the stream
        next(chunks)
        answer = client.get("/v1/jobs")
        assert_problem(answer, 429, "queue-full")
        assert client.get("/healthz").status_code == 200


def test_every_answer_carries_the_headers_that_browsers_heed(client: httpx.Client) -> None:
    for path in ("/", "/healthz", "/nothing", "/v1/jobs", "/metrics"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers


def test_running_requests_end_when_the_service_drains(start: Any, photo: bytes) -> None:
    service: LiveService = start()

    async def drain_while_working() -> httpx.Response:
        answers: list[httpx.Response] = []
        async with httpx.AsyncClient(base_url=service.url, timeout=60, trust_env=False) as client:

            async def work() -> None:
                answers.append(await client.post("/v1/process", params={"pipeline": SLOW}, content=photo))

            async with anyio.create_task_group() as group:
                group.start_soon(work)
                while b'pixelmill_slots_busy{target="local"} 1' not in (await client.get("/metrics")).content:
                    pass
                service.signal()
        return answers[0]

    assert anyio.run(drain_while_working).status_code == 200
    assert service.process.wait(20) == 0


def test_the_second_signal_ends_it_at_once(start: Any, pictures: list[bytes]) -> None:
    service: LiveService = start(service={"drain_s": 60.0})
    with service.client() as client:
        files = [("files", ("a.jpg", pictures[0]))]
        slow = "resize:8000,6000,fit=fill,enlarge=true/sketch:denoise=full/format:jpeg"
        job = client.post("/v1/jobs", data={"pipeline": slow}, files=files).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job}/events", params={"after": 0}) as stream:
            for line in stream.iter_lines():
                if '"running"' in line:
                    break
        service.signal()
        while takes_connections(service):
            pass
        service.signal()
    assert service.process.wait(10) == -signal.SIGTERM


def test_a_draining_service_is_not_ready(tmp_path: Path) -> None:
    """Seen on one connection that was open before, for no new one is taken."""
    with LiveService(tmp_path / "data") as service, connect(service) as raw:
        # A request whose head arrives before the signal, and its body after it.
        raw.sendall(b"POST /v1/process?pipeline=grayscale HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n")
        with service.client() as client:
            client.get("/healthz")
        service.signal()
        while not service.log_lines("service.draining"):
            pass
        raw.sendall(b"abc")
        answer = everything(raw)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"/v1/problems/shutting-down" in answer
        assert b"connection: close" in answer.lower()
        assert service.process.wait(20) == 0
