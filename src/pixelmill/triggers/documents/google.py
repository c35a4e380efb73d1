"""Google Cloud Storage: notifications through Pub/Sub, and CloudEvents of Eventarc.

Cloud Storage documentation, "Pub/Sub notifications" (attributes; ``OBJECT_*``) and "JSON API: Objects" (the resource in
the data); Eventarc, "Cloud Storage trigger". Names of objects are not encoded. What a newer object replaced is told as
removed too, with ``overwrittenByGeneration``: the object is still there.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from pixelmill.triggers.documents.parts import Found, Inner, event, mapping, text, unread
from pixelmill.triggers.event import Kind

_PUBSUB: Mapping[str, Kind] = {"OBJECT_FINALIZE": "created", "OBJECT_DELETE": "removed", "OBJECT_ARCHIVE": "removed"}
_EVENTARC: Mapping[str, Kind] = {"finalized": "created", "deleted": "removed", "archived": "removed"}
STORAGE = "google.cloud.storage.object.v1."
PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"


def is_push(document: Mapping[str, Any]) -> bool:
    """Whether Pub/Sub pushed it (or Eventarc carried such a push)."""
    message = document.get("message")
    return isinstance(message, Mapping) and ("data" in message or "attributes" in message)


def read_push(document: Mapping[str, Any], parse: Callable[[str], Any]) -> Found:
    """A push: of Cloud Storage where the attributes say so, else whatever document the data is.

    ``parse`` reads JSON, and gives None for what is none: the object's resource, which adds size and type.
    """
    message = mapping(document["message"])
    attributes = mapping(message.get("attributes"))
    data = _decoded(message.get("data"))
    if "eventType" not in attributes or "bucketId" not in attributes:
        yield Inner(data) if data else unread("unknown-document", "A Pub/Sub message whose data is no base64.")
        return
    kind = _PUBSUB.get(text(attributes["eventType"]))
    if kind is None or (kind == "removed" and attributes.get("overwrittenByGeneration")):
        yield unread("other-event", attributes["eventType"])
        return
    found = mapping(parse(data or ""))
    yield event(
        "gs",
        attributes.get("bucketId"),
        attributes.get("objectId"),
        kind,
        at=attributes.get("eventTime") or message.get("publishTime"),
        version=attributes.get("objectGeneration"),
        provider="gcs",
        size_told=found.get("size"),
        media_type=found.get("contentType"),
        sequencer=attributes.get("objectGeneration"),
    )


def is_storage(kind: str) -> bool:
    """Whether a CloudEvent of that type is of Cloud Storage, or carries a push of Pub/Sub."""
    return kind.startswith(STORAGE) or kind == PUBLISHED


def read_cloud_event(document: Mapping[str, Any], data: Any) -> Found:
    """A CloudEvent of Eventarc whose data was taken out."""
    if document["type"] == PUBLISHED:
        yield Inner(data)
        return
    kind = _EVENTARC.get(text(document["type"]).removeprefix(STORAGE))
    if kind is None:
        yield unread("other-event", document["type"])
        return
    found = mapping(data)
    source, subject = text(document.get("source")), text(document.get("subject"))
    yield event(
        "gs",
        found.get("bucket") or source.partition("/buckets/")[2],
        found.get("name") or subject.removeprefix("objects/"),
        kind,
        at=document.get("time"),
        version=found.get("generation"),
        provider="gcs",
        size_told=found.get("size"),
        media_type=found.get("contentType"),
        sequencer=found.get("generation"),
    )


def _decoded(data: Any) -> str | None:
    """The text behind base64; None where it is none."""
    try:
        return base64.b64decode(text(data), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
