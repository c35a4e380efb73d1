"""Saved pipelines, pipelines that are checked, and presets with what they lack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from live_service import LiveService, assert_problem

from pixelmill.api.saved import CheckedBody, SavedPipelineBody, SavedPipelineList
from pixelmill.api.schemas import PresetList
from pixelmill.jobs.saved import MAX_SAVED
from pixelmill.pipelines.spec import Pipeline

FORM = "grayscale/resize:256,256,fit=fill/format:jpeg,quality=70"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    owners = [
        {"owner": "ann", "scopes": ["jobs:read", "jobs:write", "process"]},
        {"owner": "bob", "scopes": ["jobs:read", "jobs:write"]},
        {"owner": "ann", "scopes": ["jobs:read"]},
        {"owner": "root", "scopes": ["admin"]},
    ]
    folder = tmp_path_factory.mktemp("saved")
    with LiveService(folder / "data", api={"require_tokens": True}, tokens=owners) as service:
        yield service


@pytest.fixture
def ann(guarded: LiveService) -> Iterator[httpx.Client]:
    """A client of ann's, who has no saved pipelines."""
    with guarded.client(guarded.tokens[0]) as client:
        for item in client.get("/v1/pipelines").json()["items"]:
            assert client.delete(f"/v1/pipelines/{quote(item['name'], safe='')}").status_code == 204
        yield client


def put(client: httpx.Client, name: str, pipeline: Any = FORM) -> httpx.Response:
    return client.put(f"/v1/pipelines/{quote(name, safe='')}", json={"pipeline": pipeline})


def names(client: httpx.Client) -> list[str]:
    return [item.name for item in SavedPipelineList.model_validate(client.get("/v1/pipelines").json()).items]


def test_a_pipeline_is_saved_changed_and_deleted(ann: httpx.Client) -> None:
    answer = put(ann, "thumbnails")
    assert answer.status_code == 201
    saved = SavedPipelineBody.model_validate(answer.json())
    assert (saved.name, saved.pipeline) == ("thumbnails", FORM)
    assert Pipeline.parse(saved.steps) == Pipeline.parse(FORM)
    changed = put(ann, "thumbnails", {"operations": [{"name": "invert"}]})
    assert (changed.status_code, changed.json()["pipeline"]) == (200, "invert")
    assert changed.json()["changed"] >= saved.changed
    assert ann.get("/v1/pipelines").json() == {"items": [changed.json()], "next": None}
    assert ann.delete("/v1/pipelines/thumbnails").status_code == 204
    assert_problem(ann.delete("/v1/pipelines/thumbnails"), 404, "not-found")
    assert names(ann) == []


def test_presets_are_kept_as_what_they_mean(ann: httpx.Client) -> None:
    assert put(ann, "gray", "preset:thumbnail").json()["pipeline"] == "grayscale/resize:256,256,fit=fill/format:jpeg"


@pytest.mark.parametrize("name", ["a", "x" * 80, "Größe 256 / grau?", "check", "50%", "日本", "...", "a/b/c"])
def test_names_are_printable_text(ann: httpx.Client, name: str) -> None:
    assert put(ann, name).status_code == 201
    assert names(ann) == [name]
    assert ann.delete(f"/v1/pipelines/{quote(name, safe='')}").status_code == 204


@pytest.mark.parametrize("name", ["x" * 81, " a", "a ", "a\x07b", "\x00", "\u202e"])
def test_other_names_are_refused(ann: httpx.Client, name: str) -> None:
    assert_problem(put(ann, name), 400, "invalid-request")
    assert names(ann) == []


def test_what_can_t_be_read_is_not_saved(ann: httpx.Client) -> None:
    assert_problem(put(ann, "bad", "greyscale"), 422, "unknown-operation")
    assert_problem(ann.put("/v1/pipelines/bad", json={}), 400, "invalid-request")
    assert names(ann) == []


