"""From the document that a provider sends to the events in it. Pure, and light: functions import it on a cold start.

:func:`read_events` tells the kind of a document by its shape, so that one queue or one route serves every provider, and
every way of wrapping one document into another.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from pixelmill.triggers.documents import azure, cloudevents, google, s3, wrapped
from pixelmill.triggers.documents.cloudevents import with_headers
from pixelmill.triggers.documents.parts import UNDERSTOOD, Found, Inner, unread
from pixelmill.triggers.event import ObjectEvent, Parsed, Unread

__all__ = ["MAX_DEPTH", "MAX_ITEMS", "MAX_TEXT", "UNDERSTOOD", "is_foreign", "read_events", "with_headers"]

MAX_TEXT = 4_000_000
"""Characters of a document as text; queues and routes have lower bounds of their own."""
MAX_DEPTH = 12
"""Documents within documents. The deepest that providers make is 6: SQS in Lambda, SNS within, records of S3."""
MAX_ITEMS = 20_000
"""Events and unread parts of one document; a megabyte has room for fewer."""


def read_events(document: Any) -> Parsed:
    """The events of a document: text, bytes, or what JSON gave. Raises nothing for rubbish: that is unread."""
    events: list[ObjectEvent] = []
    rest: list[Unread] = []
    waiting: list[tuple[int, Any]] = [(0, document)]
    count = 0
    while waiting:
        depth, value = waiting.pop()
        for found in _step(value) if depth <= MAX_DEPTH else iter((unread("too-deep", f"beyond {MAX_DEPTH}"),)):
            count += 1
            if count > MAX_ITEMS:
                rest.append(unread("too-many", f"The document holds more than {MAX_ITEMS:,} parts."))
                return Parsed(tuple(events), tuple(rest))
            if isinstance(found, ObjectEvent):
                events.append(found)
            elif isinstance(found, Unread):
                rest.append(found)
            else:
                waiting.append((depth + 1, found.value))
    return Parsed(tuple(events), tuple(rest))


def is_foreign(parsed: Parsed) -> bool:
    """True where nothing in a document could be read, so that somebody should look at it."""
    return not parsed.events and any(part.reason not in UNDERSTOOD for part in parsed.unread)


def _step(value: Any) -> Found:
    """What one document holds, without looking into the documents within."""
    if isinstance(value, bytes | bytearray):
        try:
            value = value.decode()
        except UnicodeError:
            return iter((unread("not-json", "The bytes are not UTF-8."),))
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, list | tuple) and value:
        # Backwards, for the last one is read first.
        return (Inner(item) for item in reversed(value))
    if isinstance(value, Mapping):
        return _of_object(value)
    return iter((unread("unknown-document", f"{value!r:.60} is no document of events."),))


def _of_text(document: str) -> Found:
    """JSON, or base64 of it (Azure's queues)."""
    if len(document) > MAX_TEXT:
        return iter((unread("too-large", f"{len(document):,} characters; the limit is {MAX_TEXT:,}."),))
    parsed = _json(document)
    if parsed is None:
        try:
            parsed = _json(base64.b64decode(document.strip(), validate=True).decode())
        except (binascii.Error, ValueError):
            parsed = None
    if isinstance(parsed, Mapping | list):
        return iter((Inner(parsed),))
    return iter((unread("not-json", f"It is no JSON object: {document[:60]!r}"),))


def _of_object(document: Mapping[str, Any]) -> Found:
    if isinstance(document.get("Records"), list):
        return iter((Inner(document["Records"]),))
    if s3.is_record(document):
        return s3.read_record(document)
    if wrapped.is_sqs_record(document):
        return wrapped.read_sqs_record(document)
    if wrapped.is_sns_record(document):
        return wrapped.read_sns_record(document)
    if s3.is_test(document):
        return s3.read_test(document)
    if wrapped.is_sns(document):
        return wrapped.read_sns(document)
    if s3.is_bridge(document):
        return s3.read_bridge(document)
    if google.is_push(document):
        return google.read_push(document, _json)
    if cloudevents.is_cloud_event(document):
        return cloudevents.read(document, _json)
    if azure.is_grid(document):
        return azure.read_grid(document)
    return iter((unread("unknown-document", f"An object with {', '.join(map(str, list(document)[:8]))!r:.150}"),))


def _json(document: str) -> Any:
    """The value, or None for what is no JSON."""
    try:
        return json.loads(document)
    except (ValueError, RecursionError):
        return None
