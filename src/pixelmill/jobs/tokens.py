"""Tokens: who may ask for what. Only a hash is stored; the secret is shown once."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from pixelmill.errors import CapacityError, ConfigError, InvalidURI, NotFound, StorageError, Unauthenticated
from pixelmill.jobs.database import Database
from pixelmill.jobs.rows import clean, dumps
from pixelmill.jobs.schema import tokens
from pixelmill.storage.keys import check_key

PREFIX = "pm_"
MAX_OWNER = 200
"""Bytes of an owner's name: it is a part of the keys of objects."""
USED_EVERY_S = 60.0
"""``last_used`` is written at most so often, so that requests cost no write."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token; times are seconds since the epoch."""

    id: str
    owner: str
    name: str
    scopes: frozenset[str]
    created: float
    expires: float | None = None
    last_used: float | None = None
    revoked: float | None = None


def check_owner(owner: str) -> str:
    """The owner, if objects may lie below this name; raises :class:`ConfigError`."""
    try:
        check_key(owner)
        good = "/" not in owner and len(owner.encode()) <= MAX_OWNER
    except InvalidURI:
        good = False
    if not good:
        raise ConfigError(
            f"The owner {owner[:60]!r} can't be used: it has 1 to {MAX_OWNER} bytes, is not '.' or '..', and holds no "
            "slash, backslash or control character. Choose another name, such as 'ann' or 'ann@example.org'."
        )
    return owner


class Tokens:
    """Tokens of all owners."""

    def __init__(self, db: Database, now: Callable[[], float] = time.time) -> None:
        self._db = db
        self._now = now

    async def create(
        self, owner: str, name: str, scopes: Iterable[str], expires: float | None = None
    ) -> tuple[Token, str]:
        """A new token and its secret (``pm_`` and 256 random bits), which can't be had again.

        Raises :class:`ConfigError` for an owner that can't be part of the key of an object.
        """
        check_owner(owner)
        secret = PREFIX + secrets.token_urlsafe(32)
        token = Token(
            id=secrets.token_hex(8),
            owner=owner,
            name=clean(name),
            scopes=frozenset(scopes),
            created=self._now(),
            expires=expires,
        )
        values: Mapping[str, Any] = {
            "id": token.id,
            "owner": owner,
            "name": token.name,
            "scopes": dumps(sorted(token.scopes)),
            "hash": _hash(secret),
            "created": token.created,
            "expires": expires,
        }
        await self._db.write(lambda connection: connection.execute(insert(tokens), values).rowcount)
        return token, secret

    async def authenticate(self, secret: str) -> Token:
        """The token of a secret; raises :class:`Unauthenticated`, with the same words whatever is wrong.

        The look-up is by hash, so its time tells nothing of the secret. 256 random bits need no slow hash.
        """
        query = select(tokens).where(tokens.c.hash == _hash(secret))
        row = await self._db.read(lambda connection: connection.execute(query).mappings().one_or_none())
        now = self._now()
        if row is None or row["revoked"] is not None or (row["expires"] is not None and row["expires"] <= now):
            raise Unauthenticated(
                "The token is unknown, expired or revoked. Create one with `pixelmill tokens create`."
            )
        if row["last_used"] is None or row["last_used"] <= now - USED_EVERY_S:
            touch = update(tokens).where(tokens.c.id == row["id"]).values(last_used=now)
            # A full disk must not lock out who comes to delete something.
            with suppress(CapacityError, StorageError):
                await self._db.write(lambda connection: connection.execute(touch).rowcount)
        return token_from(row)

    async def list(self, owner: str | None = None) -> list[Token]:
        """Tokens (of an owner), oldest first, revoked ones included."""
        query = select(tokens).order_by(tokens.c.created, tokens.c.id)
        if owner is not None:
            query = query.where(tokens.c.owner == owner)
        return await self._db.read(lambda c: [token_from(row) for row in c.execute(query).mappings()])

    async def revoke(self, token_id: str, owner: str | None = None) -> None:
        """End a token (of an owner); raises :class:`NotFound`. Revoking twice is no error."""

        def run(connection: Connection) -> None:
            mine = [tokens.c.id == token_id] + ([] if owner is None else [tokens.c.owner == owner])
            if connection.execute(select(tokens.c.id).where(*mine)).first() is None:
                raise NotFound(f"There is no token {token_id!r}.", token=token_id)
            connection.execute(update(tokens).where(*mine, tokens.c.revoked.is_(None)).values(revoked=self._now()))

        await self._db.write(run)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def token_from(row: RowMapping) -> Token:
    """A token from a row of ``tokens``."""
    return Token(
        id=row["id"],
        owner=row["owner"],
        name=row["name"],
        scopes=frozenset(json.loads(row["scopes"])),
        created=row["created"],
        expires=row["expires"],
        last_used=row["last_used"],
        revoked=row["revoked"],
    )
