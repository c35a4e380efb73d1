"""One pool process as the service sees it, and the words for how it ended."""

from __future__ import annotations

import asyncio
import signal

from pixelmill.errors import PixelmillError, WorkerCrashed
from pixelmill.targets.channel import Channel
from pixelmill.targets.process import ResidentSize
from pixelmill.targets.wire import Buffer, Reply


class WorkerHandle:
    """One pool process as the service sees it. ``future`` is pending while it runs a task."""

    __slots__ = (
        "channel",
        "deadline",
        "error",
        "future",
        "greeted",
        "lifetime",
        "limit_s",
        "number",
        "pid",
        "served",
        "size",
        "task",
    )

    def __init__(self, number: int, lifetime: int) -> None:
        self.number = number
        self.lifetime = lifetime  # tasks until it is replaced
        self.served = 0
        self.pid = 0
        self.greeted = False
        self.size: ResidentSize | None = None
        self.channel: Channel | None = None
        self.future: asyncio.Future[Reply] | None = None
        self.task = ""
        self.limit_s = 0.0
        self.deadline = 0.0
        self.error: PixelmillError | None = None  # why it was killed

    @property
    def is_usable(self) -> bool:
        """False once it was told to end, or has."""
        return self.error is None and self.channel is not None and not self.channel.is_closed

    def begin(self, buffers: list[Buffer], task: str, limit_s: float) -> asyncio.Future[Reply]:
        """Send a request; the future has the reply, or the error of whatever ended the process."""
        assert self.channel is not None
        loop = asyncio.get_running_loop()
        self.task, self.limit_s, self.deadline = task, limit_s, loop.time() + limit_s
        self.future = loop.create_future()
        self.channel.send(buffers)
        return self.future


def describe_exit(code: int) -> str:
    """What became of a process, as the rest of a sentence; a negative code is the signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"was ended by signal {-code}"


def crash(code: int) -> WorkerCrashed:
    """The error of a task whose process ended with ``code``."""
    hint = " The system may have run out of memory." if code == -signal.SIGKILL else ""
    context = {"signal": -code} if code < 0 else {"exit_code": code}
    return WorkerCrashed(
        f"The process that ran the task {describe_exit(code)}.{hint} The task can be tried again.", **context
    )
