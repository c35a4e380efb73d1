"""Overflow end to end: a hub whose own gate is shut, containers and servers that are none, and the books."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import odd_server
import pytest
from live_service import LiveService
from odd_server import Write, answer
from worker_hub import queue_settings

pytestmark = pytest.mark.anyio

SHUT = "threshold-100-0"  # other programs use some memory, always
Start = Callable[..., LiveService]
WAIT_S = 60.0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:
        count = 0

        def make(**service: Any) -> LiveService:
            nonlocal count
            count += 1
            return stack.enter_context(LiveService(tmp_path / f"data{count}", service=service))

        yield make


def jpeg() -> bytes:
    pixels = cv2.resize(np.random.default_rng(1).integers(0, 256, (9, 12, 3), np.uint8), (160, 120))
    return bytes(cv2.imencode(".jpg", pixels)[1])


def table(url: str, **more: Any) -> dict[str, Any]:
    return {"name": "cloud", "url": url, "concurrency": 4, "price_per_call": 0.01, **more}


def until(check: Callable[[], bool]) -> None:
    """Poll what another process says."""
    ends = time.monotonic() + WAIT_S
    while not check():
        assert time.monotonic() < ends, "it never came to that"
        time.sleep(0.02)


def place(client: httpx.Client, name: str) -> dict[str, Any]:
    (node,) = client.get("/v1/nodes").json()["items"]
    (found,) = [target for target in node["dispatcher"]["targets"] if target["name"] == name]
    return dict(found)


def shut(client: httpx.Client) -> None:
    """Wait until the hub's own gate is shut."""
    until(lambda: not place(client, "local")["gate"]["open"])


