"""Signing in: a token is exchanged for a cookie, which counts as the token, and protects against foreign pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie

import anyio
import httpx
import pytest
from live_service import LiveService, assert_problem

from pixelmill import __version__
from pixelmill.api import auth
from pixelmill.api.auth import COOKIE, Access, session_secret
from pixelmill.api.session import SessionBody
from pixelmill.api.settings import ApiSettings
from pixelmill.errors import Unauthenticated
from pixelmill.service import Caller

ALL = ["process", "jobs:read", "jobs:write"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A service that needs tokens: those of ann, of a reader, of an admin, and of a node."""
    owners = [
        {"owner": "ann", "scopes": ALL},
        {"owner": "ann", "scopes": ["jobs:read"]},
        {"owner": "root", "scopes": ["admin"]},
        {"owner": "node", "scopes": ["node"]},
    ]
    folder = tmp_path_factory.mktemp("sessions")
    with LiveService(folder / "data", api={"require_tokens": True}, tokens=owners) as service:
        yield service
        assert service.stop() == 0


def sign_in(client: httpx.Client, token: str, **headers: str) -> httpx.Response:
    return client.post("/v1/session", headers={"authorization": f"Bearer {token}", **headers})


def own(service: LiveService) -> dict[str, str]:
    """What a browser sends from the service's own page."""
    return {"origin": service.url, "sec-fetch-site": "same-origin"}


def who(client: httpx.Client, **headers: str) -> SessionBody:
    answer = client.get("/v1/session", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return SessionBody.model_validate(answer.json())


def test_a_token_is_exchanged_for_a_cookie_that_scripts_can_t_read(guarded: LiveService) -> None:
    with guarded.client() as client:
        answer = sign_in(client, guarded.tokens[0])
        assert answer.status_code == 201
        body = SessionBody.model_validate(answer.json())
        assert (body.owner, body.scopes, body.admin, body.tokens_needed) == ("ann", ALL, False, True)
        assert body.expires is not None
        assert body.version == __version__
        cookie = SimpleCookie(answer.headers["set-cookie"])[COOKIE]
        assert len(cookie.value) >= 43
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
        assert int(cookie["max-age"]) == 7 * 24 * 3600
        assert not cookie["secure"]
        assert who(client) == body
        assert client.get("/v1/jobs").status_code == 200
        assert cookie.value not in guarded.log()


@pytest.mark.parametrize("trusted", [True, False])
def test_the_cookie_is_secure_where_a_trusted_proxy_says_https(guarded: LiveService, trusted: bool) -> None:
    if trusted:
        with guarded.client() as client:
            answer = sign_in(client, guarded.tokens[0], **{"x-forwarded-proto": "https"})
            assert SimpleCookie(answer.headers["set-cookie"])[COOKIE]["secure"]
        return
    data = guarded.data.parent / "untrusting"
    tokens = [{"owner": "ann", "scopes": ALL}]
    api = {"trusted_proxies": ["192.0.2.1"]}
    with LiveService(data, api=api, tokens=tokens) as service, service.client() as client:
        answer = sign_in(client, service.tokens[0], **{"x-forwarded-proto": "https"})
        assert not SimpleCookie(answer.headers["set-cookie"])[COOKIE]["secure"]


@pytest.mark.parametrize("header", ["", "Bearer", "Basic YTpi", "Bearer pm_wrong", "Bearer " + "x" * 5000])
def test_without_a_good_token_nobody_signs_in(guarded: LiveService, header: str) -> None:
    with guarded.client() as client:
        answer = client.post("/v1/session", headers={"authorization": header} if header else {})
        assert_problem(answer, 401, "unauthenticated")
        assert "set-cookie" not in answer.headers


def test_a_foreign_page_signs_nobody_in(guarded: LiveService) -> None:
    with guarded.client() as client:
        assert_problem(sign_in(client, guarded.tokens[0], origin="https://evil.example"), 403, "forbidden")


def test_who_asks_is_told_to_everybody(guarded: LiveService, client: httpx.Client) -> None:
    with guarded.client() as stranger:
        body = who(stranger)
        assert (body.owner, body.scopes, body.admin, body.expires, body.tokens_needed) == (None, [], False, None, True)
        assert body.limits.max_bytes == 100_000_000
        assert body.limits.max_files == 100_000
        assert who(stranger, authorization=f"Bearer {guarded.tokens[2]}").admin
        assert who(stranger, authorization="Bearer pm_wrong").owner is None
        assert who(stranger, cookie=f"{COOKIE}=wrong").owner is None
    local = who(client)
    assert (local.owner, local.admin, local.tokens_needed, local.expires) == ("local", True, False, None)
    assert who(client, host="evil.example").owner is None


def test_a_session_has_its_token_s_scopes_and_no_more(guarded: LiveService) -> None:
    with guarded.client() as client:
        sign_in(client, guarded.tokens[1])
        assert client.get("/v1/jobs").status_code == 200
        assert_problem(client.get("/v1/operations"), 403, "forbidden")
        assert_problem(client.put("/v1/uploads/x", content=b"x", headers=own(guarded)), 403, "forbidden")
    with guarded.client() as client:
        assert sign_in(client, guarded.tokens[2]).json()["scopes"] == [*ALL, "node", "admin"]
        assert client.get("/v1/nodes").status_code == 200


def test_a_token_in_the_request_goes_before_the_cookie(guarded: LiveService) -> None:
    with guarded.client() as client:
        sign_in(client, guarded.tokens[1])
        headers = {"authorization": f"Bearer {guarded.tokens[0]}"}
        assert client.put("/v1/uploads/x", content=b"x", headers=headers).status_code == 201
        assert_problem(client.get("/v1/jobs", headers={"authorization": "Bearer pm_wrong"}), 401, "unauthenticated")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": ""},
        {"origin": "null"},
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_with_a_cookie_only_our_own_pages_change_anything(guarded: LiveService, headers: dict[str, str]) -> None:
    with guarded.client() as client:
        sign_in(client, guarded.tokens[0])
        for method, path in (("PUT", "/v1/uploads/x"), ("POST", "/v1/jobs"), ("DELETE", "/v1/session")):
            assert_problem(client.request(method, path, headers=headers), 403, "forbidden")
        assert client.get("/v1/jobs", headers=headers).status_code == 200
        assert who(client).owner == "ann"


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "same-origin"}, {"origin": "OWN"}])
def test_our_own_pages_change_things_with_a_cookie(guarded: LiveService, headers: dict[str, str]) -> None:
    sent = {name: guarded.url if value == "OWN" else value for name, value in headers.items()}
    with guarded.client() as client:
        sign_in(client, guarded.tokens[0])
        assert client.put("/v1/uploads/x", content=b"x", headers=sent).status_code == 201


