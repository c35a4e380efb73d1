"""Readiness says what is full or away; only what makes all work impossible takes the service from its proxy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from redis_tools import own_redis
from service_process import ServiceProcess, submit, wait_until

Start = Callable[..., ServiceProcess]


def check(service: ServiceProcess, name: str) -> dict[str, Any]:
    answer = httpx.get(f"{service.url}/readyz", timeout=20)
    found: dict[str, Any] = answer.json()["checks"][name]
    return found | {"status": answer.status_code}


def test_a_full_queue_is_told_and_leaves_the_service_reachable(service_process: Start, pictures: list[bytes]) -> None:
    service = service_process("--set", "max_queued=3", "--set", "local_work=false")
    assert check(service, "queue")["ok"]
    submit(service.url, "grayscale", {f"{i}.jpg": pictures[i] for i in range(3)})
    wait_until(lambda: not check(service, "queue")["ok"], "readiness tells that the queue is full")
    told = check(service, "queue")
    assert (told["status"], told["needed"], told["detail"]) == (200, False, "3 tasks wait; 3 may.")
    refused = httpx.post(
        f"{service.url}/v1/jobs", data={"pipeline": "grayscale"}, files={"files": ("a.jpg", pictures[0], "image/jpeg")}
    )
    assert refused.json()["type"].endswith("queue-full")


def test_a_redis_that_is_away_is_told_until_it_is_back(service_process: Start, tmp_path: Path) -> None:
    with own_redis(tmp_path) as redis:
        service = service_process("--set", f"redis_url={redis.url}")
        wait_until(lambda: check(service, "redis")["ok"], "Redis was written")
        redis.kill()
        wait_until(lambda: not check(service, "redis")["ok"], "readiness tells that Redis is away")
        told = check(service, "redis")
        assert (told["status"], told["needed"]) == (200, False)
        assert "Redis does not answer" in told["detail"]
        redis.start()
        wait_until(lambda: check(service, "redis")["ok"], "readiness tells that Redis is back")


def test_without_redis_nothing_is_said_of_it(service_process: Start) -> None:
    service = service_process()
    checks = httpx.get(f"{service.url}/readyz").json()["checks"]
    assert set(checks) == {"pool", "store", "database", "saturation", "queue"}
    assert all(check["ok"] for check in checks.values())
