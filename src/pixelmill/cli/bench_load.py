"""The people of `pixelmill bench load`: of a private service each is an owner of its own, with a token."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pixelmill.cli.tokens import DEFAULT_SCOPES, in_database
from pixelmill.evaluation.crowd import Person
from pixelmill.jobs.tokens import Tokens


def people(count: int, data: Path | None, token: str | None, database_url: str = "") -> list[Person]:
    """``data``: the folder of a private service, where tokens can be made; else all have the one ``token``."""
    names = [f"user-{number:0{len(str(count))}}" for number in range(1, count + 1)]
    if data is None:
        return [Person(name, token) for name in names]

    async def make(tokens: Tokens) -> list[Person]:
        return [Person(name, (await tokens.create(name, "bench load", DEFAULT_SCOPES, None))[1]) for name in names]

    return asyncio.run(in_database(database_url, data, make))
