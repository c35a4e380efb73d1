"""What carries documents of others on AWS: SQS records of Lambda, and notifications of SNS.

Amazon SQS and SNS developer guides. SNS puts the document as text into ``Message``, unless raw delivery is on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pixelmill.triggers.documents.parts import Found, Inner, mapping, unread


def is_sqs_record(record: Mapping[str, Any]) -> bool:
    """Whether it is one of the ``Records`` that Lambda gets of a queue."""
    return isinstance(record.get("body"), str) and "s3" not in record


def read_sqs_record(record: Mapping[str, Any]) -> Found:
    """What the message holds."""
    yield Inner(record["body"])


def is_sns_record(record: Mapping[str, Any]) -> bool:
    """Whether it is one of the ``Records`` that Lambda gets of a topic."""
    return isinstance(record.get("Sns"), Mapping)


def read_sns_record(record: Mapping[str, Any]) -> Found:
    """What the notification holds."""
    yield Inner(mapping(record["Sns"]).get("Message"))


def is_sns(document: Mapping[str, Any]) -> bool:
    """Whether it is a message of SNS, over HTTP or in a queue."""
    return isinstance(document.get("Type"), str) and "TopicArn" in document


def read_sns(document: Mapping[str, Any]) -> Found:
    """What the notification holds; handshakes hold nothing."""
    if document["Type"] == "Notification":
        yield Inner(document.get("Message"))
    else:
        yield unread("handshake", f"SNS {document['Type']}")
