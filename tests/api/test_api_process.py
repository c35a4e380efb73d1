"""One image now: bytes in, bytes back, data beside them, and every way to ask wrongly."""

from __future__ import annotations

import base64
import json
import re
import socket
from pathlib import Path

import anyio
import cv2
import httpx
import numpy as np
import pytest
from live_service import LiveService, assert_problem

from pixelmill.api.schemas import ProcessedBody

PIPELINE = "grayscale/resize:64,48,fit=fill/format:jpeg,quality=80"


def shape(data: bytes) -> tuple[int, ...]:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    return tuple(decoded.shape)


def test_a_raw_body_comes_back_as_an_image(client: httpx.Client, photo: bytes) -> None:
    answer = client.post("/v1/process", params={"pipeline": PIPELINE}, content=photo)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-disposition"] == 'inline; filename="image.jpg"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-pixelmill-target"] == "local"
    names = re.findall(r"(\w+);dur=[0-9.]+", answer.headers["server-timing"])
    assert names == ["decode", "apply", "encode", "queue"]
    assert shape(answer.content) == (48, 64)


def test_the_declared_type_does_not_count(client: httpx.Client, photo: bytes) -> None:
    for declared in ("text/plain", "application/x-www-form-urlencoded", "image/png", "nonsense"):
        answer = client.post(
            "/v1/process", params={"pipeline": PIPELINE}, content=photo, headers={"content-type": declared}
        )
        assert answer.headers["content-type"] == "image/jpeg"


def test_a_form_with_a_file_does_the_same(client: httpx.Client, photo: bytes) -> None:
    files = {"file": ("Größe.png", photo, "image/jpeg")}
    by_field = client.post("/v1/process", data={"pipeline": PIPELINE}, files=files)
    by_query = client.post("/v1/process", params={"pipeline": PIPELINE}, files=files)
    assert by_field.status_code == by_query.status_code == 200
    assert by_field.content == by_query.content
    assert "filename*=UTF-8''Gr%C3%B6%C3%9Fe.jpg" in by_field.headers["content-disposition"]


def test_a_body_without_a_length_is_taken(client: httpx.Client, photo: bytes) -> None:
    pieces = (photo[at : at + 5_000] for at in range(0, len(photo), 5_000))
    answer = client.post("/v1/process", params={"pipeline": PIPELINE}, content=pieces)
    assert shape(answer.content) == (48, 64)


def test_the_json_form_of_a_pipeline_does_the_same(client: httpx.Client, photo: bytes) -> None:
    form = {"operations": [{"name": "grayscale"}], "output": {"format": "png"}}
    as_json = client.post("/v1/process", params={"pipeline": json.dumps(form)}, content=photo)
    as_text = client.post("/v1/process", params={"pipeline": "grayscale/format:png"}, content=photo)
    assert as_json.content == as_text.content


def test_the_outcome_comes_as_json_where_it_is_asked_for(client: httpx.Client, photo: bytes) -> None:
    params = {"pipeline": PIPELINE}
    image = client.post("/v1/process", params=params, content=photo).content
    without = client.post("/v1/process", params={**params, "data": "1"}, content=photo)
    with_image = client.post("/v1/process", params=params, content=photo, headers={"accept": "application/json"})
    for answer in (without, with_image):
        body = ProcessedBody.model_validate(answer.json())
        assert body.size == [64, 48]
        assert body.format == "jpeg"
    assert without.json()["image"] is None
    assert base64.b64decode(with_image.json()["image"]) == image


@pytest.mark.parametrize(
    ("pipeline", "status", "slug", "context"),
    [
        ("greyscale", 422, "unknown-operation", {"operation": "greyscale"}),
        ("gaussian:sigma=-1", 422, "invalid-parameter", {"operation": "gaussian", "parameter": "sigma"}),
        ("format:jpeg,quality=999", 422, "invalid-parameter", {"parameter": "quality"}),
        ("crop:5000,5000,10,10", 422, "not-applicable", {}),
        ("resize:~", 422, "pipeline-syntax", {}),
        ("{", 422, "pipeline-syntax", {}),
        ("format:tga", 422, "unknown-operation", {}),
    ],
)
def test_a_wrong_pipeline_is_refused_with_what_would_be_right(
    client: httpx.Client, photo: bytes, pipeline: str, status: int, slug: str, context: dict[str, object]
) -> None:
    answer = client.post("/v1/process", params={"pipeline": pipeline}, content=photo)
    document = assert_problem(answer, status, slug)
    given = document["context"]
    assert isinstance(given, dict)
    assert {name: given.get(name) for name in context} == context


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b"this is no image at all", 415, "unsupported-format"),
        (b"", 400, "invalid-request"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 200, 422, "corrupt-image"),
    ],
)
def test_what_is_no_good_image_is_refused(client: httpx.Client, body: bytes, status: int, slug: str) -> None:
    assert_problem(client.post("/v1/process", params={"pipeline": "grayscale/format:png"}, content=body), status, slug)


