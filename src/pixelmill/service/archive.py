"""A ZIP written as it is sent: nothing is kept but the directory of names that the format puts at the end.

Entries are stored, not deflated: images don't shrink. Knows bytes and names; nothing of jobs or HTTP.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import IO, cast

FIRST_ZIP_YEAR = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One file of the archive. ``name`` is safe and distinct; ``modified`` is seconds since the epoch (UTC)."""

    name: str
    modified: float
    chunks: AsyncIterator[bytes]


class _Drain:
    """The unseekable file that ``zipfile`` writes to; ``take`` gives what has gathered."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        joined = b"".join(self._parts)
        self._parts.clear()
        return joined


async def stream_zip(entries: AsyncIterator[ArchiveEntry]) -> AsyncIterator[bytes]:
    """The archive in chunks. Memory: one chunk, and about 200 bytes an entry for the directory.

    A failure in the middle of an entry ends the stream by raising, so that the archive is visibly broken.
    """
    drain = _Drain()
    # `mode="w"` on an object without `tell` makes zipfile write data descriptors instead of seeking back.
    archive = zipfile.ZipFile(cast("IO[bytes]", drain), mode="w", compression=zipfile.ZIP_STORED, allowZip64=True)
    try:
        async for entry in entries:
            moment = time.gmtime(entry.modified)[:6]
            info = zipfile.ZipInfo(entry.name, date_time=max(moment, FIRST_ZIP_YEAR))
            info.external_attr = 0o644 << 16
            with archive.open(info, mode="w", force_zip64=True) as target:
                async for chunk in entry.chunks:
                    target.write(chunk)
                    if data := drain.take():
                        yield data
            if data := drain.take():
                yield data
    except BaseException:
        # Closing would write a directory and make the torn archive look whole.
        archive.fp = None
        raise
    archive.close()
    yield drain.take()
