"""Who may ask what: tokens, scopes, owners, and what keeps web pages from using a service without tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest
from live_service import LiveService, assert_problem

from pixelmill.api import auth
from pixelmill.api.auth import Access, check_address
from pixelmill.api.settings import ApiSettings, is_loopback
from pixelmill.errors import ConfigError, Unauthenticated
from pixelmill.service import Caller

ALL = ["process", "jobs:read", "jobs:write"]
PIPELINE = "grayscale/format:png"


class NoSessions:
    """The half of an authenticator that these tests don't ask."""

    async def authenticate_session(self, secret: str) -> Caller:
        raise Unauthenticated("No.")


class OneToken(NoSessions):
    """The smallest authenticator: one good token, and a count of how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def authenticate(self, token: str) -> Caller:
        self.asked += 1
        if token != "pm_good":
            raise Unauthenticated("No.")
        return Caller("alice", frozenset({"process"}))


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"example.org"), (b"authorization", f"Bearer {token}".encode())]


def test_a_good_token_is_remembered_for_a_while_and_a_bad_one_never() -> None:
    now = 0.0
    known = OneToken()

    async def ask() -> None:
        nonlocal now
        access = Access(known, ApiSettings(), clock=lambda: now)
        for _ in range(5):
            assert (await access.caller("POST", bearer("pm_good"))).owner == "alice"
        assert known.asked == 1
        now += auth.REMEMBERED_S
        await access.caller("POST", bearer("pm_good"))
        assert known.asked == 2
        for _ in range(3):
            with pytest.raises(Unauthenticated):
                await access.caller("GET", bearer("pm_bad"))
        assert known.asked == 5

    anyio.run(ask)


def test_only_so_many_tokens_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    class Anybody(NoSessions):
        async def authenticate(self, token: str) -> Caller:
            return Caller(token, frozenset())

    async def ask() -> None:
        access = Access(Anybody(), ApiSettings())
        for number in range(20):
            await access.caller("GET", bearer(f"pm_{number}"))
        assert len(access._known) == 8

    monkeypatch.setattr(auth, "MAX_REMEMBERED", 8)
    anyio.run(ask)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "127.8.8.8", "app.localhost", "localhost."]
)
def test_loopback_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "localhost.example.org", "::", "", "127.0.0.1.nip.io"])
def test_other_names(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("settings", [ApiSettings(host="0.0.0.0"), ApiSettings(require_tokens=True)])
def test_an_address_that_others_reach_needs_a_token_that_exists(settings: ApiSettings) -> None:
    with pytest.raises(ConfigError, match="tokens create"):
        check_address(settings, has_tokens=False)
    check_address(settings, has_tokens=True)


def test_an_insecure_service_needs_none() -> None:
    check_address(ApiSettings(host="0.0.0.0", insecure=True), has_tokens=False)


def test_a_service_beyond_loopback_without_tokens_does_not_start(tmp_path: Path) -> None:
    with LiveService(tmp_path / "data", api={"host": "0.0.0.0"}) as service:
        assert service.url == ""
        assert service.refusal.startswith("invalid-configuration Listening on 0.0.0.0 needs at least one token")
        assert service.process.returncode == 2


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "192.168.1.9", "127.0.0.1.nip.io:8080"])
def test_without_a_token_the_host_must_be_this_machine(client: httpx.Client, host: str) -> None:
    assert_problem(client.get("/v1/jobs", headers={"host": host}), 403, "forbidden")


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1", "[::1]:8080"])
def test_any_name_of_this_machine_will_do(client: httpx.Client, host: str) -> None:
    assert client.get("/v1/jobs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:3000"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/process"), ("POST", "/v1/jobs"), ("PUT", "/v1/uploads/x"), ("DELETE", "/v1/jobs/x")],
)
def test_a_page_of_another_origin_changes_nothing(
    client: httpx.Client, headers: dict[str, str], method: str, path: str
) -> None:
    assert_problem(client.request(method, path, headers=headers), 403, "forbidden")


def test_the_service_s_own_pages_may_ask(client: httpx.Client, shared_service: LiveService) -> None:
    headers = {"origin": shared_service.url, "sec-fetch-site": "same-origin"}
    assert client.put("/v1/uploads/a.jpg", content=b"x", headers=headers).status_code == 201


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A service that needs tokens: those of alice and bob (all but admin), of a reader of alice's, and of an admin."""
    owners = [
        {"owner": "alice", "scopes": ALL},
        {"owner": "bob", "scopes": ALL},
        {"owner": "alice", "scopes": ["jobs:read"]},
        {"owner": "root", "scopes": ["admin"]},
    ]
    folder = tmp_path_factory.mktemp("guarded")
    with LiveService(folder / "data", api={"require_tokens": True}, tokens=owners) as service:
        yield service
        assert service.stop() == 0


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/v1/problems/busy", "/v1/openapi.json"])
def test_some_things_are_open_to_everybody(guarded: LiveService, path: str) -> None:
    with guarded.client() as client:
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer  x y", "Basic YTpi", "Bearer pm_wrong", "Bearer " + "x" * 5000]
)
def test_everything_else_needs_a_valid_token(guarded: LiveService, header: str) -> None:
    with guarded.client() as client:
        headers = {"authorization": header} if header else {}
        for path in ("/v1/jobs", "/v1/operations", "/metrics", "/v1/events", "/v1/nodes"):
            answer = client.get(path, headers=headers)
            assert_problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "pm_wrong" not in guarded.log()