def test_only_so_many_are_kept_and_each_owner_has_their_own(ann: httpx.Client, guarded: LiveService) -> None:
    for number in range(MAX_SAVED):
        assert put(ann, f"{number:03}").status_code == 201
    problem = assert_problem(put(ann, "more"), 409, "invalid-request")
    assert "Delete one first" in str(problem["detail"])
    assert put(ann, "007", "invert").status_code == 200
    assert names(ann) == [f"{number:03}" for number in range(MAX_SAVED)]
    for stranger in (guarded.tokens[1], guarded.tokens[3]):
        with guarded.client(stranger) as client:
            assert names(client) == []
            assert_problem(client.delete("/v1/pipelines/007"), 404, "not-found")


def test_scopes(guarded: LiveService) -> None:
    with guarded.client(guarded.tokens[2]) as reader:
        assert reader.get("/v1/pipelines").status_code == 200
        assert_problem(put(reader, "x"), 403, "forbidden")
        assert_problem(reader.delete("/v1/pipelines/x"), 403, "forbidden")
        assert_problem(reader.post("/v1/pipelines/check", json={"pipeline": FORM}), 403, "forbidden")


def check(client: httpx.Client, pipeline: Any) -> CheckedBody:
    answer = client.post("/v1/pipelines/check", json={"pipeline": pipeline})
    assert answer.status_code == 200
    return CheckedBody.model_validate(answer.json())


@pytest.mark.parametrize("form", [FORM, Pipeline.parse(FORM).to_dict(), "preset:thumbnail", "", "info"])
def test_a_good_pipeline_is_told_in_all_forms(client: httpx.Client, form: Any) -> None:
    checked, pipeline = check(client, form), Pipeline.parse(form)
    assert checked.valid
    assert (checked.text, checked.json_form, checked.hash) == (pipeline.to_text(), pipeline.to_dict(), pipeline.hash)
    assert checked.output is not None
    assert checked.output.format == pipeline.output.format
    assert checked.needs == []


@pytest.mark.parametrize(
    ("form", "slug", "step", "position"),
    [
        ("grayscale/greyscale", "unknown-operation", 1, 10),
        ("frame:1/invert/resize:0", "invalid-parameter", 2, 15),
        ("grayscale/!", "pipeline-syntax", None, 10),
        ({"operations": [{"name": "invert"}, {"name": "resize", "width": "x"}]}, "invalid-parameter", 1, None),
        ({"steps": []}, "pipeline-syntax", None, None),
        ("format:nothing", "unknown-operation", 0, 0),
        ("x" * 9000, "pipeline-syntax", None, 8192),
    ],
)
def test_a_wrong_one_is_told_where_it_is_wrong(
    client: httpx.Client, form: Any, slug: str, step: int | None, position: int | None
) -> None:
    checked = check(client, form)
    assert not checked.valid
    assert checked.error is not None
    assert (checked.error.type, checked.error.status) == (f"/v1/problems/{slug}", 422)
    assert (checked.step, checked.position) == (step, position)


@pytest.mark.parametrize("body", [{}, {"pipeline": 3}, {"pipeline": FORM, "more": 1}, []])
def test_a_request_of_the_wrong_form_is_no_check(client: httpx.Client, body: Any) -> None:
    assert_problem(client.post("/v1/pipelines/check", json=body), 400, "invalid-request")


def test_presets_say_whether_they_can_be_used(client: httpx.Client) -> None:
    items = {item.name: item for item in PresetList.model_validate(client.get("/v1/presets").json()).items}
    wanted = {"pencil", "remove-background", "caption", "thumbnail", "segments", "edges", "matching", "face-boxes"}
    assert wanted <= items.keys()
    for item in items.values():
        checked = check(client, f"preset:{item.name}")
        assert checked.valid == (not any("no operation" in lack.what for lack in item.missing))
        assert item.available == (checked.valid and not checked.needs)
        assert item.title
