"""When to try again, and how long to wait: bounded exponential backoff with jitter. Pure but for the random source."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from pixelmill.client.wire import Request
from pixelmill.errors import ConnectionFailed, PixelmillError

# The service refused before it did anything, so even a request that must not be repeated may be sent again.
REFUSED = frozenset({429, 503})
# A proxy lost the answer; the service may or may not have worked.
LOST = frozenset({502, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most ``attempts`` in all; waits from ``first_s``, doubled each time up to ``longest_s``.

    A ``Retry-After`` of the service counts instead of the computed wait; one above ``patience_s`` ends the attempts.
    """

    attempts: int = 6
    first_s: float = 0.2
    longest_s: float = 10.0
    patience_s: float = 60.0
    random: random.Random = field(default_factory=random.Random, compare=False)

    def wait(self, attempt: int, request: Request, error: PixelmillError) -> float | None:
        """Seconds to wait after the failed ``attempt`` (from 1), or None where trying again is of no use."""
        if attempt >= self.attempts or not _may_repeat(request, error):
            return None
        asked = error.context.get("retry_after")
        if isinstance(asked, (int, float)):
            return float(asked) if asked <= self.patience_s else None
        return self.backoff(attempt)

    def backoff(self, attempt: int) -> float:
        """The computed wait: between half and all of the doubled time, so that clients don't come back together."""
        longest = min(self.longest_s, self.first_s * 2.0 ** (attempt - 1))
        return longest * self.random.uniform(0.5, 1.0)


def _may_repeat(request: Request, error: PixelmillError) -> bool:
    status, verdict = error.context.get("status"), error.context.get("retryable")
    if verdict is False:
        # The service knows better than a status code: a store that refuses access is a 503 for good.
        return False
    if status in REFUSED:
        return True
    if status in LOST or verdict:
        return request.repeatable
    if isinstance(error, ConnectionFailed):
        # Nothing was sent where no connection came about.
        return request.repeatable or not error.context.get("sent", True)
    return False
