"""Which formats a client takes, by its ``Accept`` header (RFC 9110, 12.5.1), for ``format:auto``. Pure."""

from __future__ import annotations

from typing import get_args

from pixelmill.images.encoders import AUTO, SAFE, Acceptable, AutoOptions
from pixelmill.images.formats import FORMATS
from pixelmill.pipelines.spec import Pipeline

MAX_HEADER = 2_000
"""Characters of a header that are looked at."""


def negotiated(pipeline: Pipeline, accept: str) -> Pipeline | None:
    """The pipeline with what the header accepts; None where the answer does not depend on the header."""
    options = pipeline.output.options
    if not isinstance(options, AutoOptions) or options.accept is not None:
        return None
    chosen = {"accept": list(accepted(accept)), "quality": options.quality, "background": options.background}
    return pipeline.format(AUTO, **chosen)


def accepted(header: str) -> tuple[Acceptable, ...]:
    """The formats that a header names, and the safe ones where it has a wild card or names none that can be chosen.

    A type with ``q=0`` is left out. Other weights say nothing: which accepted format fits is decided by the pixels.
    """
    types = {name: weight > 0 for name, weight in map(_range, header[:MAX_HEADER].split(",")) if name}
    any_image = types.get("image/*", types.get("*/*", False))
    found = tuple(
        name for name in get_args(Acceptable) if types.get(FORMATS[name].media_type, any_image and name in SAFE)
    )
    return found or SAFE


def _range(part: str) -> tuple[str, float]:
    """A media range and its weight."""
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return name, float(value)
            except ValueError:
                return name, 1.0
    return name, 1.0
