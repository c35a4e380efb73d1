"""OpenCV in its plain form, for a while: without Intel's IPP, and in one thread.

IPP has other roundings than OpenCV's own code, and chooses between them by size; without it a call gives the same
pixels whole and in tiles. The switch is one of the thread, and holds for what OpenCV's own threads do for it (measured
against ``OPENCV_IPP=disabled``: the same pixels, and no warning on stderr).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2


@contextmanager
def without_ipp() -> Iterator[None]:
    """Inside, calls of OpenCV from this thread don't use IPP."""
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    try:
        yield
    finally:
        cv2.ipp.setUseIPP(before)


class _Threads:
    """OpenCV's number of threads is one of the process: 1 while anybody holds it, then what it was before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = self._before = 0

    def hold(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._before = cv2.getNumThreads()
                cv2.setNumThreads(1)
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                cv2.setNumThreads(self._before)


_threads = _Threads()


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, OpenCV starts no threads of its own, whichever thread of this process calls it."""
    _threads.hold()
    try:
        yield
    finally:
        _threads.release()
