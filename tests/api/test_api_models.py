"""Learned operations over REST: names, never paths; and what is missing."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from live_service import LiveService, assert_problem
from PIL import Image as Pil
from tiny_captioner import drawn, sentence
from tiny_models import fill

from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.image import Image

Start = Callable[..., LiveService]


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


@pytest.mark.timeout(600)
def test_captions_of_a_job_come_from_the_model_process_and_are_in_the_tasks_data(
    start: Start, captioner: Path, tmp_path: Path
) -> None:
    service = start(data=tmp_path / "captions", service={"timeout_s": 300.0, "workers": 2})
    shutil.copytree(captioner, service.data / "models" / "shapes")
    whats = [(count, color, "square") for count in (1, 2, 3) for color in ("red", "blue")]
    files = [
        ("files", (f"{number}.png", encode(Image(drawn(*what, 5)), "png"), "image/png"))
        for number, what in enumerate(whats)
    ]
    pipeline = "caption:a~20photography~20of,beams=3,model=shapes,draw=true,embed=true/format:png"
    with service.client() as client:
        job = client.post("/v1/jobs", data={"pipeline": pipeline}, files=files).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job}/events", params={"after": 0}, timeout=300) as stream:
            for _ in stream.iter_lines():
                pass  # it ends with the job
        assert client.get(f"/v1/jobs/{job}").json()["state"] == "succeeded", service.log()
        tasks = client.get(f"/v1/jobs/{job}/tasks").json()["items"]
        said = [task["outcome"]["data"]["caption"]["caption"] for task in tasks]
        assert sorted(said) == sorted(f"a photography of {sentence(*what)}" for what in whats)
        for task in tasks:
            image = client.get(f"/v1/tasks/{task['id']}/result")
            with Pil.open(io.BytesIO(image.content)) as picture:
                assert picture.getexif()[270] == task["outcome"]["data"]["caption"]["caption"]
    # All services of a user share one, which another test's may have started.
    assert any("pixelmill-model" in process.name() for process in psutil.process_iter())


@pytest.mark.timeout(600)
def test_a_request_gets_no_captioner_by_path_and_no_pickle(
    shared_service: LiveService, client: httpx.Client, captioner: Path
) -> None:
    body = encode(Image(drawn(1, "red", "circle", 5)), "png")
    for path in (str(captioner).replace("/", "~2F"), ".~2Fshapes"):
        answer = client.post("/v1/process", params={"pipeline": f"caption:model={path}"}, content=body)
        assert "by name only" in str(assert_problem(answer, 422, "invalid-parameter")["detail"])
    folder = shared_service.data / "models" / "pickled"
    shutil.copytree(captioner, folder, dirs_exist_ok=True)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    answer = client.post("/v1/process", params={"pipeline": "caption:model=pickled"}, content=body)
    assert "is a pickle" in answer.json()["detail"]
    assert answer.json()["type"].endswith("model-refused")


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
