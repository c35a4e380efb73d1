"""What a task needs that not every machine has: extras that read or write the formats in it.

Told from the first bytes and the pipeline, without decoding anything, so that a task is not sent where it must fail.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from pixelmill.errors import MissingExtra, PixelmillError, UnsupportedFormat
from pixelmill.images.formats import FORMATS, sniff
from pixelmill.targets.target import RunRequest

EXTRAS = frozenset(fmt.extra for fmt in FORMATS.values() if fmt.extra is not None)
"""The extras that formats need."""
_HEAD = 4_096


def needs(request: RunRequest) -> frozenset[str]:
    """The extras that the formats of source, images and result need. Reads the head of what is a file."""
    parts = (request.source, *request.images.values()) if request.kind == "image" else ()
    found = {_extra_of(part) for part in parts} | {_written(request.pipeline)}
    return frozenset(extra for extra in found if extra is not None)


def lacking(error: PixelmillError) -> str | None:
    """The extra that a machine lacks by that error of a task; None for any other error."""
    extra = error.context.get("extra") if isinstance(error, MissingExtra | UnsupportedFormat) else None
    return extra if extra in EXTRAS else None


def _extra_of(part: bytes | Path) -> str | None:
    try:
        fmt = sniff(part[:_HEAD] if isinstance(part, bytes) else _head(part))
    except OSError:
        return None  # who runs it says so
    return None if fmt is None else fmt.extra


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


@lru_cache(maxsize=64)
def _written(pipeline: str) -> str | None:
    try:
        output: Any = json.loads(pipeline)["output"]["format"]
        return FORMATS[output].extra
    except (ValueError, LookupError, TypeError):
        return None  # the source's format, one that every machine writes, or nonsense
