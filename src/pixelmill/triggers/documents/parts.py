"""What the readers of all providers share: values of untrusted documents, and the making of an event.

Pure; nothing here raises for what a document holds. A reader yields events, :class:`Unread` parts with their reason,
and :class:`Inner` documents that are to be read in turn.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pixelmill.errors import InvalidURI
from pixelmill.storage.uris import URI, parse_uri
from pixelmill.triggers.event import Kind, ObjectEvent, Unread

MAX_DETAIL = 200
MAX_VERSION = 200
MAX_SEQUENCER = 64
"""Digits that :func:`pixelmill.triggers.event.order_of` compares."""
MAX_TYPE = 120
MAX_SIZE = 2**60

UNDERSTOOD = frozenset({"other-event", "folder-marker", "not-whole", "handshake"})
"""Reasons of parts that were read well, and are of no creation: nobody needs to look at them."""


@dataclass(frozen=True, slots=True)
class Inner:
    """A document within a document: text, or a value of JSON."""

    value: Any


Found = Iterator[ObjectEvent | Unread | Inner]


def unread(reason: str, detail: object = "") -> Unread:
    """``detail`` is shortened, and made printable: it may come from a stranger."""
    text = str(detail)[:MAX_DETAIL]
    return Unread(reason, text if text.isprintable() else ascii(text)[:MAX_DETAIL])


def mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def text(value: Any) -> str:
    """The value where it is text, else empty."""
    return value if isinstance(value, str) else ""


def size(value: Any) -> int | None:
    """Bytes, told as a number or as digits; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SIZE:
        return value
    return None


def moment(value: Any) -> float | None:
    """Seconds since the epoch of an RFC 3339 time, with any number of digits behind the point; None for another."""
    if not isinstance(value, str) or not 19 <= len(value) <= 40:
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    seconds = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def event(
    scheme: str,
    bucket: Any,
    key: Any,
    kind: Kind,
    *,
    at: Any,
    version: Any,
    provider: str,
    size_told: Any = None,
    media_type: Any = "",
    sequencer: Any = "",
) -> ObjectEvent | Unread:
    """The event of an object, its parts checked; :class:`Unread` where one that it needs is missing or refused."""
    if not isinstance(bucket, str) or not isinstance(key, str) or not bucket or not key:
        return unread("missing-field", "The document names no bucket or no key.")
    if key.endswith("/"):
        return unread("folder-marker", f"{bucket}/{key}")
    uri = address(scheme, bucket, key)
    if not uri:
        return unread("bad-key", f"{scheme}://{bucket}/{key} is no address that can be used here.")
    when = moment(at)
    if when is None:
        return unread("missing-field", f"The document tells no time that can be read: {at!r:.80}")
    number = sequencer_of(sequencer)
    return ObjectEvent(
        uri=uri,
        kind=kind,
        version=version_of(version) or number or f"at-{round(when * 1e6)}",
        at=when,
        size=size(size_told),
        media_type=media(media_type),
        sequencer=number,
        provider=provider,
    )


def address(scheme: str, bucket: str, key: str) -> str:
    """The canonical address, or empty text where the grammar of addresses has no place for it."""
    wanted = URI(scheme, bucket, key)
    try:
        canonical = str(wanted)
        return canonical if parse_uri(canonical) == wanted else ""
    except (InvalidURI, UnicodeError):
        return ""


def version_of(value: Any) -> str:
    """A version id, generation or etag without its quotes; of an overlong one its digest."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**MAX_SEQUENCER:
        return str(value)
    plain = text(value).strip().removeprefix("W/").strip('"')
    if len(plain) > MAX_VERSION or not plain.isprintable():
        return "sha256-" + hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()
    return plain


def sequencer_of(value: Any) -> str:
    """Hexadecimal digits in lower case, of a length that can be compared; empty for anything else."""
    digits = version_of(value).lower()
    good = len(digits) <= MAX_SEQUENCER and all(digit in "0123456789abcdef" for digit in digits)
    return digits if good else ""


def media(value: Any) -> str:
    """A media type without parameters, in lower case; empty for what is none."""
    plain = text(value).partition(";")[0].strip().lower()
    good = len(plain) <= MAX_TYPE and plain.isascii() and plain.isprintable() and plain.count("/") == 1
    return plain if good and " " not in plain else ""
