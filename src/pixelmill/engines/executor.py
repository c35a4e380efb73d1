"""Runs one task on a slot and keeps what came out, so that running it twice changes nothing.

An outcome is two objects: the image at the task's result key, and its document (data, timings, failure) at that key +
``.json``. Both are put if absent, the document last: it is the mark that the task has ended, and the first one stands.
This module knows the object store and the fleet's slots; it knows neither queues nor the job store.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pixelmill import logs, tracing
from pixelmill.engines.patience import Patience
from pixelmill.errors import (
    Cancelled,
    ObjectExists,
    ObjectNotFound,
    PixelmillError,
    ShuttingDown,
    SourceRefused,
    StorageError,
    error_to_dict,
)
from pixelmill.jobs.messages import TaskMessage
from pixelmill.jobs.model import TaskEvent, result_key
from pixelmill.storage.faults import translated
from pixelmill.storage.named import SourceStores, names_bucket, read_limited
from pixelmill.storage.options import StoreSpec
from pixelmill.storage.sources import look_again
from pixelmill.storage.store import ObjectStore
from pixelmill.targets.target import FarSource, Progress, RunRequest, RunResult, measured

_NOWHERE = StoreSpec("")

PATIENCE_S = 600.0
"""How long a task waits for a store that is away before that costs it an attempt."""
CHUNK = 8_000_000
"""Bytes of a large result that are read at once."""
MAX_STORING = 16
"""Results that are written while their slots run the next task; beyond it slots wait, so memory stays bounded."""


class Slot(Protocol):
    """Room for one running task, as the dispatcher gives it. Releasing twice changes nothing."""

    @property
    def target(self) -> str:
        """Where it is."""
        ...

    @property
    def reason(self) -> str:
        """Why there."""
        ...

    async def run(self, request: RunRequest) -> RunResult:
        """Run a task there."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


@dataclass(frozen=True, slots=True)
class ReasonedSlot:
    """A slot that is there for another reason than its dispatcher knows."""

    slot: Slot
    reason: str

    @property
    def target(self) -> str:
        """Where it is."""
        return self.slot.target

    async def run(self, request: RunRequest) -> RunResult:
        """Run a task there."""
        return await self.slot.run(request)

    def release(self) -> None:
        """Give it back."""
        self.slot.release()


class Execution(Protocol):
    """What a leased engine does with a task that it holds."""

    async def execute(
        self, message: TaskMessage, attempt: int, slot: Slot, tell: Callable[[Progress], None]
    ) -> TaskEvent:
        """Run it to its end: the event is ``succeeded`` or ``failed``. Raises what cost only this attempt.

        ``tell`` is called with how far a long run is.
        """
        ...

    async def give_up(self, message: TaskMessage, attempt: int, error: PixelmillError) -> TaskEvent:
        """The event that ends a task whose attempts are used up."""
        ...


