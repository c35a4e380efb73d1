"""``GET /v1/metrics/stream``: a sample a second, the same for all, for admins, ended with the service."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import anyio
import httpx
import pytest
from live_service import LiveService, assert_problem

from pixelmill.jobs.database import Database
from pixelmill.jobs.tokens import Tokens
from pixelmill.service.history import COLUMNS

PATH = "/v1/metrics/stream"


def samples(stream: httpx.Response) -> Iterator[dict[str, Any]]:
    kind = ""
    for line in stream.iter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            assert kind == "sample"
            yield json.loads(value)


def test_a_sample_a_second_says_how_the_service_is(client: httpx.Client) -> None:
    with client.stream("GET", PATH) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        found = samples(stream)
        first = next(found)
        sample = next(found)
        while sample["row"] is None:
            sample = next(found)
    assert list(sample) == ["at", "nodes", "overflow", "budget", "row", "jobs_running"]
    assert sample["at"] - first["at"] > 0.5
    (listed,) = client.get("/v1/nodes").json()["items"]
    (node,) = sample["nodes"]
    assert node.keys() == listed.keys() - {"history"}
    assert node["target"]["name"] == listed["target"]["name"]
    assert (sample["overflow"], sample["budget"]) == ([], None)
    assert sample["row"].keys() == {*COLUMNS, "reasons", "targets"}
    assert sample["jobs_running"] == 0


def test_all_readers_see_the_same(client: httpx.Client) -> None:
    with ExitStack() as stack:
        streams = [samples(stack.enter_context(client.stream("GET", PATH))) for _ in range(3)]
        firsts = [next(stream) for stream in streams]
        latest = max(sample["at"] for sample in firsts)
        for stream, sample in zip(streams, firsts, strict=True):
            while sample["at"] < latest:
                sample = next(stream)  # noqa: PLW2901  until all are as far
            assert sample["at"] == latest


def test_overflow_is_told_with_its_budget(start: Callable[..., LiveService]) -> None:
    target = {"name": "cloud", "url": "http://127.0.0.1:9", "price_per_second": 0.001}
    service = start(service={"overflow": {"targets": [target], "budgets": {"hour": 0.5}}})
    with service.client() as client, client.stream("GET", PATH) as stream:
        sample = next(samples(stream))
    assert [one["name"] for one in sample["overflow"]] == ["cloud"]
    assert sample["budget"]["hour"] == {"limit": 0.5, "spent": 0.0, "reserved": 0.0, "left": 0.5}
    assert sample["budget"]["day"]["limit"] is None


def test_head_does_not_wait_and_only_admins_watch(client: httpx.Client, start: Callable[..., LiveService]) -> None:
    assert client.head(PATH).status_code == 200
    tokens = [{"owner": "ann", "scopes": ["process", "jobs:read", "jobs:write"]}]
    guarded = start(api={"require_tokens": True}, tokens=tokens)
    with guarded.client(guarded.tokens[0]) as ann:
        assert_problem(ann.get(PATH), 403, "forbidden")


def test_open_streams_hold_up_no_shutdown(start: Callable[..., LiveService]) -> None:
    service = start(service={"drain_s": 60.0}, api={"drain_s": 60.0})
    with service.client() as client, ExitStack() as stack:
        streams = [stack.enter_context(client.stream("GET", path)) for path in (PATH, PATH, "/v1/events")]
        chunks = [stream.iter_raw() for stream in streams]
        for one in chunks:
            next(one)
        began = time.monotonic()
        service.signal(signal.SIGTERM)
        for one in chunks:
            list(one)
        assert service.process.wait(40) == 0
        assert time.monotonic() - began < 40, "far below what requests may take to end"


@pytest.mark.slow
def test_a_stream_ends_when_its_token_was_revoked(start: Callable[..., LiveService]) -> None:
    service = start(api={"require_tokens": True}, tokens=[{"owner": "root", "scopes": ["admin"]}])

    async def revoke() -> None:
        async with Database(f"sqlite:///{service.data / 'state.sqlite'}") as database:
            tokens = Tokens(database)
            await tokens.revoke((await tokens.list())[0].id)

    with service.client(service.tokens[0]) as client, client.stream("GET", PATH) as stream:
        found = samples(stream)
        next(found)
        anyio.run(revoke)
        began = time.monotonic()
        for _ in found:
            assert time.monotonic() - began < 60, "it was remembered for 30 s, and is asked each 15 s"
