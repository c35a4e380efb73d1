"""`pixelmill node` with PIPELINE and OUTPUT_BUCKET: events by HTTP from every provider that calls, done in its pool."""

from __future__ import annotations

import base64
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from buckets import service_account
from function_tools import SEED_D, Buckets, Program, bridge_event, jpeg, s3_event, s3_record

from pixelmill import Pipeline
from pixelmill.errors import ConfigError
from pixelmill.functions.container import Immediate
from pixelmill.functions.settings import settings_of
from pixelmill.service.settings import ServiceConfig
from pixelmill.service.stateless import Stateless
from servers import Moto, wait_until

TOKEN = {"authorization": "Bearer pm_secret"}


@pytest.fixture
def buckets(moto_server: Moto) -> Buckets:
    return Buckets(moto_server)


@pytest.fixture
def container(tmp_path: Path, buckets: Buckets) -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(*options: str, **variables: str) -> Program:
        environment = buckets.environment(PIXELMILL_TOKEN="pm_secret", **variables)
        command = [sys.executable, "-m", "pixelmill", "node", "--workers", "1", *options]
        started.append(Program(tmp_path, command, environment, "/readyz"))
        return started[-1]

    yield start
    for program in started:
        program.end()


def google(buckets: Buckets) -> dict[str, str]:
    """Google Cloud Storage stands on the same moto: obstore speaks its XML API there."""
    account = json.dumps(service_account(buckets.moto.url))
    return {"STORE_OPTIONS": json.dumps({"gs": {"service_account_key": account}})}


def gcs_object(buckets: Buckets, name: str, body: bytes) -> dict[str, Any]:
    """An object, and the resource that Cloud Storage tells of it."""
    buckets.client.put_object(Bucket=buckets.source, Key=name, Body=body)
    return {
        "kind": "storage#object",
        "bucket": buckets.source,
        "name": name,
        "generation": "1795860000000001",
        "metageneration": "1",
        "size": str(len(body)),
        "contentType": "image/jpeg",
        "timeCreated": "2026-11-28T10:00:00.000Z",
        "updated": "2026-11-28T10:00:00.000Z",
    }


def test_documents_of_s3_become_results(container: Callable[..., Program], buckets: Buckets) -> None:
    node, photo = container(), jpeg(600, 400, 1)
    event = buckets.put("a b/ü.jpg", photo)
    refused = node.client.post("/v1/events", json=event)
    assert refused.status_code == 401
    assert not buckets.keys()
    answer = node.client.post("/v1/events", json=event, headers=TOKEN)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    assert buckets.get("a b/ü.jpg") == Pipeline.parse(SEED_D).run(photo).bytes
    assert buckets.head("a b/ü.jpg")["ContentType"] == "image/jpeg"
    buckets.put("b.jpg", photo)
    bridge = bridge_event(buckets.source, "b.jpg", len(photo), "0" * 32)
    assert node.client.post("/", json=bridge, headers=TOKEN).json()["accepted"] == 1
    assert sorted(buckets.keys()) == ["a b/ü.jpg", "b.jpg"]


def test_pushes_of_pubsub_and_cloud_events_of_google(container: Callable[..., Program], buckets: Buckets) -> None:
    node, photo = container(**google(buckets)), jpeg(600, 400, 2)
    expected = Pipeline.parse(SEED_D).run(photo).bytes
    resource = gcs_object(buckets, "push.jpg", photo)
    push = {
        "message": {
            "attributes": {
                "bucketId": buckets.source,
                "eventType": "OBJECT_FINALIZE",
                "objectId": "push.jpg",
                "objectGeneration": "1795860000000001",
                "payloadFormat": "JSON_API_V1",
            },
            "data": base64.b64encode(json.dumps(resource).encode()).decode(),
            "messageId": "1",
            "publishTime": "2026-11-28T10:00:01.000Z",
        },
        "subscription": "projects/p/subscriptions/s",
    }
    assert node.client.post("/", json=push, headers=TOKEN).json()["accepted"] == 1
    attributes = {
        "specversion": "1.0",
        "type": "google.cloud.storage.object.v1.finalized",
        "source": f"//storage.googleapis.com/projects/_/buckets/{buckets.source}",
        "id": "1",
        "time": "2026-11-28T10:00:01Z",
    }
    binary = {f"ce-{name}": value for name, value in attributes.items()}
    binary["ce-subject"] = "objects/binary.jpg"
    data = gcs_object(buckets, "binary.jpg", photo)
    assert node.client.post("/", json=data, headers={**TOKEN, **binary}).json()["accepted"] == 1
    structured = {
        **attributes,
        "subject": "objects/structured.jpg",
        "data": gcs_object(buckets, "structured.jpg", photo),
    }
    headers = {**TOKEN, "content-type": "application/cloudevents+json"}
    assert node.client.post("/", content=json.dumps(structured), headers=headers).json()["accepted"] == 1
    assert sorted(buckets.keys()) == ["binary.jpg", "push.jpg", "structured.jpg"]
    assert all(buckets.get(key) == expected for key in ("binary.jpg", "push.jpg", "structured.jpg"))


