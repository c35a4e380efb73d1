"""Azure Blob Storage through Event Grid, in its own schema and in that of CloudEvents.

Event Grid documentation, "Azure Blob Storage as an Event Grid source". The subject names the blob, its name not
encoded (``data.url`` may be, and names other hosts for Data Lake). Accounts with a hierarchical namespace tell of an
object when it is begun (``CreateFile``, ``SftpCreate``: no bytes yet) and again when it is whole (``FlushWithClose``,
``SftpCommit``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pixelmill.triggers.documents.parts import Found, event, mapping, text, unread
from pixelmill.triggers.event import Kind

_KINDS: Mapping[str, Kind] = {
    "Microsoft.Storage.BlobCreated": "created",
    "Microsoft.Storage.BlobRenamed": "created",  # its subject is the new name; the old one is in data.sourceUrl
    "Microsoft.Storage.BlobDeleted": "removed",
}
_NOT_WHOLE = frozenset({"CreateFile", "SftpCreate", "SftpWrite", "AppendFile", "CreateDirectory"})
_SUBJECT = re.compile(r"/?blobServices/default/containers/([^/]+)/blobs/(.+)", re.DOTALL).fullmatch
HANDSHAKES = frozenset(
    {"Microsoft.EventGrid.SubscriptionValidationEvent", "Microsoft.EventGrid.SubscriptionDeletedEvent"}
)


def is_grid(document: Mapping[str, Any]) -> bool:
    """Whether it is of Event Grid's own schema."""
    return isinstance(document.get("eventType"), str) and isinstance(document.get("subject"), str)


def read_grid(document: Mapping[str, Any]) -> Found:
    """An event of Event Grid's own schema."""
    return _read(document, text(document["eventType"]), document.get("eventTime"), document.get("data"))


def is_microsoft(kind: str) -> bool:
    """Whether a CloudEvent of that type is one of Event Grid."""
    return kind.startswith("Microsoft.")


def read_cloud_event(document: Mapping[str, Any], data: Any) -> Found:
    """A CloudEvent of Event Grid whose data was taken out."""
    return _read(document, text(document["type"]), document.get("time"), data)


def _read(document: Mapping[str, Any], name: str, at: Any, data: Any) -> Found:
    if name in HANDSHAKES:
        yield unread("handshake", name)
        return
    kind = _KINDS.get(name)
    if kind is None:
        yield unread("other-event", name)
        return
    told = mapping(data)
    if kind == "created" and text(told.get("api")) in _NOT_WHOLE:
        yield unread("not-whole", f"{told['api']}: {document.get('subject')}")
        return
    subject = _SUBJECT(text(document.get("subject")))
    yield event(
        "az",
        subject and subject[1],
        subject and subject[2],
        kind,
        at=at,
        version=told.get("eTag"),
        provider="azure",
        size_told=told.get("contentLength"),
        media_type=told.get("contentType"),
        sequencer=told.get("sequencer"),
    )
