"""From waiting events to jobs: each rule's events by the batch, under an idempotency key that survives us.

A batch is recorded before its job is submitted, so one that a crash left is submitted again, as the same job.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict

from pixelmill import logs
from pixelmill.errors import InvalidURI, PixelmillError, error_to_dict
from pixelmill.jobs.model import JobBounds
from pixelmill.jobs.trigger_work import Batch
from pixelmill.pipelines.presets import Presets
from pixelmill.pipelines.spec import Pipeline
from pixelmill.service import Service
from pixelmill.storage.named import SourceObject
from pixelmill.triggers.matching import name_of
from pixelmill.triggers.places import path_in
from pixelmill.triggers.rule import Rule, RuleSet

log = logging.getLogger(__name__)

BATCH = 500
TAG = "trigger"
"""The tag of a job that names its rule."""
LINGER_S = 0.05
"""Events come in crowds: those of the next moment share the job."""
LOOK_S = 5.0
"""How often it is looked for what nobody told of: another process took it, and died."""
SOON_S = 0.5
MAX_PAUSE_S = 30.0


class Submitter:
    """Runs until cancelled, in every service; one at a time submits."""

    def __init__(self, service: Service, rules: Callable[[], RuleSet], presets: Presets) -> None:
        self._service, self._rules, self._presets = service, rules, presets
        self._triggering = service.triggering
        self._news = asyncio.Event()
        self._pause_s = SOON_S

    def nudge(self) -> None:
        """Events were recorded, or may go on."""
        self._news.set()

    async def run(self) -> None:
        """Submit what waits, when it is told to, and now and then."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._news.wait()
                    await asyncio.sleep(LINGER_S)
            except TimeoutError:
                pass
            self._news.clear()
            try:
                async with self._triggering.hold("submit") as mine:
                    if mine:
                        await self.round()
                if not mine:  # who submits may have looked before our events were there
                    await asyncio.sleep(SOON_S)
                    self.nudge()
                self._pause_s = SOON_S
            except PixelmillError as error:
                log.warning("events wait: %s", error, extra={"error": error.type})
                await asyncio.sleep(self._pause_s)
                self._pause_s = min(MAX_PAUSE_S, 2 * self._pause_s)
                self.nudge()

    async def round(self) -> int:
        """What a crash left, then a batch of each rule in turn until none has one; returns how many events.

        Raises what may pass: a full queue, a database that is away, a service that shuts down.
        """
        work, total = self._triggering.work, 0
        for batch in await work.unfinished():
            total += await self._submit(batch)
        while True:
            rules = {name: rule for name, rule in self._rules().rules.items() if rule.enabled}
            progress = 0
            for name in await work.waiting(list(rules)):
                batch_, superseded = await work.batch(name, rules[name].owner, BATCH)
                for _ in range(superseded):
                    self._triggering.metrics.trigger_delivered(name, "superseded")
                progress += superseded + (await self._submit(batch_) if batch_ is not None else 0)
            if not progress:
                return total
            total += progress

    async def _submit(self, batch: Batch) -> int:
        """The batch as a job, which may be there already; how many events came on."""
        rule = self._rules().rules.get(batch.rule)
        if rule is None:
            return 0  # it may come back; see the upkeep for when it does not
        try:
            job, _ = await self._service.submit(
                batch.owner,
                Pipeline.parse(rule.pipeline, presets=self._presets),
                objects=[SourceObject(_name(rule, row.uri), row.uri, row.size) for row in batch.rows],
                name=rule.name,
                priority=rule.priority,
                tags={**rule.tags, TAG: rule.name},
                idempotency_key=batch.id,
                bounds=JobBounds(**asdict(rule.limits)),
            )
            page = await self._service.tasks(batch.owner, job.id, limit=BATCH)
        except PixelmillError as error:
            if error.retryable:
                raise
            logs.event("trigger.failed", rule=rule.name, events=len(batch.rows), detail=error.detail, error=error)
            await self._triggering.work.refused(batch, error_to_dict(error))
            self._triggering.metrics.trigger_delivered(rule.name, "failed", len(batch.rows))
            return len(batch.rows)
        await self._triggering.work.submitted(batch.id, job.id, {task.seq: task.id for task in page.items})
        logs.event("trigger.submitted", rule=rule.name, job_id=job.id, events=len(batch.rows))
        return len(batch.rows)


def _name(rule: Rule, uri: str) -> str:
    """What people see: the path below what is watched, or, where the rule watches elsewhere by now, the name."""
    try:
        return path_in(rule.watch, uri)
    except InvalidURI:
        return name_of(uri)
