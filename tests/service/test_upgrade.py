"""Programs of two versions meet: the older one says so and touches nothing, and no task is lost by it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from cli_tools import clean_environment, command
from service_process import ServiceProcess, all_tasks, submit, wait_until

from pixelmill.jobs.messages import TaskMessage

Start = Callable[..., ServiceProcess]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=100, env=clean_environment(), check=False
    )


@pytest.mark.parametrize("program", ["serve", "worker"])
def test_an_older_program_on_a_newer_database_refuses(program: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert run("tokens", "create", "one", "--data", data).returncode == 0
    with closing(sqlite3.connect(data / "state.sqlite")) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
        raw.execute("UPDATE meta SET value = '9998' WHERE key = 'schema.oldest'")
        raw.commit()
        before = list(raw.iterdump())
    options = ["--port", "0"] if program == "serve" else []
    refused = run(program, "--data", data, *options)
    assert refused.returncode == 2, refused.stderr
    assert "The database was written by a newer Pixelmill (schema 9999" in refused.stderr
    with closing(sqlite3.connect(data / "state.sqlite")) as raw:
        assert list(raw.iterdump()) == before


def test_an_older_worker_goes_on_while_a_newer_program_adds_to_the_schema(
    service_process: Start, pictures: list[bytes], tmp_path: Path
) -> None:
    """This version is the older one: what a later one would do is done to its database by hand, as tasks run."""
    data = tmp_path / "data"
    service = service_process("--set", "local_work=false", data=data)
    before = submit(service.url, "grayscale", {f"{i}.jpg": pictures[i % len(pictures)] for i in range(20)})["id"]
    arguments = command("worker", "--data", data, "--workers", "1")
    workers = [subprocess.Popen(arguments, env=clean_environment(), stderr=subprocess.DEVNULL)]

    def state_of(job: str) -> str:
        return str(httpx.get(f"{service.url}/v1/jobs/{job}").json()["state"])

    try:
        wait_until(lambda: state_of(before) != "queued", "the worker has begun")
        with closing(sqlite3.connect(data / "state.sqlite", timeout=20)) as raw:
            raw.execute("BEGIN IMMEDIATE")
            raw.execute("ALTER TABLE tasks ADD COLUMN shiny TEXT NOT NULL DEFAULT ''")
            raw.execute("ALTER TABLE queue ADD COLUMN shiny INTEGER")
            raw.execute("CREATE TABLE shinies (id TEXT PRIMARY KEY)")
            raw.execute("UPDATE alembic_version SET version_num = '9999'")
            raw.commit()
        after = submit(service.url, "grayscale", {"a.jpg": pictures[0]})["id"]
        wait_until(lambda: {state_of(before), state_of(after)} == {"succeeded"}, "both jobs end")
        workers[0].terminate()
        assert workers[0].wait(40) == 0
        last = submit(service.url, "grayscale", {"b.jpg": pictures[1]})["id"]
        workers.append(subprocess.Popen(arguments, env=clean_environment(), stderr=subprocess.DEVNULL))
        wait_until(lambda: state_of(last) == "succeeded", "a worker that was started on the newer schema runs it")
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait(40)


def test_a_message_of_an_older_version_is_read() -> None:
    """What was added since has a default."""
    message = TaskMessage(task="t", run=0, job="j", owner="o", name="n", pipeline="[]", source="key:a")
    record = json.loads(message.to_json())
    for added in ("images", "timeout_s", "max_attempts"):
        del record[added]
    assert TaskMessage.from_json(json.dumps(record)) == message


@pytest.mark.parametrize("by", ["start", "reconcile"])
def test_a_message_of_a_newer_version_waits_on_the_dead_letter_list_for_a_program_that_reads_it(
    service_process: Start, pictures: list[bytes], tmp_path: Path, by: str
) -> None:
    data = tmp_path / "data"
    service = service_process("--set", "local_work=false", data=data)
    job = submit(service.url, "grayscale", {f"{i}.jpg": pictures[i] for i in range(2)})["id"]
    service.stop()
    with closing(sqlite3.connect(data / "state.sqlite")) as raw:
        (one, body), _ = raw.execute("SELECT id, body FROM queue ORDER BY id").fetchall()
        raw.execute("UPDATE queue SET body = ? WHERE id = ?", (json.dumps(json.loads(body) | {"shiny": 1}), one))
        raw.commit()
    worker = subprocess.Popen(
        command("worker", "--data", data, "--workers", "1"), env=clean_environment(), stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: dead_letters(data) == [one], "the message that can't be read is set aside")
    finally:
        worker.terminate()
        worker.wait(40)
    if by == "reconcile":
        assert "1 queued again" in run("reconcile", "--data", data).stdout
    again = service_process(data=data)  # the version that wrote it: here, any that makes a message anew
    wait_until(lambda: httpx.get(f"{again.url}/v1/jobs/{job}").json()["state"] == "succeeded", "the job ends")
    assert [task["state"] for task in all_tasks(again.url, job)] == ["succeeded"] * 2


def dead_letters(data: Path) -> list[str]:
    with closing(sqlite3.connect(data / "state.sqlite", timeout=10)) as raw:
        found = raw.execute("SELECT id, reason FROM dead_letters").fetchall()
    assert all("another version" in reason for _, reason in found)
    return [one for one, _ in found]