def test_the_handshakes_of_event_grid(container: Callable[..., Program]) -> None:
    node = container(EVENTS_AUTH="event-grid", EVENTS_KEY="k1")
    validation = [
        {
            "id": "2d1781af-3a4c-4d7c-bd0c-e34b19da4e66",
            "topic": "/subscriptions/x",
            "subject": "",
            "data": {"validationCode": "512d38b6", "validationUrl": "https://example.org"},
            "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "eventTime": "2026-11-28T10:00:00Z",
            "metadataVersion": "1",
            "dataVersion": "1",
        }
    ]
    assert node.client.post("/v1/events", json=validation).status_code == 401
    answer = node.client.post(
        "/v1/events?key=k1", json=validation, headers={"aeg-event-type": "SubscriptionValidation"}
    )
    assert answer.json() == {"validationResponse": "512d38b6"}
    origin = {"webhook-request-origin": "eventgrid.azure.net"}
    allowed = node.client.options("/v1/events?key=k1", headers=origin)
    assert allowed.headers["webhook-allowed-origin"] == "eventgrid.azure.net"


def test_what_is_for_later_is_not_answered_as_done(container: Callable[..., Program], buckets: Buckets) -> None:
    node = container(AWS_ENDPOINT_URL="http://127.0.0.1:9")
    answer = node.client.post("/v1/events", json=s3_event([s3_record("some-bucket", "a.jpg")]), headers=TOKEN)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


def test_a_broken_image_is_settled(container: Callable[..., Program], buckets: Buckets) -> None:
    node = container(DEAD_LETTERS=f"s3://{buckets.target}/failed")
    answer = node.client.post("/v1/events", json=buckets.put("a.jpg", b"no image"), headers=TOKEN)
    assert answer.status_code == 200
    (key,) = buckets.keys()
    assert json.loads(buckets.get(key))["error"]["type"] == "unsupported-format"


def test_events_that_were_taken_end_before_the_node_does(container: Callable[..., Program], buckets: Buckets) -> None:
    node = container(PIPELINE="denoise:10/format:png")  # seconds of work
    event = buckets.put("a.jpg", jpeg(900, 700, 3))
    answers: list[httpx.Response] = []
    sender = threading.Thread(target=lambda: answers.append(node.client.post("/v1/events", json=event, headers=TOKEN)))
    sender.start()
    probe = httpx.Client(base_url=node.client.base_url, trust_env=False)
    wait_until(lambda: probe.get("/v1/load", headers=TOKEN).json()["running"] > 0, "it is at work")
    node.process.send_signal(signal.SIGTERM)
    sender.join(60)
    assert node.process.wait(60) == 0
    assert answers[0].status_code == 200, answers[0].text
    assert buckets.keys() == ["a.png"]
    with pytest.raises(httpx.ConnectError):
        probe.get("/readyz")
    probe.close()


def test_a_mistake_ends_it_at_the_start(container: Callable[..., Program]) -> None:
    with pytest.raises(AssertionError, match=r"\{name\}"):
        container(OUTPUT_NAME="{nme}")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("variables", "token", "says"),
    [
        ({"PIPELINE": "grayscale", "OUTPUT_BUCKET": "x", "EVENTS_AUTH": "google-oidc"}, "", "audience"),
        ({"PIPELINE": "grayscale", "OUTPUT_BUCKET": "x", "EVENTS_AUTH": "none"}, "", "loopback"),
        ({"PIPELINE": "grayscale", "OUTPUT_BUCKET": "x"}, "", "PIXELMILL_TOKEN"),
        ({"PIPELINE": "grayscale", "OUTPUT_BUCKET": "x", "OUTPUT_NAME": "{nme}"}, "secret", r"\{name\}"),
        ({"TRIGGERS": "/nowhere.toml"}, "secret", "/nowhere.toml"),
        ({"TRIGGERS": "x", "PIPELINE": "grayscale", "OUTPUT_BUCKET": "x"}, "secret", "takes the place"),
    ],
)
async def test_mistakes_are_told(tmp_path: Path, variables: dict[str, str], token: str, says: str) -> None:
    node = Stateless(ServiceConfig(data=tmp_path), token)  # which is not started: it only has a pool
    with pytest.raises(ConfigError, match=says):
        await Immediate(settings_of(variables), node, concurrent=1, token=token).start()
