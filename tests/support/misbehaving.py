"""Functions a pool process can be told to run (``entry="misbehaving:act"``): what good and bad work looks like."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np

from pixelmill.errors import CorruptImage
from pixelmill.images.image import Size
from pixelmill.pipelines.outcome import Outcome
from pixelmill.targets.entry import run_request
from pixelmill.targets.target import RunRequest, near

_kept: list[Any] = []


def outcome(body: bytes | None, **data: Any) -> Outcome:
    return Outcome(body, "png", "image/png", Size(1, 2), Size(3, 4), "jpeg", data)


def read(request: RunRequest) -> bytes:
    source = near(request.source, "a test")
    return source.read_bytes() if isinstance(source, Path) else source


def echo(request: RunRequest) -> Outcome:
    images = {name: len(v if isinstance(v, bytes) else v.read_bytes()) for name, v in request.images.items()}
    return outcome(read(request)[:10_000], pid=os.getpid(), images=images, limits=request.limits.max_side)


def announce(request: RunRequest) -> None:
    """Tell the test, through a FIFO, that the task is running now."""
    with Path(request.source_name).open("w") as fifo:
        fifo.write(f"{os.getpid()}\n")


def hang(request: RunRequest) -> NoReturn:
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    announce(request)
    while True:
        time.sleep(3600)


def hang_in_c(request: RunRequest) -> NoReturn:
    announce(request)
    ctypes.PyDLL(None).pause()  # PyDLL keeps the GIL: no Python code runs in this process any more
    raise AssertionError("pause() returned")


def wait_for_end(request: RunRequest) -> Outcome:
    """Run until the test closes the second FIFO."""
    announce(request)
    with Path(request.source_name + ".go").open() as fifo:
        fifo.read()
    return outcome(b"done")


def segfault(request: RunRequest) -> NoReturn:
    ctypes.string_at(0)
    raise AssertionError("address 0 could be read")


def leave(request: RunRequest) -> NoReturn:
    os._exit(3)


def eat_numpy(request: RunRequest) -> NoReturn:
    while True:
        _kept.append(np.ones(50_000_000, np.uint8))


def eat_cv2(request: RunRequest) -> NoReturn:
    image: Any = np.zeros((1000, 1000, 3), np.uint8)
    while True:
        image = cv2.resize(image, None, fx=2, fy=2)
        _kept.append(image)


def eat_malloc(request: RunRequest) -> Outcome:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    while address := libc.malloc(ctypes.c_size_t(50_000_000)):
        libc.memset(address, 1, 50_000_000)
    raise MemoryError


def eat_shared(request: RunRequest) -> NoReturn:
    """Memory that RLIMIT_DATA does not count: only the watch on the resident size sees it."""
    import mmap

    while True:
        block = mmap.mmap(-1, 50_000_000)
        block.write(b"x" * 50_000_000)
        _kept.append(block)


def keep_growing(request: RunRequest) -> Outcome:
    _kept.append(np.ones(20_000_000, np.uint8))
    return outcome(None, pid=os.getpid())


def corrupt(request: RunRequest) -> NoReturn:
    raise CorruptImage("It is truncated.", offset=12)


def bug(request: RunRequest) -> NoReturn:
    raise KeyError("nobody expected this")


def huge(request: RunRequest) -> Outcome:
    return outcome(bytes(5_000_000))


def nonsense(request: RunRequest) -> NoReturn:
    """Write what is no frame into the socket: a process taken over by what it decoded."""
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if str(path.readlink()).startswith("socket:"):
                os.write(int(path.name), b"\xff" * 4096)
    time.sleep(3600)
    raise AssertionError("unreachable")


POISON = b"poison"
"""A source with these bytes crashes its process, for as long as the file of ``PIXELMILL_TEST_POISON`` is there."""


STUCK = b"stuck"
"""A source with these bytes keeps its process for ever, which names itself in the folder ``PIXELMILL_TEST_STUCK``."""


def poisoned(request: RunRequest) -> Outcome:
    """Real work, but for a poisonous source: an entry of its own (``misbehaving:poisoned``)."""
    if STUCK in read(request):
        (Path(os.environ["PIXELMILL_TEST_STUCK"]) / str(os.getpid())).touch()
        time.sleep(3600)
    if POISON in read(request) and Path(os.environ["PIXELMILL_TEST_POISON"]).exists():
        segfault(request)
    return run_request(request)


ACTIONS = {
    name: value
    for name, value in globals().items()
    if callable(value)
    and getattr(value, "__module__", "") == __name__
    and name not in {"act", "read", "outcome", "poisoned"}
}


def act(request: RunRequest) -> Outcome:
    """Do what the request's pipeline names."""
    result: Outcome = ACTIONS[request.pipeline](request)
    return result
