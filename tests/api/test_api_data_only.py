"""Pipelines that give data and no image, over HTTP: at once and in a job."""

from __future__ import annotations

import io
import zipfile

import httpx

from pixelmill import Pipeline
from pixelmill.api.schemas import JobBody, ProcessedBody, TaskDetailBody

PIPELINE = "info/phash"


def test_data_alone_comes_as_json(client: httpx.Client, photo: bytes) -> None:
    answer = client.post("/v1/process", params={"pipeline": PIPELINE}, content=photo)
    assert answer.status_code == 200
    body = ProcessedBody.model_validate(answer.json())
    assert (body.image, body.format, body.size) == (None, None, None)
    assert body.data == Pipeline.parse(PIPELINE).run(photo).data


def test_a_job_keeps_data_and_its_result_is_json(client: httpx.Client, photo: bytes) -> None:
    made = client.post("/v1/jobs", data={"pipeline": PIPELINE}, files=[("files", ("a.jpg", photo, "image/jpeg"))])
    assert made.status_code == 202, made.text
    job = JobBody.model_validate(made.json()).id
    with client.stream("GET", f"/v1/jobs/{job}/events", params={"after": 0}) as stream:
        for _ in stream.iter_lines():
            pass
    (task,) = client.get(f"/v1/jobs/{job}/tasks").json()["items"]
    assert task["state"] == "succeeded", task
    detail = TaskDetailBody.model_validate(client.get(f"/v1/tasks/{task['id']}").json())
    assert detail.outcome is not None
    assert detail.outcome.data == Pipeline.parse(PIPELINE).run(photo).data
    assert (detail.outcome.bytes, detail.outcome.format, detail.outcome.size) == (None, None, None)
    assert client.get(f"/v1/tasks/{task['id']}/result").json()["data"] == detail.outcome.data
    archive = client.get(f"/v1/jobs/{job}/archive")
    assert archive.status_code == 200, archive.text
    with zipfile.ZipFile(io.BytesIO(archive.content)) as opened:
        assert opened.namelist() == ["a.json"]
