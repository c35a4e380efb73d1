"""``/v1/events/SOURCE`` over a real server: statuses, bounds, and a whole way from event to result."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import boto3
import cv2
import httpx
import numpy as np
import pytest
import uvicorn
from buckets import s3_bucket, s3_client
from service_process import ServiceProcess
from takers import RecordingTaker
from trigger_rig import rule_text

from pixelmill.api.app import create_app
from pixelmill.api.settings import ApiSettings
from pixelmill.service import Service, ServiceConfig
from pixelmill.triggers.intake import MAX_BODY
from pixelmill.triggers.rule import RuleSet, SourceSpec
from pixelmill.triggers.verbs import TriggerRuntime
from servers import Moto, free_port, wait_until

EVENTS = Path(__file__).parent / "events"
TOKEN = {"Authorization": "Bearer s3cret"}


def load(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


class Rules(RecordingTaker):
    """A recording taker that has sources, as a runtime has."""

    def rule_set(self) -> RuleSet:
        specs = (
            SourceSpec("minio", "http", {"auth": "token", "token": "s3cret"}),
            SourceSpec("blobs", "http", {"auth": "event-grid", "key": "k3y"}),
            SourceSpec("local", "http", {"auth": "none"}),
            SourceSpec("queue", "sqs", {"queue": "q"}),
        )
        return RuleSet(sources={spec.name: spec for spec in specs})


@contextlib.contextmanager
def serving(folder: Path, triggers: Rules | None, settings: ApiSettings) -> Iterator[httpx.Client]:
    """The application behind a real server, without its service's life: nothing here runs a task."""
    app = create_app(Service(ServiceConfig(data=folder)), settings, triggers=cast("TriggerRuntime | None", triggers))
    config = uvicorn.Config(app, host="127.0.0.1", port=free_port(), lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, "the server did not start")
        with httpx.Client(base_url=f"http://127.0.0.1:{config.port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def rules() -> Rules:
    return Rules()


@pytest.fixture
def client(tmp_path: Path, rules: Rules) -> Iterator[httpx.Client]:
    with serving(tmp_path / "data", rules, ApiSettings()) as client:
        yield client


def test_events_are_taken_and_the_answer_says_what_became_of_them(client: httpx.Client, rules: Rules) -> None:
    answer = client.post("/v1/events/minio", json=load("minio-put"), headers=TOKEN)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    assert [event.uri for event in rules.events] == ["s3://photos-in/uploads/am%20See/a+b.jpg"]


def test_any_declared_type_is_read_and_chunks_too(client: httpx.Client, rules: Rules) -> None:
    body = json.dumps(load("s3-put")).encode()
    for kind in ("text/plain; charset=UTF-8", "application/cloudevents+json", "application/x-www-form-urlencoded"):
        assert client.post("/v1/events/minio", content=body, headers=TOKEN | {"Content-Type": kind}).status_code == 200
    assert client.post("/v1/events/minio", content=iter([body[:50], body[50:]]), headers=TOKEN).status_code == 200
    assert len(rules.events) == 4


def test_without_the_secret_no_body_is_received(client: httpx.Client) -> None:
    """Who has none must not fill the memory for bodies: the answer comes before the body does."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=30) as wire:
        wire.sendall(b"POST /v1/events/minio HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        assert wire.recv(64).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer other"}, {"Authorization": "Basic eDp5"}])
def test_without_the_secret_it_is_401_in_the_same_words(
    client: httpx.Client, rules: Rules, headers: dict[str, str]
) -> None:
    answer = client.post("/v1/events/minio", json=load("minio-put"), headers=headers)
    assert answer.status_code == 401
    assert answer.json()["detail"] == "The credentials of this source of events were not accepted."
    assert not rules.calls


@pytest.mark.parametrize("name", ["nothing", "queue", "a%2Fb", "x" * 500])
def test_a_source_that_is_none_of_kind_http_is_404(client: httpx.Client, name: str) -> None:
    assert client.post(f"/v1/events/{name}", json={}, headers=TOKEN).status_code == 404


def test_without_triggers_it_is_404(tmp_path: Path) -> None:
    with serving(tmp_path / "data", None, ApiSettings()) as client:
        assert client.post("/v1/events/minio", json={}).status_code == 404


def test_a_large_body_is_413(client: httpx.Client, rules: Rules) -> None:
    assert client.post("/v1/events/minio", content=b"x" * (MAX_BODY + 1), headers=TOKEN).status_code == 413
    chunks = (b"x" * 65_536 for _ in range(17))
    assert client.post("/v1/events/minio", content=chunks, headers=TOKEN).status_code == 413
    assert not rules.calls


def test_what_could_not_be_recorded_is_503_with_a_time(client: httpx.Client, rules: Rules) -> None:
    rules.failures = 1
    answer = client.post("/v1/events/minio", json=load("minio-put"), headers=TOKEN)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["retryable"] is True
    assert client.post("/v1/events/minio", json=load("minio-put"), headers=TOKEN).status_code == 200


def test_event_grids_handshakes(client: httpx.Client, rules: Rules) -> None:
    answer = client.post("/v1/events/blobs?key=k3y", json=load("azure-validation"))
    assert answer.json() == {"validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"}
    origin = {"WebHook-Request-Origin": "eventgrid.azure.net"}
    allowed = client.options("/v1/events/blobs?key=k3y", headers=origin)
    assert (allowed.status_code, allowed.headers["WebHook-Allowed-Origin"]) == (200, "eventgrid.azure.net")
    assert client.options("/v1/events/blobs?key=other", headers=origin).status_code == 401
    assert client.options("/v1/events/minio?token=s3cret", headers=origin).status_code == 401
    assert not rules.calls


def test_without_credentials_no_page_of_another_origin_may_send_events(client: httpx.Client, rules: Rules) -> None:
    assert client.post("/v1/events/local", json=load("s3-put")).status_code == 200
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post("/v1/events/local", json=load("s3-put"), headers=headers).status_code == 403
    assert rules.calls == 1


def test_beyond_loopback_a_source_without_credentials_serves_nobody(tmp_path: Path, rules: Rules) -> None:
    with serving(tmp_path / "data", rules, ApiSettings(host="192.0.2.1")) as client:
        answer = client.post("/v1/events/local", json=load("s3-put"))
        assert answer.status_code == 500
        assert answer.json()["type"].endswith("invalid-configuration")
        assert client.post("/v1/events/minio", json=load("s3-put"), headers=TOKEN).status_code == 200
    assert rules.calls == 1


# -- a whole way -----------------------------------------------------------------------------------------------------


@pytest.fixture
def photograph() -> bytes:
    image = np.random.default_rng(1).integers(0, 255, (90, 120, 3), np.uint8)
    done, encoded = cv2.imencode(".jpg", image)
    assert done
    return encoded.tobytes()


def test_from_a_queue_a_webhook_and_a_folder_to_results_in_a_bucket(
    tmp_path: Path,
    moto_server: Moto,
    photograph: bytes,
    service_process: Callable[..., ServiceProcess],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One service in its own process: S3 tells SQS, MinIO calls the route, a file is dropped; each gives its result."""
    for name, value in (("AWS_ACCESS_KEY_ID", "AKIATEST"), ("AWS_SECRET_ACCESS_KEY", "test-secret-key")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("UPLOADS_TOKEN", "s3cret")
    s3 = s3_client(moto_server)
    sqs = boto3.client("sqs", region_name="us-east-1", endpoint_url=moto_server.url)
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    bucket = source.uri.removeprefix("s3://").partition("/")[0]
    queue = sqs.create_queue(QueueName=f"{bucket}-events")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    told = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [told]})
    drop = tmp_path / "drop"
    drop.mkdir()
    rules = tmp_path / "rules.toml"
    rules.write_text(
        rule_text("bucket", f"{source.uri}/queue/", f"{target.uri}/queue/{{stem}}.{{ext}}")
        + rule_text("hook", f"{source.uri}/hook/", f"{target.uri}/hook/{{stem}}.{{ext}}")
        + rule_text("folder", f"{drop.as_uri()}/", f"{target.uri}/folder/{{stem}}.{{ext}}")
        + f"""
[[sources]]
name = "uploads"
kind = "sqs"
queue = "{queue}"
endpoint = "{moto_server.url}"
region = "us-east-1"
wait = 1

[[sources]]
name = "minio"
kind = "http"
auth = "token"
token_env = "UPLOADS_TOKEN"

[[sources]]
name = "drop"
kind = "folder"
path = "{drop}"
"""
    )
    stores = {"in": {"uri": source.uri, **source.options}, "out": {"uri": target.uri, **target.options}}
    options = ["--triggers", str(rules), "--source-root", str(drop), "--set", f"stores={json.dumps(stores)}"]
    service = service_process(*options)
    s3.put_object(Bucket=bucket, Key="in/queue/a photo+ü.jpg", Body=photograph)
    (drop / "dropped.jpg").write_bytes(photograph)
    # Of the second bucket nobody tells but this request.
    hook = s3.put_object(Bucket=bucket, Key="in/hook/am See.jpg", Body=photograph)
    document = load("minio-put")
    record = document["Records"][0]["s3"]
    record["bucket"]["name"] = bucket
    record["object"] |= {"key": "in%2Fhook%2Fam+See.jpg", "eTag": hook["ETag"].strip('"'), "size": len(photograph)}
    url = f"{service.url}/v1/events/minio"
    assert httpx.post(url, json=document).status_code == 401
    answer = httpx.post(url, json=document, headers=TOKEN)
    assert answer.status_code == 200, answer.text
    # SQS may have told of the same object before: then it is a duplicate.
    assert answer.json()["accepted"] + answer.json()["duplicate"] == 1
    assert httpx.post(url, json=document, headers=TOKEN).json()["duplicate"] == 1
    out_bucket = target.uri.removeprefix("s3://").partition("/")[0]

    def keys() -> set[str]:
        return {item["Key"] for item in s3.list_objects_v2(Bucket=out_bucket).get("Contents", [])}

    wanted = {"out/queue/a photo+ü.png", "out/hook/am See.png", "out/folder/dropped.png"}
    wait_until(lambda: keys() == wanted, f"results came: {service.log.read_text()[-3000:]}")
    body = s3.get_object(Bucket=out_bucket, Key="out/queue/a photo+ü.png")["Body"].read()
    image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape[:2] == (32, 32)
    assert service.stop() == 0
