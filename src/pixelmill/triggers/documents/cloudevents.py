"""CloudEvents 1.0: which provider's one is, its data, and the one that HTTP headers describe.

CloudEvents 1.0.2, "JSON event format" (structured: ``data`` or ``data_base64``) and "HTTP protocol binding" (binary:
the attributes are headers ``ce-*``, percent-encoded; the body is the data).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from pixelmill.triggers.documents import azure, google
from pixelmill.triggers.documents.parts import Found, text, unread

_ATTRIBUTES = ("id", "source", "specversion", "type", "subject", "time")
MAX_ATTRIBUTE = 8_192


def is_cloud_event(document: Mapping[str, Any]) -> bool:
    """Whether it is a structured CloudEvent."""
    return isinstance(document.get("specversion"), str) and isinstance(document.get("type"), str)


def read(document: Mapping[str, Any], parse: Callable[[str], Any]) -> Found:
    """A structured CloudEvent; ``parse`` reads JSON, and gives None for what is none."""
    kind = text(document["type"])
    data = document.get("data")
    if "data_base64" in document:
        try:
            data = parse(base64.b64decode(text(document["data_base64"]), validate=True).decode())
        except (binascii.Error, ValueError):
            data = None
    elif isinstance(data, str):
        data = parse(data)
    if google.is_storage(kind):
        return google.read_cloud_event(document, data)
    if azure.is_microsoft(kind):
        return azure.read_cloud_event(document, data)
    return iter((unread("other-event", kind),))


def with_headers(headers: Mapping[str, str], body: Any) -> Any:
    """The structured form of a request in binary mode; any other body as it is. Names of headers in lower case."""
    if "ce-type" not in headers or "ce-specversion" not in headers:
        return body
    attributes = {
        name: unquote(headers[f"ce-{name}"][:MAX_ATTRIBUTE]) for name in _ATTRIBUTES if f"ce-{name}" in headers
    }
    return {**attributes, "data": body}
