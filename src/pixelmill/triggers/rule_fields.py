"""One rule as plain values, and back: the same fields in TOML, YAML, JSON of the API, and the database."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pixelmill.errors import ConfigError, InvalidURI, PipelineError
from pixelmill.images.formats import ALIASES, FORMATS
from pixelmill.jobs.model import Priority
from pixelmill.jobs.tokens import check_owner
from pixelmill.pipelines.presets import BUILT_IN, Presets
from pixelmill.pipelines.spec import Pipeline
from pixelmill.triggers.fields import HELP_PAGE, Fields, shown
from pixelmill.triggers.naming import template_of
from pixelmill.triggers.places import canonical, place
from pixelmill.triggers.products import with_format_of
from pixelmill.triggers.rule import Rule, RuleLimits
from pixelmill.triggers.template import parse_template

FIELDS = (
    "name",
    "watch",
    "suffixes",
    "types",
    "min_bytes",
    "max_bytes",
    "pipeline",
    "output",
    "priority",
    "tags",
    "owner",
    "limits",
    "cache_control",
    "enabled",
)
LIMITS = ("max_bytes", "max_pixels", "max_side", "timeout", "max_attempts")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
RESERVED_NAMES = frozenset({"test", "redrive", "dead-letters"})
"""What stands in the place of a rule's name in paths of the API."""
MAX_TAGS = 32
MAX_TAG = 256
MAX_CACHE_CONTROL = 200

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_TYPE = re.compile(r"(?:\*|[a-z0-9.+-]{1,60})/(?:\*|[a-z0-9.+-]{1,60})")


def rule_from_dict(
    record: Mapping[str, Any],
    *,
    presets: Presets = BUILT_IN,
    origin: Literal["file", "api"] = "api",
    where: str = "rule",
    folder: Path | None = None,
) -> Rule:
    """The rule that plain values describe, checked; ``where`` stands in messages before the rule's name.

    Paths without a scheme are relative to ``folder``, and refused without one. Raises :class:`ConfigError`.
    """
    fields = Fields(where, record)
    name = fields.text("name")
    if not NAME.fullmatch(name) or name in RESERVED_NAMES:
        fields.refuse(
            "name",
            f"{name[:80]!r} can't be used: it has 1 to 64 letters, digits, '_', '-' and '.', starts with a letter or "
            f"digit, and is none of {', '.join(sorted(RESERVED_NAMES))}.",
        )
    fields = Fields(f"{where} {name}", record)
    fields.only(FIELDS)
    rule = Rule(
        name=name,
        watch=_watch(fields, folder),
        pipeline="",
        output=_address(fields, "output", folder),
        suffixes=_suffixes(fields),
        types=tuple(_type(fields, text) for text in fields.texts("types")),
        min_bytes=fields.size("min_bytes") or 0,
        max_bytes=fields.size("max_bytes"),
        priority=_priority(fields),
        tags=_tags(fields),
        owner=_owner(fields),
        limits=_limits(fields.inner("limits")),
        cache_control=_cache_control(fields),
        enabled=fields.flag("enabled", default=True),
        origin=origin,
    )
    if rule.max_bytes is not None and rule.max_bytes < rule.min_bytes:
        fields.refuse("max_bytes", f"({rule.max_bytes:,}) is less than min_bytes ({rule.min_bytes:,}).")
    return replace(rule, pipeline=_pipeline(fields, rule, presets))


def rule_to_dict(rule: Rule) -> dict[str, Any]:
    """The rule as plain JSON values, which :func:`rule_from_dict` reads again; without where it came from."""
    limits = rule.limits
    return {
        "name": rule.name,
        "watch": rule.watch,
        "suffixes": list(rule.suffixes),
        "types": list(rule.types),
        "min_bytes": rule.min_bytes,
        "max_bytes": rule.max_bytes,
        "pipeline": rule.pipeline,
        "output": rule.output,
        "priority": rule.priority.value,
        "tags": dict(rule.tags),
        "owner": rule.owner,
        "limits": {
            "max_bytes": limits.max_bytes,
            "max_pixels": limits.max_pixels,
            "max_side": limits.max_side,
            "timeout": limits.timeout_s,
            "max_attempts": limits.max_attempts,
        },
        "cache_control": rule.cache_control,
        "enabled": rule.enabled,
    }


def _address(fields: Fields, field: str, folder: Path | None) -> str:
    """An address; a path without a scheme becomes one of a file."""
    text = fields.text(field)
    if _SCHEME.match(text):
        return text
    path = Path(text).expanduser()
    if not path.is_absolute():
        if folder is None:
            fields.refuse(field, f"{text[:80]!r} is no address such as s3://bucket/in/ or file:///data/in/.")
        path = folder.absolute() / path
    slash = "/" if text.endswith("/") else ""
    # Braces are names of a template; what else is special in an address is part of the path here.
    return f"file://{quote(os.path.normpath(path), safe='/!$&()+,;=:@~{}')}{slash}"


