"""Jobs over MPI ranks, end to end with real parts: the walk of predecessor B, and what happens when parts of it die."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import tifffile
from big_images import scene, whole, write_tiff
from buckets import Bucket, s3_bucket
from service_process import ServiceProcess, service_process, wait_until

from pixelmill.client import Client, Event
from pixelmill.errors import PixelmillError, RequestError
from pixelmill.targets.launch import command
from pixelmill.targets.tiled_settings import MpiConfig
from servers import Moto, Redis

__all__ = ["service_process"]

EDGES = "gaussian:2/canny:20,40/format:tiff"
SLOW = "denoise:7/format:tiff"
RANKS = ("--set", "mpi_max_ranks=2", "--set", "mpi_oversubscribe=true")
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module", autouse=True)
def _needs_mpi() -> None:
    try:
        command(2, MpiConfig(2))
    except PixelmillError as error:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(str(error))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Above what is run whole although ranks were asked for."""
    return write_tiff(tmp_path_factory.mktemp("picture") / "big.tif", scene(2200, 1900))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts `pixelmill worker`; all are ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "worker.log").open("ab") as log:
            line = [sys.executable, "-m", "pixelmill", "worker", *options]
            started.append(subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True))
        return started[-1]

    yield start
    for one in started:
        if one.poll() is None:
            family = psutil.Process(one.pid).children(recursive=True)
            one.kill()
            one.wait(10)
            psutil.wait_procs(family, timeout=10)


class Listener(threading.Thread):
    """Follows a job's events, as a page does."""

    def __init__(self, url: str, job: str) -> None:
        super().__init__(daemon=True)
        self.url, self.job = url, job
        self.events: list[Event] = []
        self.start()

    def run(self) -> None:
        with suppress(PixelmillError), Client(self.url) as client:  # the service may end before the job
            for event in client.job(self.job).events():
                self.events.append(event)

    def progress(self) -> list[dict[str, Any]]:
        return [event.data["progress"] for event in self.events if event.type == "progress"]


