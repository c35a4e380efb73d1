"""AWS Lambda on this machine: handlers in real processes under the real runtime client, measured and bounded.

What is true to Lambda: one environment is one process and takes one invocation at a time; a free one is reused (warm),
else one is started (cold), up to ``concurrency``, beyond which a call is throttled; a run past ``timeout_s`` and memory
beyond ``memory_bytes`` end the process; an asynchronous event is tried three times, then lies in ``dead_letters``.
What is not: processors are the machine's, not a share by memory. Needs ``awslambdaric`` (``pip install
"pixelmill[aws]"``). For tests, and for ``pixelmill bench evaluate --target function``::

    with LambdaRuntime(environment={"PIPELINE": "...", "OUTPUT_BUCKET": "small"}, memory_bytes=128 << 20) as runtime:
        invocation = runtime.invoke(event)
        invocation.error or invocation.result, invocation.cold, invocation.init_s, invocation.memory_bytes
"""

from __future__ import annotations

import importlib.util
import json
import math
import queue
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pixelmill.errors import MissingExtra, QueueFull
from pixelmill.testing.lambda_environment import Ended, Environment

HANDLER = "pixelmill.functions.aws.handler"
MAX_QUEUED = 100_000
MAX_KEPT = 100_000
ASYNC_ATTEMPTS = 3
INIT_S = 10.0
ASYNC_WAIT_S = 21_600.0
"""An asynchronous event waits six hours at most."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One invocation, ended. Times are seconds, memory bytes.

    ``error``: as Lambda tells it (``errorType``, ``errorMessage``), or None; then ``result`` is what the handler
    returned. ``throttled``: nothing ran. ``init_s``: start of the process to its first question for work, 0 where it
    was warm. ``cpu_s``: of the process in this invocation, with the initialization where it was cold. ``billed_s``:
    duration, and initialization where it was cold, in whole milliseconds. ``memory_bytes``: peak of the environment so
    far, which is what Lambda reports. ``wait_s``: how long it waited for an environment. ``attempt`` counts from 1.
    """

    id: str
    result: Any = None
    error: Mapping[str, Any] | None = None
    throttled: bool = False
    cold: bool = False
    init_s: float = 0.0
    duration_s: float = 0.0
    billed_s: float = 0.0
    cpu_s: float = 0.0
    memory_bytes: int = 0
    wait_s: float = 0.0
    started_at: float = 0.0
    environment: int = 0
    attempt: int = 1

    @property
    def ok(self) -> bool:
        """Whether the handler returned."""
        return self.error is None and not self.throttled


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An asynchronous event that failed at every attempt."""

    event: Any
    last: Invocation


@dataclass(frozen=True, slots=True)
class Counts:
    """Since the start. ``most`` environments that ran at once; ``running`` ones now; ``queued`` asynchronous events."""

    invocations: int = 0
    cold: int = 0
    warm: int = 0
    errors: int = 0
    throttles: int = 0
    timeouts: int = 0
    memory_kills: int = 0
    retries: int = 0
    dead: int = 0
    queued: int = 0
    running: int = 0
    most: int = 0


class LambdaRuntime:
    """A function. ``environment`` is all that its processes see of variables, beside what Lambda sets itself.

    ``memory_bytes`` is its size: processes above it are killed; None only measures. ``retry_s``: the waits before the
    second and third attempt of an asynchronous event (a minute and two at AWS). ``on_line`` gets what the function
    prints, by environment; without it the last lines are in ``lines``.
    """

    def __init__(
        self,
        handler: str = HANDLER,
        *,
        environment: Mapping[str, str] | None = None,
        concurrency: int = 10,
        timeout_s: float = 3.0,
        memory_bytes: int | None = None,
        retry_s: Sequence[float] = (60.0, 120.0),
        name: str = "pixelmill",
        python: str = sys.executable,
        on_line: Callable[[int, str], None] | None = None,
    ) -> None:
        if importlib.util.find_spec("awslambdaric") is None:
            raise MissingExtra('Running functions here needs awslambdaric: pip install "pixelmill[aws]".')
        self.concurrency, self.timeout_s, self.name = concurrency, timeout_s, name
        self.dead_letters: deque[DeadLetter] = deque(maxlen=MAX_KEPT)
        self.done: deque[Invocation] = deque(maxlen=MAX_KEPT)
        self.lines: deque[str] = deque(maxlen=MAX_KEPT)
        self._command = [python, "-m", "awslambdaric", handler]
        self._memory, self._retry_s = memory_bytes, tuple(retry_s)
        self._variables = {**self._own(handler), **(environment or {})}
        self._on_line = on_line or (lambda _, line: self.lines.append(line))
        self._changed = threading.Condition()
        self._free: list[Environment] = []
        self._all: dict[int, Environment] = {}
        self._busy = 0
        self._numbers = 0
        self._counts = dict.fromkeys(Counts.__dataclass_fields__, 0)
        self._queue: queue.Queue[tuple[Any, float] | None] = queue.Queue(MAX_QUEUED)
        self._unfinished = 0
        self._workers: list[threading.Thread] = []
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Make ready to take asynchronous events; environments start when they are needed."""
        for number in range(self.concurrency):
            worker = threading.Thread(target=self._work, name=f"{self.name}-async-{number}", daemon=True)
            worker.start()
            self._workers.append(worker)
        return self

    def stop(self) -> None:
        """End all environments, and what still waits."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()
            every = list(self._all.values())
        for environment in every:
            environment.kill()
        for _ in self._workers:
            self._queue.put(None)
        for worker in self._workers:
            worker.join()
        for environment in every:
            environment.close()

    # -- calls ----------------------------------------------------------------------------------------------------

    def invoke(self, event: Any, *, wait_s: float = 0.0, attempt: int = 1) -> Invocation:
        """A synchronous invocation (``RequestResponse``); ``event`` is JSON's.

        It is throttled where all environments are busy for ``wait_s``.
        """
        request_id, asked = str(uuid.uuid4()), time.monotonic()
        environment = self._take(wait_s)
        if environment is None:
            with self._changed:
                self._counts["throttles"] += 1
            error = {"errorType": "TooManyRequestsException", "errorMessage": "Rate Exceeded."}
            throttled = Invocation(request_id, error=error, throttled=True, started_at=time.time(), attempt=attempt)
            self.done.append(throttled)
            return throttled
        wait, started_at = time.monotonic() - asked, time.time()
        cold, cpu = environment.invocations == 0, environment.cpu_s()
        ended = environment.invoke(request_id, json.dumps(event).encode(), self.timeout_s)
        spent = max(0.0, environment.cpu_s() - (0.0 if cold else cpu))
        invocation = self._noted(
            request_id, environment, ended, cold=cold, wait=wait, at=started_at, cpu=spent, attempt=attempt
        )
        self._give_back(environment)
        return invocation

    def invoke_async(self, event: Any) -> None:
        """An asynchronous one (``Event``): it waits for an environment, and is tried again; raises QueueFull."""
        with self._changed:
            self._unfinished += 1
        try:
            self._queue.put_nowait((event, time.monotonic()))
        except queue.Full:
            self._finished()
            raise QueueFull(f"{MAX_QUEUED:,} events wait for {self.name} already.") from None

    def drain(self, timeout_s: float = 60.0) -> bool:
        """Wait until every asynchronous event has ended; False where that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self._unfinished == 0, timeout_s)

    def kill_one(self) -> int | None:
        """Kill the process of an environment that runs something now, as a failing machine would; its pid, or None."""
        with self._changed:
            free = {environment.number for environment in self._free}
            running = [one for one in self._all.values() if one.number not in free and one.dead is None and one.init_s]
        for environment in running[:1]:
            environment.kill()
            return environment.pid
        return None

    def counts(self) -> Counts:
        """What happened so far."""
        with self._changed:
            live = {"queued": self._queue.qsize(), "running": self._busy}
            return Counts(**{**self._counts, **live})

    # -- environments ---------------------------------------------------------------------------------------------

    def _take(self, wait_s: float) -> Environment | None:
        deadline = time.monotonic() + wait_s
        with self._changed:
            while not self._stopped.is_set():
                while self._free:
                    environment = self._free.pop()  # the one used last, as Lambda does
                    if environment.dead is None:
                        return self._taken(environment)
                    self._forget(environment)
                if self._busy < self.concurrency:
                    return self._taken(self._new())
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    return None
        return None

    def _taken(self, environment: Environment) -> Environment:
        self._busy += 1
        self._counts["most"] = max(self._counts["most"], self._busy)
        return environment

    def _new(self) -> Environment:
        self._numbers += 1
        environment = Environment(
            self._numbers,
            self._command,
            {**self._variables, "AWS_LAMBDA_LOG_STREAM_NAME": f"environment-{self._numbers}"},
            memory_bytes=self._memory,
            init_timeout_s=INIT_S,
            arn=f"arn:aws:lambda:us-east-1:123456789012:function:{self.name}",
            on_line=self._on_line,
        )
        self._all[environment.number] = environment
        return environment

    def _give_back(self, environment: Environment) -> None:
        with self._changed:
            self._busy -= 1
            if environment.dead is None:
                self._free.append(environment)
            else:
                self._forget(environment)
            self._changed.notify()

    def _forget(self, environment: Environment) -> None:
        self._all.pop(environment.number, None)
        threading.Thread(target=environment.close, daemon=True).start()

    def _noted(
        self,
        request_id: str,
        environment: Environment,
        ended: Ended,
        *,
        cold: bool,
        wait: float,
        at: float,
        cpu: float,
        attempt: int,
    ) -> Invocation:
        init_s = environment.init_s if cold else 0.0
        invocation = Invocation(
            request_id,
            ended.result,
            ended.error,
            cold=cold,
            init_s=init_s,
            duration_s=ended.duration_s,
            billed_s=math.ceil((ended.duration_s + init_s) * 1000) / 1000,
            cpu_s=cpu,
            memory_bytes=environment.memory_bytes,
            wait_s=wait,
            started_at=at,
            environment=environment.number,
            attempt=attempt,
        )
        kind = (ended.error or {}).get("errorType", "")
        with self._changed:
            self._counts["invocations"] += 1
            self._counts["cold" if cold else "warm"] += 1
            self._counts["errors"] += ended.error is not None
            self._counts["timeouts"] += kind == "Sandbox.Timedout"
            self._counts["memory_kills"] += kind == "Runtime.OutOfMemory"
        self.done.append(invocation)
        return invocation

    def _own(self, handler: str) -> dict[str, str]:
        """The variables that Lambda defines itself."""
        return {
            "_HANDLER": handler,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str((self._memory or 128 << 20) >> 20),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        }

    # -- asynchronous events --------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (item := self._queue.get()) is not None and not self._stopped.is_set():
            event, _ = item
            try:
                self._try(event)
            finally:
                self._finished()

    def _try(self, event: Any) -> None:
        for attempt in range(1, ASYNC_ATTEMPTS + 1):
            last = self.invoke(event, wait_s=ASYNC_WAIT_S, attempt=attempt)
            if last.ok or self._stopped.is_set():
                return
            if attempt == ASYNC_ATTEMPTS:
                break
            with self._changed:
                self._counts["retries"] += 1
            if self._stopped.wait(self._retry_s[min(attempt, len(self._retry_s)) - 1] if self._retry_s else 0.0):
                return
        with self._changed:
            self._counts["dead"] += 1
        self.dead_letters.append(DeadLetter(event, last))

    def _finished(self) -> None:
        with self._changed:
            self._unfinished -= 1
            self._changed.notify_all()
