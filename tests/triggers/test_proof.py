"""Thousands of events, a tenth told twice, in no order, while the process that handles them is killed at random.

Every object must have one result, with the right pixels, and there must be nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import boto3
import cv2
import numpy as np
import pytest
from buckets import ACCESS_KEY, REGION, SECRET_KEY, Bucket, s3_bucket
from service_process import ServiceProcess, wait_until
from trigger_rig import store_of

from servers import Moto

pytestmark = pytest.mark.anyio

PIPELINE = "resize:4,4,fit=fill/format:png"
AT_ONCE = 16
PORTION = 200
"""Messages that wait at most, or twice as many."""


def color(number: int) -> tuple[int, int, int]:
    """One of its own for each object."""
    return number & 255, number >> 8 & 255, number * 7 & 255


def picture(number: int) -> bytes:
    return bytes(cv2.imencode(".png", np.full((8, 8, 3), color(number), np.uint8))[1])


def key_of(number: int) -> str:
    """Names as people have them: spaces, plus signs, letters of all kinds."""
    return f"{number % 7}/bild {number} + ä日.png"


def record(bucket: str, key: str, body: bytes, sequencer: int) -> dict[str, Any]:
    """What S3 tells of a put (see events/s3-put.json)."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": REGION,
        "eventTime": "2026-11-28T09:15:30.482Z",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {
                "key": quote_plus(key, safe="/"),
                "size": len(body),
                "eTag": hashlib.md5(body, usedforsecurity=False).hexdigest(),
                "sequencer": f"{sequencer:018X}",
            },
        },
    }


async def each(numbers: Sequence[int], work: Callable[[int], Any]) -> None:
    """Await ``work`` for all, some at a time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with room:
            await work(number)

    async with asyncio.TaskGroup() as group:
        for number in numbers:
            group.create_task(one(number))


def documents(bucket: Bucket, count: int, random_: random.Random) -> list[str]:
    """Messages with one to three events each; every twentieth object was written twice, every tenth is told twice."""
    name, _, prefix = bucket.uri.removeprefix("s3://").partition("/")
    events = []
    for number in range(count):
        key = f"{prefix}/{key_of(number)}"
        events.append(record(name, key, picture(number), 2 * number + 1))
        if number % 20 == 0:
            events.append(record(name, key, picture(number) + b"an earlier one", 2 * number))
    events += random_.sample(events, len(events) // 10)
    random_.shuffle(events)
    messages = []
    while events:
        some = random_.randint(1, 3)
        messages.append(json.dumps({"Records": events[:some]}))
        del events[:some]
    return messages


class Queue:
    """An SQS queue, and what it holds."""

    def __init__(self, moto: Moto) -> None:
        self._client = boto3.client(
            "sqs",
            endpoint_url=moto.url,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )
        self.url: str = self._client.create_queue(QueueName=f"proof-{time.time_ns()}")["QueueUrl"]

    def send(self, messages: Sequence[str], bound_s: float) -> None:
        """In portions: moto looks through all messages that wait at each call, and does nothing else meanwhile."""
        for start in range(0, len(messages), 10):
            if start % PORTION == 0:
                wait_until(lambda: self.left() < PORTION, "the queue takes a portion", bound_s)
            entries = [{"Id": str(i), "MessageBody": text} for i, text in enumerate(messages[start : start + 10])]
            assert not self._client.send_message_batch(QueueUrl=self.url, Entries=entries).get("Failed")

    def left(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)


def states(data: Path) -> Counter[str]:
    """Events by state, read beside the service."""
    with closing(sqlite3.connect(f"file:{data / 'state.sqlite'}?mode=ro", uri=True, timeout=20)) as raw:
        return Counter(dict(raw.execute("SELECT state, count(*) FROM trigger_events GROUP BY state")))


def have_ended(data: Path, count: int) -> bool:
    found = states(data)
    return found["delivered"] + found["superseded"] + found["failed"] >= count


@pytest.mark.parametrize(
    ("count", "kills", "bound_s"),
    [
        pytest.param(400, 2, 150.0, marks=pytest.mark.timeout(200)),
        pytest.param(10_000, 12, 3_400.0, marks=[pytest.mark.slow, pytest.mark.timeout(3_600)]),
    ],
    ids=["400", "10000"],
)
async def test_every_object_has_one_result_however_often_the_service_is_killed(
    count: int,
    kills: int,
    bound_s: float,
    service_process: Callable[..., ServiceProcess],
    tmp_path: Path,
    moto_server: Moto,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 -- shown when it fails, to have the same again
    random_ = random.Random(seed)
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    put = store_of(source).put
    await each(range(count), lambda number: put(key_of(number), picture(number)))
    queue = Queue(moto_server)
    messages = documents(source, count, random_)
    distinct = count + -(-count // 20)

    (tmp_path / "rules.toml").write_text(
        f"""
        [[rules]]
        name = "small"
        watch = "{source.uri}/"
        pipeline = "{PIPELINE}"
        output = "{target.uri}/{{dir}}/{{stem}}-{{width}}.{{ext}}"

        [[sources]]
        name = "bucket"
        kind = "sqs"
        queue = "{queue.url}"
        endpoint = "{moto_server.url}"
        region = "{REGION}"
        visibility = 10
        wait = 1
        """
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    stores = {"in": {"uri": source.uri, **source.options}, "out": {"uri": target.uri, **target.options}}
    service = service_process(
        "--triggers", str(tmp_path / "rules.toml"), "--workers", "2", "--set", f"stores={json.dumps(stores)}"
    )
    sending = asyncio.create_task(asyncio.to_thread(queue.send, messages, bound_s))
    for at in sorted(random_.sample(range(distinct), kills)):
        await asyncio.to_thread(wait_until, partial(have_ended, service.data, at), f"{at} have ended", bound_s)
        service.kill()
        service.start()
    await sending
    await asyncio.to_thread(wait_until, lambda: queue.left() == 0, "the queue is empty", bound_s)
    await asyncio.to_thread(wait_until, partial(have_ended, service.data, distinct), "all have ended", bound_s)
    assert service.stop() == 0

    found = states(service.data)
    assert found["failed"] == 0
    assert found.total() == distinct
    assert found["delivered"] >= count
    keys = {f"{key_of(number).removesuffix('.png')}-4.png": number for number in range(count)}
    listed = sorted([info.key async for info in store_of(target).list()])
    assert listed == sorted(keys)
    get = store_of(target).get
    wrong: list[str] = []

    async def check(number: int) -> None:
        key = f"{key_of(number).removesuffix('.png')}-4.png"
        pixels = cv2.imdecode(np.frombuffer(await get(key), np.uint8), cv2.IMREAD_COLOR)
        if pixels is None or pixels.shape != (4, 4, 3) or (pixels != color(number)).any():
            wrong.append(quote(key))

    await each(range(count), check)
    assert not wrong
