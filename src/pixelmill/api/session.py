"""Sessions: a page exchanges a token for a cookie that no script can read, asks who it is, and signs out."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from pixelmill import __version__
from pixelmill.api.auth import COOKIE, SCOPES, bearer_token, check_origin, check_own_page, relevant, session_secret
from pixelmill.api.dto import moment
from pixelmill.api.edge import Call
from pixelmill.api.responses import json_response
from pixelmill.api.routes import Routes, parameter
from pixelmill.api.schemas import Answer, Moment
from pixelmill.errors import AccessError, Unauthenticated
from pixelmill.jobs.sessions import LONGEST_S
from pixelmill.service import Caller

routes = Routes("session")

_UNCACHED = {"cache-control": "no-store"}
_COOKIE = {
    "Set-Cookie": {
        "description": f"`{COOKIE}`: HttpOnly, SameSite=Strict, and Secure where the request came by https",
        "schema": {"type": "string"},
    }
}


class LimitsBody(Answer):
    """What images and jobs may be; pixels count all frames, ``max_files`` is of one request."""

    max_bytes: int
    max_pixels: int
    max_side: int
    max_files: int


class SessionBody(Answer):
    """Who asks. ``expires`` is when the session ends unless it is used, null where there is none."""

    owner: Annotated[str | None, Field(description="Null for somebody who has to sign in", examples=["ann"])]
    scopes: Annotated[list[str], Field(description="What they may, with those that `admin` implies")]
    admin: bool
    tokens_needed: Annotated[bool, Field(description="False where everybody is the owner `local`")]
    expires: Moment | None
    version: str
    limits: LimitsBody


@routes.add(
    "POST",
    "/v1/session",
    scope=None,
    summary="Sign in: exchange a token for a session",
    problems=(401, 403, 429),
    model=SessionBody,
    status=201,
    answers={201: {"description": "Signed in", "headers": _COOKIE}},
    parameters=(
        parameter(
            "Authorization", "`Bearer pm_…`", {"type": "string"}, where="header", example="Bearer pm_…", must=True
        ),
    ),
)
async def begin_session(call: Call) -> Response:
    """For pages: from now on the cookie counts as the token, on every route.

    It ends 12 hours after its last use, 7 days after its beginning, or with its token. With it, requests that change
    something must come from a page of this service.
    """
    found = relevant(call.request.scope["headers"])
    check_origin(found)
    if b"authorization" not in found:
        raise Unauthenticated("Signing in needs a token: send `Authorization: Bearer pm_…`.")
    session, secret = await call.service.sessions.begin(bearer_token(found[b"authorization"]))
    headers = _UNCACHED | {"set-cookie": _cookie(call, secret, round(LONGEST_S))}
    return json_response(_body(call, session.caller, session.expires), 201, headers)


@routes.add("GET", "/v1/session", scope=None, summary="Who asks", model=SessionBody)
async def get_session(call: Call) -> Response:
    """Open to everybody, and always 200: `owner` is null for somebody who has to sign in."""
    headers = call.request.scope["headers"]
    try:
        caller: Caller | None = await call.edge.access.caller("GET", headers)
    except AccessError:
        caller = None
    found = relevant(headers)
    secret = session_secret(found.get(b"cookie", b""))
    expires = None
    if caller is not None and secret and b"authorization" not in found:
        try:
            session = await call.service.sessions.look(secret)
        except Unauthenticated:
            call.edge.access.forget_session(secret)
            caller = await _without_session(call)
        else:
            caller, expires = session.caller, session.expires
    return json_response(_body(call, caller, expires), headers=_UNCACHED)


@routes.add(
    "DELETE",
    "/v1/session",
    scope=None,
    summary="Sign out",
    problems=(403,),
    status=204,
    answers={204: {"description": "The session has ended, if there was one", "headers": _COOKIE}},
)
async def end_session(call: Call) -> Response:
    """Ends the session of the cookie, and takes the cookie away."""
    found = relevant(call.request.scope["headers"])
    secret = session_secret(found.get(b"cookie", b""))
    if secret:
        check_own_page(found)
        call.edge.access.forget_session(secret)
        await call.service.sessions.end(secret)
    return Response(status_code=204, headers={"set-cookie": _cookie(call, "", 0)})


async def _without_session(call: Call) -> Caller | None:
    """Who asks when the cookie is left out."""
    others = [(name, value) for name, value in call.request.scope["headers"] if name != b"cookie"]
    try:
        return await call.edge.access.caller("GET", others)
    except AccessError:
        return None


def _cookie(call: Call, secret: str, seconds: int) -> str:
    secure = "; Secure" if call.request.scope["scheme"] == "https" else ""
    return f"{COOKIE}={secret}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict{secure}"


def _body(call: Call, caller: Caller | None, expires: float | None) -> dict[str, Any]:
    scopes = frozenset() if caller is None else caller.scopes
    admin = "admin" in scopes
    limits, settings = call.edge.limits, call.edge.settings
    return {
        "owner": None if caller is None else caller.owner,
        "scopes": [scope for scope in SCOPES if admin or scope in scopes],
        "admin": admin,
        "tokens_needed": settings.tokens_needed,
        "expires": moment(expires),
        "version": __version__,
        "limits": {
            "max_bytes": limits.max_bytes,
            "max_pixels": limits.max_pixels,
            "max_side": limits.max_side,
            "max_files": settings.max_form_files,
        },
    }