def run_job(
    client: httpx.Client, count: int, pipeline: str = "resize:10/format:png"
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A job over so many images, at its end, with its tasks."""
    uploads = [
        client.put(f"/v1/uploads/{number}.jpg", content=jpeg()).raise_for_status().json()["id"]
        for number in range(count)
    ]
    wanted = {"pipeline": pipeline, "uploads": uploads}
    job = client.post("/v1/jobs", json=wanted).raise_for_status().json()
    until(lambda: client.get(f"/v1/jobs/{job['id']}").json()["state"] in ("succeeded", "failed", "cancelled"))
    tasks = client.get(f"/v1/jobs/{job['id']}/tasks", params={"limit": 500}).json()["items"]
    return client.get(f"/v1/jobs/{job['id']}").json(), tasks


def test_work_goes_to_the_container_and_says_where_why_and_for_how_much(start: Start) -> None:
    container = start()
    hub = start(gate=SHUT, overflow={"targets": [table(container.url)], "budgets": {"hour": 10.0, "day": 20.0}})
    with hub.client() as client:
        shut(client)
        job, tasks = run_job(client, 12)
        assert job["state"] == "succeeded"
        assert {task["target"] for task in tasks} == {"cloud"}
        assert all(task["cost"] == 0.01 for task in tasks)
        assert all("every gate is shut (local: other programs use" in task["why"] for task in tasks)
        now = client.post("/v1/process", params={"pipeline": "resize:10/format:png"}, content=jpeg())
        assert now.headers["x-pixelmill-target"] == "cloud"
        until(lambda: place(client, "cloud")["gate"]["hour"]["reserved"] == 0)
        shown = place(client, "cloud")["gate"]
        assert shown["hour"]["calls"] == shown["day"]["calls"] == 13
        assert shown["hour"]["cost"] == pytest.approx(0.13)
        assert shown["hour"]["budget_left"] == pytest.approx(9.87)
        assert shown["circuit"] == "closed"
        metrics = client.get("/metrics").text
        assert 'pixelmill_overflow_calls_total{result="ok",target="cloud"} 13.0' in metrics
        assert 'pixelmill_overflow_open{target="cloud"} 1.0' in metrics
        failed = client.post("/v1/process", params={"pipeline": "grayscale"}, content=b"no image")
        assert failed.status_code == 415  # the task's own error, from there as from here
    assert hub.stop() == 0
    assert len(hub.log_lines("overflow.opened")) == 1


@pytest.mark.parametrize("kind", ["sqlite", "rabbitmq", "sqs", pytest.param("azure", marks=pytest.mark.slow)])
def test_work_that_waits_too_long_overflows_on_every_queue(
    start: Start, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = queue_settings(kind, request, monkeypatch)
    container = start()
    wanted = {"targets": [table(container.url)], "budgets": {"hour": 10.0}, "latency": {"normal": 0.5}}
    hub = start(overflow=wanted, **queue)
    with hub.client() as client:
        job, tasks = run_job(client, 24, "resize:1800,1800,fit=fill/format:png")
        assert job["state"] == "succeeded"
        assert {task["target"] for task in tasks} == {"local", "cloud"}
        reasons = {task["why"] for task in tasks if task["target"] == "cloud"}
        assert all(re.fullmatch(r"work had waited for \d+\.\d s, longer than 0\.5 s", reason) for reason in reasons), (
            reasons
        )
    assert hub.stop() == 0


@pytest.mark.parametrize(
    "act",
    [
        answer(500, b"Internal Server Error", "text/plain"),
        answer(200, b"<html>hello</html>"),
        odd_server.hang_up,
        odd_server.hang,
        odd_server.huge,
    ],
    ids=["500", "rubbish", "hangs-up", "hangs", "huge"],
)
async def test_a_broken_place_gets_no_more_and_nothing_is_lost(start: Start, act: Write) -> None:
    async with odd_server.odd_server(act) as server:
        targets = [table(server.url, timeout=3.0)]
        hub = start(gate=SHUT, timeout_s=2.0, overflow={"targets": targets, "budgets": {"hour": 10.0}})

        def work() -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
            with hub.client() as client:
                shut(client)
                ended = run_job(client, 12)
                # Somebody who waits gets an answer from home, too.
                now = client.post("/v1/process", params={"pipeline": "resize:10/format:png"}, content=jpeg())
                assert now.headers["x-pixelmill-target"] == "local", now.text
                return *ended, place(client, "cloud")

        job, tasks, shown = await asyncio.to_thread(work)
        assert job["state"] == "succeeded", tasks
        assert len(tasks) == len({task["id"] for task in tasks}) == 12
        assert {task["target"] for task in tasks} == {"local"}
        assert {task["why"] for task in tasks} == {"no gate is open and overflow takes nothing, so gates count as open"}
        assert shown["gate"]["circuit"] in ("open", "half-open")
        # Five in a row open it; no more than its slots were on their way then, and one each time it is tried again.
        assert 5 <= server.posts <= 5 + 4 + len(hub.log_lines("circuit.opened"))
    assert hub.stop() == 0


@pytest.mark.parametrize("act", [answer(500, b"no"), odd_server.hang], ids=["500", "hangs"])
async def test_tasks_tell_what_their_failed_calls_cost(start: Start, act: Write) -> None:
    async with odd_server.odd_server(act) as server:
        targets = [table(server.url, timeout=3.0, price_per_second=0.1)]
        hub = start(gate=SHUT, timeout_s=2.0, overflow={"targets": targets, "budgets": {"hour": 10.0}})

        def work() -> tuple[list[dict[str, Any]], dict[str, Any]]:
            with hub.client() as client:
                shut(client)
                _, tasks = run_job(client, 6)
                until(lambda: place(client, "cloud")["gate"]["hour"]["reserved"] == 0)
                return tasks, place(client, "cloud")["gate"]["hour"]

        tasks, books = await asyncio.to_thread(work)
        assert {task["target"] for task in tasks} == {"local"}
        assert books["cost"] >= 5 * 0.01
        assert sum(task["cost"] for task in tasks) == pytest.approx(books["cost"])
    assert hub.stop() == 0


async def test_the_history_tells_refusals_money_and_places(start: Start) -> None:
    async with odd_server.odd_server(answer(429, b"slow down")) as server:
        targets = [table(server.url)]
        hub = start(gate=SHUT, overflow={"targets": targets, "budgets": {"hour": 10.0}})

        def work() -> None:
            with hub.client() as client:
                shut(client)
                _, tasks = run_job(client, 6)
                until(lambda: place(client, "cloud")["gate"]["hour"]["reserved"] == 0)

                def told() -> bool:
                    history = client.get("/v1/metrics/history").json()
                    return bool(sum(history["columns"]["succeeded"]) == 6)

                until(told)
                history = client.get("/v1/metrics/history").json()
                assert history["targets"] == {"local": 6}
                assert sum(history["columns"]["throttled"]) == server.posts >= 5
                spent = place(client, "cloud")["gate"]["hour"]["cost"]
                assert sum(history["columns"]["cost"]) == pytest.approx(spent)
                assert sum(task["cost"] for task in tasks) == pytest.approx(spent)

        await asyncio.to_thread(work)
    assert hub.stop() == 0


async def test_who_waits_is_served_at_home_when_the_cloud_fails_under_the_request(start: Start) -> None:
    async with odd_server.odd_server(answer(500, b"no")) as server:
        hub = start(gate=SHUT, overflow={"targets": [table(server.url)], "budgets": {"hour": 10.0}})

        def work() -> str:
            with hub.client() as client:
                shut(client)
                now = client.post("/v1/process", params={"pipeline": "resize:10/format:png"}, content=jpeg())
                return str(now.headers.get("x-pixelmill-target", now.text))

        assert await asyncio.to_thread(work) == "local"
        assert server.posts == 5  # then the circuit was open
    assert hub.stop() == 0


def test_an_exhausted_budget_keeps_overflow_shut_and_work_at_home(start: Start) -> None:
    container = start()
    hub = start(gate=SHUT, overflow={"targets": [table(container.url)], "budgets": {"day": 0.05}})
    with hub.client() as client:
        shut(client)
        job, tasks = run_job(client, 12)
        assert job["state"] == "succeeded"
        assert sorted(task["target"] for task in tasks) == ["cloud"] * 5 + ["local"] * 7
        assert "budget of this day is used up" in place(client, "cloud")["gate"]["reason"]
        now = client.post("/v1/process", params={"pipeline": "resize:10/format:png"}, content=jpeg())
        assert now.headers["x-pixelmill-target"] == "local"
        until(lambda: len(hub.log_lines("budget.exhausted")) == 1)
    hub.process.kill()
    hub.process.wait()
    with LiveService(
        hub.data,
        service={"gate": SHUT, "overflow": {"targets": [table(container.url)], "budgets": {"day": 0.05}}},
    ) as again:
        with again.client() as client:  # the books outlive the process
            assert not place(client, "cloud")["gate"]["open"]
            assert place(client, "cloud")["gate"]["day"]["cost"] == pytest.approx(0.05)
        assert again.stop() == 0


async def test_a_cancelled_call_gives_its_room_back_and_its_late_answer_is_nobodys(start: Start) -> None:
    """The place goes on, for nobody can stop it there; the hub hangs up."""
    let_go = asyncio.Event()

    async def late(writer: asyncio.StreamWriter) -> None:
        await let_go.wait()
        await odd_server.GOOD(writer)

    async with odd_server.odd_server(late) as server:
        targets = [table(server.url, concurrency=1)]
        hub = start(gate=SHUT, overflow={"targets": targets, "budgets": {"hour": 10.0}})

        def begun(client: httpx.Client) -> dict[str, Any]:
            shut(client)
            upload = client.put("/v1/uploads/a.jpg", content=jpeg()).raise_for_status().json()["id"]
            wanted = {"pipeline": "resize:10/format:png", "uploads": [upload]}
            job: dict[str, Any] = client.post("/v1/jobs", json=wanted).raise_for_status().json()
            until(lambda: server.posts == 1 and place(client, "cloud")["running"] == 1)
            return job

        def cancelled(client: httpx.Client, job: dict[str, Any]) -> None:
            answer = client.post(f"/v1/jobs/{job['id']}/cancel").raise_for_status().json()
            assert answer["counts"]["cancelled"] == 1
            until(lambda: place(client, "cloud")["running"] == 0)

        with hub.client() as client:
            job = await asyncio.to_thread(begun, client)
            await asyncio.to_thread(cancelled, client, job)
            let_go.set()
            other, tasks = await asyncio.to_thread(run_job, client, 2)  # in the room that it had
            assert other["state"] == "succeeded"
            assert {task["target"] for task in tasks} == {"cloud"}
            now = client.get(f"/v1/jobs/{job['id']}").json()
            assert (now["state"], now["counts"]["cancelled"]) == ("cancelled", 1)
            assert not list((hub.data / "objects" / "results").glob(f"*/{job['id']}/*"))
            assert place(client, "cloud")["gate"]["circuit"] == "closed"
    assert hub.stop() == 0
