"""The text form's grammar: steps, arguments and characters. Pure: it knows nothing of which operations exist.

::

    pipeline   = step *( "/" step )
    step       = name [ ":" arguments ]
    arguments  = argument *( "," argument )      positional ones first
    argument   = value | key "=" value
    value      = element *( ":" element )        more than one element is a list
    element    = 1*( A-Z a-z 0-9 . _ - | "~" HH )  UTF-8 bytes of any other character

Every character is safe unquoted in a shell and in the path of a URL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pixelmill.errors import PipelineSyntaxError

MAX_TEXT = 8_192
MAX_STEPS = 64

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_ELEMENT = re.compile(r"(?:[A-Za-z0-9._-]|~[0-9A-Fa-f]{2})*")
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")

Value = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RawStep:
    """A step as it is written: values are decoded strings, or tuples of them; ``position`` counts characters from 0."""

    name: str
    positional: tuple[Value, ...] = ()
    named: Mapping[str, Value] | None = None
    position: int = 0


def parse_text(text: str) -> tuple[RawStep, ...]:
    """The steps of a text form; raises :class:`PipelineSyntaxError` with the position of what is wrong."""
    if len(text) > MAX_TEXT:
        raise PipelineSyntaxError(f"The pipeline has {len(text):,} characters; the limit is {MAX_TEXT:,}.")
    if not text:
        raise PipelineSyntaxError("The pipeline is empty. Write at least one step, for example `format:webp`.")
    pieces = text.split("/")
    if len(pieces) > MAX_STEPS:
        raise PipelineSyntaxError(f"The pipeline has {len(pieces)} steps; the limit is {MAX_STEPS}.")
    steps, position = [], 0
    for piece in pieces:
        steps.append(_parse_step(piece, position))
        position += len(piece) + 1
    return tuple(steps)


def _parse_step(text: str, position: int) -> RawStep:
    name, colon, rest = text.partition(":")
    if not _NAME.match(name):
        raise _wrong(f"a step starts with the name of an operation, not with {name!r}", position)
    if not colon:
        return RawStep(name, position=position)
    positional: list[Value] = []
    named: dict[str, Value] = {}
    at = position + len(name) + 1
    for argument in rest.split(","):
        key, equals, value = argument.partition("=")
        if equals:
            if not _NAME.match(key):
                raise _wrong(f"{key!r} can't be the name of a parameter", at)
            if key in named:
                raise _wrong(f"{name} has {key} twice", at)
            named[key] = _parse_value(value, at + len(key) + 1)
        elif named:
            raise _wrong(f"in {name}, {argument!r} stands without a name after named arguments", at)
        else:
            positional.append(_parse_value(argument, at))
        at += len(argument) + 1
    return RawStep(name, tuple(positional), named, position)


def _parse_value(text: str, position: int) -> Value:
    elements, at = [], position
    for element in text.split(":"):
        if not element:
            raise _wrong("a value is missing", at)
        matched = _ELEMENT.match(element)
        end = matched.end() if matched else 0
        if end != len(element):
            found = element[end]
            code = "".join(f"~{byte:02X}" for byte in found.encode("utf-8", "replace"))
            raise _wrong(f"the character {found!r} must be written {code}", at + end)
        elements.append(_decode(element, at))
        at += len(element) + 1
    return elements[0] if len(elements) == 1 else tuple(elements)


def _decode(element: str, position: int) -> str:
    if "~" not in element:
        return element
    raw = re.sub(rb"~([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), element.encode("ascii"))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _wrong("the ~HH codes are not UTF-8", position) from error


def _wrong(what: str, position: int) -> PipelineSyntaxError:
    return PipelineSyntaxError(f"The pipeline can't be read at character {position + 1}: {what}.", position=position)


def print_steps(steps: Sequence[RawStep]) -> str:
    """The inverse of :func:`parse_text`."""
    return "/".join(map(_print_step, steps))


def _print_step(step: RawStep) -> str:
    arguments = [_print_value(value) for value in step.positional]
    arguments += [f"{key}={_print_value(value)}" for key, value in (step.named or {}).items()]
    return f"{step.name}:{','.join(arguments)}" if arguments else step.name


def _print_value(value: Value) -> str:
    return ":".join(map(_encode, (value,) if isinstance(value, str) else value))


def _encode(text: str) -> str:
    return "".join(chr(byte) if byte in _SAFE else f"~{byte:02X}" for byte in text.encode("utf-8"))


def to_raw(value: Any) -> Value:
    """A parameter's value as the text form writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, list | tuple):
        return tuple(str(to_raw(item)) for item in value)
    return str(value)
