"""What the runtime of triggers does beside its work: old rows go, events of rules that are gone end, gauges are set."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence

from pixelmill.errors import InvalidURI, NotFound, PixelmillError, error_to_dict
from pixelmill.service.triggering import Triggering
from pixelmill.storage.uris import parse_uri
from pixelmill.triggers.rule import RuleSet

log = logging.getLogger(__name__)

GAUGES_S = 5.0
ROUND_S = 60.0
MAX_ROUNDS = 20
"""Transactions of one round: 10,000 rows a minute at most."""
ORPHAN_S = 24 * 3600.0
"""An event whose rule is in no service for so long is a dead letter: the rule may be away while a file is changed."""


class TriggerUpkeep:
    """Runs until cancelled, in every service; one at a time cleans."""

    def __init__(self, triggering: Triggering, rules: Callable[[], RuleSet]) -> None:
        self._triggering, self._rules = triggering, rules

    async def run(self) -> None:
        """Gauges every few seconds, cleaning every minute."""
        next_round = time.monotonic()
        while True:
            try:
                self._triggering.metrics.set_triggers(await self._triggering.events.counts())
                if time.monotonic() >= next_round:
                    next_round = time.monotonic() + ROUND_S
                    await self._triggering.work.seen(self._rules().rules)
                    async with self._triggering.hold("upkeep") as mine:
                        if mine:
                            await self.clean()
            except PixelmillError as error:
                log.warning("old events of triggers stay, and are looked at again: %s", error)
            await asyncio.sleep(GAUGES_S)

    async def clean(self) -> None:
        """Remove rows that were kept long enough, in small transactions; those of files that are there stay.

        A folder has no queue that forgets: what it held is told again after each restart.
        """
        events = self._triggering.events
        for _ in range(MAX_ROUNDS):
            rows = await events.expired()
            if not rows:
                break
            there = set(await asyncio.to_thread(_of_files, rows))
            await events.sweep([seq for seq, _ in rows if seq not in there], sorted(there))
        gone = NotFound("The rule is no longer in force. Bring it back, then redrive.", reason="no-rule")
        await self._triggering.work.orphans(ORPHAN_S, error_to_dict(gone))


def _of_files(rows: Sequence[tuple[int, str]]) -> list[int]:
    """Those of files that exist."""
    return [seq for seq, uri in rows if uri.startswith("file:") and _exists(uri)]


def _exists(uri: str) -> bool:
    try:
        return os.path.lexists(parse_uri(uri).path)
    except (InvalidURI, ValueError):
        return False
