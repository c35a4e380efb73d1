"""A circuit breaker: stops calls to a target whose calls fail, and lets one through after a while to see. No I/O.

Source of the pattern: M. Nygard, "Release It!", chapter on stability patterns.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from pixelmill.fleet.gates import OPEN, Gate


class CircuitState(StrEnum):
    """``closed``: calls go through. ``open``: none do. ``half-open``: one does, to see."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Circuit:
    """Opens after ``consecutive`` failures, or when of the last ``window`` calls the share ``rate`` failed.

    It stays open for ``pause_s``, and twice as long after each failed probe, ``max_pause_s`` at most. A call that was
    begun before it opened (see :meth:`begin`) changes nothing by ending late. ``on_change`` is told of each new state
    with its reason.
    """

    def __init__(
        self,
        *,
        consecutive: int = 5,
        window: int = 20,
        rate: float = 0.5,
        pause_s: float = 5.0,
        max_pause_s: float = 300.0,
        on_change: Callable[[CircuitState, str], None] = lambda _state, _reason: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._consecutive, self._rate = consecutive, rate
        self._first_pause_s, self._max_pause_s = pause_s, max_pause_s
        self._pause_s = pause_s
        self._recent: deque[bool] = deque(maxlen=window)
        self._in_a_row = 0
        self._until: float | None = None  # None: closed
        self._reason = ""
        self._opened = 0  # how often
        self._on_change, self._now = on_change, now

    @property
    def state(self) -> CircuitState:
        """Now."""
        if self._until is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if self._now() < self._until else CircuitState.HALF_OPEN

    def verdict(self) -> Gate:
        """Whether calls may go there. While half-open the target has room for one: see ``PaidTarget.load``."""
        if self._until is None or self.state is CircuitState.HALF_OPEN:
            return OPEN
        return Gate(open=False, reason=f"{self._reason}; tried again in {self._until - self._now():.0f} s")

    def begin(self) -> int:
        """A call begins; tell its end with this number."""
        return self._opened

    def _is_late(self, call: int | None) -> bool:
        return self.state is CircuitState.OPEN or (call is not None and call != self._opened)

    def succeeded(self, call: int | None = None) -> None:
        """A call ended in order. One that was begun before the circuit opened says nothing."""
        if self._is_late(call):
            return
        self._in_a_row = 0
        self._recent.append(True)
        if self._until is not None:
            self._until, self._pause_s = None, self._first_pause_s
            self._recent.clear()
            self._on_change(CircuitState.CLOSED, "a probe succeeded")

    def failed(self, reason: str, call: int | None = None) -> None:
        """A call failed for the target's reason."""
        if self._is_late(call):
            return
        state = self.state
        self._in_a_row += 1
        self._recent.append(False)
        if state is CircuitState.HALF_OPEN:
            self._pause_s = min(2 * self._pause_s, self._max_pause_s)
            self._open(f"the probe failed: {reason}")
        elif self._in_a_row >= self._consecutive:
            self._open(f"{self._in_a_row} calls in a row failed, the last one: {reason}")
        elif self._is_too_often():
            self._open(f"{self._recent.count(False)} of the last {len(self._recent)} calls failed: {reason}")

    def _is_too_often(self) -> bool:
        return len(self._recent) == self._recent.maxlen and self._recent.count(False) >= self._rate * len(self._recent)

    def _open(self, reason: str) -> None:
        self._opened += 1
        self._until = self._now() + self._pause_s
        self._reason = reason
        self._in_a_row = 0
        self._recent.clear()
        self._on_change(CircuitState.OPEN, reason)

    def describe(self) -> dict[str, Any]:
        """State, reason and the present pause in seconds, as plain values."""
        state = self.state
        closed = state is CircuitState.CLOSED
        return {"circuit": state.value, "circuit_reason": "" if closed else self._reason, "pause_s": self._pause_s}
