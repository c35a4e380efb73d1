"""The door to Redis: clients with bounded timeouts, its errors in our tree, addresses without their passwords.

``redis`` comes with the extra ``fleet`` and is imported when the first client is made.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pixelmill.errors import (
    ConfigError,
    MissingExtra,
    PixelmillError,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
)

if TYPE_CHECKING:
    import redis.asyncio

T = TypeVar("T")
PREFIX = "pixelmill"
"""Of all keys and channels, where nothing else is configured."""
_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,40}").fullmatch
TIMEOUT_S = 5.0
"""For connecting, and for every answer that is not waited for on purpose."""
MAX_CONNECTIONS = 32


def _library() -> Any:
    """The package, with its asyncio half; raises :class:`MissingExtra`."""
    try:
        import redis
        import redis.asyncio
    except ImportError as error:
        raise MissingExtra(
            "redis_url is set, and the redis package is not installed. Install it with `pip install pixelmill[fleet]`.",
            extra="fleet",
        ) from error
    return redis


def check_url(url: str) -> str:
    """The address, if it is one of Redis; raises :class:`ConfigError`, which never shows it."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"redis", "rediss", "unix"} and bool(parts.hostname or parts.path)
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise ConfigError(
            "redis_url is not an address such as redis://:PASSWORD@HOST:6379/0 (rediss:// with TLS, unix:///path for a "
            "socket). Set it with PIXELMILL_REDIS_URL; see docs/configuration.md.",
            setting="redis_url",
        )
    return url


def key_of(prefix: str, name: str) -> str:
    """The key or channel of that name, of the installation with that prefix; raises :class:`ConfigError`."""
    if _PREFIX(prefix) is None:
        raise ConfigError(
            f"redis_prefix is {prefix[:80]!r}, which is not 1 to 40 of a-z, A-Z, 0-9, '.', '_' and '-'. Set it with "
            "PIXELMILL_REDIS_PREFIX.",
            setting="redis_prefix",
        )
    return f"{prefix}:{name}"


def without_password(url: str) -> str:
    """The address as people may see it."""
    shown = re.sub(r"(://[^/@:]*:)[^/]*@", r"\1***@", url)
    return re.sub(r"(?i)([?&]password=)[^&]*", r"\1***", shown)


def make_client(url: str) -> redis.asyncio.Redis:
    """A client for one event loop; nothing is connected yet. Raises :class:`ConfigError`, :class:`MissingExtra`."""
    library = _library()
    options = {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "max_connections": MAX_CONNECTIONS,
    }
    if check_url(url).startswith("unix:"):
        del options["socket_keepalive"]
    client: redis.asyncio.Redis = library.asyncio.Redis.from_url(url, retry=_one_retry(library), **options)
    return client


def make_thread_client(url: str) -> redis.Redis:
    """The same for threads."""
    library = _library()
    options = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
    client: redis.Redis = library.Redis.from_url(check_url(url), **options)
    return client


def _one_retry(library: Any) -> Any:
    """Once and at once: a connection that the server closed while it was idle. What lasts is the caller's to bear."""
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return Retry(NoBackoff(), 1, supported_errors=(library.exceptions.ConnectionError,))


def database_of(url: str) -> str:
    """The number of the database: channels, unlike keys, are shared by all of a server."""
    path = urlsplit(url).path
    return path.rpartition("/")[2] if re.fullmatch(r"/\d+", path) else "0"


async def heed(work: Awaitable[T]) -> T:
    """Await, and raise a cancellation that the library has swallowed (redis-py 8.1 does, in pipelines)."""
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    result = await work
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return result


@contextmanager
def translated() -> Iterator[None]:
    """Redis's errors as ours: :class:`StorageUnavailable`, ``StorageFull``, ``StorageDenied`` or ``StorageError``."""
    library = _library()
    try:
        yield
    except (library.exceptions.RedisError, OSError) as error:
        raise translate(error) from error


def translate(error: Exception) -> PixelmillError:
    """One error; its text holds no address."""
    text, exceptions = str(error), _library().exceptions
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError) or "NOAUTH" in text:
        return StorageDenied("Redis refused access. Check user and password in PIXELMILL_REDIS_URL.")
    if isinstance(error, exceptions.OutOfMemoryError) or text.startswith("OOM"):
        return StorageFull("Redis has no memory left (maxmemory). Give it more, or let its consumers catch up.")
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | OSError):
        return StorageUnavailable(f"Redis does not answer ({type(error).__name__}). It will be tried again.")
    return StorageError(f"Redis refused an operation: {text[:300]}", cause=type(error).__name__)
