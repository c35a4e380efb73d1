"""Presets over REST are expanded at the edge; ``format:auto`` listens to ``Accept``; results have their real names."""

from __future__ import annotations

import io
import zipfile

import httpx
import pytest

from pixelmill.api.negotiation import accepted, negotiated
from pixelmill.images.encoders import AUTO, ENDS, SAFE
from pixelmill.images.formats import FORMATS
from pixelmill.pipelines.presets import BUILT_IN
from pixelmill.pipelines.spec import Pipeline


@pytest.mark.parametrize(
    ("header", "formats"),
    [
        ("", SAFE),
        ("*/*", SAFE),
        ("application/json", SAFE),
        ("image/*", SAFE),
        ("image/webp", ("webp",)),
        ("IMAGE/AVIF", ("avif",)),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", ("jpeg", "png", "webp", "avif")),
        ("image/png;q=0.1, image/jpeg", ("jpeg", "png")),
        ("image/webp;q=0,*/*", ("jpeg", "png")),
        ("image/*;q=0, image/png", ("png",)),
        ("text/html", SAFE),
        ("image/webp;q=x", ("webp",)),
        (";;;,,,=", SAFE),
    ],
)
def test_accept_is_read(header: str, formats: tuple[str, ...]) -> None:
    assert accepted(header) == formats


def test_only_an_open_choice_is_negotiated() -> None:
    for form in ("format:png", "grayscale", "format:auto,accept=png"):
        assert negotiated(Pipeline.parse(form), "image/webp") is None
    found = negotiated(Pipeline.parse("invert/metadata:keep/format:auto,quality=50"), "image/webp")
    assert str(found) == "invert/metadata:keep/format:auto,accept=webp,quality=50"


def test_presets_are_listed(client: httpx.Client) -> None:
    items = client.get("/v1/presets").json()["items"]
    assert [item["name"] for item in items] == [preset.name for preset in BUILT_IN]
    assert items[0]["pipeline"] == Pipeline().preset(items[0]["name"]).to_text()


def test_formats_are_listed_with_the_options_of_their_encoders(client: httpx.Client) -> None:
    items = {item["name"]: item for item in client.get("/v1/formats").json()["items"]}
    assert set(items) == {*FORMATS, AUTO}
    for name, options in ENDS.items():
        assert set(items[name]["parameters"]["properties"]) == set(options.model_fields)
    assert items["heic"]["parameters"] is None


def test_process_expands_presets(client: httpx.Client, pictures: list[bytes]) -> None:
    one = client.post("/v1/process", params={"pipeline": "preset:thumbnail"}, content=pictures[0])
    same = client.post("/v1/process", params={"pipeline": str(Pipeline().preset("thumbnail"))}, content=pictures[0])
    assert one.status_code == 200
    assert one.content == same.content
    wrong = client.post("/v1/process", params={"pipeline": "preset:thumnail"}, content=pictures[0])
    assert wrong.status_code == 422
    assert wrong.json()["context"]["nearest"] == ["thumbnail"]


def test_auto_answers_what_the_client_accepts(client: httpx.Client, pictures: list[bytes]) -> None:
    def ask(pipeline: str, accept: str) -> httpx.Response:
        return client.post(
            "/v1/process", params={"pipeline": pipeline}, content=pictures[0], headers={"accept": accept}
        )

    for accept in ("image/webp", "image/avif", "image/jpeg", "image/png"):
        answer = ask("format:auto", accept)
        assert answer.headers["content-type"] == accept
        assert answer.headers["vary"] == "Accept"
        assert accept.removeprefix("image/").replace("jpeg", "jpg") in answer.headers["content-disposition"]
    fixed = ask("format:auto,accept=png", "image/webp")
    assert fixed.headers["content-type"] == "image/png"
    assert "vary" not in fixed.headers


def test_a_job_holds_the_expanded_pipeline_and_its_results_real_names(
    client: httpx.Client, pictures: list[bytes]
) -> None:
    job = client.post(
        "/v1/jobs",
        data={"pipeline": "preset:placeholder/format:auto,accept=webp:jpeg"},
        files=[("files", ("photo.bmp", pictures[0]))],
    ).json()
    assert job["pipeline"] == "resize:32,32/gaussian:1/format:auto,accept=jpeg:webp"
    with client.stream("GET", f"/v1/jobs/{job['id']}/events", params={"after": 0}) as stream:
        assert list(stream.iter_lines())  # ends with the job
    task = client.get(f"/v1/jobs/{job['id']}/tasks").json()["items"][0]
    real = task["outcome"]["format"]
    extension = {"webp": ".webp", "jpeg": ".jpg"}[real]
    result = client.get(task["links"]["result"])
    assert result.headers["content-type"] == f"image/{real}"
    assert f"photo{extension}" in result.headers["content-disposition"]
    archive = zipfile.ZipFile(io.BytesIO(client.get(job["links"]["archive"]).content))
    assert archive.namelist() == [f"photo{extension}"]
    assert task["outcome"]["media_type"] == f"image/{real}"
