"""How a pool comes to the model process: joins the one of this user, or starts it; and again when it has ended.

The pool keeps one connection for as long as it lives. By it the process knows that it is needed, and the pool that the
process has ended. With ``shared`` all pools of a user on a machine meet at one process; who finds none takes its name
and starts it, and it outlives who started it while others are there. Else the name is known to one pool alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from pixelmill import logs
from pixelmill.cores import usable_cores
from pixelmill.errors import WorkerCrashed
from pixelmill.models.channel import SUPPORTED, Malformed, receive, send
from pixelmill.models.meeting import Taken, connected, hello, listening, private_address, shared_address
from pixelmill.targets.modelling import PoolModels

log = logging.getLogger(__name__)

MAX_FAILURES = 5
"""Ends in a row that came before it had run for ``_SOUND_S``: then tasks fail at once instead."""
JOIN_S = 10.0
"""How long the name may be taken by a process that does not answer: it is ending, or has just been started."""
_SOUND_S = 10.0
_PAUSE_S = 0.05
_LINES = 20
_COMMAND = """\
import json, sys
sys.path[:] = json.loads(sys.argv.pop())
from pixelmill.targets.model_process import main
main()
"""


class ModelProcess:
    """The model process as one pool sees it. Belongs to one event loop."""

    def __init__(self, models: PoolModels) -> None:
        self.address = ""
        self.restarts = 0
        self.pid: int | None = None
        """Its id while it runs."""
        self._models = models
        self._shared = models.shared
        self._connection: socket.socket | None = None
        self._child: _Child | None = None
        self._joining = asyncio.Lock()
        self._rejoining: asyncio.Task[None] | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self._users = 0
        self._failures = 0
        self._since = 0.0
        self._stopped = False

    def prepare(self) -> dict[str, Any]:
        """Choose the address; what pool processes are told."""
        if SUPPORTED:
            self.address = (self._shared_address() if self._shared else "") or private_address()
        return self._models.to_boot(self.address)

    def _shared_address(self) -> str:
        """The address of this user's; empty where it can't be used."""
        try:
            address = shared_address()
            connected(address).close()
        except ConnectionRefusedError:
            return address
        except (Taken, OSError) as error:
            log.warning("the model process is not shared: %s", error)
            self._shared = False
            return ""
        return address

    @asynccontextmanager
    async def used(self) -> AsyncIterator[None]:
        """Have it run for the length of a task; raises :class:`WorkerCrashed` where it can't be started."""
        if not self.address:
            yield
            return
        if self._failures >= MAX_FAILURES:
            self._failures = MAX_FAILURES - 1  # the next task tries once more
            raise WorkerCrashed(
                f"The process that runs learned models ended {MAX_FAILURES} times in a row. The log says why; weights "
                "that are too large for the machine's memory are the usual reason."
            )
        self._users += 1
        try:
            await self._join()
            yield
        finally:
            self._users -= 1

    def stop(self) -> None:
        """Leave; a process that is ours alone is ended at once."""
        self._stopped = True
        if self._rejoining is not None:
            self._rejoining.cancel()
        for telling in self._telling:
            telling.cancel()
        self._leave()
        if self._child is not None and not self._shared:
            self._child.kill()
        self._child = None

    # -- joining ---------------------------------------------------------------------------------

    async def _join(self) -> None:
        """Be connected; raises :class:`WorkerCrashed`."""
        async with self._joining:
            loop = asyncio.get_running_loop()
            until = loop.time() + JOIN_S
            while self._connection is None:
                try:
                    connection = self._connected()
                except OSError as error:
                    raise WorkerCrashed(f"The process that runs learned models can't be reached: {error}.") from error
                if connection is not None:
                    self._begin(connection)
                elif loop.time() > until:
                    raise WorkerCrashed(
                        f"The process that runs learned models did not answer within {JOIN_S:g} s. It is tried again; "
                        "if that does not help, end it, or set model_process=private."
                    )
                else:  # not all at the same moment
                    await asyncio.sleep(random.uniform(0.5, 1.5) * _PAUSE_S)  # noqa: S311 -- no secret

    def _connected(self) -> socket.socket | None:
        """A connection to who listens, or to the process that we start; None where the name is neither."""
        with suppress(ConnectionRefusedError):
            return connected(self.address)
        listener = listening(self.address)
        if listener is None:
            return None
        with listener:  # while ours is open, who asks waits in its backlog
            self._child = _Child(self._models, listener, shared=self._shared)
            return connected(self.address)

    def _begin(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._connection, self._since = connection, loop.time()
        with suppress(OSError):  # it has ended: the reader is told, too
            send(connection, hello("pool", self._models.where, keep=bool(self._models.warm)))
        loop.add_reader(connection.fileno(), self._hear)

    def _hear(self) -> None:
        """It says who it is, that it ends, or nothing any more."""
        assert self._connection is not None
        try:
            message = receive(self._connection)
        except (OSError, Malformed):
            message = None
        if message is None:
            self._on_end()
        else:
            self._take(message[0])

    def _take(self, record: dict[str, Any]) -> None:
        if "welcome" in record:
            self.pid = int(record["welcome"])
        else:
            self._leave()  # it was idle, and ends: that is no failure

    def _leave(self) -> None:
        connection, self._connection, self.pid = self._connection, None, None
        if connection is not None:
            with suppress(RuntimeError):  # the loop is closed already
                asyncio.get_running_loop().remove_reader(connection.fileno())
            connection.close()

    # -- when it ends ----------------------------------------------------------------------------

    def _on_end(self) -> None:
        self._leave()
        loop = asyncio.get_running_loop()
        self._failures = 0 if loop.time() - self._since > _SOUND_S else self._failures + 1
        self.restarts += 1
        child, self._child = self._child, None
        telling = asyncio.create_task(_tell(child))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)
        if self._users and self._failures < MAX_FAILURES:
            self._rejoining = asyncio.create_task(self._rejoin())

    async def _rejoin(self) -> None:
        with suppress(WorkerCrashed):  # the tasks that wait for it run into their time limit
            await self._join()


