"""Every error of the tree has its status, its explanation, and its line in the documentation."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from live_service import LiveService, assert_problem

from pixelmill.api.problems import KINDS, encode_problem, errors_page, problem, problem_headers, status_of
from pixelmill.api.schemas import ProblemBody
from pixelmill.errors import ERROR_TYPES, Busy, LimitExceeded, PixelmillError, RequestError

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_has_every_error_type_and_no_other() -> None:
    assert set(KINDS) == set(ERROR_TYPES)


@pytest.mark.parametrize("slug", sorted(ERROR_TYPES))
def test_every_error_becomes_a_problem_document(slug: str) -> None:
    error = ERROR_TYPES[slug]("It happened.", retry_after=7, value=object())
    document = json.loads(encode_problem(error, instance="/v1/x", request_id="r1"))
    ProblemBody.model_validate(document)
    assert document["type"] == f"/v1/problems/{slug}"
    assert document["status"] == status_of(error) == KINDS[slug].status
    assert document["request_id"] == "r1"


def test_errors_that_may_be_retried_say_when() -> None:
    assert (b"retry-after", b"7") in problem_headers(Busy("Busy.", retry_after=7.2))
    for slug, cls in ERROR_TYPES.items():
        if KINDS[slug].status in {429, 503, 507} and cls.retryable:
            assert any(name == b"retry-after" for name, _ in problem_headers(cls("x"))), slug


def test_bytes_beyond_the_limit_are_413_and_pixels_422() -> None:
    assert status_of(LimitExceeded("", limit="bytes")) == 413
    assert status_of(LimitExceeded("", limit="pixels a side")) == 422


@pytest.mark.parametrize(("status", "shown"), [(415, 415), (408, 408), (500, 400), ("x", 400), (None, 400)])
def test_a_request_error_has_its_own_status_within_400(status: object, shown: int) -> None:
    assert status_of(RequestError("", status=status)) == shown


def test_what_nobody_expected_stays_inside() -> None:
    document = problem(PixelmillError("/secret/path broke", path="/secret"), instance="/", request_id="r")
    assert "secret" not in json.dumps(document)


def test_the_documentation_of_errors_is_up_to_date() -> None:
    assert (DOCS / "errors.md").read_text(encoding="utf-8") == errors_page(), "run: python -m pixelmill.api.docs"


@pytest.mark.parametrize("slug", sorted(ERROR_TYPES))
def test_the_service_explains_each_type_where_it_points(client: httpx.Client, slug: str) -> None:
    answer = client.get(f"/v1/problems/{slug}")
    assert answer.status_code == 200
    assert answer.json()["type"] == f"/v1/problems/{slug}"
    assert answer.json()["advice"]


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/v1/problems/nothing", 404, "not-found"),
        ("GET", "/v1/jobs/", 404, "not-found"),
        ("GET", "/v1/jobs/unknown", 404, "not-found"),
        ("DELETE", "/v1/jobs/unknown", 404, "not-found"),
        ("POST", "/v1/jobs/unknown/cancel", 404, "not-found"),
        ("POST", "/v1/jobs/unknown/retry", 404, "not-found"),
        ("POST", "/v1/jobs/unknown/seal", 404, "not-found"),
        ("GET", "/v1/jobs/unknown/tasks", 404, "not-found"),
        ("GET", "/v1/jobs/unknown/events", 404, "not-found"),
        ("GET", "/v1/jobs/unknown/archive", 404, "not-found"),
        ("GET", "/v1/tasks/unknown", 404, "not-found"),
        ("GET", "/v1/tasks/unknown/result", 404, "not-found"),
        ("GET", "/v1/tasks/unknown/input", 404, "not-found"),
        ("GET", "/v1/operations/greyscale", 404, "not-found"),
        ("PUT", "/v1/jobs", 405, "invalid-request"),
        ("DELETE", "/v1/process", 405, "invalid-request"),
        ("OPTIONS", "/v1/jobs", 405, "invalid-request"),
        ("GET", "/v1/jobs?limit=0", 400, "invalid-request"),
        ("GET", "/v1/jobs?limit=x", 400, "invalid-request"),
        ("GET", "/v1/jobs?state=lost", 400, "invalid-request"),
        ("GET", "/v1/jobs?cursor=%00", 400, "invalid-request"),
        ("GET", "/v1/events?after=-1", 400, "invalid-request"),
        ("GET", "/v1/jobs/%00%ff/tasks", 404, "not-found"),
    ],
)
def test_what_the_router_and_the_verbs_refuse_is_a_problem_document(
    client: httpx.Client, method: str, path: str, status: int, slug: str
) -> None:
    answer = client.request(method, path)
    assert_problem(answer, status, slug)


def test_a_method_that_is_not_taken_is_told_which_are(client: httpx.Client) -> None:
    assert client.put("/v1/process").headers["allow"] == "POST"


def test_an_unexpected_error_is_logged_with_the_request_id_and_tells_nothing(
    shared_service: LiveService, client: httpx.Client
) -> None:
    answer = client.get("/nothing", headers={"x-request-id": "find-me.1"})
    assert answer.headers["x-request-id"] == "find-me.1"
    lines = [line for line in shared_service.log_lines("request.done") if line.get("request_id") == "find-me.1"]
    assert [line["status"] for line in lines] == [404]


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "é", "{}"])
def test_a_request_id_that_is_not_plain_is_replaced(client: httpx.Client, given: str) -> None:
    answer = client.get("/healthz", headers=[(b"x-request-id", given.encode())])
    assert answer.headers["x-request-id"] not in {"", given}
