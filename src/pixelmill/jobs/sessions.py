"""Sessions: what a browser holds in place of a token, in a cookie that no script can read.

A session is bound to the token that it was exchanged for: it has that token's owner and scopes, and ends with it. Only
a hash of its secret is stored.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, func, insert, or_, select, update

from pixelmill.errors import Busy, CapacityError, StorageError, Unauthenticated
from pixelmill.jobs.database import Database
from pixelmill.jobs.schema import sessions, tokens
from pixelmill.jobs.tokens import Token, token_from

IDLE_S = 12 * 3600.0
"""A session that nobody uses ends so long after its last use."""
LONGEST_S = 7 * 24 * 3600.0
"""And any session so long after its beginning."""
MAX_PER_TOKEN = 100
MAX_A_MINUTE = 30
"""Sessions that one token may begin within a minute: each is a write."""
SEEN_EVERY_S = 60.0
"""``seen`` is written at most so often, so that requests cost no write."""
PRUNED = 10_000
"""Rows that one round of housekeeping removes at most."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session that is valid now, the token it stands for, and when it ends unless it is used again."""

    token: Token
    expires: float


class Sessions:
    """Sessions of all tokens."""

    def __init__(self, db: Database, now: Callable[[], float] = time.time) -> None:
        self._db = db
        self._now = now

    async def create(self, token: Token) -> tuple[Session, str]:
        """A new session of that token, and its secret (256 random bits), which can't be had again.

        The token's oldest sessions go where it has :data:`MAX_PER_TOKEN`. Raises :class:`Busy` for a token that begins
        more than :data:`MAX_A_MINUTE`.
        """
        secret = secrets.token_urlsafe(32)
        now = self._now()
        values = {"hash": _hash(secret), "token": token.id, "owner": token.owner, "created": now, "seen": now}

        def run(connection: Connection) -> None:
            mine = sessions.c.token == token.id
            recent = select(func.count()).select_from(sessions).where(mine, sessions.c.created > now - 60.0)
            if (connection.execute(recent).scalar() or 0) >= MAX_A_MINUTE:
                raise Busy(
                    f"This token has begun {MAX_A_MINUTE} sessions within a minute. Keep the cookie of one.",
                    retry_after=60,
                )
            connection.execute(insert(sessions), values)
            newest = select(sessions.c.hash).where(mine).order_by(sessions.c.created.desc()).limit(MAX_PER_TOKEN)
            connection.execute(delete(sessions).where(mine, sessions.c.hash.not_in(newest)))

        await self._db.write(run)
        return Session(token, _expires(token, now, now)), secret

    async def look(self, secret: str) -> Session:
        """The session of a secret, which counts as its use; raises :class:`Unauthenticated`, whatever is wrong."""
        query = (
            select(tokens, sessions.c.created.label("begun"), sessions.c.seen)
            .select_from(sessions.join(tokens, tokens.c.id == sessions.c.token))
            .where(sessions.c.hash == _hash(secret))
        )
        row = await self._db.read(lambda connection: connection.execute(query).mappings().one_or_none())
        now = self._now()
        if row is None or row["revoked"] is not None:
            raise _ended()
        token, begun, seen = token_from(row), row["begun"], row["seen"]
        if _expires(token, begun, seen) <= now:
            raise _ended()
        if seen <= now - SEEN_EVERY_S:
            touch = update(sessions).where(sessions.c.hash == _hash(secret)).values(seen=now)
            # A full disk must not lock out who comes to delete something.
            with suppress(CapacityError, StorageError):
                await self._db.write(lambda connection: connection.execute(touch).rowcount)
                seen = now
        return Session(token, _expires(token, begun, seen))

    async def end(self, secret: str) -> None:
        """End it; one that is not there is no error."""
        gone = delete(sessions).where(sessions.c.hash == _hash(secret))
        await self._db.write(lambda connection: connection.execute(gone).rowcount)

    async def prune(self) -> int:
        """Remove sessions that have ended, or whose token has; returns how many."""
        now = self._now()
        valid = exists().where(
            tokens.c.id == sessions.c.token,
            tokens.c.revoked.is_(None),
            or_(tokens.c.expires.is_(None), tokens.c.expires > now),
        )
        ended = or_(sessions.c.seen <= now - IDLE_S, sessions.c.created <= now - LONGEST_S, ~valid)
        some = select(sessions.c.hash).where(ended).limit(PRUNED)
        gone = delete(sessions).where(sessions.c.hash.in_(some))
        return await self._db.write(lambda connection: connection.execute(gone).rowcount)


def _ended() -> Unauthenticated:
    return Unauthenticated("The session has ended. Sign in again with a token.")


def _expires(token: Token, begun: float, seen: float) -> float:
    return min(seen + IDLE_S, begun + LONGEST_S, math.inf if token.expires is None else token.expires)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