def _watch(fields: Fields, folder: Path | None) -> str:
    try:
        return canonical(_address(fields, "watch", folder))
    except InvalidURI as error:
        fields.refuse("watch", f"can't be used: {error}")


def _suffixes(fields: Fields) -> tuple[str, ...]:
    found = fields.texts("suffixes")
    for suffix in found:
        if "/" in suffix:
            fields.refuse(
                "suffixes", f"have {suffix[:40]!r}: names end in a suffix, and have no '/'. Use watch for folders."
            )
    return found


def _type(fields: Fields, text: str) -> str:
    """A media type, ``image/*``, or the name of a format."""
    lowered = text.lower()
    fmt = FORMATS.get(ALIASES.get(lowered, lowered))
    if fmt is not None:
        return fmt.media_type
    if not _TYPE.fullmatch(lowered):
        nearest = difflib.get_close_matches(lowered, FORMATS, n=1)
        hint = f" Did you mean {nearest[0]}?" if nearest else ""
        fields.refuse(
            "types", f"have {text[:40]!r}, which is no media type (image/png, image/*) or format (png).{hint}"
        )
    return lowered


def _priority(fields: Fields) -> Priority:
    text = fields.text("priority", Priority.NORMAL.value)
    known = [member.value for member in Priority]
    if text not in known:
        fields.refuse("priority", f"must be one of {', '.join(known)}, not {shown(text)}.")
    return Priority(text)


def _tags(fields: Fields) -> dict[str, str]:
    inner = fields.inner("tags")
    if len(inner.table) > MAX_TAGS:
        fields.refuse("tags", f"are {len(inner.table)}; a job has at most {MAX_TAGS}.")
    found: dict[str, str] = {}
    items: Mapping[Any, Any] = inner.table  # keys of YAML may be of any type
    for key, value in items.items():
        good = isinstance(key, str) and isinstance(value, str) and len(key) <= MAX_TAG and len(value) <= MAX_TAG
        if not good:
            fields.refuse("tags", f"have {shown(key)}: name and value must be text of at most {MAX_TAG} characters.")
        found[key] = value
    return found


def _owner(fields: Fields) -> str:
    try:
        return check_owner(fields.text("owner", "local"))
    except ConfigError as error:
        fields.refuse("owner", f"can't be used: {error}")


def _limits(fields: Fields) -> RuleLimits:
    fields.only(LIMITS)
    size = fields.size("max_bytes")
    if size is not None and size < 1:
        fields.refuse("max_bytes", "must be at least 1.")
    return RuleLimits(
        max_bytes=size,
        max_pixels=fields.number("max_pixels", 1),
        max_side=fields.number("max_side", 1),
        timeout_s=fields.seconds("timeout"),
        max_attempts=fields.number("max_attempts", 1, 100),
    )


def _cache_control(fields: Fields) -> str:
    if fields.table.get("cache_control", "") == "":
        return ""
    text = fields.text("cache_control")
    if not text.isascii() or not text.isprintable() or len(text) > MAX_CACHE_CONTROL:
        fields.refuse("cache_control", f"must be a header's value in ASCII, of at most {MAX_CACHE_CONTROL} characters.")
    return text


def _pipeline(fields: Fields, rule: Rule, presets: Presets) -> str:
    """The pipeline in text form, its presets expanded and its format that of the template; checks both fields."""
    form = fields.table.get("pipeline")
    if not isinstance(form, str | Mapping) or not (form.strip() if isinstance(form, str) else form):
        fields.refuse(
            "pipeline", f"must be the text form of a pipeline, such as resize:320/format:webp. See {HELP_PAGE}."
        )
    try:
        pipeline = Pipeline.parse(form, presets=presets)
        text = pipeline.to_text()
    except PipelineError as error:
        fields.refuse("pipeline", f"can't be used: {error}")
    try:
        template = template_of(rule)
        if "bucket" in parse_template(rule.output).names and not place(rule.watch).bucket:
            fields.refuse("output", "has {bucket}, but a folder is watched, which has none.")
        shaped = with_format_of(template, pipeline, rule.output)
    except ConfigError as error:
        if error.context.get("field"):
            raise
        fields.refuse("output", f"can't be used: {error}")
    except PipelineError as error:
        fields.refuse("pipeline", f"can't be used: {error}")
    return text if shaped is pipeline else shaped.to_text()
