"""Reads what tasks left behind: results and inputs in chunks, and the archive of a whole job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path, PurePosixPath

from pixelmill.errors import ObjectNotFound, SourceRefused
from pixelmill.images.formats import format_named
from pixelmill.jobs.model import State, Task, result_key
from pixelmill.jobs.store import JobStore
from pixelmill.service.archive import ArchiveEntry, stream_zip
from pixelmill.storage.keys import DistinctNames, safe_name
from pixelmill.storage.named import SourceStores, names_bucket
from pixelmill.storage.sources import look_again
from pixelmill.storage.store import ObjectStore

CHUNK = 1 << 18
PAGE = 500


def result_name(task: Task) -> str:
    """The source's path and stem with the extension of the result's format; not yet made safe."""
    outcome = task.outcome or {}
    name = PurePosixPath(task.name.replace("\\", "/") or task.id)
    return str(name.with_suffix(format_named(outcome["format"]).extension)) if outcome.get("format") else str(name)


async def stream_file(uri: str, roots: Sequence[Path]) -> AsyncIterator[bytes]:
    """A local file in chunks. Reads block for a page-cache copy of 256 KB at most.

    It is looked for again: since the job was submitted a link may have taken its place, or the roots have changed.
    """
    found = await asyncio.to_thread(look_again, uri, roots)
    try:
        file = await asyncio.to_thread(found.path.open, "rb")
    except FileNotFoundError as error:
        raise ObjectNotFound(f"The source {found.name} is no longer there.") from error
    except OSError as error:
        raise SourceRefused(f"The source {found.name} can't be read: {error.strerror}.") from error
    with file:
        while chunk := file.read(CHUNK):
            yield chunk


class _Names:
    """Safe and distinct paths: folders of the source are kept, each of their parts made safe."""

    def __init__(self) -> None:
        self._folders: dict[str, DistinctNames] = {}

    def add(self, path: str) -> str:
        """The path to use for a wanted one."""
        *parts, name = [part for part in path.split("/") if part not in {"", ".", ".."}] or ["unnamed"]
        folder = "".join(f"{safe_name(part)}/" for part in parts)
        return folder + self._folders.setdefault(folder.casefold(), DistinctNames()).add(name)


class Results:
    """Results, inputs and archives of one service."""

    def __init__(self, jobs: JobStore, store: ObjectStore, roots: Sequence[Path], sources: SourceStores) -> None:
        self._jobs, self._store, self._roots, self._sources = jobs, store, roots, sources

    def image(self, task: Task) -> AsyncIterator[bytes] | None:
        """The result image of a task that has succeeded; None where it gave data only."""
        if not (task.outcome or {}).get("format"):
            return None
        return self._store.stream(result_key(task.owner, task.job, task.id, task.run))

    def input(self, task: Task) -> AsyncIterator[bytes]:
        """The source's bytes."""
        if task.source.startswith("key:"):
            return self._store.stream(task.source.removeprefix("key:"))
        if names_bucket(task.source):
            store, key = self._sources.of(task.source)
            return store.stream(key)
        return stream_file(task.source, self._roots)

    def archive(self, owner: str, job_id: str) -> AsyncIterator[bytes]:
        """The ZIP of a job's results: images, and data as ``STEM.json``."""
        return stream_zip(self._entries(owner, job_id))

    async def _entries(self, owner: str, job_id: str) -> AsyncIterator[ArchiveEntry]:
        names = _Names()
        cursor: str | None = None
        while True:
            page = await self._jobs.list_tasks(owner, job_id, limit=PAGE, cursor=cursor, state=State.SUCCEEDED)
            for task in page.items:
                for entry in self._of(task, names):
                    yield entry
            cursor = page.next
            if cursor is None:
                return

    def _of(self, task: Task, names: _Names) -> list[ArchiveEntry]:
        entries = []
        name = names.add(result_name(task))
        modified = task.ended or task.queued
        if (chunks := self.image(task)) is not None:
            entries.append(ArchiveEntry(name, modified, chunks))
        data = (task.outcome or {}).get("data")
        if data:
            beside = names.add(str(PurePosixPath(name).with_suffix(".json")))
            entries.append(ArchiveEntry(beside, modified, _one(data)))
        return entries


async def _one(data: object) -> AsyncIterator[bytes]:
    yield json.dumps(data, ensure_ascii=False, indent=1).encode()
