"""Whether what another machine sent can be what it says it is: outcomes, errors and names, with every value checked.

What passes here is recorded, shown to people and sent to browsers. One value that no database or no JSON takes would
stop the records of everybody else, so nothing of it is believed by its form alone. Pure; who paid, and whose fault it
is, is said by the callers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pixelmill.errors import (
    Cancelled,
    InputError,
    MissingExtra,
    PipelineError,
    PixelmillError,
    RunError,
    error_from_dict,
)
from pixelmill.images.formats import FORMATS
from pixelmill.pipelines.outcome import Outcome

MAX_TEXT = 4_000
"""Characters of an error's sentence that are believed, and of its context as text."""
MAX_NAME = 200
MAX_DATA = 16_000_000
"""Characters of an outcome's data as JSON: what a pool process may send too."""
MAX_SIDE = 1_000_000
MAX_FRAMES = 1_000_000
MAX_MS = 1e9


def sound_outcome(record: Mapping[str, Any], body: bytes | None) -> Outcome:
    """The outcome; raises :class:`ValueError`, :class:`TypeError` or :class:`LookupError` for what can't be one."""
    found = Outcome.from_dict({**record, "timings": _timings(record["timings"])}, body)
    _check_data(found.data)
    if plain(found.source_format, 40) != found.source_format:
        raise ValueError("source_format is a name")
    _check_number("frames", found.frames, 0, MAX_FRAMES)
    _check_size(found.source_size)
    if found.format is None:
        if body is not None or not found.data or found.media_type is not None:
            raise ValueError("an outcome without a format has data, and no image")
        return found
    if found.format not in FORMATS:
        raise ValueError(f"{str(found.format)[:40]!r} is no format")
    if found.media_type != FORMATS[found.format].media_type:  # browsers are told it
        raise ValueError(f"{str(found.media_type)[:60]!r} is not the media type of {found.format}")
    if not body:
        raise ValueError("an outcome with a format has an image")
    if found.size is None:
        raise ValueError("an image has a size")
    _check_size(found.size)
    return found


def sound_error(record: Any) -> PixelmillError | None:
    """The error, if it is the task's own: about the image, the pipeline, or its run there. Else None."""
    error = described(record)
    return error if error is not None and is_of_task(error) else None


def is_of_task(error: PixelmillError) -> bool:
    """True for what a task may end with where it ran; an extra that it needs and that was missing there is one."""
    return isinstance(error, InputError | PipelineError | RunError | MissingExtra) and not isinstance(error, Cancelled)


def described(record: Any) -> PixelmillError | None:
    """The error of whatever kind, its texts and values cleaned; None where the record has not the form of one.

    ``type`` may be the address of a problem document, which ends with it. What the attempt has cost is not believed.
    """
    if not isinstance(record, Mapping):
        return None
    slug, detail, context = record.get("type"), record.get("detail"), record.get("context")
    if not isinstance(slug, str) or not isinstance(detail, str):
        return None
    known = {"type": slug.rpartition("/")[2], "detail": _sentence(detail), "context": _context(context)}
    return error_from_dict(known)


def plain(text: object, most: int = MAX_NAME) -> str:
    """A text with nothing in it that a terminal, a header or a database would stumble over; cut off at ``most``."""
    if not isinstance(text, str):
        return ""
    text = text[:most]
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def _sentence(text: str) -> str:
    return "\n".join(plain(line, MAX_TEXT) for line in text[:MAX_TEXT].splitlines())


def _context(context: Any) -> dict[str, Any]:
    if not isinstance(context, Mapping):
        return {}
    kept = {str(name): value for name, value in context.items() if str(name) not in ("self", "detail", "cost")}
    try:
        text = json.dumps(kept, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        return {}
    return kept if len(text) <= MAX_TEXT else {}


def _check_data(data: Any) -> None:
    if not isinstance(data, dict):
        raise TypeError("data must be an object")
    try:
        length = len(json.dumps(data, allow_nan=False)) if data else 0
    except RecursionError:
        raise ValueError("data nested too deeply") from None
    if length > MAX_DATA:
        raise ValueError(f"data of {length:,} characters")


def _timings(record: Mapping[str, Any]) -> dict[str, float]:
    timings = {name: record[name] for name in ("decode_ms", "apply_ms", "encode_ms")}
    if not all(isinstance(value, int | float) and 0 <= value < MAX_MS for value in timings.values()):
        raise ValueError("timings are milliseconds")
    return timings


def _check_number(name: str, value: object, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} is a whole number from {least:,} to {most:,}")


def _check_size(size: tuple[int, int]) -> None:
    for side in size:
        _check_number("a side", side, 1, MAX_SIDE)
