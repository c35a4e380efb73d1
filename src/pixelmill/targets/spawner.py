"""The service's end of the zygote: starts it, has it fork and kill workers, hears of every exit, and ends it.

Knows nothing of tasks. Runs in the event loop's thread; sending an order never blocks it. Call ``start`` from a
thread that lives as long as the service does (the main thread): the kernel kills the zygote when that thread ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from pixelmill.targets.zygote import become_zygote

_COMMAND = """\
import json, sys
sys.path[:] = json.loads(sys.argv.pop())
from pixelmill.targets.zygote import main
main()
"""


class ZygoteEnded(RuntimeError):
    """The zygote ended while it started and could not say why: something killed it."""


class ZygoteProcess:
    """A zygote that runs already: its process id and the control socket to it."""

    def __init__(self, pid: int, control: socket.socket, popen: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.control = control
        self._popen = popen
        self._ended = False

    def kill(self) -> None:
        """SIGKILL, which takes its workers along; nothing if it was reaped already."""
        if not self._ended:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Block until it has ended, and reap it."""
        if self._ended:
            return
        if self._popen is not None:
            self._popen.wait()
        else:
            with suppress(ChildProcessError):  # the program reaps every child itself
                os.waitpid(self.pid, 0)
        self._ended = True

    def close(self) -> None:
        """End it where no pool took it over (a command that found nothing to do)."""
        self.control.close()
        self.kill()
        self.wait()


