"""The HTTP target against a real service, and against everything that is none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import cv2
import numpy as np
import odd_server
import pytest
from live_service import LiveService
from obstore.store import S3Store
from odd_server import OUTCOME, Write, answer

from pixelmill import tracing
from pixelmill.errors import CorruptImage, PixelmillError, TargetUnavailable, TaskTimeout, WorkerCrashed
from pixelmill.images.probe import probe
from pixelmill.pipelines.spec import Pipeline
from pixelmill.storage.buckets import ObstoreStore
from pixelmill.targets.serverless import ServerlessTarget
from pixelmill.targets.target import RunRequest, Target
from pixelmill.targets.tokens import Bearer
from pixelmill.testing.target import TargetConformance
from servers import Moto

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    with LiveService(tmp_path_factory.mktemp("container") / "data", service={"workers": 2}) as service:
        yield service


def jpeg(width: int, height: int) -> bytes:
    pixels = cv2.resize(np.random.default_rng(1).integers(0, 256, (9, 12, 3), np.uint8), (width, height))
    return bytes(cv2.imencode(".jpg", pixels)[1])


def request(pipeline: str, source: bytes, **more: object) -> RunRequest:
    return RunRequest("run", Pipeline.parse(pipeline).to_json(), source, **more)  # type: ignore[arg-type]


class TestServerlessTargetConforms(TargetConformance):
    @pytest.fixture(autouse=True)
    def _container(self, container: LiveService) -> None:
        self.container = container

    def make(self) -> Target:
        return ServerlessTarget("cloud", self.container.url, concurrency=2)

    def good(self) -> RunRequest:
        return request("resize:10/format:png", jpeg(40, 30))

    def bad(self) -> RunRequest:
        return request("grayscale", jpeg(40, 30)[:200], source_name="näme\udcff.jpg")

    def endless(self) -> RunRequest:
        # Minutes of work; the container kills it when its limit passes, or when the caller hangs up.
        return request("denoise:10/denoise:10/format:png", jpeg(6000, 5000), timeout_s=60.0)


async def test_files_images_and_long_pipelines_reach_the_container(container: LiveService, tmp_path: Path) -> None:
    target = ServerlessTarget("cloud", container.url)
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(64, 48))
    reference = "sha256:" + "ab" * 32
    steps = "/".join([f"watermark:{reference.replace(':', '~3A')}", *["flip:horizontal"] * 62])
    try:
        result = await target.run(
            RunRequest("1", Pipeline.parse(f"{steps}/format:png").to_json(), path, images={reference: jpeg(8, 8)})
        )
    finally:
        await target.stop()
    assert result.outcome.bytes is not None
    assert probe(result.outcome.bytes).size == (64, 48)
    assert result.outcome.source_format == "jpeg"


@pytest.mark.parametrize(
    ("act", "billed", "begun"),
    [
        (answer(500, b"Internal Server Error", "text/plain"), "elapsed", True),
        (answer(500, b'{"type":"/v1/problems/internal","detail":"x"}'), "elapsed", True),
        (answer(502, b"<html>", "text/html"), "elapsed", True),
        (answer(503, b""), "elapsed", False),
        (answer(429, b'{"type":"/v1/problems/busy","detail":"x"}'), "elapsed", False),
        (answer(401, b""), "elapsed", False),
        (answer(404, b"not here"), "elapsed", False),
        (answer(302, b"", location="http://127.0.0.1:1/"), "elapsed", True),
        (answer(200, b"<html>hello</html>"), "elapsed", True),
        (answer(200, b"[" * 100_000), "elapsed", True),
        (answer(200, b"[]"), "elapsed", True),
        (answer(200, b'"text"'), "elapsed", True),
        (answer(200, b"{}"), "elapsed", True),
        (answer(200, json.dumps({**OUTCOME, "image": "%%%"}).encode()), "elapsed", True),
        (answer(200, json.dumps({**OUTCOME, "image": None}).encode()), "elapsed", True),
        (answer(200, json.dumps({**OUTCOME, "size": [1]}).encode()), "elapsed", True),
        (answer(200, json.dumps({**OUTCOME, "size": [1, "1"]}).encode()), "elapsed", True),
        (answer(200, json.dumps({**OUTCOME, "data": []}).encode()), "elapsed", True),
        (answer(200, json.dumps({**OUTCOME, "format": "exe"}).encode()), "elapsed", True),
        (answer(200, json.dumps({**OUTCOME, "timings": {}}).encode()), "elapsed", True),
        (answer(200, json.dumps({**OUTCOME, "media_type": "text/html"}).encode()), "elapsed", True),
        (answer(200, json.dumps({**OUTCOME, "media_type": "image/png\r\na: b"}).encode()), "elapsed", True),
        (answer(200, json.dumps({**OUTCOME, "frames": "many"}).encode()), "elapsed", True),
        (answer(200, json.dumps({**OUTCOME, "size": [10**30, 1]}).encode()), "elapsed", True),
        (answer(200, json.dumps({**OUTCOME, "data": {"score": float("nan")}}).encode()), "elapsed", True),
        (odd_server.half, "worst", True),
        (odd_server.hang_up, "worst", True),
        (odd_server.not_http, "worst", True),
    ],
)
async def test_what_is_no_outcome_is_the_targets_fault(act: Write, billed: str, begun: bool) -> None:
    async with odd_server.odd_server(act) as server:
        target = ServerlessTarget("cloud", server.url)
        try:
            with pytest.raises(TargetUnavailable, match="cloud") as caught:
                await target.run(request("grayscale", b"x"))
        finally:
            await target.stop()
    assert caught.value.context["billed"] == billed
    assert caught.value.context.get("begun", False) is begun


@pytest.mark.parametrize("act", [odd_server.hang, odd_server.drip])
async def test_silence_and_dripping_end_with_the_hard_limit(act: Write) -> None:
    async with odd_server.odd_server(act) as server:
        target = ServerlessTarget("cloud", server.url, timeout_s=0.3)
        try:
            with pytest.raises(TargetUnavailable) as caught:
                await target.run(request("grayscale", b"x"))
        finally:
            await target.stop()
    assert caught.value.context["billed"] == "worst"


async def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelmill.targets.serverless.MAX_ANSWER", 5_000_000)
    async with odd_server.odd_server(odd_server.huge) as server:
        target = ServerlessTarget("cloud", server.url)
        try:
            with pytest.raises(TargetUnavailable, match="5,000,000"):
                await target.run(request("grayscale", b"x"))
        finally:
            await target.stop()


@pytest.mark.parametrize(
    ("slug", "cls"), [("corrupt-image", CorruptImage), ("task-timeout", TaskTimeout), ("worker-crashed", WorkerCrashed)]
)
async def test_errors_of_the_task_are_the_tasks(slug: str, cls: type[PixelmillError]) -> None:
    body = json.dumps({"type": f"/v1/problems/{slug}", "detail": "broken", "context": {"a": 1}}).encode()
    async with odd_server.odd_server(answer(422, body, "application/problem+json")) as server:
        target = ServerlessTarget("cloud", server.url)
        try:
            with pytest.raises(cls, match="broken") as caught:
                await target.run(request("grayscale", b"x"))
        finally:
            await target.stop()
    assert caught.value.context == {"a": 1}


async def test_texts_of_an_answer_are_cleaned_before_anybody_keeps_them() -> None:
    odd = {"a": 1, "self": 1, "detail": "y", "cost": "much"}
    body = json.dumps({"type": "/v1/problems/corrupt-image", "detail": "a\x1b[31m\ud800", "context": odd}).encode()
    async with odd_server.odd_server(answer(422, body, "application/problem+json")) as server:
        target = ServerlessTarget("cloud", server.url)
        try:
            with pytest.raises(CorruptImage) as caught:
                await target.run(request("grayscale", b"x"))
        finally:
            await target.stop()
    assert (str(caught.value), caught.value.context) == ("a\ufffd[31m\ufffd", {"a": 1})
    async with odd_server.odd_server(answer(200, json.dumps({**OUTCOME, "target": "a\ud800\0"}).encode())) as server:
        target = ServerlessTarget("cloud", server.url)
        try:
            assert (await target.run(request("grayscale", b"x"))).worker == "a\ufffd\ufffd"
        finally:
            await target.stop()


async def test_nobody_there_is_billed_nothing() -> None:
    async with odd_server.odd_server(odd_server.GOOD) as server:
        url = server.url
    target = ServerlessTarget("cloud", url)
    try:
        with pytest.raises(TargetUnavailable) as caught:
            await target.run(request("grayscale", b"x"))
    finally:
        await target.stop()
    assert caught.value.context["billed"] == "none"


async def test_the_token_goes_with_each_call_and_nothing_else_does() -> None:
    async with odd_server.odd_server(odd_server.GOOD) as server:
        target = ServerlessTarget("cloud", server.url, credentials=Bearer("secret"))
        try:
            await target.warm()
            await target.run(request("grayscale", b"x"))
        finally:
            await target.stop()
    heads = [head.lower() for head, _ in server.asked]
    assert [head.split()[1] for head in heads] == ["/healthz", "/v1/process"]
    assert all("authorization: bearer secret" in head for head in heads)
    assert not any("cookie" in head for head in heads)


async def test_a_call_says_what_it_belongs_to() -> None:
    async with odd_server.odd_server(odd_server.GOOD) as server:
        target = ServerlessTarget("cloud", server.url)
        try:
            with tracing.span("task.run", parent=tracing.parse(f"00-{'a' * 32}-{'b' * 16}-01", "vendor=1")) as span:
                await target.run(request("grayscale", b"x"))
        finally:
            await target.stop()
    ((head, _),) = server.asked
    assert f"traceparent: {span.context.traceparent}\r\n" in head
    assert "tracestate: vendor=1\r\n" in head


async def test_a_container_says_that_its_process_was_cold(tmp_path: Path) -> None:
    with LiveService(tmp_path / "data", service={"workers": 1}) as fresh:
        target = ServerlessTarget("cloud", fresh.url)
        try:
            results = [await target.run(request("resize:10/format:png", jpeg(40, 30))) for _ in range(4)]
        finally:
            await target.stop()
    assert results[0].cold
    assert sum(result.cold for result in results) <= 2, "it has two processes"


async def test_connections_are_never_more_than_the_concurrency() -> None:
    open_now = most = 0
    gate = asyncio.Event()

    async def act(writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        if most == 3:
            gate.set()
        await gate.wait()
        open_now -= 1
        await odd_server.GOOD(writer)

    async with odd_server.odd_server(act) as server:
        target = ServerlessTarget("cloud", server.url, concurrency=3)
        try:
            await asyncio.gather(*(target.run(request("grayscale", b"x")) for _ in range(20)))
        finally:
            await target.stop()
    assert most == 3


def in_moto(server: Moto, bucket: str) -> ObstoreStore:
    boto3.client(
        "s3", endpoint_url=server.url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    ).create_bucket(Bucket=bucket)
    return ObstoreStore(
        S3Store(
            bucket,
            endpoint=server.url,
            access_key_id="a",
            secret_access_key="b",
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )
    )


async def test_bytes_go_by_links_where_the_store_makes_them(moto_server: Moto, tmp_path: Path) -> None:
    """The container gets addresses only, writes the result where it is told to, and nothing of the call is left."""
    store = in_moto(moto_server, "by-links")
    await store.put("uploads/a", jpeg(64, 48))
    reference = "sha256:" + "cd" * 32
    pipeline = Pipeline.parse(f"watermark:{reference.replace(':', '~3A')}/format:png").to_json()
    with LiveService(
        tmp_path / "data", api={"link_hosts": ["127.0.0.1"], "link_private": True}, service={"workers": 1}
    ) as container:
        target = ServerlessTarget("cloud", container.url, store=store)
        await target.start()
        try:
            sent = await target.run(RunRequest("1", pipeline, jpeg(64, 48), images={reference: jpeg(8, 8)}))
            kept = await target.run(
                RunRequest("2", pipeline, b"", images={reference: jpeg(8, 8)}, source_key="uploads/a")
            )
            with pytest.raises(CorruptImage):
                await target.run(request("grayscale", jpeg(64, 48)[:200]))
            data = await target.run(request("sharpness", jpeg(64, 48)))
        finally:
            await target.stop()
    assert sent.outcome.bytes is not None
    assert probe(sent.outcome.bytes).size == (64, 48)
    assert sent.outcome.bytes == kept.outcome.bytes
    assert data.outcome.bytes is None
    assert data.outcome.data
    assert [found.key async for found in store.list("")] == ["uploads/a"]


async def test_a_result_that_was_promised_and_not_stored_is_the_targets_fault(moto_server: Moto) -> None:
    body = json.dumps({"pixelmill": 1, "outcome": OUTCOME, "image": None, "stored": True}).encode()
    async with odd_server.odd_server(answer(200, body)) as server:
        target = ServerlessTarget("cloud", server.url, store=in_moto(moto_server, "promised"))
        await target.start()
        try:
            with pytest.raises(TargetUnavailable, match="there is none"):
                await target.run(request("grayscale", b"x"))
        finally:
            await target.stop()
