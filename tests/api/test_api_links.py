"""Tasks as documents: bytes behind links that the settings allow, and nowhere else."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from live_service import LiveService, assert_problem
from loopback import serving

from pixelmill.api.far_links import Links, is_public
from pixelmill.errors import InvalidURI, PixelmillError, SourceRefused, StorageUnavailable

Start = Callable[..., LiveService]


class Shelf(ThreadingHTTPServer):
    """Holds bytes by path, as a bucket does behind presigned links."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Shelf)
        self.objects: dict[str, bytes] = {}
        self.heads: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Shelf(BaseHTTPRequestHandler):
    server: Shelf

    def do_GET(self) -> None:
        self.server.heads.append(dict(self.headers))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("location", f"{self.server.url}/source?sig=1")
            self.end_headers()
            return
        found = self.server.objects.get(self.path)
        self.send_response(200 if found is not None else 404)
        self.end_headers()
        self.wfile.write(found or b"")

    def do_PUT(self) -> None:
        self.server.objects[self.path] = self.rfile.read(int(self.headers["content-length"]))
        self.server.heads.append(dict(self.headers))
        self.send_response(403 if self.path == "/denied" else 201)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def shelf() -> Iterator[Shelf]:
    with serving(Shelf()) as server:
        yield server


def document(**more: Any) -> dict[str, Any]:
    return {"pixelmill": 1, "pipeline": "resize:10/format:png", **more}


def test_a_document_with_bytes_gives_the_outcome_with_the_image(client: httpx.Client, pictures: list[bytes]) -> None:
    source = {"body": base64.b64encode(pictures[0]).decode()}
    answer = client.post("/v1/process", json=document(source=source, name="a.jpg"))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["outcome"]["format"] == "png"
    assert base64.b64decode(body["image"])[:4] == b"\x89PNG"
    assert body["stored"] is False


def test_without_hosts_no_link_is_followed(client: httpx.Client) -> None:
    with shelf() as held:
        answer = client.post("/v1/process", json=document(source={"url": f"{held.url}/source"}))
        assert_problem(answer, 403, "source-refused")
        assert held.heads == []


def test_source_and_result_go_by_links_where_the_host_is_listed(start: Start, pictures: list[bytes]) -> None:
    service = start(api={"link_hosts": ["127.0.0.1"], "link_private": True})
    with shelf() as held, service.client() as client:
        held.objects["/source?sig=1"] = pictures[0]
        good = {"source": {"url": f"{held.url}/source?sig=1"}, "result": {"url": f"{held.url}/result?sig=2"}}
        answer = client.post("/v1/process", json=document(**good))
        assert answer.status_code == 200, answer.text
        assert (answer.json()["stored"], answer.json()["image"]) == (True, None)
        assert held.objects["/result?sig=2"][:4] == b"\x89PNG"
        assert not any("authorization" in {name.lower() for name in head} for head in held.heads)
        absent = client.post("/v1/process", json=document(source={"url": f"{held.url}/none"}))
        assert_problem(absent, 404, "object-not-found")
        moved = client.post("/v1/process", json=document(source={"url": f"{held.url}/moved"}))
        assert_problem(moved, 503, "storage-unavailable")
        denied = client.post("/v1/process", json=document(**{**good, "result": {"url": f"{held.url}/denied"}}))
        assert_problem(denied, 503, "storage-unavailable")
        other = client.post("/v1/process", json=document(**{**good, "result": {"url": "https://example.com/x"}}))
        assert_problem(other, 403, "source-refused")


def test_a_link_to_more_than_the_limit_is_cut_off(start: Start) -> None:
    limits = {"max_bytes": 1000, "max_pixels": 10**8, "max_side": 10_000}
    service = start(api={"link_hosts": ["127.0.0.1"], "link_private": True}, service={"limits": limits})
    with shelf() as held, service.client() as client:
        held.objects["/large"] = b"x" * 1_000_000
        answer = client.post("/v1/process", json=document(source={"url": f"{held.url}/large"}))
        assert_problem(answer, 413, "limit-exceeded")


