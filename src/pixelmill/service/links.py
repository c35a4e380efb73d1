"""Links to results and for uploads, so that bytes need not pass through the service where the store can sign links.

What is put by a link lies at ``incoming/``, where it may be replaced until the link expires; completing it copies it to
its place, so an input that was checked stays as it was. What is never completed is swept like other orphans.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pixelmill.errors import IllegalTransition, LimitExceeded, NotFound, ObjectNotFound
from pixelmill.jobs.model import State, Task, Upload, result_key
from pixelmill.service.parts import Parts
from pixelmill.service.results import result_name
from pixelmill.service.signing import LONGEST_S, Grant
from pixelmill.storage.opening import put_headers
from pixelmill.storage.store import ObjectInfo, stream_range

DEFAULT_S = 3600
_UPLOAD_ID = re.compile(r"up_[0-9a-f]{32}").fullmatch

__all__ = ["DEFAULT_S", "LONGEST_S", "Link", "Links"]


@dataclass(frozen=True, slots=True)
class Link:
    """An address that works without a token until ``expires``; without a host it is one of this service.

    ``headers`` must be sent with the request. ``upload`` and ``max_bytes`` are of links to put.
    """

    url: str
    method: Literal["GET", "PUT"]
    expires: float
    headers: Mapping[str, str] = field(default_factory=dict)
    upload: str = ""
    max_bytes: int = 0


class Links:
    """Makes links, and serves those of its own. ``new_id`` gives ids of uploads."""

    def __init__(self, parts: Parts, new_id: Callable[[str], str]) -> None:
        self._parts, self._new_id = parts, new_id
        self._completing: set[str] = set()

    async def result(self, owner: str, task_id: str, expires_s: int) -> Link:
        """To the result image; raises :class:`IllegalTransition` where there is none."""
        task = await self._parts.jobs.task(owner, task_id)
        outcome = task.outcome or {}
        if task.state is not State.SUCCEEDED or not outcome.get("format"):
            state = "it gave data only" if task.state is State.SUCCEEDED else f"it is {task.state}"
            raise IllegalTransition(f"Task {task_id} has no image to link to: {state}.", state=str(task.state))
        key = result_key(task.owner, task.job, task.id, task.run)
        expires = int(time.time()) + expires_s
        url = await self._parts.store.presign(key, "GET", expires_s)
        if url is None:
            name = result_name(task).rpartition("/")[2]
            url = self._parts.link_signer.sign(Grant("GET", key, expires, 0, name, str(outcome["media_type"])))
        return Link(url, "GET", expires)

    async def upload(self, owner: str, expires_s: int) -> Link:
        """To put the bytes of a new upload, which :meth:`complete` makes usable."""
        upload, maximum = self._new_id("up"), self._parts.config.max_upload
        key, expires = _incoming(owner, upload), int(time.time()) + expires_s
        url = await self._parts.store.presign(key, "PUT", expires_s)
        headers = put_headers(self._parts.store)
        if url is None:
            url = self._parts.link_signer.sign(Grant("PUT", key, expires, maximum))
        return Link(url, "PUT", expires, headers, upload, maximum)

    async def complete(self, owner: str, upload: str, name: str) -> Upload:
        """Take what was put by an upload's link; a second call gives the same upload.

        Raises :class:`NotFound` where nothing was put, and :class:`LimitExceeded` (the bytes are deleted) for too much.
        """
        if not _UPLOAD_ID(upload):
            raise NotFound(f"There is no upload {upload[:60]!r}. Ask for a link first (POST /v1/uploads/link).")
        if upload in self._completing:
            raise IllegalTransition("The upload is being completed by another request. Ask again in a moment.")
        self._completing.add(upload)
        try:
            return await self._complete(owner, upload, name)
        finally:
            self._completing.discard(upload)

    async def _complete(self, owner: str, upload: str, name: str) -> Upload:
        try:
            return (await self._parts.uploads.get(owner, [upload]))[0]
        except NotFound:
            pass
        store, source, key = self._parts.store, _incoming(owner, upload), f"uploads/{owner}/{upload}"
        try:
            await self._check_size(await store.head(source))
            await store.copy(source, key)
            # Looked at again: until now its owner could replace it.
            info = await store.head(key)
        except ObjectNotFound as error:
            raise NotFound(
                f"Nothing was put by the link of the upload {upload}; or it lay there too long and was removed.",
                upload=upload,
            ) from error
        await self._check_size(info)
        await store.delete([source])
        now = time.time()
        made = Upload(upload, owner, name, key, info.size, now, now + self._parts.config.upload_ttl_s)
        await self._parts.uploads.add(made)
        self._parts.metrics.bytes_received(info.size)
        return made

    async def _check_size(self, info: ObjectInfo) -> None:
        try:
            self._parts.config.limits.check_bytes(info.size)
        except LimitExceeded:
            await self._parts.store.delete([info.key])
            raise

    # -- links of our own ------------------------------------------------------------------------

    async def granted(self, method: str, key: str, query: Mapping[str, str]) -> Grant:
        """What a link allows; raises :class:`Forbidden`."""
        return self._parts.link_signer.check(method, key, query)

    async def open(self, grant: Grant) -> tuple[ObjectInfo, AsyncIterator[bytes]]:
        """The object of a link, in chunks."""
        return await self._parts.store.head(grant.key), self._parts.store.stream(grant.key)

    def part(self, key: str, start: int, length: int) -> AsyncIterator[bytes]:
        """A range of an object."""
        return stream_range(self._parts.store, key, start, length)

    async def put(self, grant: Grant, body: AsyncIterator[bytes]) -> ObjectInfo:
        """Store what is sent by a link; raises :class:`LimitExceeded` beyond what it allows."""
        return await self._parts.store.put(grant.key, body, limit=grant.max_bytes)

    def result_part(self, task: Task, start: int, length: int) -> AsyncIterator[bytes]:
        """A range of a result image."""
        return self.part(result_key(task.owner, task.job, task.id, task.run), start, length)


def _incoming(owner: str, upload: str) -> str:
    return f"incoming/{owner}/{upload}"
