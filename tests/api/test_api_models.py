"""Learned operations over REST: names, never paths; and what is missing."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from live_service import LiveService, assert_problem
from tiny_models import fill

from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.image import Image


@pytest.fixture
def photo_body() -> bytes:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[16:48, 24:72] = (250, 240, 230)
    return encode(Image(pixels), "png")


@pytest.fixture
def learned(shared_service: LiveService) -> None:
    """Checkpoints ``bright`` and ``colors`` in the shared service's models folder."""
    fill(shared_service.data / "models")
    for name in ("u2netp.onnx", "mobilenet_v2.onnx", "labels.txt"):
        (shared_service.data / "models" / name).unlink()


@pytest.mark.usefixtures("learned")
def test_models_are_taken_by_name(client: httpx.Client, photo_body: bytes) -> None:
    text = "remove_background:threshold=0.5,model=bright/format:png"
    answer = client.post("/v1/process", params={"pipeline": text}, content=photo_body)
    assert answer.status_code == 200, answer.text
    pixels = decode(answer.content).pixels
    assert (pixels[32, 48] == (250, 240, 230, 255)).all()
    assert (pixels[2, 2] == 0).all()


@pytest.mark.usefixtures("learned")
@pytest.mark.parametrize(
    "path", ["~2Fetc~2Fpasswd", "..~2F..~2Fx.onnx", "bright.onnx", "~7E~2Fx", "file~3A~2F~2F~2Ftmp~2Fx.onnx"]
)
def test_paths_are_refused_wherever_a_pipeline_is_given(client: httpx.Client, photo_body: bytes, path: str) -> None:
    for text in (f"remove_background:model={path}", f"faces:detector={path}", f"auto_tag:model={path}"):
        answer = client.post("/v1/process", params={"pipeline": text}, content=photo_body)
        problem = assert_problem(answer, 422, "invalid-parameter")
        assert "by name only" in str(problem["detail"])
        upload = client.put("/v1/uploads/a.png", content=photo_body).json()["id"]
        assert_problem(client.post("/v1/jobs", json={"pipeline": text, "uploads": [upload]}), 422, "invalid-parameter")


def test_an_unknown_model_is_told_with_the_nearest(client: httpx.Client, photo_body: bytes) -> None:
    answer = client.post("/v1/process", params={"pipeline": "remove_background:model=u2nettp"}, content=photo_body)
    problem = assert_problem(answer, 422, "invalid-parameter")
    assert "Did you mean u2netp" in str(problem["detail"])


@pytest.mark.usefixtures("learned")
def test_missing_weights_are_told_before_and_when_they_are_needed(client: httpx.Client, photo_body: bytes) -> None:
    listed = {item["name"]: item for item in client.get("/v1/operations").json()["items"]}
    assert {"what": "the weights of u2netp", "command": "pixelmill models pull u2netp"} in listed["remove_background"][
        "missing"
    ]
    assert listed["faces"]["missing"] == []
    presets = {item["name"]: item for item in client.get("/v1/presets").json()["items"]}
    assert not presets["remove-background"]["available"]
    checked = client.post("/v1/pipelines/check", json={"pipeline": "remove_background:model=bright"}).json()
    assert checked["needs"] == []
    answer = client.post("/v1/process", params={"pipeline": "remove_background"}, content=photo_body)
    problem = assert_problem(answer, 501, "model-missing")
    assert "pixelmill models pull u2netp" in str(problem["detail"])
    assert problem["retryable"] is False
