"""The text form's grammar, without its meaning: steps, arguments, elements, escapes. Pure, and inverse of each other.

::

    pipeline = step *("/" step)
    step     = name [":" argument *("," argument)]
    argument = [name "="] element *(":" element)
    element  = *(ALPHA / DIGIT / "." / "_" / "-" / "~" HEX HEX)

Every other character is ``~HH``, one for each byte of its UTF-8. So the form is safe unquoted in a shell and in a URL
path. What steps and arguments mean is told in ``forms.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from pixelmill.errors import PipelineSyntaxError

MAX_TEXT = 8_192
"""Characters of a text form."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_ELEMENT = re.compile(r"(?:[A-Za-z0-9._-]|~[0-9A-Fa-f]{2})*")
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


@dataclass(frozen=True, slots=True)
class TextArgument:
    """One argument: by position if ``name`` is None. ``position`` counts characters from 0."""

    elements: tuple[str, ...]
    name: str | None = None
    position: int = 0


@dataclass(frozen=True, slots=True)
class TextStep:
    """One step by name."""

    name: str
    arguments: tuple[TextArgument, ...] = ()
    position: int = 0


def read(text: str) -> tuple[TextStep, ...]:
    """The steps of a text; white space around the whole is ignored, the empty text has no steps.

    Raises:
        PipelineSyntaxError: with the position.
    """
    if len(text) > MAX_TEXT:
        raise PipelineSyntaxError(
            f"The pipeline's text has {len(text):,} characters; at most {MAX_TEXT:,} are read.", position=MAX_TEXT
        )
    start = len(text) - len(text.lstrip())
    text = text.rstrip()
    if start >= len(text):
        return ()
    steps: list[TextStep] = []
    while True:
        step, end = _step(text, start)
        steps.append(step)
        if end == len(text):
            return tuple(steps)
        start = end + 1  # behind the "/"


def write(steps: Iterable[TextStep]) -> str:
    """The text of steps; :func:`read` gives the same steps, but for positions."""
    return "/".join(_step_text(step) for step in steps)


def _step(text: str, start: int) -> tuple[TextStep, int]:
    found = _NAME.match(text, start)
    if found is None:
        _refuse(text, start, "the name of a step is expected here")
    at = found.end()
    arguments: list[TextArgument] = []
    if at < len(text) and text[at] == ":":
        while True:
            argument, at = _argument(text, at + 1)
            arguments.append(argument)
            if at == len(text) or text[at] != ",":
                break
    if at < len(text) and text[at] != "/":
        _refuse(text, at, "this may not stand here")
    return TextStep(found.group(), tuple(arguments), start), at


def _argument(text: str, start: int) -> tuple[TextArgument, int]:
    at, name = start, None
    found = _NAME.match(text, start)
    if found is not None and text[found.end() : found.end() + 1] == "=":
        name, at = found.group(), found.end() + 1
    elements: list[str] = []
    while True:
        element = _ELEMENT.match(text, at)
        assert element is not None  # it matches the empty text
        elements.append(_decoded(element.group(), at))
        at = element.end()
        if at == len(text) or text[at] != ":":
            break
        at += 1
    if name is None and elements == [""] and (at == len(text) or text[at] in ",/"):
        _refuse(text, at, "an argument is expected here")
    return TextArgument(tuple(elements), name, start), at


def _refuse(text: str, at: int, what: str) -> NoReturn:
    if at >= len(text):
        found = "the text ends"
    else:
        character = text[at]
        found = f"found {character!r}"
        if character == "~":
            found += "; two hex digits must follow it"
        elif character not in "/,:=":
            found += f", which is written {_encoded(character)} within a value"
    raise PipelineSyntaxError(f"At character {at + 1} of the pipeline: {what}; {found}.", position=at)


def _decoded(element: str, at: int) -> str:
    if "~" not in element:
        return element
    try:
        return re.sub(rb"~(..)", lambda pair: bytes.fromhex(pair[1].decode()), element.encode()).decode()
    except UnicodeDecodeError as error:
        raise PipelineSyntaxError(
            f"At character {at + 1} of the pipeline: {element[:60]!r} is not UTF-8.", position=at
        ) from error


def _encoded(value: str) -> str:
    # A lone surrogate has no UTF-8; this only shows it in an error, for no value may hold one.
    return "".join(chr(byte) if byte in _SAFE else f"~{byte:02X}" for byte in value.encode(errors="replace"))


def _step_text(step: TextStep) -> str:
    if not step.arguments:
        return step.name
    return f"{step.name}:" + ",".join(_argument_text(argument) for argument in step.arguments)


def _argument_text(argument: TextArgument) -> str:
    value = ":".join(_encoded(element) for element in argument.elements)
    return value if argument.name is None else f"{argument.name}={value}"