def test_a_token_covers_its_scopes_only(guarded: LiveService, pictures: list[bytes]) -> None:
    alice, _, reader, admin = guarded.tokens
    with guarded.client(reader) as client:
        assert client.get("/v1/jobs").status_code == 200
        assert_problem(client.post("/v1/process", params={"pipeline": PIPELINE}, content=pictures[0]), 403, "forbidden")
        assert_problem(client.put("/v1/uploads/x", content=b"x"), 403, "forbidden")
        assert_problem(client.get("/v1/operations"), 403, "forbidden")
        assert_problem(client.get("/metrics"), 403, "forbidden")
    with guarded.client(alice) as client:
        assert client.post("/v1/process", params={"pipeline": PIPELINE}, content=pictures[0]).status_code == 200
        assert_problem(client.get("/v1/nodes"), 403, "forbidden")
    with guarded.client(admin) as client:
        assert client.get("/v1/nodes").status_code == 200
        assert b"pixelmill_http_requests_total" in client.get("/metrics").content
        assert client.get("/v1/jobs").status_code == 200


def test_owners_see_only_what_is_theirs(guarded: LiveService, pictures: list[bytes]) -> None:
    alice, bob, reader, admin = guarded.tokens
    with guarded.client(alice) as client:
        files = [("files", ("a.jpg", pictures[0]))]
        job = client.post("/v1/jobs", data={"pipeline": PIPELINE}, files=files).json()
        with client.stream("GET", f"/v1/jobs/{job['id']}/events", params={"after": 0}) as stream:
            list(stream.iter_lines())
        task = client.get(f"/v1/jobs/{job['id']}/tasks").json()["items"][0]
        upload = client.put("/v1/uploads/a.jpg", content=pictures[0]).json()
    with guarded.client(reader) as client:
        assert [item["id"] for item in client.get("/v1/jobs").json()["items"]] == [job["id"]]
        assert client.get(f"/v1/tasks/{task['id']}/result").status_code == 200
    reads = [
        f"/v1/jobs/{job['id']}",
        f"/v1/jobs/{job['id']}/tasks",
        f"/v1/jobs/{job['id']}/events?after=0",
        f"/v1/jobs/{job['id']}/archive",
        f"/v1/jobs/{job['id']}/montage",
        f"/v1/tasks/{task['id']}",
        f"/v1/tasks/{task['id']}/result",
        f"/v1/tasks/{task['id']}/result/link",
        f"/v1/tasks/{task['id']}/input",
    ]
    with guarded.client(bob) as client:
        assert client.get("/v1/jobs").json()["items"] == []
        for path in reads:
            assert_problem(client.get(path), 404, "not-found")
        for verb in ("cancel", "retry", "seal"):
            assert_problem(client.post(f"/v1/jobs/{job['id']}/{verb}"), 404, "not-found")
        assert_problem(client.delete(f"/v1/jobs/{job['id']}"), 404, "not-found")
        for path in ("/v1/jobs?all=1", "/v1/jobs?owner=alice", "/v1/events?all=1"):
            assert_problem(client.get(path), 403, "forbidden")
        assert client.get("/v1/jobs?owner=bob").json()["items"] == []
    with guarded.client(admin) as client:
        assert client.get("/v1/jobs").json()["items"] == []
        for path in reads:
            assert client.get(path).status_code == 200, path
        assert_problem(client.post(f"/v1/jobs/{job['id']}/seal"), 404, "not-found")
    for stranger in (bob, admin):
        with guarded.client(stranger) as client:
            answer = client.post("/v1/jobs", json={"pipeline": PIPELINE, "uploads": [upload["id"]]})
            assert_problem(answer, 404, "not-found")


