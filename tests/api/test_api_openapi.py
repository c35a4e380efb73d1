"""The OpenAPI document is complete, true, and the same as in ``docs/``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel

from pixelmill.api import schemas
from pixelmill.api.app import create_app
from pixelmill.api.docs import pages
from pixelmill.api.openapi import describe
from pixelmill.api.schemas import JobRequest, MoreTasks, NodeList, OperationList, ReadyBody
from pixelmill.api.settings import ApiSettings
from pixelmill.pipelines.spec import Pipeline
from pixelmill.service import Service, ServiceConfig

DOCS = Path(__file__).parents[2] / "docs"
APP = create_app(Service(ServiceConfig(data=Path("never-made"))), ApiSettings())
DOCUMENT = describe(APP)
# A link is its own proof; a session is how one becomes somebody; who sends events proves it in its provider's way.
OPEN = {"/", "/healthz", "/readyz", "/v1/problems/{slug}", "/v1/session", "/v1/objects/{key}", "/v1/events/{source}"}
OPERATIONS = [(path, method) for path, item in DOCUMENT["paths"].items() for method in item]


@pytest.mark.parametrize("name", sorted(pages()))
def test_files_made_from_code_are_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name], "run: python -m pixelmill.api.docs"


def test_the_service_serves_the_same_document(client: httpx.Client) -> None:
    assert client.get("/v1/openapi.json").json() == json.loads(json.dumps(DOCUMENT))


def test_every_route_is_in_the_document() -> None:
    routes = {
        (route.path.replace(":path}", "}"), method.lower()) for route in _api_routes() for method in route.methods or ()
    }
    assert routes == set(OPERATIONS)


def _api_routes() -> list[APIRoute]:
    found = [route for route in APP.routes if isinstance(route, APIRoute)]
    assert len(found) > 20
    return found


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_operation_is_described(path: str, method: str) -> None:
    operation = DOCUMENT["paths"][path][method]
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"]
    named = {item["name"] for item in operation.get("parameters", []) if item["in"] == "path"}
    assert named == set(re.findall(r"{(\w+)}", path))
    answers = operation["responses"]
    assert any(code.startswith("2") for code in answers)
    if path in OPEN:
        assert "security" not in operation
    else:
        assert operation["security"] == [{"token": []}]
        assert {"401", "403"} <= set(answers)
    for code, answer in answers.items():
        assert answer["description"]
        if code[0] in "45" and path != "/readyz":
            assert list(answer["content"]) == ["application/problem+json"]


def test_operation_ids_are_distinct() -> None:
    ids = [DOCUMENT["paths"][path][method]["operationId"] for path, method in OPERATIONS]
    assert len(set(ids)) == len(ids)


def _walk(value: Any) -> list[dict[str, Any]]:
    found = [value] if isinstance(value, dict) else []
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        found += _walk(item)
    return found


def test_every_reference_leads_somewhere() -> None:
    references = {node["$ref"] for node in _walk(DOCUMENT) if isinstance(node.get("$ref"), str)}
    assert references
    for reference in references:
        target: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        assert target


@pytest.mark.parametrize("model", [JobRequest, MoreTasks, schemas.ProblemBody])
def test_examples_of_bodies_validate(model: type[BaseModel]) -> None:
    examples = model.model_json_schema()["examples"]
    assert examples
    for example in examples:
        body = model.model_validate(example)
        if isinstance(body, JobRequest):
            Pipeline.parse(body.pipeline)


def test_examples_of_parameters_work(client: httpx.Client, photo: bytes) -> None:
    for path, method in OPERATIONS:
        for item in DOCUMENT["paths"][path][method].get("parameters", []):
            if item["name"] == "pipeline":
                Pipeline.parse(item["example"])
            if item["in"] == "path":
                assert "/" not in item["example"]


def test_operations_are_listed_with_schema_and_an_example_that_parses(client: httpx.Client) -> None:
    listed = client.get("/v1/operations").json()
    names = [operation.name for operation in OperationList.model_validate(listed).items]
    assert len(set(names)) == len(names)
    assert {"resize", "canny", "sketch", "watermark"} <= set(names)
    for operation in listed["items"]:
        assert client.get(f"/v1/operations/{operation['name']}").json() == operation
        assert operation["parameters"]["type"] == "object"
        for example in operation["examples"]:
            Pipeline.parse(example)


def test_nodes_and_readiness_have_their_documented_form(client: httpx.Client) -> None:
    assert NodeList.model_validate(client.get("/v1/nodes").json()).items
    answer = client.get("/readyz")
    assert answer.status_code == 200
    body = ReadyBody.model_validate(answer.json())
    assert body.ready
    assert all(check["ok"] for check in body.checks.values())


def test_the_index_lists_every_route_for_programs_and_for_people(client: httpx.Client) -> None:
    listed = client.get("/").json()["routes"]
    assert {(item["path"].replace(":path}", "}"), item["method"].lower()) for item in listed} == set(OPERATIONS)
    page = client.get("/", headers={"accept": "text/html,*/*"})
    assert page.headers["content-type"].startswith("text/html")
    assert "/v1/openapi.json" in page.text


def test_the_rest_page_has_every_path() -> None:
    text = (DOCS / "rest.md").read_text(encoding="utf-8")
    missing = [path for path, _ in OPERATIONS if path not in text]
    assert not missing
