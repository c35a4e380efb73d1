"""The rules that are in force: those of the file, read again when it changes, and those of the API, from the database.

A file that can't be used leaves the rules before it in force. Where a rule of the API can't stand beside the file's any
more (a name, a loop, a store that is gone), the file's stands, and the other is told among the refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from watchfiles import awatch

from pixelmill import logs
from pixelmill.errors import ConfigError, NotFound, PixelmillError, error_to_dict
from pixelmill.jobs.trigger_rules import KeptRules
from pixelmill.pipelines.presets import Presets
from pixelmill.service.settings import ServiceConfig
from pixelmill.triggers.book import combine, load_rules, rule_from_dict, rule_to_dict
from pixelmill.triggers.reach import check_stores
from pixelmill.triggers.rule import Rule, RuleSet
from pixelmill.triggers.rules_file import MAX_FILE
from pixelmill.triggers.source import check_source

POLL_S = 2.0
"""How often the file is looked at by itself (file systems of networks tell nothing), and rules of other services."""


class Current:
    """Rules and sources now. ``changed`` is called when they are others. Belongs to one event loop."""

    def __init__(
        self,
        path: Path | None,
        kept: KeptRules,
        config: ServiceConfig,
        presets: Presets,
        changed: Callable[[], object],
        *,
        on_loopback: bool = False,
    ) -> None:
        self._on_loopback = on_loopback
        self._path, self._kept, self._config, self._presets, self._changed = path, kept, config, presets, changed
        self.rules = RuleSet()
        self._file = RuleSet()
        self._api: Mapping[str, Rule] = {}
        self._bodies: Mapping[str, str] | None = None
        self._digest = ""
        self._read_at: float | None = None
        self._error: Mapping[str, Any] | None = None
        self._unfit: Mapping[str, str] = {}
        self.refused: Mapping[str, str] = {}
        self._is_stale = True
        self._turn = asyncio.Lock()

    async def load(self) -> None:
        """Read everything for the first time; raises :class:`ConfigError` for a file that can't be used."""
        if self._path is not None:
            self._digest = await asyncio.to_thread(_digest, self._path)
            self._file = await asyncio.to_thread(self._read)
            self._read_at = time.time()
        await self._read_kept()
        await self._combine()

    async def watch(self) -> None:
        """Read again what changes, until cancelled."""
        if self._path is None:
            while True:
                await asyncio.sleep(POLL_S)
                await self.look()
        folder = self._path.absolute().parent
        # The folder, for editors put another file in its place; every name, for Kubernetes moves a link elsewhere.
        watching = awatch(
            folder, watch_filter=None, recursive=False, yield_on_timeout=True, rust_timeout=int(POLL_S * 1000)
        )
        async for _ in watching:
            await self.look()

    async def look(self) -> None:
        """Whether file or kept rules have changed, and what they are then."""
        async with self._turn:
            with suppress(PixelmillError):  # the database is away: its rules are as they were
                await self._read_kept()
            if self._path is not None:
                digest = await asyncio.to_thread(_digest, self._path)
                if digest != self._digest:
                    self._digest = digest
                    await self._reload()
            if self._is_stale:
                await self._combine()

    async def _reload(self) -> None:
        try:
            file = await asyncio.to_thread(self._read)
        except PixelmillError as error:
            self._error = error_to_dict(error)
            logs.event("trigger.broken", path=str(self._path), detail=error.detail)
            return
        self._file, self._error, self._read_at, self._is_stale = file, None, time.time(), True
        await self._combine()
        logs.event("trigger.reloaded", path=str(self._path), rules=len(file.rules), sources=len(file.sources))

    def _read(self) -> RuleSet:
        assert self._path is not None
        found = load_rules(self._path, presets=self._presets)
        check_stores(found, self._config.stores, self._config.source_roots)
        for spec in found.sources.values():
            check_source(spec, on_loopback=self._on_loopback)
        return found

    # -- rules of the API ------------------------------------------------------------------------

    async def put(self, rule: Rule) -> None:
        """Keep a rule of the API; raises :class:`ConfigError` where it can't be in force."""
        async with self._turn:  # two that are fine each may not be so together
            await self._read_kept()
            others = [one for one in self._api.values() if one.name != rule.name]
            await asyncio.to_thread(self._check, [*others, rule])
            await self._kept.put(rule.name, rule.owner, rule_to_dict(rule))
            await self._read_kept()
            await self._combine()

    async def remove(self, name: str) -> None:
        """Forget a rule of the API."""
        async with self._turn:
            if name in self._file.rules:
                raise ConfigError(f"The rule {name} stands in the rules file. Remove it there.")
            await self._read_kept()
            if name not in (self._bodies or {}):
                raise NotFound(f"There is no rule {name!r}.", rule=name)
            await self._kept.remove(name)
            await self._read_kept()
            await self._combine()

    def _check(self, api: Sequence[Rule]) -> RuleSet:
        """All of them in force; raises :class:`ConfigError`. Takes its time where rules are many: for a thread."""
        found = combine(self._file, api)
        check_stores(RuleSet({rule.name: rule for rule in api}), self._config.stores, self._config.source_roots)
        return found

    async def _read_kept(self) -> None:
        bodies = await self._kept.all()
        if bodies == self._bodies:
            return
        before = self._bodies or {}
        rules = {name: self._api[name] for name in bodies.keys() & self._api.keys() if bodies[name] == before.get(name)}
        self._api, self._unfit = await asyncio.to_thread(self._parsed, bodies, rules)
        self._bodies, self._is_stale = bodies, True

    def _parsed(
        self, bodies: Mapping[str, str], known: Mapping[str, Rule]
    ) -> tuple[Mapping[str, Rule], Mapping[str, str]]:
        """Kept rules by name, without reading those again that are known, and why others can't be read."""
        rules: dict[str, Rule] = {}
        unfit: dict[str, str] = {}
        for name, body in bodies.items():
            try:
                rules[name] = known.get(name) or rule_from_dict(json.loads(body), presets=self._presets, origin="api")
            except ConfigError as error:  # another version kept it
                unfit[name] = error.detail
        return rules, unfit

    async def _combine(self) -> None:
        """All that can be in force together, the file's before the others."""
        rules, refused = await asyncio.to_thread(self._fitting)
        refused = {**self._unfit, **refused}
        for name in refused.keys() - self.refused.keys():
            logs.event("trigger.refused", rule=name, detail=refused[name])
        self.rules, self.refused, self._is_stale = rules, refused, False
        self._changed()

    def _fitting(self) -> tuple[RuleSet, dict[str, str]]:
        """The rules, and why some of the API are none of them: each that can't stand beside those before it."""
        good: list[Rule] = []
        found = self._check(good)
        refused: dict[str, str] = {}
        waiting = [list(self._api.values())]
        while waiting:
            some = waiting.pop()
            if not some:
                continue
            try:
                found = self._check([*good, *some])
            except ConfigError as error:
                if len(some) == 1:
                    refused[some[0].name] = error.detail
                else:  # few are bad, and a look takes longer the more rules there are
                    half = len(some) // 2
                    waiting += [some[half:], some[:half]]
            else:
                good += some
        return found, refused

    def state(self) -> Mapping[str, Any] | None:
        """What the last reading of the file said; None where there is no file."""
        if self._path is None:
            return None
        return {"path": str(self._path), "read": self._read_at, "error": self._error}


def _digest(path: Path) -> str:
    """Of the file's bytes; empty where it can't be read, which the reading tells."""
    try:
        with path.open("rb") as file:
            return hashlib.sha256(file.read(MAX_FILE + 1)).hexdigest()
    except OSError:
        return ""