def test_without_a_pipeline_nothing_is_done(client: httpx.Client, photo: bytes) -> None:
    assert_problem(client.post("/v1/process", content=photo), 400, "invalid-request")


@pytest.mark.parametrize(
    "files",
    [
        [("file", ("a", b"1")), ("file", ("b", b"2"))],
        [("other", ("a", b"1"))],
        [("pipeline", (None, b"\xff"))],
    ],
)
def test_a_form_of_the_wrong_shape_is_refused(
    client: httpx.Client, files: list[tuple[str, tuple[str | None, bytes]]]
) -> None:
    assert_problem(client.post("/v1/process", params={"pipeline": "grayscale"}, files=files), 400, "invalid-request")


def test_too_many_bytes_are_refused_before_and_while_they_come(
    tmp_path: Path, photo: bytes, pictures: list[bytes]
) -> None:
    limits = {"max_bytes": 50_000, "max_pixels": 15_000}
    params = {"pipeline": "grayscale/format:png"}
    with LiveService(tmp_path / "data", service={"limits": limits}) as service, service.client() as client:
        assert len(photo) > 50_000
        declared = client.post("/v1/process", params=params, content=photo)
        counted = client.post(
            "/v1/process", params=params, content=(photo[at : at + 999] for at in range(0, 60_000, 999))
        )
        in_a_form = client.post("/v1/process", params=params, files={"file": photo})
        for answer in (declared, counted, in_a_form, client.put("/v1/uploads/x.jpg", content=photo)):
            document = assert_problem(answer, 413, "limit-exceeded")
            assert document["context"]["maximum"] == 50_000  # type: ignore[index]  # a document is plain JSON
        job = client.post("/v1/jobs", data=params, files=[("files", ("a.jpg", photo))])
        assert_problem(job, 413, "limit-exceeded")
        assert_problem(client.post("/v1/process", params=params, content=pictures[0]), 422, "limit-exceeded")


def test_bodies_in_memory_are_bounded(tmp_path: Path, pictures: list[bytes]) -> None:
    api = {"max_body_memory": 10_000}
    with LiveService(tmp_path / "data", api=api) as service, service.client() as client:
        params = {"pipeline": "grayscale/format:png"}
        for _ in range(3):
            assert client.post("/v1/process", params=params, content=pictures[0][:9_000]).status_code != 429
        answer = client.post("/v1/process", params=params, content=b"x" * 20_000)
        assert_problem(answer, 429, "busy")
        assert int(answer.headers["retry-after"]) >= 1


def test_who_announces_much_and_sends_little_keeps_nobody_out(tmp_path: Path, pictures: list[bytes]) -> None:
    with LiveService(tmp_path / "data", api={"max_body_memory": 100_000}) as service, service.client() as client:
        head = "POST /v1/process?pipeline=grayscale HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99000\r\n\r\nx"
        with socket.create_connection(("127.0.0.1", service.port)) as idle:
            idle.sendall(head.encode())
            for _ in range(3):  # the first may come before the other one's head
                assert client.post("/v1/process?pipeline=grayscale", content=pictures[0]).status_code == 200


def test_when_no_worker_comes_free_the_answer_is_429(tmp_path: Path, photo: bytes) -> None:
    # 8 requests for one slot, none of which may wait.
    service_settings = {"interactive_wait_s": 0.0, "workers": 1}
    with LiveService(tmp_path / "data", service=service_settings) as service:
        answers = flood(service, "resize:2000/sketch:denoise=full/format:jpeg", photo, 8)
        busy = [answer for answer in answers if answer.status_code != 200]
        assert busy
        for answer in busy:
            assert_problem(answer, 429, "busy")
            assert int(answer.headers["retry-after"]) >= 1


def flood(service: LiveService, pipeline: str, photo: bytes, count: int) -> list[httpx.Response]:
    """The answers to so many requests at once."""

    async def ask() -> list[httpx.Response]:
        answers: list[httpx.Response] = []
        async with httpx.AsyncClient(base_url=service.url, timeout=60, trust_env=False) as client:

            async def one() -> None:
                answers.append(await client.post("/v1/process", params={"pipeline": pipeline}, content=photo))

            async with anyio.create_task_group() as group:
                for _ in range(count):
                    group.start_soon(one)
        return answers

    return anyio.run(ask)


def test_work_that_takes_too_long_is_422_and_no_gateway_retries_it(tmp_path: Path, photo: bytes) -> None:
    with LiveService(tmp_path / "data", service={"timeout_s": 1.0}) as service, service.client() as client:
        params = {"pipeline": "resize:3000,enlarge=true/sketch:denoise=full/format:jpeg"}
        assert_problem(client.post("/v1/process", params=params, content=photo), 422, "task-timeout")
        assert client.post("/v1/process", params={"pipeline": "grayscale/format:png"}, content=photo).status_code == 200