async def _tell(child: _Child | None) -> None:
    """Log why it has ended, once that is known: it may take a moment until it has, and nobody shall wait for it."""
    why = "started by another process" if child is None else await asyncio.to_thread(child.why)
    logs.event("pool.model_process_ended", reason=why)


class _Child:
    """A model process that we have started: a thread takes what it prints, and waits for its end."""

    def __init__(self, models: PoolModels, listener: socket.socket, *, shared: bool) -> None:
        boot = {
            "listener": listener.fileno(),
            "parent": 0 if shared else os.getpid(),
            "folder": str(models.where),
            "allow_pickle": models.allow_pickle,
            "threads": usable_cores(),
            "budget": models.budget,
            "idle_s": models.idle_s,
        }
        self._popen = subprocess.Popen(  # noqa: S603 - the interpreter of this program, with fixed arguments
            [sys.executable, "-P", "-c", _COMMAND, json.dumps(boot), json.dumps(sys.path)],
            stdin=subprocess.DEVNULL,
            # A pipe, not our own output: it may live longer than we do, and somebody may wait for the end of that.
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[listener.fileno()],
            start_new_session=shared,
        )
        self._said: deque[bytes] = deque(maxlen=_LINES)
        self._reaper = threading.Thread(target=self._follow, name="model-process", daemon=True)
        self._reaper.start()

    def _follow(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as said:
            while line := said.readline(1_000):
                self._said.append(line)
        self._popen.wait()

    def why(self) -> str:
        """How it has ended, and what it said last."""
        self._reaper.join(1.0)  # its connections end a moment before it does
        told = b"".join(self._said).decode(errors="replace").strip()
        return f"{self._popen.returncode}" + (f": {told}" if told else "")

    def kill(self) -> None:
        """End it at once."""
        self._popen.kill()
        self._reaper.join()
