"""HTTP requests by every way that Lambda gets them. Most run in this process: requests and answers are values."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from function_tools import SEED_D, Buckets, Context, jpeg

from pixelmill import Pipeline
from pixelmill.api.problems import KINDS
from pixelmill.api.problems import status_of as service_status
from pixelmill.errors import ERROR_TYPES, ConfigError, LimitExceeded, RequestError
from pixelmill.functions import links
from pixelmill.functions.calls import Function
from pixelmill.functions.gateway import status_of
from pixelmill.testing.lambda_runtime import LambdaRuntime
from servers import Moto

PHOTO = jpeg(640, 480, 1)
OTHER = Pipeline.parse("resize:64/format:png")


def v2(query: str, body: bytes, *, method: str = "POST", path: str = "/", **headers: str) -> dict[str, Any]:
    """Function URLs and HTTP APIs (payload format 2.0)."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"content-type": "image/jpeg", "host": "abc.lambda-url.us-east-1.on.aws", **headers},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abc",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "x"},
            "requestId": "id",
            "stage": "$default",
        },
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def v1(query: Mapping[str, str], body: bytes, *, method: str = "POST", path: str = "/") -> dict[str, Any]:
    """REST APIs (payload format 1.0), with binary media types on."""
    return {
        "version": "1.0",
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": {"Content-Type": "image/jpeg"},
        "multiValueHeaders": {"Content-Type": ["image/jpeg"]},
        "queryStringParameters": dict(query) or None,
        "multiValueQueryStringParameters": {name: [value] for name, value in query.items()} or None,
        "requestContext": {"httpMethod": method, "path": path, "stage": "prod", "requestId": "id"},
        "pathParameters": None,
        "stageVariables": None,
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def alb(query: Mapping[str, str], body: bytes, *, many: bool) -> dict[str, Any]:
    """A target group of a load balancer, which leaves parameters as they stood in the address."""
    event: dict[str, Any] = {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/x/1"}},
        "httpMethod": "POST",
        "path": "/",
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }
    raw = {name: quote(value, safe="") for name, value in query.items()}
    if many:
        lists = {name: [value] for name, value in raw.items()}
        return {
            **event,
            "multiValueHeaders": {"content-type": ["image/jpeg"]},
            "multiValueQueryStringParameters": lists,
        }
    return {**event, "headers": {"content-type": "image/jpeg"}, "queryStringParameters": raw}


class Called:
    """A function of these variables; ``printed`` is what it printed."""

    def __init__(self, **environ: str) -> None:
        self.printed: list[str] = []
        self._function = Function({"PIXELMILL_INSECURE": "true", **environ}, self.printed.append)

    def __call__(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self._function(event, Context())
        return answer


def body_of(answer: Mapping[str, Any]) -> bytes:
    return base64.b64decode(answer["body"]) if answer["isBase64Encoded"] else str(answer["body"]).encode()


@pytest.mark.parametrize(
    "event",
    [
        v2(urlencode({"pipeline": OTHER.to_text()}), PHOTO),
        v2(f"pipeline={OTHER.to_text()}", PHOTO, path="/prod/v1/process"),
        v1({"pipeline": OTHER.to_text()}, PHOTO),
        alb({"pipeline": OTHER.to_text()}, PHOTO, many=False),
        alb({"pipeline": OTHER.to_text()}, PHOTO, many=True),
    ],
    ids=["url", "http-api", "rest-api", "alb", "alb-lists"],
)
def test_an_image_goes_in_and_its_result_comes_out(event: dict[str, Any]) -> None:
    answer = Called()(event)
    assert answer["statusCode"] == 200
    assert answer["headers"]["content-type"] == "image/png"
    assert body_of(answer) == OTHER.run(PHOTO).bytes
    assert ("multiValueHeaders" in answer) == ("multiValueHeaders" in event and "elb" in event["requestContext"])


def test_without_a_pipeline_the_functions_own_is_run() -> None:
    assert body_of(Called(PIPELINE=SEED_D)(v2("", PHOTO))) == Pipeline.parse(SEED_D).run(PHOTO).bytes
    refused = Called()(v2("", PHOTO))
    assert refused["statusCode"] == 422
    assert "?pipeline=" in json.loads(body_of(refused))["detail"]


def test_data_and_who_asks_for_json_get_json() -> None:
    found = json.loads(body_of(Called()(v2("pipeline=phash", PHOTO))))
    assert found["data"]["phash"] == Pipeline.parse("phash").run(PHOTO).data["phash"]
    assert found["image"] is None
    both = json.loads(body_of(Called()(v2(f"pipeline={OTHER}", PHOTO, accept="application/json"))))
    assert base64.b64decode(both["image"]) == OTHER.run(PHOTO).bytes


@pytest.mark.parametrize(
    ("event", "status", "kind"),
    [
        (v2("pipeline=grayscal", PHOTO), 422, "unknown-operation"),
        (v2("pipeline=grayscale", b"text"), 415, "unsupported-format"),
        (v2("pipeline=grayscale", PHOTO[:3000]), 422, "corrupt-image"),
        (v2("pipeline=crop:1,1,9000,9000", PHOTO), 422, "not-applicable"),
        (v2("pipeline=grayscale", b""), 400, "invalid-request"),
        (v2("pipeline=grayscale", PHOTO, method="DELETE"), 405, "invalid-request"),
        (v2("", b"", method="GET", path="/x"), 404, "not-found"),
        ({**v2("pipeline=grayscale", b""), "body": "%%%"}, 400, "invalid-request"),
        (v2("", b"[1]", **{"content-type": "application/json"}), 400, "invalid-request"),
    ],
)
def test_errors_are_problem_documents(event: dict[str, Any], status: int, kind: str) -> None:
    called = Called()
    answer = called(event)
    problem = json.loads(body_of(answer))
    assert (answer["statusCode"], problem["status"]) == (status, status)
    assert problem["type"] == f"/v1/problems/{kind}"
    assert problem["detail"]
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert f'"ErrorType":"{kind}"' in "".join(called.printed)


def test_health_needs_no_token_and_work_does() -> None:
    called = Called(PIXELMILL_TOKEN="secret", PIPELINE=SEED_D)
    assert called(v2("", b"", method="GET", path="/prod/healthz"))["statusCode"] == 200
    refused = called(v2("", PHOTO))
    assert (refused["statusCode"], refused["headers"]["www-authenticate"]) == (401, 'Bearer realm="pixelmill"')
    assert called(v2("", PHOTO, authorization="Bearer wrong"))["statusCode"] == 401
    assert called(v2("", PHOTO, authorization="Bearer secret"))["statusCode"] == 200


def test_nobody_is_served_whom_nobody_knows() -> None:
    closed = Called(PIXELMILL_INSECURE="", PIPELINE=SEED_D)
    request = v2("", PHOTO)
    refused = closed(request)
    assert refused["statusCode"] == 401
    assert "PIXELMILL_TOKEN" in json.loads(body_of(refused))["detail"]
    iam = {"iam": {"userArn": "arn:aws:iam::123456789012:user/x"}}
    known = {**request, "requestContext": {**request["requestContext"], "authorizer": iam}}
    assert closed(known)["statusCode"] == 200
    rest = v1({}, PHOTO)
    assert closed(rest)["statusCode"] == 401
    signed = {"userArn": "arn:aws:iam::123456789012:user/x"}
    assert closed({**rest, "requestContext": {**rest["requestContext"], "identity": signed}})["statusCode"] == 200
    assert closed(alb({}, PHOTO, many=False))["statusCode"] == 401


def test_for_everybody_no_link_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[object] = []
    monkeypatch.setattr(links._opener, "open", lambda request, timeout: fetched.append(request))
    document = {"pixelmill": 1, "pipeline": SEED_D, "source": {"url": "https://internal.example/secret.jpg"}}
    put = {**document, "source": {"body": base64.b64encode(PHOTO).decode()}, "result": {"url": "https://x.example/"}}
    for asked in (document, put):
        event = v2("", json.dumps(asked).encode(), **{"content-type": "application/json"})
        reply = json.loads(body_of(Called()(event)))
        assert reply["error"]["type"] == "source-refused"
    assert not fetched


def test_a_link_has_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def silent(request: object, timeout: float) -> object:
        waited.append(timeout)
        raise TimeoutError("nothing came")

    monkeypatch.setattr(links._opener, "open", silent)
    document = {"pixelmill": 1, "pipeline": SEED_D, "source": {"url": "https://slow.example/a.jpg"}}
    bearer = {"content-type": "application/json", "authorization": "Bearer secret"}
    reply = json.loads(body_of(Called(PIXELMILL_TOKEN="secret")(v2("", json.dumps(document).encode(), **bearer))))
    assert reply["error"]["type"] == "storage-unavailable"
    assert waited == [2.5]  # of the 3 s that the function has


def test_a_request_goes_on_with_the_trace_of_its_headers() -> None:
    pytest.importorskip("awslambdaric")
    trace_id, span_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    document = {"pixelmill": 1, "pipeline": SEED_D, "source": {"body": base64.b64encode(PHOTO[:2000]).decode()}}
    headers = {"content-type": "application/json", "traceparent": f"00-{trace_id}-{span_id}-01"}
    with LambdaRuntime(environment={"PIXELMILL_INSECURE": "true"}, timeout_s=10) as runtime:
        runtime.invoke(v2("", json.dumps(document).encode(), **headers))
        (told,) = [json.loads(line) for line in runtime.lines if '"function.refused"' in line]
    assert (told["trace_id"], told["span_id"], told["type"]) == (trace_id, span_id, "corrupt-image")


def test_metrics_of_a_wrong_setting_are_of_the_function_that_has_it() -> None:
    called = Called(AWS_LAMBDA_FUNCTION_NAME="thumbnails", PIXELMILL_MAX_BYTES="many")
    with pytest.raises(ConfigError):
        called(v2("", PHOTO))
    assert '"FunctionName":"thumbnails"' in called.printed[0]


def test_a_document_of_a_service_is_taken_too() -> None:
    document = {"pixelmill": 1, "pipeline": SEED_D, "source": {"body": base64.b64encode(PHOTO).decode()}}
    event = v2("", json.dumps(document).encode(), **{"content-type": "application/json"})
    reply = json.loads(body_of(Called()(event)))
    assert base64.b64decode(reply["image"]) == Pipeline.parse(SEED_D).run(PHOTO).bytes


def test_a_result_that_is_too_large_is_told_so() -> None:
    answer = Called()(v2("pipeline=resize:1600,1200,enlarge=true/format:bmp", PHOTO))
    problem = json.loads(body_of(answer))
    assert answer["statusCode"] == 413
    assert "OUTPUT_BUCKET" in problem["detail"]


def test_or_it_goes_to_the_bucket_and_the_answer_is_a_link(moto_server: Moto) -> None:
    pytest.importorskip("awslambdaric")
    buckets = Buckets(moto_server)
    pipeline = Pipeline.parse("resize:1600,1200,enlarge=true/format:bmp")
    with LambdaRuntime(
        environment=buckets.environment(OUTPUT_PREFIX="web", PIXELMILL_INSECURE="1"), timeout_s=10
    ) as runtime:
        answer = runtime.invoke(v2(f"pipeline={pipeline}", PHOTO)).result
        again = runtime.invoke(v2(f"pipeline={pipeline}", PHOTO, accept="application/json")).result
    assert answer["statusCode"] == 303
    expected = pipeline.run(PHOTO).bytes
    fetched = httpx.get(answer["headers"]["location"], trust_env=False)
    assert fetched.content == expected
    assert fetched.headers["content-type"] == "image/bmp"
    assert httpx.get(json.loads(again["body"])["url"], trust_env=False).content == expected
    assert len(buckets.keys()) == 1


def test_statuses_are_those_of_the_rest_service() -> None:
    assert set(ERROR_TYPES) == set(KINDS)
    for slug, cls in ERROR_TYPES.items():
        assert status_of(cls("x")) == service_status(cls("x")), slug
    for error in (LimitExceeded("x", limit="bytes"), RequestError("x", status=405), RequestError("x")):
        assert status_of(error) == service_status(error)
