"""One result from the object store to its destination: its name, its headers, the document with its data beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from pixelmill.errors import ObjectNotFound, PixelmillError, StorageUnavailable
from pixelmill.images.formats import format_named
from pixelmill.jobs.trigger_work import Ended
from pixelmill.service.triggering import Triggering
from pixelmill.storage.store import PutHeaders
from pixelmill.triggers.destinations import Destinations
from pixelmill.triggers.naming import DATA, ResultFacts, data_destination, destination
from pixelmill.triggers.places import path_in
from pixelmill.triggers.rule import Rule

PUT_S = 600.0
"""For one result, its reading included. Stores have shorter limits of their own for each request."""
JSON_TYPE = "application/json"


def destination_of(row: Ended, rule: Rule) -> str:
    """Where the result goes; raises :class:`InvalidURI` or :class:`ConfigError` where it can't get a name."""
    outcome = row.outcome
    width, height = outcome.get("size") or (None, None)
    fmt = format_named(outcome["format"]) if outcome.get("format") else None
    return destination(
        rule,
        ResultFacts(
            uri=row.uri,
            path=path_in(rule.watch, row.uri),
            extension=DATA if fmt is None else fmt.extension,
            media_type=JSON_TYPE if fmt is None else fmt.media_type,
            width=width,
            height=height,
            task=row.task or "",
            at=row.at,
            rule=rule.name,
        ),
    )


def document_of(row: Ended, address: str) -> str | None:
    """Where the data goes that came beside an image; None where there is only one of them."""
    outcome = row.outcome
    return data_destination(address) if outcome.get("format") and outcome.get("data") else None


class Carrier:
    """Reads results and puts them."""

    def __init__(self, triggering: Triggering, destinations: Destinations) -> None:
        self._triggering, self._destinations = triggering, destinations

    async def put(self, row: Ended, rule: Rule, address: str) -> str:
        """The image, and the data as JSON, under their names; the version of the first, where its store tells it.

        Raises an error of the tree; ``context["lost"]`` is True where it is the result that is gone.
        """
        try:
            async with asyncio.timeout(PUT_S):
                return await self._put(row, rule, address)
        except TimeoutError:
            raise StorageUnavailable(f"{address} could not be written within {PUT_S:g} s.", uri=address) from None

    async def _put(self, row: Ended, rule: Rule, address: str) -> str:
        outcome, versions = row.outcome, []
        beside = document_of(row, address)
        if outcome.get("format"):
            result = _Reading(self._triggering.result(row.owner, row.job or "", row.task or "", row.run))
            store, key = await self._destinations.of(rule, address)
            headers = PutHeaders(format_named(outcome["format"]).media_type, rule.cache_control)
            try:
                versions.append((await store.put(key, result, headers=headers)).version)
            except PixelmillError:
                if isinstance(result.failure, ObjectNotFound):
                    raise _lost() from result.failure
                raise
        if not outcome.get("format") or beside is not None:
            store, key = await self._destinations.of(rule, beside or address)
            body = json.dumps(outcome.get("data") or {}, ensure_ascii=False, indent=1).encode()
            versions.append((await store.put(key, body, headers=PutHeaders(JSON_TYPE, rule.cache_control))).version)
        return versions[0]


def _lost() -> ObjectNotFound:
    return ObjectNotFound(
        "The result is no longer in the object store: its job was deleted, or has expired. A redrive makes it again.",
        lost=True,
    )


class _Reading:
    """Passes a result on, and keeps what its reading raised: what the other store raised means something else."""

    def __init__(self, data: AsyncIterator[bytes]) -> None:
        self._data = data
        self.failure: BaseException | None = None

    def __aiter__(self) -> _Reading:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._data)
        except StopAsyncIteration:
            raise
        except BaseException as error:
            self.failure = error
            raise