def ranks_below(pid: int) -> list[psutil.Process]:
    """The processes that compute."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if "--mpi" in child.cmdline() and child.name().startswith("python"):
                found.append(child)
        except psutil.Error:
            continue
    return found


def shared(bucket: Bucket, queue: str, redis: str, data: Path) -> tuple[str, ...]:
    """Settings of services and workers of one fleet."""
    prefix = f"mpi{secrets.token_hex(4)}"  # other tests use that Redis too
    settings = {
        "redis_prefix": prefix,
        "queue_url": queue,
        "redis_url": redis,
        "tiled_max_bytes": "1GB",
        "scratch": str(data / "scratch"),
    }
    told = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return (*bucket.setting(), *told, *RANKS)


def test_the_walk_of_predecessor_b(
    service_process: Callable[..., ServiceProcess],
    worker: Callable[..., subprocess.Popen[bytes]],
    rabbitmq_url: str,
    redis_server: Redis,
    moto_server: Moto,
    picture: Path,
    tmp_path: Path,
) -> None:
    """Upload, RabbitMQ, worker, mpirun, progress through Redis, result in a bucket, presigned link, download."""
    bucket = s3_bucket(moto_server)
    fleet = shared(bucket, rabbitmq_url, redis_server.url, tmp_path)
    # The file is beyond the limit of whole images: it is never in the memory of service or worker.
    fleet = (*fleet, "--set", "max_bytes=1MB")
    assert picture.stat().st_size > 1_000_000
    service = service_process(*fleet, "--set", "local_work=false")
    worker("--data", str(tmp_path / "worker"), *fleet)
    with Client(service.url) as client:
        job = client.submit([("slide.tif", picture)], EDGES, ranks=2)
        listener = Listener(service.url, job.id)
        done = job.wait(120)
        (task,) = job.tasks()
        assert done.state == "succeeded", task.error
        assert task.worker == "2 MPI ranks"
        link = client.result_link(task.id, expires=60)
    assert link.url.startswith(moto_server.url)
    body = httpx.get(link.url).content
    result = tmp_path / "result.tif"
    result.write_bytes(body)
    assert (tifffile.imread(result) == whole(EDGES, picture)).all()
    listener.join(20)
    told = listener.progress()
    assert told
    assert all(0 <= one["tiles"] <= one["of"] for one in told)
    kinds = [event.type for event in listener.events]
    assert kinds.index("progress") > kinds.index("task")
    assert httpx.get(f"{service.url}/v1/jobs/{job.id}").json()["mpi"] == {"ranks": 2}
    # What was kept for another attempt is gone with the success.
    assert not list((tmp_path / "scratch").glob("*"))


def start_slow_job(service: ServiceProcess, picture: Path) -> tuple[str, Listener]:
    with Client(service.url) as client:
        job = client.submit([("slide.tif", picture)], SLOW, ranks=2)
    listener = Listener(service.url, job.id)
    wait_until(lambda: any(one["tiles"] > 0 for one in listener.progress()), "the run has begun")
    return job.id, listener


def result_of(service: ServiceProcess, job_id: str, tmp_path: Path) -> Any:
    with Client(service.url) as client:
        job = client.job(job_id)
        assert job.wait(120).state == "succeeded"
        (result,) = job.results()
        assert result.bytes is not None
        path = tmp_path / "result.tif"
        path.write_bytes(result.bytes)
        return tifffile.imread(path)


@pytest.mark.slow
def test_a_rank_that_is_killed_costs_an_attempt_and_the_next_one_goes_on(
    service_process: Callable[..., ServiceProcess], picture: Path, tmp_path: Path
) -> None:
    service = service_process(*RANKS)
    job, listener = start_slow_job(service, picture)
    members = ranks_below(service.pid)
    assert len(members) == 2
    members[1].send_signal(signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: not any(one.is_running() for one in members), "no rank of that attempt is left")
    assert time.monotonic() - began < 30
    assert (result_of(service, job, tmp_path) == whole(SLOW, picture)).all()
    listener.join(20)
    attempts = {event.data["attempt"] for event in listener.events if event.type == "progress"}
    assert attempts == {1, 2}
    assert any(one["kept"] > 0 for one in listener.progress())
    (task,) = httpx.get(f"{service.url}/v1/jobs/{job}/tasks").json()["items"]
    lost = httpx.get(f"{service.url}/v1/tasks/{task['id']}").json()["lost_attempts"]
    assert [one["error"]["type"].rpartition("/")[2] for one in lost] == ["worker-crashed"]


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_leaves_no_ranks_and_another_one_goes_on(
    service_process: Callable[..., ServiceProcess], picture: Path, tmp_path: Path
) -> None:
    service = service_process(*RANKS, "--set", "drain=200ms")
    job, _ = start_slow_job(service, picture)
    members = ranks_below(service.pid)
    assert len(members) == 2
    service.stop()
    assert not any(one.is_running() for one in members)
    service.start()
    assert (result_of(service, job, tmp_path) == whole(SLOW, picture)).all()


def test_an_image_beyond_the_limits_runs_in_tiles_where_nobody_asked_for_ranks(
    service_process: Callable[..., ServiceProcess], picture: Path, tmp_path: Path
) -> None:
    service = service_process("--set", "max_pixels=1000000", "--set", "tiled_max_bytes=1GB")
    with Client(service.url) as client:
        job = client.submit([picture], EDGES)
        assert job.wait(120).state == "succeeded"
        (task,) = job.tasks()
        assert task.worker is not None
        assert task.worker.endswith("threads")
    assert (result_of(service, job.id, tmp_path) == whole(EDGES, picture)).all()


def test_ranks_are_refused_where_nobody_has_allowed_them(
    service_process: Callable[..., ServiceProcess], photo_path: Path
) -> None:
    with Client(service_process().url) as client, pytest.raises(RequestError, match="mpi_max_ranks"):
        client.submit([photo_path], "grayscale", ranks=2)


def test_a_small_image_runs_whole_whatever_was_asked_for(
    service_process: Callable[..., ServiceProcess], photo_path: Path
) -> None:
    service = service_process(*RANKS)
    with Client(service.url) as client:
        job = client.submit([photo_path], "grayscale", ranks=2)
        assert job.wait(60).state == "succeeded"
        (task,) = job.tasks()
        assert "rank" not in (task.worker or "")
    form = {"pipeline": "grayscale", "mpi": "3"}
    with photo_path.open("rb") as file:
        refused = httpx.post(f"{service.url}/v1/jobs", data=form, files={"files": ("a.jpg", file)})
    assert refused.status_code == 422
    assert refused.json()["type"].endswith("limit-exceeded")
