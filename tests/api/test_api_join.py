"""Who may join as a node, and what the service's other work notices of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from live_service import LiveService
from node_tools import closed, heard, hello, raw, until
from websockets.exceptions import InvalidStatus

from pixelmill.targets.link import MAX_MESSAGE, encode_control


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    scopes = (["node"], ["process", "jobs:read", "jobs:write"], ["admin"])
    tokens = [{"owner": "alice", "scopes": wanted} for wanted in scopes]
    folder = tmp_path_factory.mktemp("hub")
    with LiveService(folder / "data", api={"require_tokens": True}, tokens=tokens) as service:
        yield service
        assert service.stop() == 0


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("which", "status", "slug"),
    [(None, 401, "unauthenticated"), ("pm_wrong", 401, "unauthenticated"), (1, 403, "forbidden")],
)
@pytest.mark.anyio
async def test_without_a_token_of_the_scope_node_nobody_joins(
    guarded: LiveService, which: int | str | None, status: int, slug: str
) -> None:
    token = guarded.tokens[which] if isinstance(which, int) else which
    with pytest.raises(InvalidStatus) as caught:
        async with raw(guarded.url, additional_headers=bearer(token) if token else {}):
            pass
    assert caught.value.response.status_code == status
    assert json.loads(caught.value.response.body or b"")["type"] == f"/v1/problems/{slug}"


@pytest.mark.anyio
async def test_a_page_of_another_origin_may_not_join_where_no_token_is_needed(shared_service: LiveService) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with raw(shared_service.url, origin="https://evil.example"):
            pass
    assert caught.value.response.status_code == 403
    async with raw(shared_service.url, hello("local-one")) as connection:
        assert (await heard(connection, "welcome"))["name"] == "local-one"


@pytest.mark.anyio
async def test_a_token_for_nodes_is_good_for_nothing_else(guarded: LiveService) -> None:
    with guarded.client(guarded.tokens[0]) as client:
        for path in ("/v1/jobs", "/v1/nodes", "/metrics", "/v1/load"):
            assert client.get(path).status_code == 403


@pytest.mark.anyio
async def test_a_node_is_listed_while_it_is_here_and_only_then(guarded: LiveService) -> None:
    with guarded.client(guarded.tokens[2]) as client:

        def named(name: str) -> dict[str, object] | None:
            items = client.get("/v1/nodes").json()["items"]
            return next((item for item in items if item["name"] == name), None)

        async with raw(guarded.url, hello("listed"), additional_headers=bearer(guarded.tokens[0])) as connection:
            await heard(connection, "welcome")
            load = {"load": [20.0, 30.0, 15.0, 5.0, 1000], "running": 0, "capacity": 2, "restarts": 0}
            await connection.send(encode_control(load | {"healthy": True, "reason": ""}))
            await until(lambda: (named("listed") or {}).get("now") is not None)
            node = named("listed")
            assert node is not None
            assert node["kind"] == "joined"
            assert node["now"]["host_cpu"] == 20.0  # type: ignore[index]  # JSON
            assert node["target"]["gate"]["rule"] == "auto"  # type: ignore[index]  # JSON
            assert 'pixelmill_node_cpu_percent{node="listed",part="own"} 15.0' in client.get("/metrics").text
        await until(lambda: named("listed") is None)
        assert 'node="listed"' not in client.get("/metrics").text


@pytest.mark.parametrize("message", ["text", b"", b"\xff" * 1000, bytes(MAX_MESSAGE + 1)])
@pytest.mark.anyio
async def test_rubbish_closes_its_connection_and_no_other(guarded: LiveService, message: bytes | str) -> None:
    headers = bearer(guarded.tokens[0])
    async with raw(guarded.url, hello("good"), additional_headers=headers) as good:
        await heard(good, "welcome")
        async with raw(guarded.url, additional_headers=headers) as bad:
            await bad.send(message)
            await closed(bad)
        await heard(good, "beat")
    with guarded.client() as client:
        assert client.get("/healthz").status_code == 200
    assert "Traceback" not in guarded.log()


@pytest.mark.anyio
async def test_other_paths_take_no_websockets_and_the_join_path_no_requests(shared_service: LiveService) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with raw(f"{shared_service.url}/elsewhere"):
            pass
    assert caught.value.response.status_code == 403
    with shared_service.client() as client:
        assert client.get("/v1/nodes/join").status_code == 404


def test_load_tells_slots_and_gate(client: httpx.Client) -> None:
    found = client.get("/v1/load").json()
    assert found["capacity"] == 2
    assert found["gate"] == {"open": True, "reason": "", "rule": "auto"}
    assert not found["draining"]


@pytest.mark.anyio
async def test_a_hub_that_stops_tells_its_nodes(tmp_path_factory: pytest.TempPathFactory) -> None:
    with LiveService(tmp_path_factory.mktemp("stops") / "data") as service:
        async with raw(service.url, hello()) as connection:
            await heard(connection, "welcome")
            service.signal()
            assert await heard(connection, "bye") == "the hub is stopping"
            await closed(connection)
        assert service.process.wait(20) == 0
        assert not service.log_lines("node.lost")
