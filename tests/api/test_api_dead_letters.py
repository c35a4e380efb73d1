"""Dead letters over REST, the command line and both clients: a task that crashes its process, until it does not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cli_tools import clean_environment, command
from live_service import LiveService

from pixelmill.api.dead_letters import DeadLetterList, RedrivenBody
from pixelmill.client import AsyncClient, Client
from pixelmill.errors import Forbidden

PIPELINE = "resize:16/format:png"
TOKENS = [
    {"owner": "ann", "scopes": ["jobs:read", "jobs:write"]},
    {"owner": "bob", "scopes": ["jobs:read", "jobs:write"]},
    {"owner": "root", "scopes": ["admin"]},
]


@pytest.fixture
def cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While this file is there, poisonous sources crash what decodes them."""
    path = tmp_path / "cause"
    path.touch()
    monkeypatch.setenv("PIXELMILL_TEST_POISON", str(path))
    return path


@pytest.fixture
def service(cause: Path, start: Callable[..., LiveService]) -> LiveService:
    del cause
    settings = {"entry": "misbehaving:poisoned", "max_attempts": 2, "workers": 2}
    return start(service=settings, api={"require_tokens": True}, tokens=TOKENS)


def poisoned(pictures: list[bytes], client: Client, name: str) -> Any:
    """A job of three, of which two are poisonous and one is damaged; ended."""
    sources = [("good.jpg", pictures[0]), ("torn.jpg", pictures[1][:200])]
    sources += [(f"{name}{number}.jpg", pictures[number] + b"poison") for number in (2, 3)]
    job = client.submit(sources, PIPELINE)
    assert job.wait(60).counts.failed == 3
    return job


def test_dead_letters_are_listed_by_pages_and_redriven(
    service: LiveService, cause: Path, pictures: list[bytes]
) -> None:
    with Client(service.url, service.tokens[0]) as ann:
        job = poisoned(pictures, ann, "p")
        with httpx.Client(base_url=service.url, headers={"authorization": f"Bearer {service.tokens[0]}"}) as http:
            first = http.get("/v1/dead-letters", params={"limit": 1}).json()
            rest = http.get("/v1/dead-letters", params={"limit": 1, "cursor": first["next"]}).json()
            for page in (first, rest):
                DeadLetterList.model_validate(page)
            items = [*first["items"], *rest["items"]]
            assert rest["next"] is None
            assert {item["name"] for item in items} == {"p2.jpg", "p3.jpg"}, "not the damaged one"
            assert {(item["attempts"], item["error"]["type"]) for item in items} == {(2, "/v1/problems/worker-crashed")}
            for wrong in ({}, {"tasks": [items[0]["task"]], "job": job.id}, {"tasks": "all"}):
                assert http.post("/v1/dead-letters/redrive", json=wrong).status_code in {400, 422}
            cause.unlink()
            answer = http.post("/v1/dead-letters/redrive", json={"tasks": [items[0]["task"], "task_unknown"]})
            RedrivenBody.model_validate(answer.json())
            assert answer.json() == {"tasks": [items[0]["task"]]}
        assert job.redrive() == [items[1]["task"]]
        assert job.redrive() == []
        status = job.wait(60)
        assert (status.state, status.counts.succeeded, status.counts.failed) == ("failed", 3, 1)
        assert list(ann.dead_letters()) == []


@pytest.mark.anyio
async def test_each_sees_the_own_ones_and_an_admin_all(
    service: LiveService, cause: Path, pictures: list[bytes]
) -> None:
    tokens = dict(zip(("ann", "bob", "root"), service.tokens, strict=True))
    with Client(service.url, tokens["ann"]) as ann:
        job = poisoned(pictures, ann, "p")
        ids = [letter.task for letter in ann.dead_letters(job=job.id)]
    async with AsyncClient(service.url, tokens["bob"]) as bob, AsyncClient(service.url, tokens["root"]) as root:
        assert [letter async for letter in bob.dead_letters()] == []
        assert await bob.redrive(ids) == []
        with pytest.raises(Forbidden):
            await bob.redrive(ids, everybody=True)
        with pytest.raises(Forbidden):
            _ = [letter async for letter in bob.dead_letters(everybody=True)]
        assert [letter async for letter in root.dead_letters()] == []
        assert {letter.owner async for letter in root.dead_letters(everybody=True)} == {"ann"}
        cause.unlink()  # noqa: ASYNC240 -- nothing else runs here
        assert set(await root.redrive(ids, everybody=True)) == set(ids)


def test_the_command_line_lists_and_redrives(service: LiveService, cause: Path, pictures: list[bytes]) -> None:
    environment = {**clean_environment(), "PIXELMILL_URL": service.url, "PIXELMILL_TOKEN": service.tokens[0]}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command("jobs", *words), capture_output=True, text=True, timeout=60, env=environment, check=False
        )

    with Client(service.url, service.tokens[0]) as ann:
        job = poisoned(pictures, ann, "p")
        table = run("dead-letters", "--job", job.id).stdout
        assert "p2.jpg" in table
        letters = [json.loads(line) for line in run("dead-letters", "--json").stdout.splitlines()]
        assert {letter["error"]["type"] for letter in letters} == {"worker-crashed"}
        cause.unlink()
        assert run("redrive").returncode == 2
        assert run("redrive", letters[0]["task"]).stdout.split() == [letters[0]["task"]]
        assert run("redrive", "--job", job.id).stdout.split() == [letters[1]["task"]]
        assert run("redrive", "--job", job.id).returncode == 1
        assert job.wait(60).counts.succeeded == 3
