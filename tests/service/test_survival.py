"""Nothing accepted is lost: the service is killed, starved and lied to, and every task still ends exactly once."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
from service_process import ServiceProcess, all_events, all_tasks, port_is_free, submit, wait_until

Start = Callable[..., ServiceProcess]
SLOW = "sketch:denoise=fast/format:jpeg"


def done(url: str, job: str) -> int:
    counts = httpx.get(f"{url}/v1/jobs/{job}").json()["counts"]
    return int(counts["succeeded"] + counts["failed"])


def has_done(url: str, job: str, goal: int) -> bool:
    return done(url, job) >= goal


def assert_ended_exactly_once(url: str, job: str, count: int) -> None:
    tasks = all_tasks(url, job)
    assert Counter(task["state"] for task in tasks) == {"succeeded": count}
    assert len({task["id"] for task in tasks}) == count
    finals = Counter(
        event["id"] for kind, event in all_events(url, job) if kind == "task" and event["state"] == "succeeded"
    )
    assert len(finals) == count
    assert set(finals.values()) == {1}, "a task ended twice"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_9_ten_times_in_the_middle_of_500_tasks(service_process: Start, pictures: list[bytes]) -> None:
    service = service_process()
    chance = random.Random(20261121)
    files = {f"{index:03}.jpg": pictures[index % len(pictures)] for index in range(500)}
    jobs = {submit(service.url, SLOW, files)["id"]: 500}
    for kill in range(10):
        first = next(iter(jobs))
        goal = min(495, done(service.url, first) + chance.randrange(5, 45))
        wait_until(partial(has_done, service.url, first, goal), f"{goal} tasks are done")
        # A job that was accepted a moment before the kill must be there afterwards.
        late = submit(service.url, SLOW, {f"late-{kill}.jpg": pictures[0]})
        jobs[late["id"]] = 1
        service.kill()
        service.start()
    for job, count in jobs.items():
        wait_until(partial(has_done, service.url, job, count), f"job {job} ends")
        assert_ended_exactly_once(service.url, job, count)


def test_when_the_service_is_killed_its_processes_end_within_two_seconds(
    service_process: Start, pictures: list[bytes]
) -> None:
    service = service_process()
    submit(service.url, "sketch:denoise=full", {f"{i}.jpg": pictures[i % 8] for i in range(50)})
    family = service.kill()
    assert len(family) >= 2
    _, alive = psutil.wait_procs(family, timeout=2)
    assert not alive
    assert port_is_free(service.port)


def test_a_killed_pool_process_costs_one_attempt_of_one_task(service_process: Start, pictures: list[bytes]) -> None:
    service = service_process()
    job = submit(service.url, "sketch:denoise=full", {f"{i}.jpg": pictures[i % 8] for i in range(40)})["id"]
    wait_until(lambda: done(service.url, job) >= 2, "the job is under way")
    workers = [process for process in service.children() if not process.children()]
    busy = max(workers, key=lambda process: sum(process.cpu_times()[:2]))
    os.kill(busy.pid, signal.SIGKILL)
    wait_until(lambda: done(service.url, job) == 40, "the job ends")
    assert_ended_exactly_once(service.url, job, 40)
    lost = sum(task["attempts"] - 1 for task in all_tasks(service.url, job))
    assert lost <= 1


def test_sigterm_drains_and_exits_0_with_an_open_event_stream(service_process: Start, pictures: list[bytes]) -> None:
    service = service_process()
    job = submit(service.url, SLOW, {f"{i}.jpg": pictures[i % 8] for i in range(100)})["id"]
    with httpx.stream("GET", f"{service.url}/v1/events", timeout=60) as stream:
        lines = stream.iter_lines()
        next(lines)
        assert service.stop() == 0
        list(lines)
    service.start()
    wait_until(lambda: done(service.url, job) == 100, "the job goes on after the restart")
    assert_ended_exactly_once(service.url, job, 100)


def test_a_second_service_on_the_same_data_folder_is_refused(service_process: Start, tmp_path: Path) -> None:
    service_process()
    other = ServiceProcess(tmp_path / "data")
    with pytest.raises(AssertionError, match="uses the data folder"):
        other.start()


def test_a_bad_image_fails_alone(service_process: Start, pictures: list[bytes]) -> None:
    service = service_process()
    files = {"good.jpg": pictures[0], "text.jpg": b"this is no image", "cut.jpg": pictures[1][:900], "empty.jpg": b""}
    job = submit(service.url, "grayscale/format:png", files)["id"]
    wait_until(lambda: done(service.url, job) == 4, "the job ends")
    body = httpx.get(f"{service.url}/v1/jobs/{job}").json()
    assert body["state"] == "failed"
    by_name = {task["source"]["name"]: task for task in all_tasks(service.url, job)}
    assert by_name["good.jpg"]["state"] == "succeeded"
    assert by_name["text.jpg"]["error"]["type"].endswith("unsupported-format")
    assert by_name["cut.jpg"]["error"]["type"].endswith("corrupt-image")
    assert all(by_name[name]["attempts"] == 1 for name in files)
