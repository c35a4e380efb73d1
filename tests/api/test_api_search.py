"""What operations found is searched for over REST: real classifiers and detectors, real jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import numpy as np
import pytest
from live_service import LiveService, assert_problem
from tiny_models import fill

from pixelmill.images.encode import encode
from pixelmill.images.image import Image

Start = Callable[..., LiveService]
COLORS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}


PIPELINE = "classify:model=colors/auto_tag:0.5,model=colors"


def picture(color: str) -> bytes:
    return encode(Image(np.full((64, 64, 3), COLORS[color], np.uint8)), "png")


def tagged(
    client: httpx.Client, *colors: str, pipeline: str = "classify:model=colors/auto_tag:0.1,model=colors"
) -> Any:
    """A job over pictures of these colors, when it has ended."""
    files = [("files", (f"{place}-{color}.png", picture(color))) for place, color in enumerate(colors)]
    job = client.post("/v1/jobs", data={"pipeline": pipeline}, files=files).json()
    client.get(f"/v1/jobs/{job['id']}/events", params={"after": "0"})  # ends with the job
    ended = client.get(f"/v1/jobs/{job['id']}").json()
    assert ended["state"] == "succeeded", client.get(f"/v1/jobs/{job['id']}/tasks").json()
    return ended


def names(client: httpx.Client, path: str = "/v1/tasks", **asked: str | list[str]) -> list[str]:
    """Names of what is found, on pages of one."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = client.get(path, params={**asked, "limit": "1", **({"cursor": cursor} if cursor else {})})
        assert page.status_code == 200, page.text
        found += [task["name"] for task in page.json()["items"]]
        cursor = page.json()["next"]
        if cursor is None:
            return found


@pytest.fixture
def client(start: Start) -> Iterator[httpx.Client]:
    """Of a service with the classifier ``colors``, and jobs of these tests alone."""
    service = start()
    fill(service.data / "models")
    for name in ("u2netp.onnx", "mobilenet_v2.onnx", "labels.txt"):
        (service.data / "models" / name).unlink()
    with service.client() as client:
        yield client


def test_tasks_are_found_across_jobs_and_within_one(client: httpx.Client) -> None:
    first = tagged(client, "red", "green", "red")
    second = tagged(client, "red", "blue")
    assert sorted(names(client, label="scarlet", min_score="0.5")) == ["0-red.png", "0-red.png", "2-red.png"]
    assert names(client, label="scarlet", min_score="0.5")[0] == "0-red.png", "the last job's"
    assert names(client, label="Blue Thing", min_score="0.5") == ["1-blue.png"]
    assert names(client, label="blue", min_score="0.5", job=first["id"]) == []
    inside = f"/v1/jobs/{second['id']}/tasks"
    assert names(client, inside, label="red", min_score="0.5") == ["0-red.png"]
    assert sorted(names(client, inside, label=["thing", "red"])) == ["0-red.png", "1-blue.png"], "top-5 names all three"
    assert names(client, inside) == ["0-red.png", "1-blue.png"], "no search: in the order of submission"

    assert first["labels"] == {"red thing": 2, "green thing": 1}
    listed = client.get("/v1/jobs").json()["items"]
    assert [job.get("labels") for job in listed] == [None, None]

    client.delete(f"/v1/jobs/{first['id']}")
    assert names(client, label="scarlet", min_score="0.5") == ["0-red.png"]


def test_faces_are_counted_and_found(client: httpx.Client) -> None:
    tagged(client, "red", pipeline="faces:detector=haar")
    assert names(client, faces="0") == ["0-red.png"]
    assert names(client, faces="1..") == []
    assert names(client, faces="0..3", caption="nothing") == []


@pytest.mark.parametrize(
    ("asked", "parameter"),
    [
        ({}, "label"),
        ({"job": "job_x"}, "label"),
        ({"label": "?"}, "label"),
        ({"label": "x" * 201}, "label"),
        ({"label": "cat", "min_score": "1.5"}, "min_score"),
        ({"faces": "3..1"}, "faces"),
        ({"caption": "dog", "limit": "0"}, "limit"),
        ({"caption": "dog", "cursor": "nonsense"}, "cursor"),
        ({"caption": "dog", "cursor": "WyJ4Il0"}, "cursor"),
    ],
)
def test_a_search_that_means_nothing_is_told(
    shared_service: LiveService, asked: dict[str, str], parameter: str
) -> None:
    with shared_service.client() as client:
        problem = assert_problem(client.get("/v1/tasks", params=asked), 400, "invalid-request")
    assert problem["context"] == {"parameter": parameter}


def test_states_without_data_can_not_be_searched(client: httpx.Client) -> None:
    job = tagged(client, "red")
    path = f"/v1/jobs/{job['id']}/tasks"
    assert names(client, path, label="red", state="succeeded") == ["0-red.png"]
    assert_problem(client.get(path, params={"label": "red", "state": "failed"}), 400, "invalid-request")
    assert_problem(client.get("/v1/tasks", params={"label": "red", "job": "job_none"}), 404, "not-found")


def test_owners_find_what_is_theirs(start: Start) -> None:
    scopes = {"ann": ["jobs:read", "jobs:write"], "bob": ["jobs:read"], "eve": ["admin"], "cay": ["process"]}
    tokens = [{"owner": owner, "scopes": allowed} for owner, allowed in scopes.items()]
    service = start(api={"require_tokens": True}, tokens=tokens)
    with ExitStack() as stack:
        ann, bob, eve, cay = (stack.enter_context(service.client(token)) for token in service.tokens)
        job = tagged(ann, "red", pipeline="faces:detector=haar")
        inside = f"/v1/jobs/{job['id']}/tasks"
        assert names(ann, faces="0") == ["0-red.png"]
        assert_problem(ann.get("/v1/tasks", params={"faces": "0", "owner": "bob"}), 403, "forbidden")
        assert names(bob, faces="0") == []
        assert_problem(bob.get("/v1/tasks", params={"faces": "0", "job": job["id"]}), 404, "not-found")
        assert_problem(bob.get(inside, params={"faces": "0"}), 404, "not-found")
        assert names(eve, faces="0") == []
        assert names(eve, faces="0", owner="ann") == ["0-red.png"]
        assert names(eve, inside, faces="0") == ["0-red.png"]
        assert_problem(cay.get("/v1/tasks", params={"faces": "0"}), 403, "forbidden")
