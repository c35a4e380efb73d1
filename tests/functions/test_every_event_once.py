"""Events of S3 through a queue to functions that die: every object has its one result, with the right content."""

from __future__ import annotations

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from buckets import ACCESS_KEY, REGION, SECRET_KEY
from function_tools import Buckets, jpeg

from pixelmill import Pipeline
from pixelmill.testing.lambda_runtime import LambdaRuntime
from pixelmill.testing.lambda_sources import QueueMapping
from servers import Moto, wait_until

pytest.importorskip("awslambdaric")

PIPELINE = "grayscale/resize:24,24,fit=fill/format:png"
VISIBLE_S = 4
PORTION = 200


class Flood:
    """So many uploads, told by S3 itself to one queue, and from there to the function's: some twice, in any order."""

    def __init__(self, moto: Moto, count: int, seed: int) -> None:
        self.buckets = Buckets(moto)
        self.sqs = boto3.client(
            "sqs",
            endpoint_url=moto.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name=REGION,
        )
        self.random = random.Random(seed)
        self.photos = {f"in/{number % 7}/a b+{number}.jpg": jpeg(48, 32, number) for number in range(count)}
        told = self._queue("told", 600)
        self.queue = self._queue("work", VISIBLE_S)
        self.buckets.client.put_bucket_notification_configuration(
            Bucket=self.buckets.source,
            NotificationConfiguration={
                "QueueConfigurations": [
                    {
                        "QueueArn": f"arn:aws:sqs:{REGION}:123456789012:{told.rpartition('/')[2]}",
                        "Events": ["s3:ObjectCreated:*"],
                        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "in/"}]}},
                    }
                ]
            },
        )
        bodies: list[str] = []
        items = list(self.photos.items())
        for start in range(0, count, PORTION):  # a queue of moto's gets slow with thousands of messages in it
            part = items[start : start + PORTION]
            with ThreadPoolExecutor(4) as threads:
                list(threads.map(self._upload, part))
            bodies += self._taken(told, len(part))
        bodies += self.random.sample(bodies, count // 10)
        self.random.shuffle(bodies)
        self.bodies = bodies

    def _upload(self, item: tuple[str, bytes]) -> None:
        self.buckets.client.put_object(Bucket=self.buckets.source, Key=item[0], Body=item[1])

    def send(self, mapping: QueueMapping) -> None:
        """All events, and never many more than the function has taken."""
        for start in range(0, len(self.bodies), 10):
            wait_until(lambda: mapping.left() < PORTION, "the queue gets shorter", 120)
            entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(self.bodies[start : start + 10])]
            self.sqs.send_message_batch(QueueUrl=self.queue, Entries=entries)

    def _queue(self, name: str, visible_s: int) -> str:
        made = self.sqs.create_queue(
            QueueName=f"{name}-{self.buckets.source}", Attributes={"VisibilityTimeout": str(visible_s)}
        )
        return str(made["QueueUrl"])

    def _taken(self, queue: str, count: int) -> list[str]:
        """The events; the test event, which S3 sends first, is one of them."""
        bodies: list[str] = []
        events = 0
        while events < count:
            messages = self.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
            bodies += [message["Body"] for message in messages]
            events += sum(len(json.loads(message["Body"]).get("Records", ())) for message in messages)
        return bodies


def kill_now_and_then(runtime: LambdaRuntime, chance: random.Random, done: threading.Event) -> list[int]:
    """Kill a process in the middle of its work after every few batches, until all is done; whom."""
    killed: list[int] = []
    due = 1
    while not done.wait(chance.uniform(0.0, 0.1)):
        if runtime.counts().invocations < due:
            continue
        pid = runtime.kill_one(chance.randrange(100))
        if pid is not None:
            killed.append(pid)
            due = runtime.counts().invocations + chance.randint(2, 8)
    return killed


def survive(moto: Moto, count: int, *, timeout_s: float) -> dict[str, Any]:
    flood = Flood(moto, count, seed=count)
    environment = flood.buckets.environment(PIPELINE=PIPELINE, PIXELMILL_LOG_LEVEL="warning")
    done = threading.Event()
    with (
        LambdaRuntime(environment=environment, concurrency=2, timeout_s=3, memory_bytes=128 << 20) as runtime,
        QueueMapping(runtime, flood.sqs, flood.queue) as mapping,
        ThreadPoolExecutor(1) as threads,
    ):
        killer = threads.submit(kill_now_and_then, runtime, flood.random, done)
        try:
            flood.send(mapping)
            assert mapping.drained(timeout_s), (runtime.counts(), list(runtime.lines)[-5:])
        finally:
            done.set()
        killed = killer.result()
        counts = runtime.counts()
    pipeline = Pipeline.parse(PIPELINE)
    expected = {key.removesuffix(".jpg") + ".png": pipeline.run(photo).bytes for key, photo in flood.photos.items()}
    found = flood.buckets.keys()
    assert sorted(found) == sorted(expected)
    with ThreadPoolExecutor(4) as threads:
        wrong = [
            key for key, body in zip(found, threads.map(flood.buckets.get, found), strict=True) if body != expected[key]
        ]
    assert not wrong
    return {
        "killed": len(killed),
        "failed batches": mapping.failed_batches,
        "sent": len(flood.bodies),
        "counts": counts,
    }


def test_every_object_has_one_result_though_processes_die(moto_server: Moto) -> None:
    told = survive(moto_server, 120, timeout_s=90)
    assert told["sent"] >= 132
    assert told["killed"] >= 1
    assert told["failed batches"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_events(moto_server: Moto) -> None:
    told = survive(moto_server, 10_000, timeout_s=300)
    assert told["sent"] >= 11_000
    assert told["killed"] >= 20
    assert told["failed batches"] >= 20
