"""Threads that take tiles in order, and the watch over them. Knows nothing of what is done with a tile.

A lane holds one tile. A tile is begun only when it lies less than a window ahead of the first that isn't done, so what
an ordered writer must wait for is bounded. The thread that calls watches: it tells progress, asks whether to stop, and
gets the first error; every lane ends behind the tile it is at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pixelmill.errors import Cancelled
from pixelmill.operations.plain_opencv import without_ipp

POLL_S = 0.2
"""Between two questions whether to stop."""


class Work(Protocol):
    """What lanes do with a tile, by its number."""

    def read(self, number: int) -> Any:
        """Get what it needs."""
        ...

    def compute(self, number: int, given: Any) -> Any:
        """Work on it; a bounded number of lanes do so at a time."""
        ...

    def put(self, number: int, made: Any) -> None:
        """Put away what came out."""
        ...


class Lanes:
    """As many threads as ``workers``, and ``ahead`` more that read and write beside them."""

    def __init__(self, workers: int, ahead: int, stop: Callable[[], bool] | None = None) -> None:
        self._workers, self._count, self._stop = workers, workers + ahead, stop

    def run(self, work: Work, numbers: Sequence[int], tell: Callable[[int], None]) -> None:
        """All of these tiles; raises the first error of any, or what the watch raises.

        ``tell`` gets how many are done, several times a second and at the end, in the thread that calls.
        """
        state = _State(numbers, window=4 * self._count)
        permits = threading.Semaphore(self._workers)
        lanes = [
            threading.Thread(target=_lane, args=(work, state, permits), name=f"tiles-{index}", daemon=True)
            for index in range(min(self._count, len(numbers)))
        ]
        try:
            for lane in lanes:
                lane.start()
            while not state.wait(POLL_S):
                if self._stop is not None and self._stop():
                    raise Cancelled("The run was stopped.")
                tell(state.done)
        finally:
            state.end()
            for lane in lanes:
                if lane.ident is not None:
                    lane.join()
        if state.error is not None:
            raise state.error
        tell(state.done)


class _State:
    """Which tile comes next, how many are done, and whether to end."""

    def __init__(self, numbers: Sequence[int], window: int) -> None:
        self._numbers, self._window = numbers, window
        self._changed = threading.Condition()
        self._next = 0
        self._open: set[int] = set()
        self._ended = False
        self.done = 0
        self.error: BaseException | None = None

    def take(self) -> int | None:
        """The next tile, or None where there is none left. Waits while the first that isn't done is too far behind."""
        with self._changed:
            while not self._ended and self._next < len(self._numbers):
                if self._next - min(self._open, default=self._next) < self._window:
                    index, self._next = self._next, self._next + 1
                    self._open.add(index)
                    return index
                self._changed.wait()
            return None

    def number(self, index: int) -> int:
        """Of a tile that was taken."""
        return self._numbers[index]

    def put(self, index: int) -> None:
        """It is done."""
        with self._changed:
            self._open.discard(index)
            self.done += 1
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """End with this error, if it is the first."""
        with self._changed:
            self.error = self.error or error
            self._ended = True
            self._changed.notify_all()

    def end(self) -> None:
        """Take no more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Whether all is done, or something has failed, within that time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self.error is not None or self.done == len(self._numbers), timeout=seconds
            )


def _lane(work: Work, state: _State, permits: threading.Semaphore) -> None:
    with without_ipp():
        try:
            while (index := state.take()) is not None:
                number = state.number(index)
                given = work.read(number)
                with permits:
                    made = work.compute(number, given)
                del given
                work.put(number, made)
                del made
                state.put(index)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that watches
            state.fail(error)
