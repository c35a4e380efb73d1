"""W3C trace context: which request a piece of work belongs to, on whatever machine it runs; and spans of that work.

Owns the forms of ``traceparent`` and ``tracestate`` (https://www.w3.org/TR/trace-context-1/), the context that is
current, and where ended spans go: to one sink of the process, as logs do, or nowhere. It must not know what is traced,
nor OpenTelemetry (``service/telemetry.py`` is such a sink). Without a sink a context is still handed on and logged.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, ParamSpec, Protocol, Self, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Kind = Literal["internal", "server", "client", "producer", "consumer"]

NO_ATTRIBUTES: Mapping[str, Any] = {}
MAX_MEMBERS = 32
MAX_STATE = 512
"""Characters of a ``tracestate`` that are handed on, whole members only."""
LONG_MEMBER = 128
"""Members above it are left out first where not all can be handed on (section 3.3.1.5)."""
MAX_HEADER = 8_192
"""Longer headers are not looked at."""

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?").fullmatch
_KEY = r"[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}"
_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER = re.compile(rf"({_KEY})=({_VALUE})").fullmatch
_SAMPLED = 0x01


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace: ids in lower-case hexadecimal (32 and 16 digits), whether spans of it are kept.

    ``state`` is a ``tracestate`` that was checked, or empty.
    """

    trace_id: str
    span_id: str
    sampled: bool = True
    state: str = ""

    @property
    def traceparent(self) -> str:
        """The header, of version 00; flags other than ``sampled`` are zero."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def headers(self) -> dict[str, str]:
        """The headers of a call that is made here."""
        return {"traceparent": self.traceparent} | ({"tracestate": self.state} if self.state else {})

    def child(self) -> TraceContext:
        """A new place below this one."""
        return TraceContext(self.trace_id, new_span_id(), self.sampled, self.state)

    def to_text(self) -> str:
        """One text, for queues and rows; the inverse of :func:`from_text`."""
        return f"{self.traceparent} {self.state}" if self.state else self.traceparent


def parse(traceparent: str, tracestate: str = "") -> TraceContext | None:
    """The context of these headers; None where ``traceparent`` is none, and a new trace is to be begun.

    A newer version is read as this one as far as it goes. A ``tracestate`` that is none is left out alone.
    """
    if len(traceparent) > MAX_HEADER:
        return None
    match = _PARENT(traceparent.strip(" \t"))
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED), parse_state(tracestate))


def parse_state(text: str) -> str:
    """A ``tracestate`` as it is handed on; empty where it is none, or there is nothing in it."""
    if len(text) > MAX_HEADER:
        return ""
    members: dict[str, str] = {}
    for part in text.split(","):
        member = part.strip(" \t")
        if not member:
            continue
        match = _MEMBER(member)
        if match is None or match[1] in members:
            return ""
        members[match[1]] = member
    if len(members) > MAX_MEMBERS:
        return ""
    kept = list(members.values())
    if _length(kept) > MAX_STATE:
        kept = [member for member in kept if len(member) <= LONG_MEMBER]
    while _length(kept) > MAX_STATE:
        kept.pop()
    return ",".join(kept)


def _length(members: list[str]) -> int:
    return sum(len(member) + 1 for member in members) - 1


def from_text(text: str) -> TraceContext | None:
    """The inverse of :meth:`TraceContext.to_text`; None for anything else."""
    parent, _, state = text.partition(" ")
    return parse(parent, state)


def new_span_id() -> str:
    """16 random hexadecimal digits, not all zero."""
    while not (found := os.urandom(8).hex()).strip("0"):
        pass
    return found


# -- the one place where spans go ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of work that has ended. Times are seconds since the epoch.

    ``parent`` is the id of the span above it, empty for a root; ``error`` is the type of what it ended with.
    """

    name: str
    context: TraceContext
    parent: str
    start: float
    end: float
    kind: Kind = "internal"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    message: str = ""


class Sink(Protocol):
    """Who keeps spans."""

    def ended(self, span: Span) -> None:
        """Take one, at once: it must neither wait nor raise."""
        ...


class _Process:
    """What holds for all of this process, as the handlers of ``logging`` do."""

    sink: Sink | None = None
    ratio: float = 1.0


_current: ContextVar[TraceContext | None] = ContextVar("pixelmill_trace", default=None)