class Executor:
    """The executor over an object store. ``now`` gives seconds since the epoch.

    ``roots`` are folders and ``sources`` buckets that tasks may name. While a store is away a task waits for it, up to
    ``patience_s`` seconds.
    ``retried``: errors that cost an attempt although they can't be retried at once, such as a time limit: another
    machine may be quicker. ``spec``: how the store is opened, for processes that read large objects in it by parts.
    """

    def __init__(
        self,
        store: ObjectStore,
        roots: Sequence[Path] = (),
        sources: SourceStores | None = None,
        *,
        retried: tuple[type[PixelmillError], ...] = (),
        patience_s: float = PATIENCE_S,
        spec: StoreSpec = _NOWHERE,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._spec = store, spec
        self._roots = roots
        self._lost: tuple[type[PixelmillError], ...] = (Cancelled, ShuttingDown, *retried)
        self._sources = sources if sources is not None else SourceStores({})
        self._patiently = Patience(patience_s)
        self._now = now
        self._storing = asyncio.Semaphore(MAX_STORING)

    async def execute(
        self, message: TaskMessage, attempt: int, slot: Slot, tell: Callable[[Progress], None] = lambda _: None
    ) -> TaskEvent:
        """See :class:`Execution`. A retryable error is raised; any other is the outcome of the task."""
        asked = tracing.from_text(message.trace)
        if asked is not None and message.queued and attempt == 1:
            with tracing.within(asked):
                tracing.told("task.queue", message.queued, time.time(), {"pixelmill.task": message.task})
        with (
            tracing.span("task.run", "consumer", _named(message, attempt), parent=asked) as span,
            logs.bind(
                job_id=message.job,
                task_id=message.task,
                trace_id=span.context.trace_id,
                span_id=span.context.span_id,
            ),
        ):
            event = await self._execute(message, attempt, slot, tell)
            span.attributes |= {"pixelmill.state": event.kind, "pixelmill.target": event.target or ""}
            if event.error is not None:
                span.fail(str(event.error.get("type", "")), str(event.error.get("detail", ""))[:1_000])
            return event

    async def _execute(
        self, message: TaskMessage, attempt: int, slot: Slot, tell: Callable[[Progress], None]
    ) -> TaskEvent:
        key = result_key(message.owner, message.job, message.task, message.run)
        if attempt > 1:
            stored = await self._patiently(lambda: self._stored(key), self._store.check)
            if stored is not None:
                return _event(message, attempt, stored)
        started = self._now()
        try:
            request = await self._request(message, tell)
            result = await slot.run(request)
        except PixelmillError as error:
            if error.retryable or isinstance(error, self._lost):
                raise
            document = self._document("failed", attempt, started, error=error, slot=slot)
            body, discard = None, _nothing
        else:
            body, discard = result.file or result.outcome.bytes, result.discard
            document = self._document(
                "succeeded", attempt, started, result=result, outcome=measured(request, result), slot=slot
            )
        async with self._storing:
            slot.release()
            with tracing.part("store.put", "client"):
                kept = await self._patiently(lambda: self._keep(key, body, document), self._store.check)
            discard()
            return _event(message, attempt, kept)

    async def give_up(self, message: TaskMessage, attempt: int, error: PixelmillError) -> TaskEvent:
        """See :class:`Execution`. If an earlier attempt has stored an outcome, that one stands."""
        key = result_key(message.owner, message.job, message.task, message.run)
        now = self._now()
        document: Mapping[str, Any] = self._document("failed", attempt, now, error=error)
        with suppress(StorageError):  # if the store is what failed, the job store keeps the reason
            document = await self._stored(key) or await self._keep(key, None, document)
        return _event(message, attempt, document)

    # -- what goes in ----------------------------------------------------------------------------

    async def _request(self, message: TaskMessage, tell: Callable[[Progress], None]) -> RunRequest:
        images = {reference: await self._object(key) for reference, key in message.images.items()}
        return RunRequest(
            id=message.id,
            pipeline=message.pipeline,
            source=await self._source(message),
            images=images,
            source_name=message.name,
            limits=message.limits,
            timeout_s=message.timeout_s,
            source_key=message.source.removeprefix("key:") if message.source.startswith("key:") else "",
            tiled=message.tiled,
            ranks=message.ranks,
            tell=tell,
        )

    async def _source(self, message: TaskMessage) -> bytes | Path | FarSource:
        source = message.source
        scheme, _, rest = source.partition(":")
        if scheme == "key":
            path = self._store.local_path(rest)
            far = await self._far(message, self._store, rest, self._spec) if path is None else None
            return path or far or await self._object(rest)
        if scheme == "file":
            # Checked when the job was submitted, and again: a link may have taken its place since.
            return (await asyncio.to_thread(look_again, source, self._roots)).path
        if names_bucket(source):
            store, key = self._sources.of(source)
            far = await self._far(message, store, key, self._sources.spec_of(source))
            if far is not None:
                return far
            check = message.limits.check_bytes
            with tracing.part("store.get", "client"):
                return await self._patiently(lambda: read_limited(store, key, check), lambda: store.head(key))
        raise SourceRefused(
            f"Sources of the kind {scheme!r} can't be read here; use an upload or a file.", source=source
        )

    async def _far(self, message: TaskMessage, store: ObjectStore, key: str, spec: StoreSpec) -> FarSource | None:
        """An object that may be run in tiles and is too large to be fetched, else None."""
        if message.tiled is None:
            return None
        facts = await self._patiently(lambda: store.head(key), lambda: store.head(key))
        size = facts.size
        if size <= message.limits.max_bytes:
            return None
        message.tiled.check_bytes(size)
        return FarSource(size, lambda: store.stream(key), spec, key, f"{size}-{facts.modified}")

    async def _object(self, key: str) -> bytes | Path:
        path = self._store.local_path(key)
        if path is not None:
            return path
        with tracing.part("store.get", "client"):
            return await self._patiently(lambda: self._store.get(key), self._store.check)

    # -- what comes out --------------------------------------------------------------------------

    async def _keep(self, key: str, body: bytes | Path | None, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Store the outcome; returns the document that stands."""
        if isinstance(body, Path):
            # In parts, which can't be put if absent. Another attempt has stored the same pixels, or none.
            await self._store.put(key, _chunks(body))
        elif body is not None:
            with suppress(ObjectExists):  # an attempt before was cut off between image and document: the same image
                await self._store.put(key, body, if_absent=True)
        try:
            await self._store.put(f"{key}.json", json.dumps(document).encode(), if_absent=True)
        except ObjectExists:
            return await self._stored(key) or document
        return document

    async def _stored(self, key: str) -> Mapping[str, Any] | None:
        try:
            document: Mapping[str, Any] = json.loads(await self._store.get(f"{key}.json"))
        except ObjectNotFound:
            return None
        return document

    def _document(
        self,
        state: str,
        attempt: int,
        started: float,
        *,
        result: RunResult | None = None,
        outcome: Mapping[str, Any] | None = None,
        error: PixelmillError | None = None,
        slot: Slot | None = None,
    ) -> dict[str, Any]:
        return {
            "state": state,
            "outcome": outcome,
            "error": None if error is None else error_to_dict(error),
            "attempt": attempt,
            "target": result.target if result is not None else None if slot is None else slot.target,
            "worker": None if result is None else result.worker,
            "why": None if slot is None else slot.reason,
            "cost": cost_of(error) if result is None else result.cost,
            "started": started,
            "ended": self._now(),
        }


def _named(message: TaskMessage, attempt: int) -> dict[str, str | int]:
    return {"pixelmill.job": message.job, "pixelmill.task": message.task, "pixelmill.attempt": attempt}


def _nothing() -> None:
    """Nothing lies anywhere."""


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    """A file, read beside the event loop."""
    try:
        with await asyncio.to_thread(path.open, "rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                yield chunk
    except OSError as error:
        raise translated(error, "read", str(path)) from error


def cost_of(error: PixelmillError | None) -> float:
    """What an attempt that ended so cost: a machine that is paid for says so in the error."""
    return 0.0 if error is None else float(error.context.get("cost", 0.0))


def _event(message: TaskMessage, attempt: int, document: Mapping[str, Any]) -> TaskEvent:
    return TaskEvent(
        kind=document["state"],
        task=message.task,
        job=message.job,
        owner=message.owner,
        run=message.run,
        attempt=attempt,
        at=document["ended"],
        target=document["target"],
        worker=document["worker"],
        outcome=document["outcome"],
        error=document["error"],
        why=document.get("why"),  # documents of before have neither
        cost=document.get("cost", 0.0),
    )
