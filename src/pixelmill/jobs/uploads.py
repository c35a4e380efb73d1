"""Uploads: bytes in the object store that wait to be used by a job; unused ones expire."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Text, bindparam, delete, exists, insert, select, true, update

from pixelmill.errors import NotFound
from pixelmill.jobs.database import Database
from pixelmill.jobs.model import Upload
from pixelmill.jobs.records import upload_from
from pixelmill.jobs.rows import clean, encode, table_of
from pixelmill.jobs.schema import garbage, uploads

_ids = table_of("rows", id=Text).subquery("ids")
_FETCH = (
    select(uploads)
    .select_from(_ids.join(uploads, uploads.c.id == _ids.c.id))
    .where(uploads.c.owner == bindparam("owner"))
)
_USE = update(uploads).where(uploads.c.id.in_(table_of("rows", id=Text))).values(used=true())
_FORGET = delete(uploads).where(uploads.c.id.in_(table_of("rows", id=Text)))
_expired = table_of("rows", key=Text, owner=Text).subquery("expired")
_DISCARD = insert(garbage).from_select(
    ["key", "owner"],
    select(_expired.c.key, _expired.c.owner).where(~exists().where(garbage.c.key == _expired.c.key)),
)


class Uploads:
    """Uploads of all owners, one owner at a time."""

    def __init__(self, db: Database, now: Callable[[], float] = time.time) -> None:
        self._db = db
        self._now = now

    async def add(self, *new: Upload) -> None:
        """Record uploads whose bytes are in the store, in one transaction."""
        names = ("id", "owner", "key", "size", "created", "expires")
        rows = [
            {name: getattr(upload, name) for name in names} | {"name": clean(upload.name), "used": False}
            for upload in new
        ]
        if rows:
            await self._db.write(lambda connection: connection.execute(insert(uploads), rows).rowcount)

    async def get(self, owner: str, ids: Sequence[str]) -> list[Upload]:
        """The uploads, in the order asked for; raises :class:`NotFound`, naming the first that is not there."""
        return await self._db.read(lambda connection: _fetch(connection, owner, ids))

    async def expire(self, limit: int = 1000) -> int:
        """Forget up to ``limit`` expired uploads; the objects of unused ones become garbage. Returns how many."""
        now = self._now()

        def run(connection: Connection) -> int:
            old = select(uploads.c.id, uploads.c.key, uploads.c.owner, uploads.c.used).where(uploads.c.expires <= now)
            rows = connection.execute(old.order_by(uploads.c.expires).limit(limit)).all()
            if rows:
                unused = encode((row.key, row.owner) for row in rows if not row.used)
                connection.execute(_DISCARD, {"rows": unused})
                connection.execute(_FORGET, {"rows": encode((row.id,) for row in rows)})
            return len(rows)

        return await self._db.write(run)


def use_uploads(connection: Connection, owner: str, ids: Sequence[str]) -> None:
    """Mark uploads as used, in the transaction that uses them; raises :class:`NotFound`."""
    if ids:
        _fetch(connection, owner, ids)
        connection.execute(_USE, {"rows": encode((one,) for one in ids)})


def _fetch(connection: Connection, owner: str, ids: Sequence[str]) -> list[Upload]:
    parameters = {"rows": encode((clean(one),) for one in dict.fromkeys(ids)), "owner": owner}
    found = {row["id"]: upload_from(row) for row in connection.execute(_FETCH, parameters).mappings()}
    for one in ids:
        if one not in found:
            raise NotFound(f"There is no upload {one!r}; it may have expired. Send the file again.", upload=one)
    return [found[one] for one in ids]
