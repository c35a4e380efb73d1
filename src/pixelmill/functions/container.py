"""Events in a container: done at once, in the pool of the node, and answered when their results are written.

The same work as that of the other functions (``work.py``), behind the intake of the service (``triggers/intake.py``).
There is no database: what did not succeed is answered with 503, and its provider sends it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

from pixelmill import logs
from pixelmill.errors import ConfigError, PixelmillError
from pixelmill.functions.settings import FunctionSettings
from pixelmill.functions.work import Done, Work
from pixelmill.images.limits import Limits
from pixelmill.jobs.model import Page
from pixelmill.pipelines.outcome import Outcome
from pixelmill.pipelines.spec import Pipeline
from pixelmill.service.stateless import Stateless
from pixelmill.triggers.book import load_rules
from pixelmill.triggers.event import ObjectEvent, Unread
from pixelmill.triggers.intake import check_intake
from pixelmill.triggers.rule import Rule, RuleSet, SourceSpec
from pixelmill.triggers.source_options import read_options
from pixelmill.triggers.verbs import Taken

SOURCE = "events"
OWNER = "local"
FOR_THE_NODE = "A node keeps no state of events: ask a service (`pixelmill serve --triggers`)."


class Immediate:
    """A runtime of triggers without state. ``concurrent`` events are worked on at once; others wait for their turn.

    ``open_to_all``: callers need no credentials, for only this machine can call, or a platform checks them before.
    """

    def __init__(
        self,
        settings: FunctionSettings,
        node: Stateless,
        *,
        concurrent: int,
        token: str = "",
        open_to_all: bool = False,
    ) -> None:
        self._node = node
        self._work = Work(settings, self._run)
        self._threads = ThreadPoolExecutor(concurrent, thread_name_prefix="events")
        self._loop: asyncio.AbstractEventLoop | None = None
        file = load_rules(Path(settings.rules)) if settings.rules else RuleSet()
        own = SourceSpec(SOURCE, "http", _intake(settings.intake, token, open_to_all=open_to_all))
        self._rule_set = RuleSet(file.rules, {**file.sources, SOURCE: own})
        for spec in self._rule_set.sources.values():
            if spec.kind == "http":
                check_intake(read_options(spec, on_loopback=open_to_all))

    async def start(self) -> None:
        """Take events from now on; raises :class:`ConfigError` where the settings can't be."""
        self._work.check()
        self._loop = asyncio.get_running_loop()

    async def stop(self) -> None:
        """The server has waited for what was under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def take(self, source: str, events: Sequence[ObjectEvent], unread: Sequence[Unread] = ()) -> Taken:
        """Do everything; raises the first error that is for later, when all the others are done."""
        del source
        for part in unread:
            logs.event("function.unread", reason=part.reason, detail=part.detail)
        loop = asyncio.get_running_loop()
        work = [loop.run_in_executor(self._threads, self._work.do, event) for event in events]
        ended = await asyncio.gather(*work, return_exceptions=True)
        later: BaseException | None = None
        done: list[Done] = []
        for event, one in zip(events, ended, strict=True):
            if isinstance(one, BaseException):
                later = later or one
                detail = one.detail if isinstance(one, PixelmillError) else str(one)
                logs.event("function.later", uri=event.uri, type=getattr(one, "type", "internal"), detail=detail)
            else:
                done += one
        if later is not None:
            raise later
        return Taken(
            accepted=sum(bool(one.rule) for one in done),
            unmatched=sum(not one.rule and one.event.kind == "created" for one in done),
            ignored=sum(one.event.kind != "created" for one in done),
        )

    def rule_set(self) -> RuleSet:
        """The rules of the file, and the sources."""
        return self._rule_set

    async def state(self) -> Mapping[str, Any]:
        """There is none."""
        _refuse()

    async def put_rule(self, rule: Rule) -> None:
        """A node keeps no rules of an API."""
        del rule
        _refuse()

    async def remove_rule(self, name: str) -> None:
        """A node keeps no rules of an API."""
        del name
        _refuse()

    async def events(
        self, rule: str | None = None, *, state: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page:
        """A node keeps no events."""
        del rule, state, limit, cursor
        _refuse()

    async def redrive(self, rule: str | None = None, ids: Sequence[str] = ()) -> int:
        """A node keeps no dead letters."""
        del rule, ids
        _refuse()

    def _run(self, pipeline: str, source: bytes, limits: Limits) -> Outcome:
        """In the node's pool; called in a thread."""
        assert self._loop is not None, "it was started"
        process = self._node.process(OWNER, Pipeline.parse(pipeline), source, limits=limits, taken=True)
        return asyncio.run_coroutine_threadsafe(process, self._loop).result().outcome


def _intake(given: Mapping[str, str], token: str, *, open_to_all: bool) -> Mapping[str, str]:
    """The options of the source; without any, the node's own token is asked for."""
    if given:
        return given
    if token:
        return {"auth": "token", "token": token}
    if open_to_all:
        return {"auth": "none"}
    raise ConfigError(
        "Events would be taken from everybody. Set PIXELMILL_TOKEN, or say how callers prove who they are with "
        "EVENTS_AUTH (see docs/functions.md), or let the platform check them and start with --insecure."
    )


def _refuse() -> NoReturn:
    raise ConfigError(FOR_THE_NODE)
