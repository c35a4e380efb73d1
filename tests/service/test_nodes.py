"""A hub and nodes as real processes: killed, drained, restarted, cut off. Every task still ends exactly once."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from cable import Cable
from node_tools import NodeProcess
from service_process import ServiceProcess, all_events, all_tasks, submit, wait_until

Start = Callable[..., ServiceProcess]
SLOW = "sketch:denoise=full/format:jpeg"
"""A quarter of a second of work on each of the pictures."""


@pytest.fixture
def node_process(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Start nodes of a hub; all are ended with the test."""
    started: list[NodeProcess] = []

    def start(url: str, name: str, *options: str, prefix: tuple[str, ...] = ()) -> NodeProcess:
        join = ("--join", url, "--dedicated", "--workers", "1", "--log-format", "json")
        node = NodeProcess(tmp_path, name, *join, *options, prefix=prefix)
        started.append(node)
        node.joined()
        return node

    yield start
    for node in started:
        node.end()


def files(pictures: list[bytes], count: int) -> dict[str, bytes]:
    return {f"{index:03}.jpg": pictures[index % len(pictures)] for index in range(count)}


def counts(url: str, job: str) -> dict[str, int]:
    found: dict[str, int] = httpx.get(f"{url}/v1/jobs/{job}").json()["counts"]
    return found


def wait_for_end(url: str, job: str, count: int) -> None:
    wait_until(lambda: counts(url, job)["succeeded"] + counts(url, job)["failed"] == count, f"{job} ends", 120)


def nodes(url: str) -> dict[str, dict[str, Any]]:
    return {node["name"]: node for node in httpx.get(f"{url}/v1/nodes").json()["items"]}


def is_busy(url: str, name: str) -> bool:
    found = nodes(url).get(name)
    return found is not None and found["target"] is not None and found["target"]["running"] > 0


def assert_ended_exactly_once(url: str, job: str, count: int) -> list[dict[str, Any]]:
    tasks = all_tasks(url, job)
    assert Counter(task["state"] for task in tasks) == {"succeeded": count}
    finals = Counter(
        event["id"] for kind, event in all_events(url, job) if kind == "task" and event["state"] == "succeeded"
    )
    assert len(finals) == count
    assert set(finals.values()) == {1}, "a task ended twice"
    return tasks


@pytest.mark.timeout(200)
def test_a_node_killed_in_the_middle_of_a_batch_loses_nothing(
    service_process: Start, node_process: Callable[..., NodeProcess], pictures: list[bytes]
) -> None:
    hub = service_process("--workers", "1", "--log-format", "json")
    doomed, other = node_process(hub.url, "doomed"), node_process(hub.url, "other")
    job = submit(hub.url, SLOW, files(pictures, 60))["id"]
    wait_until(lambda: is_busy(hub.url, "doomed") and counts(hub.url, job)["succeeded"] > 5, "the batch is under way")
    doomed.kill()
    wait_until(lambda: "doomed" not in nodes(hub.url), "the hub notices")
    wait_for_end(hub.url, job, 60)
    tasks = assert_ended_exactly_once(hub.url, job, 60)
    where = Counter(task["target"] for task in tasks)
    assert where["doomed"]
    assert where["other"]
    assert sum(task["attempts"] for task in tasks) - 60 <= 1, "only what ran there was run again"
    assert '"node.lost"' in hub.log.read_text()
    assert other.drain() == 0
    assert '"node.left"' in hub.log.read_text()


