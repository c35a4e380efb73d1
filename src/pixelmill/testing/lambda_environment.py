"""One execution environment of a function: a process that runs ``awslambdaric``, and the Runtime API that it asks.

The API is that of AWS ("Lambda runtime API", version 2018-06-01): next, response, error, and the error of an
initialization. Each environment has a port of its own, as each has its own loopback address at AWS. Linux only: the
memory of a process is read from ``/proc``.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

API = "/2018-06-01/runtime"
WATCH_S = 0.01
PAGE = os.sysconf("SC_PAGE_SIZE")
MAX_LINE = 262_144
MAX_RESPONSE = 6_291_556
"""Bytes of a synchronous response that Lambda takes."""

Reason = Literal["timeout", "memory", "exit", "init"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How one invocation went in an environment; ``error`` as Lambda words it, or None. Times are seconds."""

    result: Any
    error: Mapping[str, Any] | None
    duration_s: float


def error_of(reason: Reason, request_id: str, detail: str) -> dict[str, Any]:
    """The error that Lambda tells where the function could not tell one itself."""
    kinds = {
        "timeout": "Sandbox.Timedout",
        "memory": "Runtime.OutOfMemory",
        "exit": "Runtime.ExitError",
        "init": "Runtime.InitError",
    }
    return {"errorType": kinds[reason], "errorMessage": f"RequestId: {request_id} Error: {detail}"}


class Environment:
    """A process with its Runtime API. One invocation at a time; ``dead`` once the process is gone.

    ``memory_bytes`` kills above so much resident memory of the process and its children, None only watches.
    ``on_line`` gets each line that the function prints.
    """

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        variables: Mapping[str, str],
        *,
        memory_bytes: int | None,
        init_timeout_s: float,
        arn: str,
        on_line: Callable[[int, str], None],
    ) -> None:
        self.number, self.arn = number, arn
        self.invocations = 0
        self.init_s = 0.0
        self.cpu_at_init_s = 0.0
        self.memory_bytes = 0
        self.dead: Reason | None = None
        self._limit, self._init_timeout_s, self._on_line = memory_bytes, init_timeout_s, on_line
        self._changed = threading.Condition()
        self._next: tuple[str, bytes, float] | None = None
        self._running: str | None = None
        self._answer: tuple[bool, bytes] | None = None
        self._ready = False
        self._init_error: bytes | None = None
        self._api = _Api(self)
        threading.Thread(
            target=self._api.serve_forever, args=(0.05,), name=f"runtime-api-{number}", daemon=True
        ).start()
        self._started = time.monotonic()
        self._process = subprocess.Popen(  # noqa: S603 -- the caller's own command, in an environment that it gave
            list(command),
            env={**variables, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._api.server_address[1]}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._fd = self._process.stdout.fileno()
        self._partial, self._reading = b"", threading.Lock()
        self._watcher = threading.Thread(target=self._watch, name=f"memory-{number}", daemon=True)
        self._watcher.start()
        self._reader = threading.Thread(target=self._read, name=f"log-{number}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the function's process."""
        return self._process.pid

    def invoke(self, request_id: str, event: bytes, timeout_s: float) -> Ended:
        """Hand an event out and wait; the process is killed where it takes longer than ``timeout_s``."""
        if not self._wait(lambda: self._ready, self._init_timeout_s):
            detail = "the initialization took too long" if self.dead is None else "the initialization failed"
            told = _object(self._init_error)
            self.kill("init")
            return Ended(None, told or error_of("init", request_id, detail), 0.0)
        begun = time.monotonic()
        with self._changed:
            self.invocations += 1
            self._answer, self._running = None, request_id
            self._next = (request_id, event, time.time() + timeout_s)
            self._changed.notify_all()
        answered = self._wait(self._is_answered, timeout_s)
        duration = time.monotonic() - begun
        answer = self._take_answer()
        self._pump()
        if answer is not None:
            return _ended(answer, duration, request_id)
        if not (answered or self.is_dead()):
            self.kill("timeout")
            return Ended(
                None, error_of("timeout", request_id, f"Task timed out after {timeout_s:.2f} seconds"), duration
            )
        reason: Reason = self.dead or "exit"
        how = "signal: killed" if reason == "memory" else f"exit status {self._process.wait()}"
        return Ended(None, error_of(reason, request_id, f"Runtime exited with error: {how}"), duration)

    def _take_answer(self) -> tuple[bool, bytes] | None:
        with self._changed:
            self._running, self._next = None, None
            answer, self._answer = self._answer, None
            return answer

    def _is_answered(self) -> bool:
        return self._answer is not None

    def is_dead(self) -> bool:
        """Whether the process is gone, or will be in a moment."""
        return self.dead is not None

    def is_working(self) -> bool:
        """Whether an invocation runs in it now."""
        return self._running is not None and self.dead is None

    def kill(self, reason: Reason = "exit") -> None:
        """End the process at once, with its children."""
        with self._changed:
            self.dead = self.dead or reason
            self._changed.notify_all()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, 9)

    def close(self) -> None:
        """Kill what is left and let go of the port."""
        self.kill()
        self._process.wait()
        self._api.shutdown()
        self._api.server_close()
        self._watcher.join()
        self._reader.join(timeout=5)
        if self._process.stdout is not None:
            self._process.stdout.close()

    # -- what the Runtime API asks --------------------------------------------------------------------------------

    def next_event(self) -> tuple[str, bytes, float] | None:
        """The next invocation for the process, which waits for it; None when the environment ends."""
        with self._changed:
            if not self._ready:
                self._ready, self.init_s = True, time.monotonic() - self._started
                self.cpu_at_init_s = self.cpu_s()
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._next is not None or self.dead is not None)
            handed, self._next = self._next, None
            return handed

    def answer(self, request_id: str, ok: bool, body: bytes) -> bool:
        """Take the response, or the error, of the running invocation; False where it is not running."""
        with self._changed:
            if request_id != self._running or self._answer is not None:
                return False
            self._answer = (ok, body)
            self._changed.notify_all()
            return True

    def init_failed(self, body: bytes) -> None:
        """The process could not load the handler."""
        with self._changed:
            self._init_error = body
            self.dead = self.dead or "init"
            self._changed.notify_all()

    # -- the process ----------------------------------------------------------------------------------------------

    def cpu_s(self) -> float:
        """Processor time of the process so far, in seconds; 0 when it is gone."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: condition() or self.dead is not None, seconds)
            return condition()

    def _watch(self) -> None:
        """The resident size of the process and its children, each 10 ms; and whether it is still there."""
        while self._process.poll() is None:
            self.memory_bytes = max(self.memory_bytes, resident(self.pid))
            if self._limit is not None and self.memory_bytes > self._limit:
                self.kill("memory")
            time.sleep(WATCH_S)
        self.kill("exit")

    def _read(self) -> None:
        poll = self._output()
        while True:
            poll.poll()
            if not self._pump():
                return

    def _pump(self) -> bool:
        """Tell the lines that were printed until now; False where there will be no more.

        What a function prints before it answers is told before its invocation ends: who invokes calls this too.
        """
        poll = self._output()
        with self._reading:
            while poll.poll(0):
                data = os.read(self._fd, 65_536)
                *lines, self._partial = (self._partial + data).split(b"\n")
                if not data or len(self._partial) > MAX_LINE:
                    lines, self._partial = [*lines, self._partial], b""
                for line in lines:
                    if line:
                        self._on_line(self.number, line.decode("utf-8", "replace"))
                if not data:
                    return False
            return True

    def _output(self) -> select.poll:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return poll


def resident(pid: int) -> int:
    """Bytes of resident memory of a process (its peak) and of its children (now); 0 for what is gone.

    The kernel's own peak misses nothing between two looks.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    peak = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)
    return peak + sum(resident(int(child)) for child in children)


