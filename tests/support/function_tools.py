"""Functions under test: their events as Lambda sends them, their buckets on moto, and what they print."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote_plus

import cv2
import numpy as np

from buckets import ACCESS_KEY, REGION, SECRET_KEY, s3_client
from servers import Moto

SEED_D = "grayscale/resize:256,256,fit=fill/format:jpeg,quality=80"


class Context:
    """What Lambda hands over, with a time that is left."""

    aws_request_id = "11111111-2222-3333-4444-555555555555"

    def __init__(self, left_ms: int = 3_000) -> None:
        self.left_ms = left_ms

    def get_remaining_time_in_millis(self) -> int:
        return self.left_ms


class Buckets:
    """Two buckets, and the environment of a function between them."""

    def __init__(self, moto: Moto) -> None:
        self.moto = moto
        self.client = s3_client(moto)
        mark = secrets.token_hex(5)
        self.source, self.target = f"in{mark}", f"out{mark}"
        for name in (self.source, self.target):
            self.client.create_bucket(Bucket=name)

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.moto.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "PIPELINE": SEED_D,
            "OUTPUT_BUCKET": self.target,
            **more,
        }

    def put(self, key: str, body: bytes) -> dict[str, Any]:
        """Upload, and the event that S3 makes of it."""
        answer = self.client.put_object(Bucket=self.source, Key=key, Body=body)
        return s3_event([s3_record(self.source, key, len(body), answer["ETag"].strip('"'))])

    def get(self, key: str, bucket: str | None = None) -> bytes:
        return bytes(self.client.get_object(Bucket=bucket or self.target, Key=key)["Body"].read())

    def head(self, key: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.client.head_object(Bucket=self.target, Key=key)
        return found

    def keys(self, bucket: str | None = None) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket or self.target)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]


def s3_record(bucket: str, key: str, size: int = 1, etag: str = "0" * 32, sequencer: str = "0A") -> dict[str, Any]:
    """A record as Amazon S3 writes it ("Event message structure", version 2.1); keys are form-encoded there."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": REGION,
        "eventTime": "2026-11-28T10:00:00.000Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "EXAMPLE"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "EXAMPLE123456789"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "all",
            "bucket": {"name": bucket, "ownerIdentity": {"principalId": "EXAMPLE"}, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": quote_plus(key, safe="/"), "size": size, "eTag": etag, "sequencer": sequencer},
        },
    }


def s3_event(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {"Records": list(records)}


def sqs_event(bodies: Mapping[str, Any]) -> dict[str, Any]:
    """A batch of an event source mapping, by message id."""
    return {
        "Records": [
            {
                "messageId": name,
                "receiptHandle": f"handle-{name}",
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1795860000000"},
                "messageAttributes": {},
                "md5OfBody": "0" * 32,
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:uploads",
                "awsRegion": REGION,
            }
            for name, body in bodies.items()
        ]
    }


def sns_event(message: Any) -> dict[str, Any]:
    """What a topic invokes a function with."""
    return {
        "Records": [
            {
                "EventVersion": "1.0",
                "EventSource": "aws:sns",
                "EventSubscriptionArn": "arn:aws:sns:us-east-1:123456789012:uploads:1",
                "Sns": {
                    "Type": "Notification",
                    "MessageId": "95df01b4-ee98-5cb9-9903-4c221d41eb5e",
                    "TopicArn": "arn:aws:sns:us-east-1:123456789012:uploads",
                    "Subject": "Amazon S3 Notification",
                    "Message": json.dumps(message),
                    "Timestamp": "2026-11-28T10:00:01.000Z",
                },
            }
        ]
    }


def bridge_event(bucket: str, key: str, size: int, etag: str) -> dict[str, Any]:
    """Amazon EventBridge's; keys are plain there."""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "123456789012",
        "time": "2026-11-28T10:00:00Z",
        "region": REGION,
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": {
            "version": "0",
            "bucket": {"name": bucket},
            "object": {"key": key, "size": size, "etag": etag, "sequencer": "0A"},
            "request-id": "EXAMPLE123456789",
            "requester": "123456789012",
            "source-ip-address": "127.0.0.1",
            "reason": "PutObject",
        },
    }


def metrics(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The documents of metrics among what a function printed."""
    return [json.loads(line) for line in lines if line.startswith('{"_aws"')]


def jpeg(width: int, height: int, seed: int = 0, quality: int = 90) -> bytes:
    """A picture that is no other's: smooth color with its seed drawn in."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    pixels = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.putText(pixels, str(seed), (8, height // 2), cv2.FONT_HERSHEY_SIMPLEX, 2.0, (255, 255, 255), 3)
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
