"""`pixelmill worker --overflow` beside own workers: real queues, a real container as the cloud, and the books."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import odd_server
import pytest
from node_tools import NodeProcess
from odd_server import answer
from service_process import wait_until
from worker_hub import BOUND_S, Hub, queue_settings, submit

from pixelmill.errors import ConfigError
from pixelmill.fleet.overflow import Price
from pixelmill.fleet.overflow_settings import OverflowConfig, OverflowTarget
from pixelmill.jobs.database import Database
from pixelmill.jobs.ledger import UNIT, Ledger, Spend
from pixelmill.jobs.model import Counts, Job, State, Task
from pixelmill.service.overflow_worker import OverflowPlace
from pixelmill.service.settings import ServiceConfig
from servers import free_port

pytestmark = pytest.mark.anyio

SHUT = ("--gate", "threshold-0-0")  # other programs use some memory, always
SLOW = "resize:1500,1500,fit=fill/format:png"


@pytest.fixture(params=["rabbitmq", "sqlite"])
async def hub(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hub]:
    settings = {"queue_url": request.getfixturevalue("rabbitmq_url")} if request.param == "rabbitmq" else {}
    hub = Hub(tmp_path / "data", **settings)
    await hub.service.start()
    try:
        yield hub
    finally:
        hub.end()
        await hub.service.stop()


on_rabbitmq = pytest.mark.parametrize("hub", ["rabbitmq"], indirect=True)
"""Where workers see each other: on other queues they see only how long work waits."""


@pytest.fixture
def container(tmp_path: Path) -> Iterator[str]:
    """The URL of a `pixelmill node` without a hub."""
    port = free_port()
    node = NodeProcess(tmp_path, "cloud", "--host", "127.0.0.1", "--port", str(port), "--workers", "2")
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert node.process.poll() is None, node.log[-3000:]
        try:
            return httpx.get(f"{url}/readyz", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    wait_until(ready, "the container is ready")
    yield url
    node.end()


def state_of(hub: Hub) -> str:
    return f"sqlite:///{hub.data.resolve() / 'state.sqlite'}"


def overflow(hub: Hub, url: str, *more: str, budget: float | None = 10.0, **table: Any) -> tuple[str, ...]:
    """Options of an overflow worker; without a budget it is one that costs nothing, and has no database on RabbitMQ."""
    price = {} if budget is None else {"price_per_call": 0.01}
    target = {"name": "cloud", "url": url, "concurrency": 4, **price, **table}
    settings = [f"overflow={json.dumps([target])}"]
    if budget is not None:
        settings += [f"database_url={state_of(hub)}", f"overflow_budget_hour={budget}"]
    return ("--overflow", *(word for one in (*settings, *more) for word in ("--set", one)))


def log_of(hub: Hub) -> str:
    return (hub.data.parent / "workers.log").read_text()


async def until_logged(hub: Hub, text: str, times: int = 1) -> None:
    async with asyncio.timeout(BOUND_S):
        while log_of(hub).count(text) < times:  # noqa: ASYNC110 -- another process does it
            await asyncio.sleep(0.05)


async def tasks_of(hub: Hub, job: Job) -> list[Task]:
    return list((await hub.service.tasks("ann", job.id, limit=500)).items)


async def spend_of(hub: Hub) -> Spend:
    """What the books say of this hour, when nothing is open any more."""
    async with Database(state_of(hub)) as database:
        ledger = Ledger(database)
        async with asyncio.timeout(BOUND_S):
            while True:
                await ledger.refresh()
                if not (spend := ledger.spend("hour")).reserved:
                    return spend
                await asyncio.sleep(0.05)


async def ended_once(hub: Hub, job: Job, count: int) -> None:
    """All succeeded, each once."""
    assert (await hub.service.job("ann", job.id)).counts == Counts(succeeded=count)
    ends: Counter[str] = Counter()
    async for event in hub.service.events("ann", job_id=job.id, after=0):
        if event is not None and event.type == "task" and State(event.data["state"]).is_final:
            ends[event.data["id"]] += 1
    assert len(ends) == count
    assert set(ends.values()) == {1}


# -- where work goes -------------------------------------------------------------------------------------------------


@on_rabbitmq
async def test_while_own_workers_are_paused_the_cloud_works_and_says_where_why_and_for_how_much(
    hub: Hub, container: str, pictures: list[bytes]
) -> None:
    hub.start_worker(options=SHUT)
    hub.start_worker(options=overflow(hub, container))
    await until_logged(hub, "this worker takes no tasks")
    job = await submit(hub, pictures, 12)
    await hub.until(job, 12)
    await ended_once(hub, job, 12)
    for task in await tasks_of(hub, job):
        assert (task.target, task.why, task.cost) == ("cloud", "no worker of our own takes tasks", 0.01)
        assert task.attempts == 1
    spend = await spend_of(hub)
    assert (spend.calls, spend.spent) == (12, 0.12 * UNIT)


async def test_while_an_own_worker_takes_tasks_the_cloud_gets_none(
    hub: Hub, container: str, pictures: list[bytes]
) -> None:
    hub.start_worker()
    hub.start_worker(options=overflow(hub, container, "overflow_after_normal=1h"))
    await until_logged(hub, "worker.started", 2)
    job = await submit(hub, pictures, 30, SLOW)  # more than own workers fetch ahead
    await hub.until(job, 30)
    await ended_once(hub, job, 30)
    assert {task.target for task in await tasks_of(hub, job)} == {"local"}
    assert (await spend_of(hub)).calls == 0


async def test_what_waits_for_too_long_goes_to_the_cloud_although_own_workers_work(
    hub: Hub, container: str, pictures: list[bytes]
) -> None:
    hub.start_worker()
    hub.start_worker(options=overflow(hub, container, "overflow_after_normal=1s"))
    job = await submit(hub, pictures, 60, SLOW)
    await hub.until(job, 60)
    await ended_once(hub, job, 60)
    tasks = await tasks_of(hub, job)
    assert {task.target for task in tasks} == {"local", "cloud"}
    whys = {task.why for task in tasks if task.target == "cloud"}
    assert all(why is not None and "work had waited" in why and "longer than 1 s" in why for why in whys)
    assert (await spend_of(hub)).calls == sum(task.target == "cloud" for task in tasks)


# -- money -----------------------------------------------------------------------------------------------------------


async def test_when_the_budget_is_used_up_tasks_wait_for_own_machines(
    hub: Hub, container: str, pictures: list[bytes]
) -> None:
    rabbit = "queue_url" in hub.settings
    hub.start_worker(options=overflow(hub, container, "overflow_after_normal=0.2s", budget=0.05))
    if rabbit:  # its gate is shut: it rests while the cloud would work, and no longer
        hub.start_worker(options=SHUT)
        await until_logged(hub, "this worker takes no tasks")
    job = await submit(hub, pictures, 12)
    await hub.until(job, 5)
    if not rabbit:
        await until_logged(hub, "budget.exhausted")
        assert (await hub.service.job("ann", job.id)).counts == Counts(queued=7, succeeded=5)
        hub.start_worker()
    await hub.until(job, 12)
    await ended_once(hub, job, 12)
    assert Counter(task.target for task in await tasks_of(hub, job)) == {"cloud": 5, "local": 7}
    spend = await spend_of(hub)
    assert (spend.spent, spend.calls) == (0.05 * UNIT, 5)


def target(**more: Any) -> OverflowConfig:
    return OverflowConfig((OverflowTarget("cloud", "http://127.0.0.1:1", **more),))


def test_a_price_needs_the_database_unless_the_queue_is_in_it(tmp_path: Path) -> None:
    paid = target(price=Price(per_second=0.1))
    with pytest.raises(ConfigError, match=r"'cloud' costs money\..* needs database_url"):
        OverflowPlace(ServiceConfig(tmp_path, queue_url="amqp://h/", overflow=paid))
    OverflowPlace(ServiceConfig(tmp_path, queue_url="amqp://h/", overflow=paid, database_url="postgresql://h/d"))
    OverflowPlace(ServiceConfig(tmp_path, queue_url="amqp://h/", overflow=target()))
    OverflowPlace(ServiceConfig(tmp_path, overflow=paid))


def test_without_targets_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none is configured.*\[\[overflow\]\]"):
        OverflowPlace(ServiceConfig(tmp_path))


# -- trouble ---------------------------------------------------------------------------------------------------------


async def test_killing_overflow_workers_loses_and_doubles_nothing(
    hub: Hub, container: str, pictures: list[bytes]
) -> None:
    """There is no own worker: what costs nothing may do all of it, and needs no database on RabbitMQ."""
    options = overflow(hub, container, "overflow_after_normal=0.2s", budget=None)
    worker = hub.start_worker(options=options)
    job = await submit(hub, pictures, 24, SLOW)
    await hub.until(job, 6)
    assert worker.poll() is None, log_of(hub)[-3000:]
    worker.send_signal(signal.SIGKILL)
    hub.start_worker(options=options)
    await hub.until(job, 24)
    await ended_once(hub, job, 24)
    assert {task.target for task in await tasks_of(hub, job)} == {"cloud"}


async def test_a_target_that_answers_500_gets_no_more_and_its_tasks_come_back(hub: Hub, pictures: list[bytes]) -> None:
    async with odd_server.odd_server(answer(500, b"no", "text/plain")) as server:
        hub.start_worker(options=overflow(hub, server.url, "overflow_after_normal=0.2s"))
        if "queue_url" in hub.settings:
            hub.start_worker(options=SHUT)
            await until_logged(hub, "this worker takes no tasks")
        job = await submit(hub, pictures, 12)
        await until_logged(hub, "circuit.opened")
        if "queue_url" not in hub.settings:
            hub.start_worker()
        await hub.until(job, 12)
        await ended_once(hub, job, 12)
        tasks = await tasks_of(hub, job)
        # A task whose second call failed, too, while it may have been running, has used an attempt.
        assert {task.target for task in tasks} == {"local"}
        assert all(task.attempts <= 2 for task in tasks)
        assert server.posts >= 5


@on_rabbitmq
async def test_an_overflow_worker_that_is_asked_to_end_gives_back_what_it_has(
    hub: Hub, container: str, pictures: list[bytes]
) -> None:
    worker = hub.start_worker(options=overflow(hub, container))
    job = await submit(hub, pictures, 40, SLOW)
    await hub.until(job, 4)
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait, 40) == 0
    hub.start_worker()
    await hub.until(job, 40)
    await ended_once(hub, job, 40)
    assert {task.attempts for task in await tasks_of(hub, job)} == {1}


async def test_what_an_overflow_worker_pays_is_in_the_history_of_the_service(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    container: str,
    pictures: list[bytes],
) -> None:
    hub = Hub(tmp_path / "data", **queue_settings("rabbitmq, redis", request, monkeypatch))
    await hub.service.start()
    try:
        hub.start_worker(options=overflow(hub, container))
        job = await submit(hub, pictures, 4)
        assert (await hub.until(job, 4)).counts == Counts(succeeded=4)
        async with asyncio.timeout(BOUND_S):
            while sum(hub.service.history("hour")["columns"]["cost"]) < 0.039:  # noqa: ASYNC110 -- another process tells it
                await asyncio.sleep(0.05)
        history = hub.service.history("hour")
        assert sum(history["columns"]["cost"]) == pytest.approx(0.04)
        assert history["targets"] == {"cloud": 4}
    finally:
        hub.end()
        await hub.service.stop()
