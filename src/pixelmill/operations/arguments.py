"""Arguments to models: validation, and what pydantic complains about as :class:`InvalidParameter` for people.

Serves operations and the options of formats alike. Names the operation, the parameter, its range, and the nearest known
name.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pixelmill.errors import InvalidParameter

M = TypeVar("M", bound=BaseModel)

_TYPES = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}


def build(model: type[M], arguments: Mapping[str, Any], owner: str, *, strict: bool) -> M:
    """A ``model`` with these arguments.

    ``owner`` names the operation in messages. ``strict`` False takes numbers and truth values written as text.

    Raises:
        InvalidParameter: missing, unknown, of the wrong type, or out of range.
    """
    try:
        return model.model_validate(dict(arguments), strict=strict)
    except ValidationError as error:
        raise _translated(model, owner, error, quote=strict) from error


def parameters(model: type[BaseModel]) -> tuple[str, ...]:
    """The names of the parameters, in the order of positional arguments."""
    return tuple(model.model_fields)


@functools.lru_cache(maxsize=128)
def schema(model: type[BaseModel]) -> Mapping[str, Any]:
    """The JSON schema of a model."""
    return model.model_json_schema()


def is_list(model: type[BaseModel], parameter: str) -> bool:
    """Whether that parameter takes several values; without the schema, which takes milliseconds to make."""
    return any(get_origin(kind) is tuple for kind in _kinds(model.model_fields[parameter].annotation))


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types of a union, out of their annotations."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _kinds(part)
    else:
        yield annotation


def allowed(model: type[BaseModel], parameter: str) -> str:
    """What a parameter may be, in words: ``a whole number from 1 to 65,535 (pixels)``."""
    field: Mapping[str, Any] = schema(model)["properties"].get(parameter, {})
    if "enum" in field:
        return "one of " + ", ".join(str(choice) for choice in field["enum"])
    if field.get("format") == "color":
        return "a color as hex RRGGBB or RRGGBBAA, without #"
    if field.get("format") == "image":
        return "an image: a path, a URI, or sha256:HEX"
    if field.get("format") == "font":
        return "a built-in family (aileron), or a font file: a path, or a name in the service's folder of fonts"
    if field.get("format") == "model":
        return (
            "a model by name (`pixelmill models list`), or, where there is no service between, the path of its weights"
        )
    if field.get("type") == "array":
        if "enum" in field["items"]:
            return "a list of " + ", ".join(field["items"]["enum"])
        return f"a list of {field['minItems']:,} to {field['maxItems']:,} numbers"
    words = _TYPES.get(str(field.get("type")), "text")
    low, above = field.get("minimum"), field.get("exclusiveMinimum")
    high = field.get("maximum")
    if low is not None and high is not None:
        words += f" from {low:,} to {high:,}"
    elif above is not None and high is not None:
        words += f" above {above:,}, up to {high:,}"
    elif low is not None:
        words += f" from {low:,}"
    elif high is not None:
        words += f" up to {high:,}"
    unit = field.get("unit")
    return f"{words} ({unit})" if unit else words


def unknown(model: type[BaseModel], parameter: str, owner: str) -> InvalidParameter:
    """The error for a parameter that isn't there."""
    known = parameters(model)
    shown = parameter[:80]
    nearest = difflib.get_close_matches(shown.lower(), known, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
    has = f"It has: {', '.join(known)}." if known else "It has none."
    return InvalidParameter(
        f"{owner} has no parameter {shown!r}.{hint} {has}",
        operation=owner,
        parameter=shown,
        allowed=", ".join(known),
        nearest=nearest,
    )


def _translated(model: type[BaseModel], owner: str, error: ValidationError, *, quote: bool) -> InvalidParameter:
    details = error.errors(include_url=False)
    first: ErrorDetails = next((item for item in details if item["type"] == "extra_forbidden"), details[0])
    parameter = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        return unknown(model, parameter, owner)
    if parameter not in model.model_fields:
        return InvalidParameter(f"{owner}: {first['msg']}.", operation=owner, parameter=parameter, allowed="")
    words = allowed(model, parameter)
    description = model.model_fields[parameter].description
    if first["type"] == "missing":
        text = f"{owner}: {parameter} is missing; it must be {words}."
    else:
        shown = _shown(first["input"], quote=quote)
        text = f"{owner}: {parameter}={shown} is not possible; it must be {words}."
        choices = [str(choice) for choice in schema(model)["properties"][parameter].get("enum", ())]
        nearest = difflib.get_close_matches(shown.strip("'"), choices, n=1)
        if nearest:
            text += f" Did you mean {nearest[0]}?"
    if description:
        text += f" {parameter}: {description[0].lower()}{description[1:]}."
    return InvalidParameter(text, operation=owner, parameter=parameter, allowed=words)


def _shown(value: Any, *, quote: bool) -> str:
    """The value, cut short; text in quotes where numbers and text are told apart."""
    try:
        text = value if isinstance(value, str) and not quote else repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list nested as deep
        return "a value too large to show"
    return text if len(text) <= 60 else text[:57] + "..."