def test_signing_out_ends_the_session_at_once(guarded: LiveService) -> None:
    with guarded.client() as client:
        sign_in(client, guarded.tokens[0])
        secret = client.cookies[COOKIE]
        assert client.get("/v1/jobs").status_code == 200
        answer = client.delete("/v1/session", headers=own(guarded))
        assert answer.status_code == 204
        assert SimpleCookie(answer.headers["set-cookie"])[COOKIE]["max-age"] == "0"
        assert COOKIE not in client.cookies
        assert_problem(client.get("/v1/jobs", headers={"cookie": f"{COOKIE}={secret}"}), 401, "unauthenticated")
        assert client.delete("/v1/session").status_code == 204


def test_a_session_survives_the_service(start: Callable[..., LiveService]) -> None:
    first = start(api={"require_tokens": True}, tokens=[{"owner": "ann", "scopes": ALL}])
    with first.client() as client:
        sign_in(client, first.tokens[0])
        secret = client.cookies[COOKIE]
    assert first.stop() == 0
    second = start(data=first.data, api={"require_tokens": True})
    with second.client() as client:
        assert who(client, cookie=f"a=b; {COOKIE}={secret}; c=d").owner == "ann"


def test_where_nobody_needs_a_token_a_strange_cookie_is_ignored(
    client: httpx.Client, shared_service: LiveService
) -> None:
    cookie = {"cookie": f"{COOKIE}=of-another-service"}
    assert client.get("/v1/jobs", headers=cookie).status_code == 200
    assert client.put("/v1/uploads/x", content=b"x", headers=cookie | own(shared_service)).status_code == 201
    assert_problem(client.get("/v1/jobs", headers=cookie | {"host": "evil.example"}), 403, "forbidden")


def test_a_session_does_not_join_as_a_node_from_a_page_of_another_port(guarded: LiveService) -> None:
    with guarded.client() as client:
        sign_in(client, guarded.tokens[3])
        upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
        headers = upgrade | {"sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==", "origin": "http://127.0.0.1:3000"}
        assert client.get("/v1/nodes/join", headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("cookies", "secret"),
    [
        (b"", ""),
        (b"pixelmill_session=abc", "abc"),
        (b"a=1;  pixelmill_session=abc ; b=2", "abc"),
        (b"xpixelmill_session=abc", ""),
        (b"pixelmill_session", ""),
        (b"pixelmill_session=" + b"x" * 257, ""),
        (b"pixelmill_session=\xff", "\xff"),
    ],
)
def test_the_secret_is_found_among_cookies(cookies: bytes, secret: str) -> None:
    assert session_secret(cookies) == secret


class OneSession:
    """One session that is good until it is revoked, and counts of what was asked."""

    def __init__(self) -> None:
        self.asked, self.good = 0, True

    async def authenticate(self, token: str) -> Caller:
        raise Unauthenticated("No.")

    async def authenticate_session(self, secret: str) -> Caller:
        self.asked += 1
        if not self.good or secret != "good":
            raise Unauthenticated("No.")
        return Caller("ann", frozenset({"process"}))


def test_a_session_is_remembered_for_thirty_seconds_at_most_and_is_no_token() -> None:
    now = 0.0
    known = OneSession()
    good = [(b"host", b"example.org"), (b"cookie", b"pixelmill_session=good")]

    async def ask() -> None:
        nonlocal now
        access = Access(known, ApiSettings(require_tokens=True), clock=lambda: now)
        for _ in range(5):
            assert (await access.caller("GET", good)).owner == "ann"
        assert known.asked == 1
        with pytest.raises(Unauthenticated):
            await access.caller("GET", [(b"authorization", b"Bearer good")])
        known.good = False
        now += auth.REMEMBERED_S
        for _ in range(2):
            with pytest.raises(Unauthenticated):
                await access.caller("GET", good)
        assert known.asked == 3
        assert auth.REMEMBERED_S <= 30

    anyio.run(ask)
