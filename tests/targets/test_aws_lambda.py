"""The Lambda target: a real client of botocore against the Invoke API on loopback, and links into a real S3."""

from __future__ import annotations

import json
from collections.abc import Iterator

import boto3
import cv2
import lambda_server
import numpy as np
import pytest
from lambda_server import LambdaServer
from obstore.store import S3Store

from pixelmill import tracing
from pixelmill.errors import OutOfMemory, PixelmillError, TargetUnavailable
from pixelmill.pipelines.spec import Pipeline
from pixelmill.storage.buckets import ObstoreStore
from pixelmill.targets.aws_lambda import MAX_PAYLOAD, LambdaTarget
from pixelmill.targets.target import RunRequest, Target
from pixelmill.testing.target import TargetConformance
from servers import Moto

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)


@pytest.fixture
def functions() -> Iterator[LambdaServer]:
    with lambda_server.lambda_server() as server:
        yield server


def noise(side: int) -> bytes:
    """A PNG that can't be made smaller: 3 bytes a pixel."""
    return bytes(cv2.imencode(".png", np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8))[1])


def request(pipeline: str, source: bytes, **more: object) -> RunRequest:
    return RunRequest("run", Pipeline.parse(pipeline).to_json(), source, **more)  # type: ignore[arg-type]


def target(server: LambdaServer, function: str = "good", **more: object) -> LambdaTarget:
    return LambdaTarget("lambda", function, endpoint=server.url, concurrency=2, **more)  # type: ignore[arg-type]


class TestLambdaTargetConforms(TargetConformance):
    @pytest.fixture(autouse=True)
    def _functions(self, functions: LambdaServer) -> None:
        self.functions = functions

    def make(self) -> Target:
        return target(self.functions)

    def good(self) -> RunRequest:
        return request("resize:10/format:png", noise(20))

    def bad(self) -> RunRequest:
        return request("grayscale", b"no image", source_name="näme\udcff.jpg")

    def endless(self) -> RunRequest:
        return request("grayscale", noise(20), source_name="endless", timeout_s=60.0)


@pytest.mark.parametrize(
    ("function", "billed", "begun"),
    [
        ("throttled", "none", False),
        ("absent", "none", False),
        ("failing", "elapsed", True),
        ("crashing", "elapsed", True),
        ("rubbish", "elapsed", True),
        ("empty", "elapsed", True),
    ],
)
async def test_failures_of_the_function_are_the_targets(
    functions: LambdaServer, function: str, billed: str, begun: bool
) -> None:
    lamb = target(functions, function)
    await lamb.start()
    with pytest.raises(TargetUnavailable) as caught:
        await lamb.run(request("grayscale", noise(8)))
    await lamb.stop()
    assert (caught.value.context["billed"], caught.value.context.get("begun", False)) == (billed, begun)
    assert len(functions.sizes) == 1  # botocore tried it once only


async def test_running_out_of_memory_is_the_tasks(functions: LambdaServer) -> None:
    lamb = target(functions, "hungry")
    await lamb.start()
    with pytest.raises(OutOfMemory):
        await lamb.run(request("grayscale", noise(8)))
    await lamb.stop()


async def test_nobody_there_is_billed_nothing() -> None:
    with lambda_server.lambda_server() as server:
        lamb = target(server)
    await lamb.start()
    with pytest.raises(TargetUnavailable) as caught:
        await lamb.run(request("grayscale", noise(8)))
    await lamb.stop()
    assert caught.value.context["billed"] == "none"


async def test_a_warm_up_runs_no_task(functions: LambdaServer) -> None:
    lamb = target(functions)
    await lamb.start()
    await lamb.warm()
    await lamb.stop()
    assert functions.warm == 1


async def test_an_event_is_never_larger_than_lambda_takes(functions: LambdaServer) -> None:
    lamb = target(functions)
    await lamb.start()
    with pytest.raises(TargetUnavailable) as caught:
        await lamb.run(request("resize:8/format:png", noise(1300)))
    small = await lamb.run(request("resize:8/format:png", noise(1200)))
    await lamb.stop()
    assert small.outcome.size == (8, 8)
    assert caught.value.context == {"billed": "none", "fault": False}
    assert functions.sizes == [size for size in functions.sizes if size <= MAX_PAYLOAD]
    assert len(functions.sizes) == 1


async def test_large_sources_and_results_go_by_links(functions: LambdaServer, moto_server: Moto) -> None:
    boto3.client("s3", endpoint_url=moto_server.url).create_bucket(Bucket="overflow")
    store = ObstoreStore(
        S3Store(
            "overflow",
            endpoint=moto_server.url,
            access_key_id="a",
            secret_access_key="b",
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )
    )
    lamb = target(functions, store=store)
    await lamb.start()
    source = noise(1500)
    small = await lamb.run(request("resize:8/format:png", noise(20)))
    large = await lamb.run(request("flip:horizontal/format:png", source))
    await store.put("uploads/a", source)
    kept = await lamb.run(request("resize:8/format:png", source, source_key="uploads/a"))
    await lamb.stop()
    assert small.outcome.size == kept.outcome.size == (8, 8)
    assert large.outcome.bytes is not None
    assert len(large.outcome.bytes) > MAX_PAYLOAD
    assert functions.sent_by_link == 2
    assert max(functions.sizes) < 10_000
    # Nothing of the calls is left.
    assert [found.key async for found in store.list("")] == ["uploads/a"]


@pytest.mark.parametrize("event", [None, [], {}, {"pixelmill": 2}, {"pixelmill": 1, "pipeline": 3}])
def test_documents_that_are_none_are_refused(event: object) -> None:
    from pixelmill.targets.invocation import read_document

    with pytest.raises(PixelmillError):
        read_document(json.loads(json.dumps(event)))


async def test_a_call_says_what_it_belongs_to_and_the_reply_whether_it_was_cold(functions: LambdaServer) -> None:
    called = target(functions)
    await called.start()
    try:
        first = await called.run(request("resize:10/format:png", noise(20)))
        with tracing.span("task.run") as span:
            second = await called.run(request("resize:10/format:png", noise(20)))
    finally:
        await called.stop()
    assert (first.cold, second.cold) == (True, False)
    assert functions.traces == ["", span.context.to_text()]