def submit(client: httpx.Client, picture: bytes, name: str) -> str:
    """A job of one picture that has ended."""
    job = client.post(
        "/v1/jobs", data={"pipeline": PIPELINE, "name": name}, files=[("files", ("a.jpg", picture))]
    ).json()
    assert job["owner"] in {"alice", "bob"}
    with client.stream("GET", f"/v1/jobs/{job['id']}/events", params={"after": 0}) as stream:
        list(stream.iter_lines())
    return str(job["id"])


def test_an_admin_lists_searches_and_manages_the_jobs_of_all(guarded: LiveService, pictures: list[bytes]) -> None:
    alice, bob, _, admin = guarded.tokens
    with guarded.client(alice) as client:
        hers = submit(client, pictures[0], "Seaside")
    with guarded.client(bob) as client:
        his = submit(client, pictures[1], "seaside too")
    with guarded.client(admin) as client:

        def listed(**params: str) -> list[tuple[str, str]]:
            items = client.get("/v1/jobs", params=params).json()["items"]
            return [(item["id"], item["owner"]) for item in items]

        assert listed(all="1", q="SEASIDE") == [(his, "bob"), (hers, "alice")]
        assert listed(all="1", q="SEASIDE", owner="alice") == [(hers, "alice")]
        assert listed(owner="bob", q=his.upper(), state="succeeded") == [(his, "bob")]
        assert listed(all="1", q="SEASIDE", state="failed") == []
        page = client.get("/v1/jobs", params={"all": "1", "q": "seaside", "limit": 1}).json()
        rest = client.get("/v1/jobs", params={"all": "1", "q": "seaside", "limit": 1, "cursor": page["next"]}).json()
        assert [item["id"] for item in (*page["items"], *rest["items"])] == [his, hers]
        assert_problem(client.get("/v1/jobs", params={"q": "x" * 201}), 400, "invalid-request")
        assert client.post(f"/v1/jobs/{his}/cancel").json()["state"] == "succeeded"
        assert_problem(client.post(f"/v1/jobs/{his}/retry"), 409, "illegal-transition")
        assert client.delete(f"/v1/jobs/{his}").status_code == 204
        assert_problem(client.get(f"/v1/jobs/{his}"), 404, "not-found")
        with client.stream("GET", "/v1/events", params={"all": "1", "after": 0}) as stream:
            owners = set()
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    owners.add(event["owner"])
                    if (event["job"], event.get("id")) == (his, his) and "state" not in event:
                        break
        assert owners == {"alice", "bob"}
    with guarded.client(bob) as client:
        assert_problem(client.get(f"/v1/jobs/{his}"), 404, "not-found")