def test_bytes_in_a_document_count_as_memory_for_as_long_as_the_request_lasts(start: Start) -> None:
    service = start(api={"link_hosts": ["127.0.0.1"], "link_private": True, "max_body_memory": 1_000_000})
    with shelf() as held, service.client() as client:
        held.objects["/image"] = b"x" * 400_000
        within = {"body": base64.b64encode(b"x" * 500_000).decode()}
        beyond = {"body": base64.b64encode(b"x" * 700_000).decode()}
        images = {"sha256:" + "ab" * 32: {"url": f"{held.url}/image"}}
        assert client.post("/v1/process", json=document(source=within, images=images)).status_code == 415
        assert_problem(client.post("/v1/process", json=document(source=beyond, images=images)), 429, "busy")
        assert client.post("/v1/process", json=document(source=beyond)).status_code == 415


@pytest.mark.parametrize(
    "body",
    [
        {"pixelmill": 1},
        {"pixelmill": 1, "pipeline": "grayscale", "source": {"body": "%"}},
        {"pixelmill": 1, "pipeline": "grayscale", "source": {"body": "eA==", "url": "x"}},
        {"pixelmill": 1, "pipeline": "grayscale", "source": {"body": ""}},
        {"pixelmill": 1, "pipeline": "grayscale", "source": {"body": "eA=="}, "kind": "sheet"},
        {"pixelmill": 1, "pipeline": "grayscale", "source": {"body": "eA=="}, "timeout_s": -1},
        {"pixelmill": 1, "pipeline": "grayscale", "source": {"body": "eA=="}, "more": 1},
    ],
)
def test_wrong_documents_are_refused(client: httpx.Client, body: dict[str, Any]) -> None:
    assert_problem(client.post("/v1/process", json=body), 400, "invalid-request")


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon"])
def test_wrong_time_limits_are_refused(client: httpx.Client, pictures: list[bytes], value: str) -> None:
    answer = client.post("/v1/process", params={"pipeline": "grayscale", "timeout": value}, content=pictures[0])
    assert_problem(answer, 400, "invalid-request")


def test_a_caller_may_ask_for_a_shorter_limit(client: httpx.Client) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (3000, 4000, 3), np.uint8)
    body = bytes(cv2.imencode(".jpg", noise)[1])
    slow = {"pipeline": "denoise:10/denoise:10/format:png", "timeout": "0.2"}
    answer = client.post("/v1/process", params=slow, content=body)
    assert answer.status_code == 422
    assert_problem(answer, 422, "task-timeout")


@pytest.mark.parametrize(
    ("link", "error"),
    [
        ("http://store.example/x", SourceRefused),
        ("ftp://store.example/x", SourceRefused),
        ("file:///etc/passwd", PixelmillError),
        ("https://other.example/x", SourceRefused),
        ("https://store.example.evil.example/x", SourceRefused),
        ("https://evilstore.example/x", SourceRefused),
        ("https://bucket.s3.example@evil.example/x", InvalidURI),
        ("https://user@store.example/x", InvalidURI),
        ("https:///x", InvalidURI),
        ("https://store.example/" + "x" * 9000, InvalidURI),
        ("\\\\store.example\\x", PixelmillError),
    ],
)
def test_links_elsewhere_are_refused(link: str, error: type[PixelmillError]) -> None:
    with pytest.raises(error):
        Links(["store.example", ".s3.example"]).check(link)


@pytest.mark.parametrize(
    "link", ["https://store.example/x?sig=1", "https://STORE.example./x", "https://b.s3.example/x"]
)
def test_listed_hosts_are_taken(link: str) -> None:
    Links(["store.example", ".s3.example"]).check(link)


@pytest.mark.anyio
async def test_a_listed_name_at_a_private_address_is_refused() -> None:
    links = Links(["localhost"])
    with pytest.raises(SourceRefused, match="not public"):
        await links.put("https://localhost/x", b"", None)
    with pytest.raises(StorageUnavailable):
        await Links(["name.invalid"]).put("https://name.invalid/x", b"", None)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:7f00:1::", False),
    ],
)
def test_only_addresses_of_the_internet_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public
