"""Runs a real service for a test: ``python serve_for_tests.py JSON`` with its settings; prints its URL."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pixelmill import logs
from pixelmill.api import server
from pixelmill.api.settings import ApiSettings
from pixelmill.errors import PixelmillError
from pixelmill.fleet.overflow_settings import OverflowConfig, overflow_targets
from pixelmill.images.limits import Limits
from pixelmill.jobs.database import Database
from pixelmill.jobs.model import Priority
from pixelmill.jobs.tokens import Tokens
from pixelmill.service import Service, ServiceConfig, parts
from pixelmill.targets.local import LocalPool


async def make_tokens(data: Path, wanted: Sequence[Mapping[str, Any]]) -> list[str]:
    """The secrets of new tokens, as `pixelmill tokens create` makes them."""
    database = Database(f"sqlite:///{data / 'state.sqlite'}", "NORMAL")
    await database.open()
    try:
        tokens = Tokens(database)
        return [(await tokens.create(item["owner"], "test", item["scopes"]))[1] for item in wanted]
    finally:
        await database.close()


def say(line: str) -> None:
    """A line to the test."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    wanted = json.loads(sys.argv[1])
    logs.configure("info", "json")
    data = Path(wanted["data"]).resolve()
    data.mkdir(parents=True, exist_ok=True)
    for secret in asyncio.run(make_tokens(data, wanted["tokens"])) if wanted["tokens"] else ():
        say(f"token {secret}")
    service = wanted["service"]
    if "entry" in service:  # what pool processes run instead of the real work (see misbehaving.py)
        parts.LocalPool = partial(LocalPool, entry=service.pop("entry"))  # type: ignore[attr-defined,assignment]
    if "limits" in service:
        service["limits"] = Limits(**service["limits"])
    if "overflow" in service:
        wanted_overflow = service["overflow"]
        targets = overflow_targets(wanted_overflow["targets"], service.get("timeout_s", 60.0))
        latency = {Priority(name): float(wait) for name, wait in wanted_overflow.get("latency", {}).items()}
        service["overflow"] = OverflowConfig(targets, wanted_overflow.get("budgets", {}))
        if latency:
            service["overflow"] = replace(service["overflow"], latency_s=latency)
    roots = tuple(Path(root) for root in service.pop("source_roots", ()))
    config = ServiceConfig(data=data, source_roots=roots, **{"workers": 1, **service})
    try:
        server.run(Service(config), ApiSettings(**{"port": 0, **wanted["api"]}))
    except PixelmillError as error:
        say(f"error {error.type} {error}")
        sys.exit(2)


if __name__ == "__main__":  # the pool starts this file again in its processes
    main()
