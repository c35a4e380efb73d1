"""Types of parameters that several operations share, with their checks and their JSON schemas.

A color is hex without a mark (``ff8800``, with alpha ``ff880080``); an image parameter is a reference in the pipeline's
text (a path, a URI, or ``sha256:HEX``) and pixels when it runs.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from pixelmill.images.image import Image
from pixelmill.models.model import Model

MAX_REFERENCE = 2_048
"""Characters of a path or URI."""


_SHORT = re.compile(r"^[0-9a-f]{3}$")


def as_number(value: Any) -> Any:
    """A whole number that the text form wrote; pydantic compares choices as they are."""
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 4 else value


def _hex(value: Any) -> Any:
    """Lower case, without ``#``, and with each of three digits doubled; what isn't text is left to be refused."""
    if not isinstance(value, str):
        return value
    text = value.removeprefix("#").lower()
    return "".join(2 * digit for digit in text) if _SHORT.match(text) else text


Color: TypeAlias = Annotated[
    str,
    BeforeValidator(_hex),
    Field(pattern=r"^(?:[0-9a-f]{6}|[0-9a-f]{8})$", json_schema_extra={"format": "color", "unit": "hex RRGGBB[AA]"}),
]
"""Six or eight hex digits, lower case."""


def reference_text(value: Any) -> str:
    """The text of a path or URI; raises ValueError for what is none."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise ValueError("not a reference")  # noqa: TRY004  pydantic takes only these for a refusal
    if not 0 < len(value) <= MAX_REFERENCE or not value.isprintable():
        raise ValueError("not a reference")
    return value


def _reference(value: Any) -> str | Image:
    return value if isinstance(value, Image) else reference_text(value)


ImageParameter: TypeAlias = Annotated[
    str | Image,
    PlainValidator(_reference),
    WithJsonSchema({"type": "string", "format": "image", "minLength": 1, "maxLength": MAX_REFERENCE}),
]
"""A reference, or pixels in their place."""

BUILT_IN_FONTS = ("aileron",)
"""Families that need no file: Pillow ships Aileron Regular (the letters of ASCII)."""


@dataclass(frozen=True, slots=True)
class Font:
    """The bytes of a font file. Made by ``fonts.font_of``, which checks them."""

    data: bytes = field(repr=False)


def _font(value: Any) -> str | Font:
    return value if isinstance(value, Font) else reference_text(value)


FontParameter: TypeAlias = Annotated[
    str | Font,
    PlainValidator(_font),
    WithJsonSchema({"type": "string", "format": "font", "minLength": 1, "maxLength": MAX_REFERENCE}),
]
"""The name of a built-in family, a reference to a font file, or a font in its place."""


def _model(value: Any) -> str | Model:
    return value if isinstance(value, Model) else reference_text(value)


ModelParameter: TypeAlias = Annotated[
    str | Model,
    PlainValidator(_model),
    WithJsonSchema({"type": "string", "format": "model", "minLength": 1, "maxLength": MAX_REFERENCE}),
]
"""The name of a model, a path to weights of the user's own, or a model in its place."""

Position: TypeAlias = Literal[
    "top-left", "top", "top-right", "left", "center", "right", "bottom-left", "bottom", "bottom-right"
]
"""One of nine places within a rectangle."""
