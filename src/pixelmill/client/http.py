"""What both drivers need of httpx: its settings, its requests, and its errors translated to the tree."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from pixelmill.client.wire import Request, Response
from pixelmill.errors import ConfigError, ConnectionFailed, StorageDenied, StorageError, StorageFull

DEFAULT_URL = "http://127.0.0.1:8080"
CHUNK = 1 << 18
# A synchronous request may wait 10 s for a slot and run for 60 s.
TIMEOUT = httpx.Timeout(connect=5.0, read=90.0, write=60.0, pool=60.0)
# A quiet event stream sends a heartbeat every 15 s.
STREAM_TIMEOUT = httpx.Timeout(connect=5.0, read=45.0, write=60.0, pool=60.0)
# A proxy set for the outside world must not get what is meant for this machine.
LOOPBACK = ("all://127.0.0.1", "all://localhost", "all://[::1]")


def client_options(url: str, token: str | None, traceparent: str | None = None) -> dict[str, Any]:
    """Arguments for ``httpx.Client`` and ``httpx.AsyncClient``; raises :class:`ConfigError` for a URL that is none.

    ``traceparent``: what all requests belong to (W3C trace context).
    """
    parsed = httpx.URL(url) if "://" in url else None
    if parsed is None or parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ConfigError(f"{url!r} is not the URL of a service; it looks like {DEFAULT_URL} (--url, PIXELMILL_URL).")
    headers = {"user-agent": "pixelmill-client", **({"authorization": f"Bearer {token}"} if token else {})}
    if traceparent:
        headers["traceparent"] = traceparent
    return {
        "base_url": url,
        "headers": headers,
        "timeout": TIMEOUT,
        "limits": httpx.Limits(max_connections=16, max_keepalive_connections=8),
        "mounts": dict.fromkeys(LOOPBACK),
    }


def headers_of(request: Request) -> Mapping[str, str]:
    """The request's headers, with the length of a body that is streamed (else it would go chunked)."""
    if isinstance(request.body, Path):
        with local_files(request.body):
            return {**request.headers, "content-length": str(request.body.stat().st_size)}
    return request.headers


def timeout_of(request: Request) -> httpx.Timeout:
    """The usual one, with more patience where the request asks for it."""
    if request.answer_s is None:
        return TIMEOUT
    return httpx.Timeout(connect=TIMEOUT.connect, read=request.answer_s, write=TIMEOUT.write, pool=TIMEOUT.pool)


def response_of(response: httpx.Response) -> Response:
    """A response that was read to its end."""
    return Response(response.status_code, {k.lower(): v for k, v in response.headers.items()}, response.content)


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn what httpx raises into the error tree."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise ConnectionFailed(
            f"The service at {url} can't be reached ({_why(error)}). Is it running (`pixelmill serve`), "
            "and is the URL right (--url, PIXELMILL_URL)?",
            sent=False,
        ) from error
    except httpx.TimeoutException as error:
        raise ConnectionFailed(f"The service at {url} did not answer in time ({_why(error)}).", sent=True) from error
    except httpx.TransportError as error:
        raise ConnectionFailed(f"The connection to {url} broke ({_why(error)}).", sent=True) from error
    except (httpx.InvalidURL, httpx.TooManyRedirects) as error:
        raise ConfigError(f"{url} can't be used as the URL of a service: {error}.") from error


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


@contextmanager
def local_files(path: Path) -> Iterator[None]:
    """Turn what the file system of this machine raises into the error tree."""
    try:
        yield
    except PermissionError as error:
        raise StorageDenied(f"{path}: permission denied.") from error
    except OSError as error:
        kind = StorageFull if error.errno in _FULL else StorageError
        raise kind(f"{path}: {error.strerror or error}.") from error


_FULL = frozenset({28, 122})  # ENOSPC, EDQUOT


class PartFile:
    """A file that appears under its name only when it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(f".{secrets.token_hex(6)}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("xb")

    def write(self, chunk: bytes) -> None:
        """Append a chunk."""
        self._file.write(chunk)

    def keep(self) -> None:
        """The file is whole."""
        self._file.close()
        self._part.replace(self.path)

    def drop(self) -> None:
        """It will not be."""
        self._file.close()
        self._part.unlink(missing_ok=True)


@contextmanager
def part_file(path: Path) -> Iterator[PartFile]:
    """A :class:`PartFile` that is kept if all goes well, and leaves nothing behind if not."""
    with local_files(path):
        file = PartFile(path)
    try:
        yield file
        with local_files(path):
            file.keep()
    except BaseException:
        file.drop()
        raise
