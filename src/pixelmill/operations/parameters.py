"""Parameter types that operations share: colors, positions, and fields with units."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field


def _without_hash(value: object) -> object:
    return value.removeprefix("#") if isinstance(value, str) else value


HexColor = Annotated[
    str,
    BeforeValidator(_without_hash),
    Field(pattern=r"^(?:[0-9A-Fa-f]{3,4}|[0-9A-Fa-f]{6}|[0-9A-Fa-f]{8})$", json_schema_extra={"format": "color"}),
    AfterValidator(str.lower),
]
"""Bare hex: RGB, RGBA, RRGGBB or RRGGBBAA. A leading ``#`` is taken off."""

Position = Literal["center", "top", "bottom", "left", "right", "top-left", "top-right", "bottom-left", "bottom-right"]
"""A place in a box, or a corner or edge of it."""


def color_values(color: str, channels: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The color in an image's own samples: ``(1,)`` gray by BT.601 luma, ``(3,)`` RGB or ``(4,)`` RGBA."""
    digits = "".join(c * 2 for c in color) if len(color) in (3, 4) else color
    red, green, blue, alpha = (int(digits.ljust(8, "f")[i : i + 2], 16) / 255 for i in (0, 2, 4, 6))
    if channels == 1:
        values = np.array([0.299 * red + 0.587 * green + 0.114 * blue])
    else:
        values = np.array([red, green, blue, alpha][:channels])
    if dtype == np.float32:
        return values.astype(np.float32)
    return np.rint(values * np.iinfo(dtype).max).astype(dtype)


def place(position: Position, outer: int, inner: int, axis: Literal["x", "y"], margin: int = 0) -> int:
    """The offset of ``inner`` pixels in ``outer`` along an axis, ``margin`` away from an edge it is put at."""
    near, far = ("left", "right") if axis == "x" else ("top", "bottom")
    if near in position:
        return margin
    if far in position:
        return outer - inner - margin
    return (outer - inner) // 2
