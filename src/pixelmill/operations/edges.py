"""Edges: canny."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import cv2
from pydantic import BeforeValidator, Field, model_validator

from pixelmill.images.image import Image, Need, Size
from pixelmill.images.samples import to_uint8
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.pixels import luma


def _number_from_text(value: object) -> object:
    """The text form gives strings; a Literal of numbers takes none."""
    return int(value) if isinstance(value, str) and value in {"3", "5", "7"} else value


class Canny(Operation):
    """``cv2.Canny`` on 8-bit luma: Sobel gradients, non-maximum suppression, hysteresis (Canny 1986)."""

    name: ClassVar[str] = "canny"
    family: ClassVar[str] = "edges"
    summary: ClassVar[str] = "Edges as white lines on black"
    positional: ClassVar[int] = 2
    low: float = Field(default=100, ge=0, le=10_000, description="Gradient above which an edge goes on", examples=[100])
    high: float = Field(default=200, ge=0, le=10_000, description="Gradient above which an edge begins", examples=[200])
    aperture: Annotated[Literal[3, 5, 7], BeforeValidator(_number_from_text)] = Field(
        default=3, description="Size of the Sobel kernel", json_schema_extra={"unit": "px"}
    )
    l2: bool = Field(default=False, description="Euclidean gradient norm instead of |dx| + |dy|")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low:g}) must not be above high ({self.high:g})")
        return self

    def facts(self) -> Facts:
        """Edges are followed across tile borders."""
        cost = 2.5 if self.aperture == 3 else 14.0  # of luma, which is what it asks for
        return Facts("border-merge", "cv2-exact", halo=self.aperture // 2 + 1, ns_per_pixel=cost, memory_factor=6.0)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel, but luma only."""
        del after, size
        return Need(color=False)

    def apply(self, image: Image) -> Step:
        """Gray, ``uint8``, 0 or 255."""
        gray = to_uint8(luma(image.pixels))
        return Step(Image(cv2.Canny(gray, self.low, self.high, apertureSize=self.aperture, L2gradient=self.l2)))
