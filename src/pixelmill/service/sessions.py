"""Verbs on sessions: a token is exchanged for one, and it stands for the token from then on."""

from __future__ import annotations

from dataclasses import dataclass

from pixelmill.jobs.sessions import Session
from pixelmill.service.caller import Caller
from pixelmill.service.parts import Parts


@dataclass(frozen=True, slots=True)
class SessionFound:
    """Who a session is of, and when it ends unless it is used again (seconds since the epoch)."""

    caller: Caller
    expires: float


class SessionVerbs:
    """Of this service's database."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def begin(self, token: str) -> tuple[SessionFound, str]:
        """A session of the token, and its secret. Raises :class:`Unauthenticated`, and :class:`Busy` for too many."""
        known = await self._parts.tokens.authenticate(token)
        session, secret = await self._parts.sessions.create(known)
        return _found(session), secret

    async def look(self, secret: str) -> SessionFound:
        """The session of a secret, which counts as its use; raises :class:`Unauthenticated`."""
        return _found(await self._parts.sessions.look(secret))

    async def end(self, secret: str) -> None:
        """End a session; one that is not there is no error."""
        await self._parts.sessions.end(secret)


def _found(session: Session) -> SessionFound:
    return SessionFound(Caller(session.token.owner, session.token.scopes), session.expires)
