"""A joined node as the hub sees it: a target whose tasks travel over the connection that the node opened.

It owns the tasks that are on that node and what the node told of itself. It knows no gates, no dispatcher and no
WebSockets. A connection is one :class:`JoinedNode`: after a loss the node joins as a new one, so results of before
can't be taken for anything.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pixelmill import tracing
from pixelmill.errors import (
    Cancelled,
    NodeLost,
    OutOfMemory,
    PixelmillError,
    ShuttingDown,
    TargetUnavailable,
)
from pixelmill.storage.faults import translated
from pixelmill.targets.link import Link
from pixelmill.targets.soundness import described, is_of_task, plain, sound_outcome
from pixelmill.targets.target import RunRequest, RunResult, TargetLoad, near
from pixelmill.targets.wire import encode_request

PROTOCOL = 1
"""Number of this protocol; hub and node must have the same."""
GRACE_S = 15.0
"""What a node may need beyond a task's time limit, for the way and the line in front of its pool."""
MAX_CAPACITY = 1_024
MAX_CORES = 65_536
MAX_BODY = 1 << 50
MAX_RESTARTS = 10**9
FLUSH_S = 2.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch


@dataclass(frozen=True, slots=True)
class Hello:
    """What a node says of itself when it joins. ``instance`` is new with every process; no ``gate``: the hub's rule.

    ``max_body``: bytes of one task (source and images) that it takes. ``model_slots``: tasks with learned models that
    it runs at once, beside ``capacity`` others.
    """

    name: str
    instance: str
    version: str
    cores: int
    capacity: int
    max_body: int
    gate: str = ""
    extras: tuple[str, ...] = ()
    libraries: Mapping[str, str] = field(default_factory=dict)
    protocol: int = PROTOCOL
    model_slots: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Any) -> Hello:
        """The inverse; raises :class:`ValueError` for what a node can't be."""
        try:
            hello = cls(**{**record, "extras": tuple(record["extras"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"a hello of the wrong form ({error})") from None
        numbers = (hello.cores, hello.capacity, hello.max_body)
        if any(type(number) is not int or number < 1 for number in numbers) or hello.capacity > MAX_CAPACITY:
            raise ValueError(f"cores, capacity and max_body must be from 1 up, and capacity at most {MAX_CAPACITY:,}")
        if type(hello.model_slots) is not int or not 0 <= hello.model_slots <= MAX_CAPACITY:
            raise ValueError(f"model_slots must be from 0 to {MAX_CAPACITY:,}")
        if hello.cores > MAX_CORES or hello.max_body > MAX_BODY:
            raise ValueError(f"cores are at most {MAX_CORES:,}, and max_body {MAX_BODY:,}")
        texts = (hello.name, hello.instance, hello.version, hello.gate, *hello.extras)
        if not isinstance(hello.libraries, dict) or len(texts) > 64 or len(hello.libraries) > 64:
            raise ValueError("a hello with too many names")
        # They are shown, logged and kept: control characters and halves of them have no place there.
        if any(plain(text) != text for text in (*texts, *hello.libraries, *hello.libraries.values())):
            raise ValueError("a hello with a name that is none")
        if not _NAME(hello.name) or not hello.instance:
            raise ValueError(f"the name {hello.name[:80]!r}: letters, digits, '.', '_' and '-' make one, 64 at most")
        return hello


class JoinedNode:
    """A :class:`Target` over ``link``, and the link's :class:`Peer`.

    ``on_load`` gets each load record, ``on_drain`` is called when the node takes no new tasks.
    """

    def __init__(
        self,
        name: str,
        hello: Hello,
        link: Link,
        *,
        on_load: Callable[[dict[str, Any]], None] = lambda _: None,
        on_drain: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.hello = hello
        self.link = link
        self.said_goodbye = False
        self.draining = False
        self._on_load, self._on_drain = on_load, on_drain
        self._running: dict[int, asyncio.Future[tuple[Any, bytes]]] = {}
        self._line: deque[asyncio.Future[None]] = deque()
        self._last = 0
        self._load = TargetLoad(0, hello.capacity, model_slots=hello.model_slots)
        self._ended: PixelmillError | None = None

    # -- the contract of a target ----------------------------------------------------------------

    async def start(self) -> None:
        """It runs already."""

    async def stop(self) -> None:
        """Running tasks raise :class:`Cancelled`; the node is told to go on without this hub."""
        self.give_up(Cancelled("The service stopped while the task ran."), ShuttingDown("The service is stopping."))
        self.link.post({"bye": "the hub is stopping"})
        with suppress(TimeoutError):  # it takes nothing; then it is not told
            async with asyncio.timeout(FLUSH_S):
                await self.link.flush()
        self.link.end("the hub is stopping")

    def load(self) -> TargetLoad:
        """What runs there for this hub, and what the node said last of its pool."""
        reason = "it is draining" if self.draining else self._load.reason
        healthy = self._load.healthy and not self.draining and self._ended is None
        return replace(self._load, running=len(self._running), healthy=healthy, reason=reason)

    async def run(self, request: RunRequest) -> RunResult:
        """Run one task there. Raises what the pool there raised, and :class:`NodeLost` at once when the node is.

        :class:`TargetUnavailable` where the node was lost or has begun to drain before the task was sent.
        """
        request = await _in_memory(request)
        self._check_open()
        self._check_size(request)
        await self._room()
        self._check_open()
        self._last += 1
        number = self._last
        answer = self._running[number] = asyncio.get_running_loop().create_future()
        timers: list[asyncio.TimerHandle] = []
        limit_s = request.timeout_s + GRACE_S

        def sent() -> None:
            timers.append(asyncio.get_running_loop().call_later(limit_s, self._expire, number, limit_s))

        self.link.stream(number, encode_request(request, tracing.carried()), sent)
        try:
            return self._result(*await answer)
        except BaseException:
            if not answer.done() or answer.cancelled() or answer.exception() is not None:
                self.link.post({"cancel": number})
            raise
        finally:
            self.link.drop(number)  # it may have been answered before all of it was sent
            del self._running[number]
            self._next_in_line()
            for timer in timers:
                timer.cancel()

    def _check_open(self) -> None:
        if self._ended is not None:
            raise _again(self._ended)
        if self.draining:
            raise TargetUnavailable(f"The node {self.name} is leaving, and takes no new tasks.", node=self.name)

    @property
    def _room_for(self) -> int:
        """Tasks of both kinds that run there at once; how many of each is seen to by who gives slots."""
        return self._load.capacity + self._load.model_slots

    async def _room(self) -> None:
        """Wait until fewer tasks run there than it can run; raises what ``give_up`` says."""
        while len(self._running) >= self._room_for:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._line.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._next_in_line()
                raise
            finally:
                if turn in self._line:
                    self._line.remove(turn)

    def _next_in_line(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _check_size(self, request: RunRequest) -> None:
        size = sum(len(part) for part in (request.source, *request.images.values()) if isinstance(part, bytes))
        if size > self.hello.max_body:
            raise OutOfMemory(
                f"The task brings {size:,} bytes, and a pool process on {self.name} may use {self.hello.max_body:,}. "
                "Use a smaller image, or raise the memory limit there.",
                limit_bytes=self.hello.max_body,
            )

    def _result(self, record: Mapping[str, Any], body: bytes) -> RunResult:
        if "error" in record:
            raise self._error(record["error"])
        if "outcome" not in record or "image" not in record:
            self.link.end("it sent what is no message of this protocol (an answer of the wrong form)")
            raise self._lost("it sent an answer that can't be read")
        try:
            outcome = sound_outcome(record["outcome"], body if record["image"] else None)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise self._lost(f"it sent a result that can't be one ({plain(str(error))})") from error
        return RunResult(outcome, self.name, plain(record.get("worker"), 64), cold=record.get("cold") is True)

    def _error(self, record: Any) -> PixelmillError:
        """The task's own error; whatever else a node says costs this attempt, so that nothing goes round for ever."""
        error = described(record)
        if error is None:
            return self._lost("it sent an error that can't be read")
        return error if is_of_task(error) else self._lost(f"it did not run the task: {error}")

    def _expire(self, number: int, limit_s: float) -> None:
        answer = self._running.get(number)
        if answer is not None and not answer.done():
            answer.set_exception(self._lost(f"it did not answer within {limit_s:g} s"))

    def _lost(self, reason: str) -> NodeLost:
        return NodeLost(f"The node {self.name} was lost: {reason}. The task can be tried again.", node=self.name)

    # -- the end ---------------------------------------------------------------------------------

    def lose(self, reason: str) -> int:
        """The node is gone: running tasks raise :class:`NodeLost` now; how many those are."""
        unavailable = TargetUnavailable(f"The node {self.name} is gone: {reason}.", node=self.name)
        return self.give_up(self._lost(reason), unavailable)

    def give_up(self, running: PixelmillError, later: PixelmillError) -> int:
        """Running tasks raise ``running`` now, and others ``later`` from now on; how many were running."""
        if self._ended is not None:
            return 0
        self._ended = later
        waiting = [answer for answer in self._running.values() if not answer.done()]
        for answer in waiting:
            answer.set_exception(_again(running))
        for turn in self._line:
            if not turn.done():
                turn.set_exception(_again(later))
        return len(waiting)

    # -- what the node says ----------------------------------------------------------------------

    def control(self, record: dict[str, Any]) -> None:
        """A load sample, or that it is leaving; what a newer node may say beside that is passed over."""
        if "load" in record:
            healthy, reason = bool(record["healthy"]), plain(record["reason"], 500)
            capacity = min(MAX_CAPACITY, max(1, int(record["capacity"])))
            restarts = min(MAX_RESTARTS, max(0, int(record["restarts"])))
            self._load = TargetLoad(0, capacity, restarts, healthy, reason, self.hello.model_slots)
            for _ in range(self._room_for - len(self._running)):
                self._next_in_line()
            self._on_load(record)
        elif "drain" in record:
            self.draining = True
            self._on_drain()
            self.link.post({"drained": True})  # after it no task begins there
        elif "bye" in record:
            self.said_goodbye = True
            self.link.end("it has left")

    def wants(self, stream: int) -> bool:
        """Only answers that somebody waits for."""
        answer = self._running.get(stream)
        return answer is not None and not answer.done()

    def frame(self, stream: int, record: Any, body: bytes) -> None:
        """The answer of a task."""
        if not isinstance(record, dict):
            raise ValueError("an answer that is no object")  # noqa: TRY004 - a wrong value on the wire
        self._running[stream].set_result((record, body))


def _again(error: PixelmillError) -> PixelmillError:
    """An equal one: what is raised in several places would gather the tracebacks of all."""
    return type(error)(error.detail, **error.context)


async def _in_memory(request: RunRequest) -> RunRequest:
    """The request with bytes for paths: the node has none of this machine's files.

    This is the place for links: where the store can sign one, a large source need not pass through the hub.
    """
    if isinstance(request.source, bytes) and all(isinstance(image, bytes) for image in request.images.values()):
        return request
    return await asyncio.to_thread(_read_all, request)


def _read_all(request: RunRequest) -> RunRequest:
    def read(part: bytes | Path) -> bytes:
        if isinstance(part, bytes):
            return part
        try:
            request.limits.check_bytes(part.stat().st_size)
            return part.read_bytes()
        except OSError as error:
            raise translated(error, "read", part.name) from error

    images = {name: read(image) for name, image in request.images.items()}
    return replace(request, source=read(near(request.source, "A joined node")), images=images)