def configure(sink: Sink | None, ratio: float = 1.0) -> None:
    """Send the spans of this process there; ``ratio``: the share of new traces whose spans are kept."""
    _Process.sink, _Process.ratio = sink, ratio


def begin(*, quiet: bool = False) -> TraceContext:
    """The root of a new trace, sampled by chance, which the trace's id decides, so that all would decide the same.

    ``quiet``: never sampled.
    """
    while not (trace_id := os.urandom(16).hex()).strip("0"):
        pass
    sampled = _Process.ratio >= 1.0 or int(trace_id[16:], 16) < _Process.ratio * 2**64
    return TraceContext(trace_id, new_span_id(), sampled and not quiet)


def current() -> TraceContext | None:
    """The context that work belongs to here."""
    return _current.get()


def headers() -> dict[str, str]:
    """The headers for a call that is made here; none where nothing is traced."""
    context = _current.get()
    return {} if context is None else context.headers()


def carried() -> str:
    """The current context as one text; empty where there is none."""
    context = _current.get()
    return "" if context is None else context.to_text()


@contextmanager
def within(context: TraceContext | None) -> Iterator[None]:
    """Work in the block belongs to ``context``."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def is_kept() -> bool:
    """Whether a span that ended here now would be kept."""
    context = _current.get()
    return _Process.sink is not None and context is not None and context.sampled


class ActiveSpan:
    """A span from ``with`` to its end; work in the block belongs to it."""

    __slots__ = ("_kind", "_parent", "_start", "_token", "attributes", "context", "error", "message", "name")

    def __init__(
        self, name: str, kind: Kind, parent: TraceContext | None, attributes: dict[str, Any], *, quiet: bool = False
    ) -> None:
        self.name, self._kind, self._parent, self.attributes = name, kind, parent, attributes
        self.context = begin(quiet=quiet) if parent is None else parent.child()
        self.error = self.message = ""

    def fail(self, error: str, message: str = "") -> None:
        """It ends with an error of that type."""
        self.error, self.message = error, message

    def __enter__(self) -> Self:
        self._start = time.time()
        self._token = _current.set(self.context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._token)
        sink = _Process.sink
        if sink is None or not self.context.sampled:
            return
        if error is not None and not self.error:
            self.fail(_type_of(error), str(error)[:1_000])
        parent = "" if self._parent is None else self._parent.span_id
        end = max(self._start, time.time())
        sink.ended(
            Span(
                self.name,
                self.context,
                parent,
                self._start,
                end,
                self._kind,
                self.attributes,
                self.error,
                self.message,
            )
        )


def span(
    name: str,
    kind: Kind = "internal",
    attributes: Mapping[str, Any] = NO_ATTRIBUTES,
    *,
    parent: TraceContext | None = None,
    quiet: bool = False,
) -> ActiveSpan:
    """A span below ``parent`` (by default: below what is current), or the root of a new trace where there is none.

    ``quiet``: one that is not kept, where it is a root.
    """
    return ActiveSpan(name, kind, parent or _current.get(), {**attributes}, quiet=quiet)


def traced(
    name: str, kind: Kind = "internal"
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R]]]:
    """Decorates a coroutine function: each call is a span."""

    def wrapped(function: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        @functools.wraps(function)
        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with span(name, kind):
                return await function(*args, **kwargs)

        return call

    return wrapped


class _Nothing:
    """A part that nobody keeps."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


_NOTHING = _Nothing()


def part(name: str, kind: Kind = "internal", attributes: Mapping[str, Any] = NO_ATTRIBUTES) -> ActiveSpan | _Nothing:
    """A span below what is current where spans are kept, and nothing at all elsewhere: a detail that no log names."""
    return ActiveSpan(name, kind, _current.get(), {**attributes}) if is_kept() else _NOTHING


def told(name: str, start: float, end: float, attributes: Mapping[str, Any] = NO_ATTRIBUTES) -> None:
    """A part that was over before anybody could open a span for it: kept as one below what is current."""
    context, sink = _current.get(), _Process.sink
    if sink is not None and context is not None and context.sampled:
        sink.ended(Span(name, context.child(), context.span_id, start, max(start, end), attributes=attributes))


def _type_of(error: BaseException) -> str:
    slug = getattr(error, "type", None)  # errors of ours have a stable one
    return slug if isinstance(slug, str) else type(error).__name__