def _ended(answer: tuple[bool, bytes], duration: float, request_id: str) -> Ended:
    ok, body = answer
    if len(body) > MAX_RESPONSE:
        detail = f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE} bytes)."
        return Ended(None, {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": detail}, duration)
    if ok:
        return Ended(json.loads(body) if body else None, None, duration)
    return Ended(None, _object(body) or error_of("exit", request_id, "the function told no error"), duration)


def _object(body: bytes | None) -> dict[str, Any] | None:
    try:
        told = json.loads(body or b"")
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


class _Api(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, environment: Environment) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.environment = environment

    def handle_error(self, request: object, client_address: object) -> None:
        """A process that was killed breaks its connection: no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Api

    def do_GET(self) -> None:
        if self.path != f"{API}/invocation/next":
            self._say(404)
            return
        environment = self.server.environment
        handed = environment.next_event()
        if handed is None:
            self.close_connection = True
            return
        request_id, event, deadline = handed
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(round(deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": environment.arn,
            "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{request_id.replace('-', '')[:24]};Sampled=0",
        }
        self._say(200, event, headers)

    def do_POST(self) -> None:
        body = self._body()
        environment = self.server.environment
        if self.path == f"{API}/init/error":
            environment.init_failed(body)
            self._say(202, b'{"status":"OK"}')
            return
        request_id, _, what = self.path.removeprefix(f"{API}/invocation/").partition("/")
        if what not in ("response", "error"):
            self._say(404)
        elif environment.answer(request_id, what == "response", body):
            self._say(202, b'{"status":"OK"}')
        else:
            self._say(400, b'{"errorType":"InvalidRequestID","errorMessage":"It is not running."}')

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        pieces: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _say(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()
        except OSError:
            self.close_connection = True  # the process was killed

    def log_message(self, *_: object) -> None:
        """Say nothing."""
