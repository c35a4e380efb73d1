"""From ended tasks to objects under the names of their rules: put first, then the row is closed.

A process that dies between the two puts the same bytes under the same name again. A result is delivered only while no
later event of its object is known, and never over the result of another object.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pixelmill import logs
from pixelmill.errors import (
    ConfigError,
    NotFound,
    ObjectExists,
    PixelmillError,
    StorageUnavailable,
    error_from_dict,
    error_to_dict,
)
from pixelmill.jobs.model import State
from pixelmill.jobs.trigger_events import DELIVERED, FAILED, SUBMITTED, SUPERSEDED
from pixelmill.jobs.trigger_identity import name_key, state_key
from pixelmill.jobs.trigger_names import Claim, Claimed
from pixelmill.jobs.trigger_work import Ended, Ending
from pixelmill.service.triggering import Triggering
from pixelmill.triggers.carrying import Carrier, destination_of, document_of
from pixelmill.triggers.destinations import Destinations, identities
from pixelmill.triggers.matching import name_of
from pixelmill.triggers.rule import Rule, RuleSet

log = logging.getLogger(__name__)

AT_ONCE = 16
PAGE = 64
"""Results that have taken their names, and are put or wait for it."""
LOOK_S = 5.0
"""How often it is looked for what no news told of."""
RETRIES_S = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 21_600.0)
"""Pauses between attempts to put a result; about half a day in all, then it is a dead letter."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """An ended event with what is to be done: put its result there, or close it with that error."""

    row: Ended
    rule: Rule
    destination: str | None
    error: PixelmillError | None = None


class Deliverer:
    """Runs until cancelled, in every service; one at a time delivers."""

    def __init__(self, triggering: Triggering, rules: Callable[[], RuleSet], destinations: Destinations) -> None:
        self._triggering, self._rules = triggering, rules
        self._carrier = Carrier(triggering, destinations)
        self._out: dict[asyncio.Task[Ending], Ended] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Deliver what has ended when there is news of a job, when an attempt is due, and now and then."""
        async with self._triggering.news() as news:
            while not news.closed:
                try:
                    async with self._triggering.hold("deliver") as mine:
                        if mine:
                            await self.drain()
                    due_s = await self._triggering.work.next_due_s() if mine else None
                except PixelmillError as error:
                    log.warning("results can't be delivered, and wait: %s", error, extra={"error": error.type})
                    due_s = None
                await news.wait(LOOK_S if due_s is None else min(LOOK_S, due_s + 0.01))

    async def drain(self) -> None:
        """Everything that can be delivered now."""
        try:
            while True:
                begun = await self._begin() if len(self._out) <= PAGE // 2 else 0
                if not self._out:
                    if not begun:
                        return
                    continue
                done, _ = await asyncio.wait(self._out, return_when=asyncio.FIRST_COMPLETED)
                await self._close([task.result() for task in done])
                for task in done:
                    del self._out[task]
        finally:
            await self._end()

    async def _end(self) -> None:
        out, self._out = list(self._out), {}
        for task in out:
            task.cancel()
        await asyncio.gather(*out, return_exceptions=True)

    async def _begin(self) -> int:
        """Take names for what has ended, close what is not to be put, and put the rest; how many they were."""
        busy = [row.uri for row in self._out.values()]
        # Of one object one at a time: the later result must be put after the earlier one, also that of another rule.
        rows: dict[str, Ended] = {}
        # Those of other rules are left to services that know them, or to the upkeep.
        known = self._rules().rules
        for row in await self._triggering.work.ended(PAGE - len(busy), busy, known):
            rows.setdefault(row.uri, row)
        endings: list[Ending] = []
        planned = await self._looped([_plan(row, known[row.rule]) for row in rows.values()])
        claimed = await self._claim(planned)
        for one in planned:
            if one.row.seq in claimed.superseded:
                endings.append(_ending(one.row, SUPERSEDED))
            elif (other := claimed.taken.get(one.row.seq)) is not None:
                endings.append(_failed(one.row, _taken(one, other), kept=True))
            elif one.error is not None:
                endings.append(_failed(one.row, one.error, kept=one.row.task_state is State.SUCCEEDED))
            else:
                self._out[asyncio.create_task(self._deliver(one))] = one.row
        await self._close(endings)
        return len(rows)

    async def _claim(self, planned: Sequence[_Planned]) -> Claimed:
        names = await _names([one.destination for one in planned])
        besides = await _names([_beside(one) for one in planned])
        return await self._triggering.work.claim(
            [
                Claim(one.row.seq, one.row.rule, one.row.object, one.destination, name, beside, one.row.uri)
                for one, name, beside in zip(planned, names, besides, strict=True)
            ],
            {name for name, rule in self._rules().rules.items() if rule.enabled},
        )

    async def _close(self, endings: Sequence[Ending]) -> None:
        if not endings:
            return
        await self._triggering.work.close(endings)
        for one in endings:
            if one.state != SUBMITTED:
                self._triggering.metrics.trigger_delivered(one.rule, one.state)
            if one.state == FAILED:
                logs.event("trigger.failed", rule=one.rule, reason=one.error)

    async def _deliver(self, one: _Planned) -> Ending:
        """One attempt to put a result; raises nothing, for others wait behind it."""
        row = one.row
        assert one.destination is not None
        try:
            async with self._slots:
                version = await self._put(one)
        except PixelmillError as error:
            pause = RETRIES_S[row.attempts] if row.attempts < len(RETRIES_S) and error.retryable else None
            if pause is None:
                return _failed(row, error, kept=not error.context.get("lost", False))
            logs.event("trigger.retried", rule=row.rule, detail=error.detail, pause_s=pause, attempts=row.attempts + 1)
            return _ending(row, SUBMITTED, error, retry_s=pause, kept=True)
        return _ending(row, DELIVERED, made=state_key(name_of(one.destination), version) if version else None)

    async def _put(self, one: _Planned) -> str:
        assert one.destination is not None
        try:
            return await self._carrier.put(one.row, one.rule, one.destination)
        except PixelmillError:
            raise
        except Exception as error:
            logs.event("loop.failed", error=error, loop="deliverer")
            raise StorageUnavailable(
                f"{one.destination} could not be written, for a defect ({type(error).__name__}); the log says more.",
                uri=one.destination,
            ) from error

    async def _looped(self, planned: Sequence[_Planned]) -> list[_Planned]:
        """The same, with an error for what turned out to be a result that came back under another address.

        Asked here again, for when an event is taken its object's put may not be written down yet.
        """
        states = [state_key(name_of(one.row.uri), one.row.version) for one in planned]
        producers = await self._triggering.events.producers(states) if states else {}
        return [
            replace(one, destination=None, error=_loop(one)) if one.rule.name in producers.get(state, ()) else one
            for one, state in zip(planned, states, strict=True)
        ]


