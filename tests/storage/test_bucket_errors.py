"""How foreign failures come out of the bucket store, against a real HTTP server that refuses as S3 does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import obstore.exceptions as foreign
import pytest
from obstore.store import S3Store

from pixelmill.errors import (
    InvalidURI,
    ObjectExists,
    ObjectNotFound,
    StorageDenied,
    StorageError,
    StorageUnavailable,
)
from pixelmill.storage.buckets import ObstoreStore, translated_foreign


class Refusing(BaseHTTPRequestHandler):
    """Answers everything with the status that the server was given."""

    def answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        body = b"<Error><Code>Refused</Code><Message>no</Message></Error>"
        self.send_response(self.server.status)  # type: ignore[attr-defined]  # set by the fixture
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 the names are http.server's

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def bucket(port: int) -> ObstoreStore:
    return ObstoreStore(
        S3Store(
            "bucket",
            endpoint=f"http://127.0.0.1:{port}",
            region="us-east-1",
            access_key_id="test",
            secret_access_key="test",
            client_options={"allow_http": True, "timeout": timedelta(seconds=10)},
            retry_config={"max_retries": 0},
        )
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, StorageDenied),
        (403, StorageDenied),
        (404, ObjectNotFound),
        (500, StorageUnavailable),
        (503, StorageUnavailable),
    ],
)
async def test_answers_of_a_server_become_errors_of_the_tree(
    server: ThreadingHTTPServer, status: int, error: type[StorageError]
) -> None:
    server.status = status  # type: ignore[attr-defined]  # read by the handler
    store = bucket(server.server_port)
    for call in (store.get("folder/key"), store.head("folder/key"), store.get_range("folder/key", 0, 1)):
        with pytest.raises(error) as caught:
            await call
        assert caught.value.detail.isprintable()
        assert "folder/key" in caught.value.detail or error is StorageDenied


@pytest.mark.anyio
@pytest.mark.parametrize("status", [409, 412])
async def test_a_lost_put_if_absent_is_that_the_object_exists(server: ThreadingHTTPServer, status: int) -> None:
    server.status = status  # type: ignore[attr-defined]  # read by the handler
    with pytest.raises(ObjectExists):
        await bucket(server.server_port).put("key", b"x", if_absent=True)


@pytest.mark.anyio
async def test_a_server_that_is_not_there_is_unavailable(server: ThreadingHTTPServer) -> None:
    port = server.server_port
    server.socket.close()
    store = bucket(port)
    with pytest.raises(StorageUnavailable):
        await store.check()
    with pytest.raises(StorageUnavailable):
        await store.delete(["a", "b"])
    with pytest.raises(StorageUnavailable):
        await anext(store.list())


@pytest.mark.anyio
async def test_links_are_signed_without_asking_the_server() -> None:
    link = await bucket(9).presign("folder/ü.jpg", "GET", 60)
    assert link is not None
    assert link.startswith("http://127.0.0.1:9/bucket/folder/%C3%BC.jpg?")
    assert "X-Amz-Expires=60" in link


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (FileNotFoundError("gone"), ObjectNotFound),
        (foreign.AlreadyExistsError("there"), ObjectExists),
        (foreign.PreconditionError("there"), ObjectExists),
        (PermissionError("no"), StorageDenied),
        (foreign.PermissionDeniedError("no"), StorageDenied),
        (foreign.UnauthenticatedError("who"), StorageDenied),
        (foreign.InvalidPathError("path"), InvalidURI),
        (foreign.GenericError("500\n\nDebug source:\n secret internals"), StorageUnavailable),
        (foreign.JoinError("thread"), StorageUnavailable),
        (foreign.NotSupportedError("no"), StorageError),
        (ConnectionResetError("network"), StorageUnavailable),
        (RuntimeError("surprise"), StorageError),
    ],
)
def test_every_foreign_error_has_its_place(error: Exception, ours: type[StorageError]) -> None:
    found = translated_foreign(error, "the/key")
    assert type(found) is ours
    assert found.context["key"] == "the/key"
    assert "internals" not in found.detail
