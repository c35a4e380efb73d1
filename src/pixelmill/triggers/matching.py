"""Whether a rule is for an event, and why not. Pure: imports neither pydantic nor a network library.

Suffixes are compared without regard to case: cameras write ``.JPG``. A media type is the one that the store told, or,
where it told none (S3 never does) or a meaningless one, the one that the name's extension stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import unquote

from pixelmill.images.formats import FORMATS
from pixelmill.triggers.event import ObjectEvent
from pixelmill.triggers.places import canonical
from pixelmill.triggers.rule import Rule

MEANINGLESS = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"})
"""What stores say where the one who wrote the object said nothing."""
_TYPES: Mapping[str, str] = {
    **{extension: fmt.media_type for fmt in FORMATS.values() for extension in fmt.extensions},
    ".json": "application/json",
}
_KINDS = {"removed": "the object was removed; rules are for objects that appear", "test": "it only tries out the way"}


def matches(rule: Rule, event: ObjectEvent) -> bool:
    """Whether ``rule`` is to run for ``event``; an event of the wrong form matches nothing."""
    return (
        rule.enabled
        and event.kind == "created"
        and event.uri.startswith(canonical(rule.watch))
        and why_not(rule, event) is None
    )


def why_not(rule: Rule, event: ObjectEvent) -> str | None:
    """A sentence on why ``rule`` is not for ``event``, or None where it is."""
    if not rule.enabled:
        return "The rule is switched off (enabled = false)."
    if event.kind != "created":
        return f"It is not for this event: {_KINDS[event.kind]}."
    watched = canonical(rule.watch)
    if not event.uri.startswith(watched):
        return f"{event.uri} is not below {watched}."
    if event.uri.endswith("/"):
        return f"{event.uri} is a folder, not an object with an image."
    if rule.suffixes and not has_suffix(name_of(event.uri), rule.suffixes):
        return f"{name_of(event.uri)} ends in none of {', '.join(rule.suffixes)}."
    if rule.types and not has_type(media_type(event), rule.types):
        found = media_type(event) or "not known"
        return f"Its media type is {found}, which is none of {', '.join(rule.types)}."
    return _wrong_size(rule, event.size)


def _wrong_size(rule: Rule, size: int | None) -> str | None:
    """Where the store did not tell the size, the rule is for the event; the limits of its runs hold all the same."""
    if size is None:
        return None
    if size < rule.min_bytes:
        return f"It has {size:,} bytes; the rule takes {rule.min_bytes:,} or more (min_bytes)."
    if rule.max_bytes is not None and size > rule.max_bytes:
        return f"It has {size:,} bytes; the rule takes {rule.max_bytes:,} at most (max_bytes)."
    return None


def name_of(uri: str) -> str:
    """The last part of an address, decoded."""
    return unquote(uri.rpartition("/")[2])


def has_suffix(name: str, suffixes: Iterable[str]) -> bool:
    """Whether a name ends in one of them, without regard to case."""
    lowered = name.lower()
    return any(lowered.endswith(suffix.lower()) for suffix in suffixes)


def has_type(found: str, types: Iterable[str]) -> bool:
    """Whether a media type is one of ``types``, where ``image/*`` stands for all images."""
    group = found.partition("/")[0]
    return any(wanted in {found, "*/*"} or wanted == f"{group}/*" for wanted in types if found)


def media_type(event: ObjectEvent) -> str:
    """The media type of an object, in small letters without parameters; empty where nothing tells it."""
    told = event.media_type.partition(";")[0].strip().lower()
    return told if told not in MEANINGLESS else type_of_name(name_of(event.uri))


def type_of_name(name: str) -> str:
    """The media type that a name's extension stands for, or an empty string."""
    stem, dot, extension = name.rpartition(".")
    return _TYPES.get(f".{extension.lower()}", "") if stem and dot else ""