def _plan(row: Ended, rule: Rule) -> _Planned:
    """What is to be done with an ended event; nothing is asked of a store."""
    if row.task_state is None:
        gone = NotFound("The job was deleted, or had expired, before its result was delivered.", job=row.job)
        return _Planned(row, rule, None, gone)
    if row.task_state is not State.SUCCEEDED:
        told = row.error or {"type": "run-failed", "detail": f"The task ended as {row.task_state}."}
        return _Planned(row, rule, None, error_from_dict(told))
    try:
        return _Planned(row, rule, destination_of(row, rule))
    except PixelmillError as error:
        return _Planned(row, rule, None, error)


def _beside(one: _Planned) -> str | None:
    return None if one.destination is None else document_of(one.row, one.destination)


async def _names(addresses: Sequence[str | None]) -> list[str | None]:
    """The names of addresses, by what they lead to."""
    found = iter(await identities([address for address in addresses if address is not None]))
    return [None if address is None else name_key(next(found)) for address in addresses]


def _taken(one: _Planned, other: str) -> ObjectExists:
    return ObjectExists(
        f"The name {one.destination} is taken by the result of {other}. Add {{dir}}, {{name}} or {{task}} to the "
        "output of the rule, then redrive.",
        reason="name-taken",
        destination=one.destination,
        other=other,
    )


def _loop(one: _Planned) -> ConfigError:
    logs.event("trigger.loop", rule=one.rule.name, uri=one.row.uri)
    return ConfigError(
        f"{one.row.uri} is a result of the rule {one.rule.name} itself, under another address. Have two addresses one "
        "bucket? Write results where the rule does not watch.",
        reason="loop",
    )


def _failed(row: Ended, error: PixelmillError, *, kept: bool) -> Ending:
    return _ending(row, FAILED, error, kept=kept)


def _ending(
    row: Ended,
    state: str,
    error: PixelmillError | None = None,
    *,
    kept: bool = False,
    retry_s: float | None = None,
    made: str | None = None,
) -> Ending:
    told = None if error is None else error_to_dict(error)
    return Ending(row.seq, row.rule, row.object, state, told, kept, retry_s, made)
