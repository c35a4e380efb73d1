"""How the processes of a pool come to learned models: through one process that holds the sessions for all of them.

It is started when the first task that wants a model comes, and again whenever it has died while such tasks run. The
pool holds its listening socket, so that a pool process which asks meanwhile waits instead of failing. Where there are
no memory files (not Linux), pool processes have sessions of their own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pixelmill.errors import PixelmillError, WorkerCrashed
from pixelmill.models.channel import SUPPORTED
from pixelmill.models.client import ModelClient
from pixelmill.models.folder import ModelFolder
from pixelmill.models.model import ModelSource
from pixelmill.models.sessions import DEFAULT_BUDGET, Sessions
from pixelmill.pipelines.spec import Pipeline

log = logging.getLogger(__name__)

MAX_FAILURES = 5
"""Ends in a row that came before it had run for ``_SOUND_S``: then tasks fail at once instead."""
_SOUND_S = 10.0
_BACKLOG = 256
_COMMAND = """\
import json, sys
sys.path[:] = json.loads(sys.argv.pop())
from pixelmill.targets.model_process import main
main()
"""


@dataclass(frozen=True, slots=True)
class PoolModels:
    """The models folder (None: this user's own), and whether a pipeline may name weights by a path beside.

    ``budget``: bytes that sessions may take together. ``allow_pickle``: see :class:`ModelFolder`.
    """

    folder: Path | None = None
    paths: bool = False
    budget: int = DEFAULT_BUDGET
    allow_pickle: bool = False

    def to_boot(self, address: str) -> dict[str, Any]:
        """As it travels to the processes; ``address`` is empty where each has sessions of its own."""
        folder = None if self.folder is None else str(self.folder)
        return {
            "folder": folder,
            "paths": self.paths,
            "budget": self.budget,
            "allow_pickle": self.allow_pickle,
            "address": address,
        }


def folder_of(boot: Mapping[str, Any]) -> ModelFolder:
    """The models folder, as it travelled."""
    folder = boot.get("folder")
    return ModelFolder(
        None if folder is None else Path(folder),
        paths=bool(boot.get("paths")),
        allow_pickle=bool(boot.get("allow_pickle")),
    )


def source_of(boot: Mapping[str, Any]) -> ModelSource:
    """Where models come from in a pool process: made in the zygote, connected in the process itself."""
    here = Sessions(folder_of(boot), threads=1, budget=boot.get("budget", DEFAULT_BUDGET))
    return ModelClient(boot["address"], here) if boot.get("address") else here


@lru_cache(maxsize=256)
def wants_models(pipeline: str) -> bool:
    """Whether a task with that pipeline runs learned models that are held elsewhere."""
    try:
        return any(wanted.task != "faces" for wanted in Pipeline.parse(pipeline).wanted_models)
    except PixelmillError:
        return False  # who runs it says so


class ModelProcess:
    """The model process of one pool: started when needed, restarted when it dies, ended with the pool."""

    def __init__(self, models: PoolModels) -> None:
        self.address = f"\0pixelmill-models-{secrets.token_hex(16)}" if SUPPORTED else ""
        self.restarts = 0
        self._models = models
        self._listener: socket.socket | None = None
        self._popen: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._users = 0
        self._failures = 0
        self._started = 0.0
        self._stopped = False

    @property
    def pid(self) -> int | None:
        """Its id while it runs."""
        return None if self._popen is None else self._popen.pid

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
            if self._popen is None:
                self._start()
            yield
        finally:
            self._users -= 1

    def stop(self) -> None:
        """End it at once."""
        self._stopped = True
        if self._popen is not None:
            self._popen.kill()
            self._reap()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _start(self) -> None:
        if self._listener is None:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._listener.bind(self.address)
            self._listener.listen(_BACKLOG)
        loop = asyncio.get_running_loop()
        boot = {**self._models.to_boot(""), "threads": len(os.sched_getaffinity(0))}
        descriptor, more = self._listener.fileno(), (boot, sys.path)
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - the interpreter of this program, with fixed arguments
                [sys.executable, "-P", "-c", _COMMAND, str(descriptor), str(os.getpid()), *map(json.dumps, more)],
                stdin=subprocess.DEVNULL,
                pass_fds=[descriptor],
            )
        except OSError as error:
            raise WorkerCrashed(f"The process that runs learned models can't be started: {error}.") from error
        self._started = loop.time()
        self._pidfd = os.pidfd_open(self._popen.pid)
        loop.add_reader(self._pidfd, self._on_end)

    def _on_end(self) -> None:
        loop = asyncio.get_running_loop()
        code = self._reap()
        self._failures = 0 if loop.time() - self._started > _SOUND_S else self._failures + 1
        if self._stopped:
            return
        self.restarts += 1
        log.warning("the model process has ended (%s)", code, extra={"event": "pool.model_process_ended"})
        if self._users and self._failures < MAX_FAILURES:
            with suppress(WorkerCrashed):  # the tasks that wait for it run into their time limit
                self._start()

    def _reap(self) -> int:
        assert self._popen is not None
        if self._pidfd >= 0:
            with suppress(RuntimeError):  # the loop is closed already
                asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        code = self._popen.wait()
        self._popen = None
        return code
