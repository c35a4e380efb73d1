"""What a flow asks its driver to do, and the retrying call that every flow is built of.

A flow is a generator: it yields effects, is sent their results (or thrown their errors), and returns its value. It
does no I/O itself, so one flow serves the blocking and the asynchronous client, and can be tested with neither.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from pixelmill.client.retry import RetryPolicy
from pixelmill.client.wire import Request, Response, read_problem
from pixelmill.errors import ConnectionFailed, PixelmillError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """Send a request, give the :class:`Response`; throws :class:`ConnectionFailed`."""

    request: Request


@dataclass(frozen=True, slots=True)
class Save:
    """Send a request and stream the body of a 200 to ``path``, whole or not at all; else like :class:`Call`."""

    request: Request
    path: Path


@dataclass(frozen=True, slots=True)
class Write:
    """Write a small file, whole or not at all."""

    path: Path
    data: bytes


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait that many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Clock:
    """Give the monotonic time in seconds."""


@dataclass(frozen=True, slots=True)
class Parallel:
    """Run flows at most ``limit`` at a time and give their values in order; the first error ends all.

    ``on_done`` is called with each value as it comes, in the caller's own thread.
    """

    flows: Iterable[Flow[Any]]
    limit: int
    on_done: Callable[[Any], None] | None = None


Effect: TypeAlias = Call | Save | Write | Sleep | Clock | Parallel
Flow: TypeAlias = Generator[Effect, Any, T]


def send(request: Request, policy: RetryPolicy, save_to: Path | None = None) -> Flow[Response]:
    """One request with retries; a response of status 400 or above is raised as the error it stands for."""
    attempt = 0
    while True:
        attempt += 1
        error: PixelmillError
        try:
            response: Response = yield (Save(request, save_to) if save_to else Call(request))
        except ConnectionFailed as failure:
            error = failure
        else:
            if response.status < 400:
                return response
            error = read_problem(response)
        wait = policy.wait(attempt, request, error)
        if wait is None:
            raise error
        yield Sleep(wait)
