"""Amazon S3, and what speaks its language: MinIO, RustFS, Ceph. Event records, the test event, and EventBridge.

Amazon S3 user guide, "Event message structure" (versions 2.0 to 2.x: an unknown minor version only adds fields) and
"EventBridge event message structure". Keys of records are form-encoded: a space is ``+``, a plus sign is ``%2B``; MinIO
and RustFS encode the slash too. Keys in events of EventBridge are not encoded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from pixelmill.triggers.documents.parts import Found, address, event, mapping, moment, text, unread
from pixelmill.triggers.event import Kind, ObjectEvent, Unread

_ONLY_METADATA = frozenset({"PutTagging", "DeleteTagging", "PutRetention", "PutLegalHold", "PutEncryption"})
"""MinIO files these under ObjectCreated, though the object stays as it is."""
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_BRIDGE: Mapping[str, Kind] = {"Object Created": "created", "Object Deleted": "removed"}


def is_record(record: Mapping[str, Any]) -> bool:
    """Whether it is one of the ``Records`` of S3."""
    return isinstance(record.get("s3"), Mapping)


def read_record(record: Mapping[str, Any]) -> Found:
    """One of the ``Records``."""
    if text(record.get("eventVersion"))[:2] not in {"2.", ""}:
        yield unread("unknown-document", f"S3 events of version {record.get('eventVersion')!r:.40} are not known.")
        return
    kind = kind_of(text(record.get("eventName")))
    if kind is None:
        yield unread("other-event", record.get("eventName"))
        return
    s3 = mapping(record["s3"])
    found = mapping(s3.get("object"))
    key = key_of(text(found.get("key")))
    if key is None:
        yield unread("bad-key", f"{found['key']} is not form-encoded UTF-8.")
        return
    yield event(
        "s3",
        mapping(s3.get("bucket")).get("name"),
        key,
        kind,
        at=record.get("eventTime"),
        version=_version(found, "versionId", "eTag"),
        provider="s3",
        size_told=found.get("size"),
        media_type=found.get("contentType"),
        sequencer=found.get("sequencer"),
    )


def kind_of(name: str) -> Kind | None:
    """What an event's name says happened; None for what neither made nor removed an object."""
    group, _, what = name.removeprefix("s3:").partition(":")
    if group == "ObjectCreated" and what not in _ONLY_METADATA:
        return "created"
    if group in {"ObjectRemoved", "LifecycleExpiration"}:
        return "removed"
    return None


def key_of(encoded: str) -> str | None:
    """The key behind its form encoding; None where that is broken or no UTF-8."""
    if _BAD_ESCAPE(encoded):
        return None
    try:
        return unquote_plus(encoded, errors="strict")
    except UnicodeError:
        return None


def is_test(document: Mapping[str, Any]) -> bool:
    """Whether it is what S3 sends when notifications are set up."""
    return document.get("Event") == "s3:TestEvent"


def read_test(document: Mapping[str, Any]) -> Found:
    """The test event; its address is the bucket's, with no key."""
    yield _test(text(document.get("Bucket")), document.get("Time"))


def _test(bucket: str, time: Any) -> ObjectEvent | Unread:
    at = moment(time)
    if at is None or not address("s3", bucket, "key"):
        return unread("missing-field", "A test event without a bucket or a time.")
    return ObjectEvent(f"s3://{bucket}/", "test", "", at, provider="s3")


def is_bridge(document: Mapping[str, Any]) -> bool:
    """Whether it came through EventBridge."""
    return isinstance(document.get("detail-type"), str) and isinstance(document.get("detail"), Mapping)


def read_bridge(document: Mapping[str, Any]) -> Found:
    """An event of EventBridge."""
    what = text(document["detail-type"])
    kind = _BRIDGE.get(what)
    if document.get("source") != "aws.s3" or kind is None:
        yield unread("other-event", f"{document.get('source')!r:.60}: {what}")
        return
    detail = mapping(document["detail"])
    found = mapping(detail.get("object"))
    yield event(
        "s3",
        mapping(detail.get("bucket")).get("name"),
        found.get("key"),
        kind,
        at=document.get("time"),
        version=_version(found, "version-id", "etag"),
        provider="s3",
        size_told=found.get("size"),
        sequencer=found.get("sequencer"),
    )


def _version(found: Mapping[str, Any], *names: str) -> str:
    """The version id, but for buckets without versions, where it is missing or ``null``; then the etag."""
    values = (text(found.get(name)) for name in names)
    return next((value for value in values if value not in {"", "null"}), "")