def exec_zygote() -> ZygoteProcess:
    """A fresh interpreter as zygote: it inherits the environment and the module path, and no descriptor but three."""
    ours, theirs = socket.socketpair()
    with theirs:
        # -P: what lies in the current folder must not be imported unless this process would.
        arguments = [str(theirs.fileno()), str(os.getpid()), json.dumps(sys.path)]
        popen = subprocess.Popen(  # noqa: S603 - the interpreter of this program, with fixed arguments
            [sys.executable, "-P", "-c", _COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    return ZygoteProcess(popen.pid, ours, popen)


def prefork(modules: Sequence[str] = ("numpy", "cv2", "simplejpeg", "pydantic")) -> ZygoteProcess:
    """Fork the zygote from this process instead, which saves the start of an interpreter.

    For commands that end soon. Call it early: before any thread, event loop or socket exists. The zygote starts
    importing ``modules`` at once, beside the caller. Raises :class:`RuntimeError` where there are threads already.
    """
    if threading.active_count() != 1:
        raise RuntimeError("prefork() must be called before the first thread is started")
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        become_zygote(theirs, parent, modules)
    theirs.close()
    return ZygoteProcess(pid, ours)


class SpawnerEvents(Protocol):
    """Who is told what happens."""

    def on_forked(self, number: int, pid: int) -> None:
        """The worker that was ordered under ``number`` runs."""
        ...

    def on_refused(self, number: int, reason: str) -> None:
        """The system would not fork."""
        ...

    def on_exit(self, pid: int, code: int) -> None:
        """A worker has ended and was reaped; a negative code is the signal."""
        ...

    def on_lost(self) -> None:
        """The zygote itself has ended without being told to, and all workers with it."""
        ...


class Spawner:
    """Orders to and reports from one zygote. Not reusable: after its end, make another."""

    def __init__(self, events: SpawnerEvents, boot: Mapping[str, Any], zygote: ZygoteProcess | None = None) -> None:
        self._events = events
        self._boot = dict(boot)
        self._zygote = zygote
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Future[None] | None = None
        self._over: asyncio.Event = asyncio.Event()
        self._incoming = b""
        self._stopping = False
        self._outgoing: list[tuple[bytes, list[int]]] = []

    @property
    def pid(self) -> int | None:
        """The zygote's process id; None before its start and after its end."""
        return self._zygote.pid if self._zygote and not self._over.is_set() else None

    async def start(self, timeout_s: float) -> None:
        """Start the zygote and wait until it has imported everything.

        Raises :class:`RuntimeError` with the reason, :class:`ZygoteEnded` where there is none.
        """
        self._loop = asyncio.get_running_loop()
        self._ready = self._loop.create_future()
        if self._zygote is None:
            self._zygote = exec_zygote()
        control = self._zygote.control
        control.setblocking(False)
        self._loop.add_reader(control.fileno(), self._on_readable)
        self._order(do="boot", path=sys.path, **self._boot)
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready
        except ZygoteEnded:
            await self.stop(0)
            raise
        except (TimeoutError, RuntimeError) as error:
            await self.stop(0)
            raise RuntimeError(str(error) or f"it was not ready within {timeout_s:.0f} s") from None
        except asyncio.CancelledError:
            await self.stop(0)
            raise

    def fork(self, number: int, connection: socket.socket) -> None:
        """Order a worker on this end of a socket pair; the caller may close its copy at once."""
        self._order([os.dup(connection.fileno())], do="fork", id=number)

    def kill(self, pid: int) -> None:
        """Have a worker killed; one that has ended is left alone."""
        self._order(do="kill", pid=pid)

    async def stop(self, timeout_s: float) -> None:
        """End the zygote and all workers: told to quit, and after ``timeout_s`` killed. Returns when it is reaped."""
        self._stopping = True
        if self._zygote is None:
            return
        if timeout_s > 0 and not self._over.is_set():
            self._order(do="quit")
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._over.wait()
        self._finish()
        # Dead or dying now: the thread waits for milliseconds, unless the system can't end the process.
        await asyncio.to_thread(self._zygote.wait)

    def _finish(self) -> None:
        assert self._zygote is not None
        assert self._loop is not None
        if self._zygote.control.fileno() >= 0:
            self._loop.remove_reader(self._zygote.control.fileno())
            self._loop.remove_writer(self._zygote.control.fileno())
            self._zygote.control.close()
        for _, descriptors in self._outgoing:
            for descriptor in descriptors:
                os.close(descriptor)
        self._outgoing.clear()
        self._zygote.kill()
        self._over.set()

    # -- orders ----------------------------------------------------------------------------------

    def _order(self, descriptors: Sequence[int] = (), **order: Any) -> None:
        self._outgoing.append((json.dumps(order).encode() + b"\n", list(descriptors)))
        if len(self._outgoing) == 1:
            self._flush()

    def _flush(self) -> None:
        assert self._zygote is not None
        assert self._loop is not None
        control = self._zygote.control
        while self._outgoing and control.fileno() >= 0:
            data, descriptors = self._outgoing[0]
            try:
                sent = socket.send_fds(control, [data], descriptors) if descriptors else control.send(data)
            except BlockingIOError:
                self._loop.add_writer(control.fileno(), self._flush)
                return
            except OSError:
                return  # it has ended: the reader sees that too
            for descriptor in descriptors:
                os.close(descriptor)
            if sent < len(data):
                self._outgoing[0] = (data[sent:], [])
            else:
                self._outgoing.pop(0)
        if control.fileno() >= 0:
            self._loop.remove_writer(control.fileno())

    # -- reports ---------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        assert self._zygote is not None
        try:
            data = self._zygote.control.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._on_end()
            return
        *lines, self._incoming = (self._incoming + data).split(b"\n")
        for line in lines:
            self._on_report(json.loads(line))

    def _on_report(self, report: dict[str, Any]) -> None:
        assert self._ready is not None
        match report["event"]:
            case "ready":
                if not self._ready.done():
                    self._ready.set_result(None)
            case "broken":
                if not self._ready.done():
                    self._ready.set_exception(RuntimeError(report["reason"]))
            case "forked":
                self._events.on_forked(report["id"], report["pid"])
            case "refused":
                self._events.on_refused(report["id"], report["reason"])
            case "exit":
                self._events.on_exit(report["pid"], report["code"])

    def _on_end(self) -> None:
        assert self._ready is not None
        self._finish()
        if not self._ready.done():
            self._ready.set_exception(ZygoteEnded("the process that forks workers ended while it started"))
        elif not self._stopping:
            self._events.on_lost()
