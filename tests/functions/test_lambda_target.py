"""What a service sends to a function, the handler understands: the real target, the real handler, boto3 between."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import pytest
from buckets import s3_bucket
from function_tools import SEED_D, Buckets, jpeg

from pixelmill import Pipeline, tracing
from pixelmill.errors import CorruptImage, LimitExceeded, OutOfMemory, SourceRefused, TargetUnavailable
from pixelmill.storage.opening import open_store
from pixelmill.targets.aws_lambda import LambdaTarget
from pixelmill.targets.target import RunRequest
from pixelmill.testing.lambda_runtime import LambdaRuntime
from pixelmill.testing.lambda_sources import InvokeApi
from servers import Moto

pytest.importorskip("awslambdaric")
pytestmark = pytest.mark.anyio


@pytest.fixture
def runtime(moto_server: Moto) -> Iterator[LambdaRuntime]:
    environment = {**Buckets(moto_server).environment(), "PIPELINE": "", "OUTPUT_BUCKET": ""}
    with LambdaRuntime(environment=environment, timeout_s=20, memory_bytes=512 << 20, concurrency=2) as runtime:
        yield runtime


@pytest.fixture(params=["inline", "links"])
async def target(
    runtime: LambdaRuntime, moto_server: Moto, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LambdaTarget]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    bucket = s3_bucket(moto_server)
    store = open_store(bucket.uri, bucket.options) if request.param == "links" else None
    with InvokeApi(runtime) as api:
        made = LambdaTarget("far", "pixelmill", region="us-east-1", endpoint=api.url, store=store, timeout_s=30)
        await made.start()
        yield made
        await made.stop()


def asked(pipeline: str, source: bytes, **more: object) -> RunRequest:
    return RunRequest("one", Pipeline.parse(pipeline).to_json(), source, **more)  # type: ignore[arg-type]


async def test_a_task_travels_to_the_function_and_back(target: LambdaTarget, runtime: LambdaRuntime) -> None:
    await target.warm()
    assert runtime.counts().cold == 1
    photo = jpeg(800, 600, 1)
    result = await target.run(asked(SEED_D, photo))
    assert result.outcome.bytes == Pipeline.parse(SEED_D).run(photo).bytes
    assert result.worker == "pixelmill"
    found = await target.run(asked("phash", photo))
    assert found.outcome.data["phash"] == Pipeline.parse("phash").run(photo).data["phash"]


async def test_the_first_task_of_an_environment_is_told_as_cold(target: LambdaTarget) -> None:
    photo = jpeg(800, 600, 1)
    assert [(await target.run(asked(SEED_D, photo))).cold for _ in range(2)] == [True, False]


async def test_a_call_that_warmed_it_up_took_the_cold_start(target: LambdaTarget) -> None:
    await target.warm()
    assert not (await target.run(asked(SEED_D, jpeg(800, 600, 1)))).cold


async def test_the_function_works_in_the_trace_of_who_calls(target: LambdaTarget, runtime: LambdaRuntime) -> None:
    with tracing.span("overflow.call") as span, pytest.raises(CorruptImage):
        await target.run(asked(SEED_D, jpeg(800, 600, 1)[:2000]))
    told = [json.loads(line) for line in runtime.lines if '"function.refused"' in line]
    assert [(line["trace_id"], line["span_id"]) for line in told] == [(span.context.trace_id, span.context.span_id)]
    with pytest.raises(CorruptImage):  # and without one, in none: the one before has ended
        await target.run(asked(SEED_D, jpeg(800, 600, 1)[:2000]))
    last = json.loads([line for line in runtime.lines if '"function.refused"' in line][-1])
    assert "trace_id" not in last


async def test_an_error_of_the_image_is_the_same_error_here(target: LambdaTarget, runtime: LambdaRuntime) -> None:
    with pytest.raises(CorruptImage):
        await target.run(asked(SEED_D, jpeg(800, 600, 1)[:2000]))
    assert runtime.counts().errors == 0  # it was a reply: nobody tries again


async def test_large_images_go_by_links(target: LambdaTarget, runtime: LambdaRuntime) -> None:
    photo = jpeg(2400, 2000, 2, quality=100)
    noise = Pipeline.parse("resize:2400,2000/format:bmp")
    if not target._links:
        with pytest.raises(LimitExceeded, match="reply"):
            await target.run(asked(noise.to_text(), photo))
        return
    result = await target.run(asked(noise.to_text(), photo))
    assert result.outcome.bytes == noise.run(photo).bytes


async def test_a_second_image_comes_along(target: LambdaTarget) -> None:
    photo, mark = jpeg(400, 300, 3), jpeg(60, 40, 4)
    pipeline = Pipeline.parse("watermark:mark/format:png")
    result = await target.run(asked("watermark:mark/format:png", photo, images={"mark": mark}))
    assert result.outcome.bytes == pipeline.run(photo, images={"mark": mark}).bytes


async def test_a_function_that_runs_out_of_memory_says_so(moto_server: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    # It is killed at 100 MB, and believes that it has 1 GB.
    environment = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024"}
    with (
        LambdaRuntime(environment=environment, timeout_s=20, memory_bytes=100 << 20) as runtime,
        InvokeApi(runtime) as api,
    ):
        target = LambdaTarget("far", "pixelmill", region="us-east-1", endpoint=api.url)
        await target.start()
        with pytest.raises(OutOfMemory):
            await target.run(asked("rotate:45/format:png", jpeg(5000, 4000, 5, quality=40)))
        await target.stop()


async def test_beyond_its_concurrency_it_is_throttled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with LambdaRuntime(timeout_s=20, concurrency=1) as runtime, InvokeApi(runtime) as api:
        taken = runtime._take(0)  # its only environment is busy
        assert taken is not None
        target = LambdaTarget("far", "pixelmill", region="us-east-1", endpoint=api.url)
        await target.start()
        with pytest.raises(TargetUnavailable) as refused:
            await target.run(asked(SEED_D, jpeg(100, 100, 6)))
        assert refused.value.context["throttled"]
        assert runtime.counts().throttles == 1
        runtime._give_back(taken)
        await target.run(asked(SEED_D, jpeg(100, 100, 6)))
        await target.stop()


async def test_links_lead_to_https_or_to_the_functions_own_store_alone(runtime: LambdaRuntime) -> None:
    for url in ("http://127.0.0.1:1/x", "file:///etc/passwd", "https://user@host/x", "ftp://host/x", "https:///x"):
        answer = runtime.invoke({"pixelmill": 1, "pipeline": "grayscale", "source": {"url": url}})
        assert answer.ok, answer
        assert answer.result["error"]["type"] in (SourceRefused.type, "invalid-uri"), json.dumps(answer.result)
