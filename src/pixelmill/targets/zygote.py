"""The zygote: one small process that imports everything once and forks pool processes in milliseconds.

It is exec'd, so that it holds none of the service's sockets, stays single-threaded, so that forking is safe, and is the
only one who reaps its children, so that a process id it is asked to kill can't be somebody else's. It takes orders as
lines of JSON on its control socket, ends with it, and the kernel kills it with the service (see ``process.die_with``).

Orders: ``boot`` (what to import and run, once), ``fork`` (one descriptor comes along: the new worker's socket),
``kill``, ``quit``. It reports ``ready`` or ``broken``, ``forked`` or ``refused``, and every ``exit``.
"""

from __future__ import annotations

import functools
import gc
import importlib
import inspect
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from pixelmill.targets import process

_MAX_ORDER = 1 << 20
_MAX_FDS = 64
_SINGLE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def main() -> NoReturn:
    """What the fresh interpreter calls, with two arguments: the control socket's descriptor and the parent's id."""
    control, parent = int(sys.argv[1]), int(sys.argv[2])
    become_zygote(socket.socket(fileno=control), parent)


def become_zygote(control: socket.socket, parent: int, modules: Sequence[str] = ()) -> NoReturn:
    """Turn this process into a zygote that imports ``modules`` and serves ``control``; never returns."""
    code = 70  # EX_SOFTWARE
    try:
        process.die_with(parent)
        process.name_process("pixelmill-zygo")
        process.leave_signals_to_parent()
        process.detach_standard_streams()
        process.close_descriptors(control.fileno())
        for variable in _SINGLE_THREAD:
            # NumPy's BLAS reads these when it is imported; a thread pool of its own would make forking unsafe.
            os.putenv(variable, "1")
        preload(modules)
        _Zygote(control).serve()
        code = 0
    except OSError:
        code = 0  # the service is gone
    except BaseException as error:  # noqa: BLE001 - the last frame of a process; its exit code and this line tell
        print(f"pixelmill zygote: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
    finally:
        os._exit(code)


class _Zygote:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._buffer = b""
        self._descriptors: list[int] = []
        self._children: set[int] = set()
        self._boot: dict[str, Any] = {}
        self._entry: Any = None
        self._worker_main: Any = None
        self._wake, wakeup = socket.socketpair()
        self._wake.setblocking(False)
        wakeup.setblocking(False)
        self._wakeup = wakeup
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Take orders until told to quit, or until the control socket ends."""
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        going = True
        while going:
            ready = {descriptor for descriptor, _ in poller.poll()}
            if self._wake.fileno() in ready:
                self._wake.recv(4096)
                self._reap()
            if self._control.fileno() in ready:
                going = self._take_orders()
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        for pid in self._children:
            os.waitpid(pid, 0)

    def _take_orders(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, _MAX_ORDER, _MAX_FDS)
        self._descriptors += descriptors
        if not data:
            return False
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        going = True
        for line in lines:  # to the last one: a descriptor that came along must be taken
            going = self._obey(json.loads(line)) and going
        return going

    def _obey(self, order: dict[str, Any]) -> bool:
        match order["do"]:
            case "boot":
                self._prepare(order)
            case "fork":
                self._fork(order["id"], self._descriptors.pop(0))
            case "kill":
                if order["pid"] in self._children:  # not reaped yet: the id is still that child's
                    os.kill(order["pid"], signal.SIGKILL)
            case "quit":
                return False
        return True

    def _prepare(self, boot: dict[str, Any]) -> None:
        """Import all that workers will need, now: these imports belong here, after the threads were forbidden."""
        self._boot = boot
        sys.path[:] = boot["path"]
        try:
            preload(boot["preload"])
            self._worker_main = importlib.import_module("pixelmill.targets.worker").worker_main
            module, _, function = boot["entry"].partition(":")
            entry_module = importlib.import_module(module)
            self._entry = _with_models(getattr(entry_module, function), boot["models"])
            preload(getattr(entry_module, "PRELOAD", ()))
        except Exception as error:  # noqa: BLE001 - an import may raise anything; the service tells why it can't run
            self._report(event="broken", reason=f"{type(error).__name__}: {error}")
            return
        gc.collect()
        gc.freeze()  # or the first collection in each worker would copy every page of it
        self._report(event="ready", pid=os.getpid())

    def _fork(self, number: int, descriptor: int) -> None:
        connection = socket.socket(fileno=descriptor)
        zygote = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            connection.close()
            self._report(event="refused", id=number, reason=f"can't fork: {error.strerror}")
            return
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            boot = self._boot
            self._worker_main(connection, zygote, self._entry, boot["memory_bytes"], boot["retire_rss"])
        connection.close()
        self._children.add(pid)
        self._report(event="forked", id=number, pid=pid)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._children.discard(pid)
            self._report(event="exit", pid=pid, code=os.waitstatus_to_exitcode(status))

    def _report(self, **event: Any) -> None:
        self._control.sendall(json.dumps(event).encode() + b"\n")


def _with_models(entry: Any, boot: dict[str, Any]) -> Any:
    """The entry with its source of learned models, if it takes one."""
    if "models" not in inspect.signature(entry).parameters:
        return entry
    return functools.partial(entry, models=importlib.import_module("pixelmill.targets.modelling").source_of(boot))


def preload(modules: Sequence[str]) -> None:
    """Import modules, and tell codecs to stay in one thread: the pool's processes are its parallelism."""
    for name in modules:
        module: Any = importlib.import_module(name)
        if name == "cv2":
            module.setNumThreads(1)
            module.ocl.setUseOpenCL(False)
        elif name == "PIL.AvifImagePlugin":
            module.DEFAULT_MAX_THREADS = 1  # Pillow has no other way; 0 means one a core
