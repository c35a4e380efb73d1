"""Makes operations from names and arguments, and turns what pydantic says into errors for people.

Used for operations and, in the same way, for the options of ``format``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pixelmill.errors import InvalidParameter
from pixelmill.operations.table import nearest

M = TypeVar("M", bound=BaseModel)

_RANGES = (
    ("exclusiveMinimum", "above {}"),
    ("minimum", "at least {}"),
    ("exclusiveMaximum", "below {}"),
    ("maximum", "at most {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "at least {} elements"),
    ("maxItems", "at most {} elements"),
    ("pattern", "of the form {}"),
)


def build(model: type[M], name: str, positional: Sequence[Any] = (), named: Mapping[str, Any] | None = None) -> M:
    """An instance of ``model`` from positional (in field order) and named arguments.

    Raises :class:`InvalidParameter` that names the operation, the parameter and what is allowed.
    """
    fields = list(model.model_fields)
    if len(positional) > len(fields):
        takes = f"at most {len(fields)}: {', '.join(fields)}" if fields else "none"
        raise InvalidParameter(f"{name} has {len(positional)} arguments; it takes {takes}.", operation=name)
    values = dict(zip(fields, positional, strict=False))
    for key, value in (named or {}).items():
        if key in values:
            raise InvalidParameter(f"{name} has {key} twice.", operation=name, parameter=key)
        if key not in fields:
            raise _unknown_parameter(name, key, fields)
        values[key] = value
    for key, value in values.items():
        # pydantic reads True as 1; who writes it for a number has mixed something up.
        if isinstance(value, bool) and model.model_fields[key].annotation is not bool:
            raise _refused(model, name, key, value)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _invalid(model, name, values, error) from error
    except (OverflowError, RecursionError) as error:
        raise InvalidParameter(f"{name}: a value is too large or too deep to read.", operation=name) from error


def _unknown_parameter(name: str, key: str, fields: Sequence[str]) -> InvalidParameter:
    close = nearest(key, fields)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"It has {', '.join(fields) or 'no parameters'}."
    return InvalidParameter(f"{name} has no parameter {key!r}. {hint}", operation=name, parameter=key, nearest=close)


def _invalid(model: type[BaseModel], name: str, values: Mapping[str, Any], error: ValidationError) -> InvalidParameter:
    first = error.errors(include_url=False, include_context=False)[0]
    if not first["loc"]:
        reason = str(first["msg"]).removeprefix("Value error, ")
        return InvalidParameter(f"{name}: {reason}", operation=name)
    key = str(first["loc"][0])
    if first["type"] == "missing":
        allowed = describe(model, key)
        return InvalidParameter(f"{name} needs {key}: {allowed}.", operation=name, parameter=key, allowed=allowed)
    return _refused(model, name, key, values.get(key))


def _refused(model: type[BaseModel], name: str, key: str, value: object) -> InvalidParameter:
    allowed = describe(model, key)
    text = f"{name} can't take {key}={_shown(value)}: it is {allowed}."
    close = nearest(value, allowed.split(" | ")) if isinstance(value, str) and " | " in allowed else []
    if close:
        text += f" Did you mean {' or '.join(close)}?"
    return InvalidParameter(text, operation=name, parameter=key, allowed=allowed)


def _shown(value: object) -> str:
    """A value for an error text: short, on one line, printable; lists as the text form writes them."""
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        value = ":".join(value)
    try:
        text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or a list nested as deep
        text = "a value too large to show"
    return text if len(text) <= 80 else f"{text[:77]}..."


@cache
def describe(model: type[BaseModel], key: str) -> str:
    """What a parameter may be, as text: its type, range or choices, and its unit."""
    schema = model.model_json_schema()["properties"][key]
    variants = [variant for variant in schema.get("anyOf", [schema]) if variant.get("type") != "null"]
    unit = schema.get("unit")
    return " or ".join(_variant(variant) for variant in variants) + (f" ({unit})" if unit else "")


def _variant(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(str(choice) for choice in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    kinds = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text"}
    kind = kinds.get(str(schema.get("type")), "a list" if schema.get("type") == "array" else "a value")
    bounds = [text.format(_number(schema[key])) for key, text in _RANGES if key in schema]
    return " ".join([kind, *bounds[:1]]) + "".join(f" and {bound}" for bound in bounds[1:])


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
