"""Images among the parameters of a pipeline: uploaded before, or sent with the request."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from live_service import LiveService, assert_problem

from pixelmill.pipelines.spec import Pipeline

REST = Path(__file__).parents[2] / "docs" / "rest.md"


def mark() -> bytes:
    """A red square."""
    return bytes(cv2.imencode(".png", np.full((40, 40, 3), (0, 0, 255), np.uint8))[1])


def corner(image: bytes) -> tuple[int, ...]:
    """The pixel (BGR) a little inside the lower right corner."""
    pixels = np.asarray(cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR))
    return tuple(int(value) for value in pixels[-10, -10])


@pytest.fixture
def upload(client: httpx.Client) -> str:
    return str(client.put("/v1/uploads/mark.png", content=mark()).json()["id"])


def test_an_upload_is_named_by_its_id(client: httpx.Client, upload: str, pictures: list[bytes]) -> None:
    pipeline = f"watermark:upload~3A{upload},opacity=1/format:png"
    for _ in range(2):
        answer = client.post("/v1/process", params={"pipeline": pipeline}, content=pictures[0])
        assert (answer.status_code, corner(answer.content)) == (200, (0, 0, 255))
    in_json = Pipeline.parse(pipeline).to_json()
    answer = client.post("/v1/process", params={"pipeline": in_json}, content=pictures[0])
    assert corner(answer.content) == (0, 0, 255)


def test_the_same_reference_serves_a_job(client: httpx.Client, upload: str, pictures: list[bytes]) -> None:
    source = client.put("/v1/uploads/a.jpg", content=pictures[0]).json()["id"]
    wanted = {
        "operations": [{"name": "watermark", "image": f"upload:{upload}", "opacity": 1}],
        "output": {"format": "png"},
    }
    job = client.post("/v1/jobs", json={"pipeline": wanted, "uploads": [source]}).json()
    assert re.search("sha256~3A[0-9a-f]{64}", job["pipeline"])
    with client.stream("GET", f"/v1/jobs/{job['id']}/events", params={"after": 0}) as stream:
        list(stream.iter_lines())
    task = client.get(f"/v1/jobs/{job['id']}/tasks").json()["items"][0]
    assert corner(client.get(f"/v1/tasks/{task['id']}/result").content) == (0, 0, 255)
    # What a job shows can be used again.
    answer = client.post("/v1/process", params={"pipeline": job["pipeline"]}, content=pictures[0])
    assert corner(answer.content) == (0, 0, 255)


def test_an_image_may_come_with_the_request(client: httpx.Client, pictures: list[bytes]) -> None:
    files = [("file", ("a.jpg", pictures[0])), ("image:second", ("b.jpg", pictures[0]))]
    answer = client.post("/v1/process", data={"pipeline": "match:second/format:png"}, files=files)
    assert answer.status_code == 200, answer.text
    assert "inliers" in answer.headers["x-pixelmill-data"]
    preset = client.post("/v1/process", data={"pipeline": "preset:matching/format:png"}, files=files)
    assert preset.content == answer.content


def test_what_is_not_there_says_how_to_send_it(client: httpx.Client, pictures: list[bytes]) -> None:
    params = {"pipeline": "preset:matching"}
    problem = assert_problem(client.post("/v1/process", params=params, content=pictures[0]), 422, "invalid-parameter")
    assert "upload:ID" in str(problem["detail"])
    params = {"pipeline": "match:upload~3Aup_none"}
    assert_problem(client.post("/v1/process", params=params, content=pictures[0]), 404, "not-found")


def test_an_upload_of_another_owner_is_not_there(tmp_path: Path, pictures: list[bytes]) -> None:
    tokens = [{"owner": owner, "scopes": ["process", "jobs:write"]} for owner in ("ann", "bob")]
    with LiveService(tmp_path / "data", api={"require_tokens": True}, tokens=tokens) as service:
        with service.client(service.tokens[0]) as ann:
            upload = ann.put("/v1/uploads/mark.png", content=mark()).json()["id"]
        with service.client(service.tokens[1]) as bob:
            params = {"pipeline": f"watermark:upload~3A{upload}"}
            assert_problem(bob.post("/v1/process", params=params, content=pictures[0]), 404, "not-found")


def test_the_examples_of_the_page_are_pipelines() -> None:
    section = REST.read_text().split("### A second image")[1].split("\n## ")[0]
    (text,) = re.findall(r"pipeline=(watermark[^\"]*)", section)
    assert Pipeline.parse(text.replace("$ID", "up_1")).images() == ("upload:up_1",)
    (form,) = re.findall(r"-F pipeline=(\S+)", section)
    (field,) = re.findall(r"-F image:(\w+)=", section)
    assert Pipeline.parse(form).images() == (field,)