@pytest.mark.timeout(200)
def test_a_node_that_is_drained_loses_no_attempt(
    service_process: Start, node_process: Callable[..., NodeProcess], pictures: list[bytes]
) -> None:
    hub = service_process("--workers", "1", "--log-format", "json")
    leaving = node_process(hub.url, "leaving")
    job = submit(hub.url, SLOW, files(pictures, 24))["id"]
    wait_until(lambda: is_busy(hub.url, "leaving"), "the batch is under way")
    assert leaving.drain() == 0
    wait_for_end(hub.url, job, 24)
    tasks = assert_ended_exactly_once(hub.url, job, 24)
    assert {task["attempts"] for task in tasks} == {1}
    assert Counter(task["target"] for task in tasks)["leaving"]
    assert '"node.left"' in hub.log.read_text()
    assert '"node.lost"' not in hub.log.read_text()


@pytest.mark.timeout(200)
def test_nodes_outlive_their_hub_and_tasks_too(
    service_process: Start, node_process: Callable[..., NodeProcess], pictures: list[bytes]
) -> None:
    hub = service_process("--workers", "1")
    joined = [node_process(hub.url, name) for name in ("a", "b")]
    job = submit(hub.url, SLOW, files(pictures, 40))["id"]
    wait_until(lambda: is_busy(hub.url, "a") and is_busy(hub.url, "b"), "the batch is under way")
    hub.kill()
    hub.start()
    for node in joined:
        node.joined(times=2)
    wait_for_end(hub.url, job, 40)
    assert_ended_exactly_once(hub.url, job, 40)
    assert hub.stop() == 0
    for node in joined:
        assert node.drain() == 0, "it looks for its hub, and can be stopped meanwhile"


@pytest.mark.timeout(200)
def test_synchronous_requests_use_nodes_and_outlive_one(
    service_process: Start, node_process: Callable[..., NodeProcess], pictures: list[bytes]
) -> None:
    hub = service_process("--workers", "1", "--set", "interactive_wait=60s")
    doomed = node_process(hub.url, "doomed", "--workers", "4")

    def ask(picture: bytes) -> httpx.Response:
        return httpx.post(f"{hub.url}/v1/process", params={"pipeline": SLOW}, content=picture, timeout=60)

    with ThreadPoolExecutor(12) as threads:
        answers = [threads.submit(ask, picture) for picture in itertools.islice(itertools.cycle(pictures), 24)]
        wait_until(lambda: is_busy(hub.url, "doomed"), "the node works")
        doomed.kill()
        assert [answer.result().status_code for answer in answers] == [200] * 24


# -- a network that breaks -------------------------------------------------------------------------------------------


@pytest.fixture
def cable() -> Iterator[Cable]:
    missing = Cable.missing()
    if missing is not None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(missing)
    with Cable().laid() as made:
        yield made


@pytest.mark.timeout(200)
def test_a_network_cut_of_ten_seconds_loses_nothing(
    service_process: Start, node_process: Callable[..., NodeProcess], pictures: list[bytes], cable: Cable
) -> None:
    hub = service_process("--workers", "1", "--host", cable.hub, "--insecure", "--log-format", "json")
    far = node_process(hub.url, "far", prefix=cable.prefix)
    job = submit(hub.url, SLOW, files(pictures, 80))["id"]
    wait_until(lambda: is_busy(hub.url, "far") and counts(hub.url, job)["succeeded"] > 3, "the batch is under way")
    cable.cut()
    cut = time.monotonic()
    wait_until(lambda: "far" not in nodes(hub.url), "the hub hears nothing of it", 10)
    wait_until(lambda: "again_in_s" in far.log, "the node hears nothing of its hub", 10)
    wait_until(lambda: time.monotonic() - cut > 10, "ten seconds have passed", 15)
    cable.mend()
    far.joined(times=2)
    wait_for_end(hub.url, job, 80)
    tasks = assert_ended_exactly_once(hub.url, job, 80)
    assert sum(task["attempts"] for task in tasks) - 80 <= 1
    assert "nothing was heard of it" in hub.log.read_text()
    again = submit(hub.url, SLOW, files(pictures, 20))["id"]
    wait_for_end(hub.url, again, 20)
    assert Counter(task["target"] for task in assert_ended_exactly_once(hub.url, again, 20))["far"]
