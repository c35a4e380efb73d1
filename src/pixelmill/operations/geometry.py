"""Geometry: crop, flip, rotate. Angles are degrees, clockwise as one sees the picture."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixelmill.errors import NotApplicable
from pixelmill.images.image import Image, Need, Size
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.parameters import HexColor, color_values
from pixelmill.operations.pixels import premultiplied

MAX_SIDE = 65_535
MAX_WARP_SIDE = 32_766
"""OpenCV's warps address pixels with 16 signed bits."""


class Crop(Operation):
    """Cuts a box out. The box must lie inside the image."""

    name: ClassVar[str] = "crop"
    family: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "Cut a box out"
    positional: ClassVar[int] = 4
    x: int = Field(ge=0, le=MAX_SIDE, description="Left edge", examples=[10], json_schema_extra={"unit": "px"})
    y: int = Field(ge=0, le=MAX_SIDE, description="Top edge", examples=[10], json_schema_extra={"unit": "px"})
    width: int = Field(ge=1, le=MAX_SIDE, description="Width", examples=[100], json_schema_extra={"unit": "px"})
    height: int = Field(ge=1, le=MAX_SIDE, description="Height", examples=[80], json_schema_extra={"unit": "px"})

    def facts(self) -> Facts:
        """Copies."""
        return Facts("geometric", "cv2-exact", ns_per_pixel=0.05, memory_factor=1.0)

    def size(self, size: Size) -> Size:
        """The box; raises :class:`NotApplicable` where it does not lie inside."""
        if self.x + self.width > size.width or self.y + self.height > size.height:
            raise NotApplicable(
                f"The box of crop ends at ({self.x + self.width}, {self.y + self.height}), outside the image of "
                f"{size.width}×{size.height} pixels. Make it smaller, or resize first.",
                operation="crop",
            )
        return Size(self.width, self.height)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel: the box is in pixels of the full image."""
        del size
        return Need(color=after.color)

    def apply(self, image: Image) -> Step:
        """A copy of the box."""
        self.size(image.size)
        box = image.pixels[self.y : self.y + self.height, self.x : self.x + self.width]
        return Step(image.with_pixels(np.ascontiguousarray(box)))


class Flip(Operation):
    """Mirrors left to right (``horizontal``), top to bottom (``vertical``), or both."""

    name: ClassVar[str] = "flip"
    family: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "Mirror"
    direction: Literal["horizontal", "vertical", "both"] = Field(default="horizontal", description="What changes sides")

    def facts(self) -> Facts:
        """Copies."""
        return Facts("geometric", "cv2-exact", ns_per_pixel=0.1, memory_factor=1.0)

    def need(self, after: Need, size: Size) -> Need:
        """As after it."""
        del size
        return after

    def apply(self, image: Image) -> Step:
        """``cv2.flip``."""
        code = {"horizontal": 1, "vertical": 0, "both": -1}[self.direction]
        return Step(image.with_pixels(cv2.flip(image.pixels, code)))


class Rotate(Operation):
    """Turns clockwise. Multiples of 90 move pixels exactly; other angles sample by cubic interpolation."""

    name: ClassVar[str] = "rotate"
    family: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "Turn clockwise"
    angle: float = Field(ge=-360, le=360, description="Clockwise", examples=[90], json_schema_extra={"unit": "degrees"})
    expand: bool = Field(default=True, description="Grow the canvas so that no corner is lost")
    background: HexColor = Field(default="ffffff", description="Color of what was outside the image")

    @property
    def quarters(self) -> int | None:
        """Quarter turns clockwise, 0 to 3; None where the angle is no multiple of 90."""
        return int(self.angle // 90) % 4 if self.angle % 90 == 0 else None

    def facts(self) -> Facts:
        """Copies, or a warp."""
        if self.quarters is not None:
            return Facts("geometric", "cv2-exact", ns_per_pixel=0.2, memory_factor=1.0)
        return Facts("geometric", "self-exact", ns_per_pixel=6.0, memory_factor=2.5)

    def size(self, size: Size) -> Size:
        """The size after turning."""
        quarters = self.quarters
        if not self.expand:
            return size
        if quarters is not None:
            return size if quarters % 2 == 0 else Size(size.height, size.width)
        sine, cosine = _absolute(self.angle)
        # The box of the turned image; the small term keeps 1e-12 from adding a pixel.
        width = math.ceil(size.width * cosine + size.height * sine - 1e-6)
        height = math.ceil(size.width * sine + size.height * cosine - 1e-6)
        return Size(width, height)

    def need(self, after: Need, size: Size) -> Need:
        """As after it, with sides exchanged by odd quarter turns; all of it for other angles, in color for a color."""
        quarters = self.quarters
        if quarters is None or (quarters % 2 and not self.expand and size.width != size.height):
            return Need()
        if after.least is None or quarters % 2 == 0:
            return after
        return Need(after.color, Size(after.least.height, after.least.width))

    def apply(self, image: Image) -> Step:
        """Turn."""
        quarters = self.quarters
        if quarters is None or (quarters % 2 and not self.expand and image.size.width != image.size.height):
            return self._warp(image)
        if quarters == 0:
            return Step(image)
        codes = (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)
        return Step(image.with_pixels(cv2.rotate(image.pixels, codes[quarters - 1])))

    def _warp(self, image: Image) -> Step:
        size, target = image.size, self.size(image.size)
        if max(*size, *target) > MAX_WARP_SIDE:
            raise NotApplicable(
                f"rotate by {self.angle:g} degrees works up to {MAX_WARP_SIDE:,} pixels a side; this image has "
                f"{size.width:,}×{size.height:,}. Make it smaller first, or turn by a multiple of 90.",
                operation="rotate",
            )
        matrix = cv2.getRotationMatrix2D(((size.width - 1) / 2, (size.height - 1) / 2), -self.angle, 1.0)
        matrix[:, 2] += ((target.width - size.width) / 2, (target.height - size.height) / 2)

        def warp(pixels: NDArray[Any]) -> NDArray[Any]:
            color = color_values(self.background, image.channels, pixels.dtype)
            if image.has_alpha:
                color[:3] *= color[3]  # as the pixels are
            outside = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": color.tolist()}
            turned = cv2.warpAffine(pixels, matrix, target, flags=cv2.INTER_CUBIC, **outside)
            return np.clip(turned, 0, 1) if turned.dtype == np.float32 else turned

        return Step(image.with_pixels(premultiplied(image.pixels, warp, opaque_too=True)))


def _absolute(angle: float) -> tuple[float, float]:
    radians = math.radians(angle)
    return abs(math.sin(radians)), abs(math.cos(radians))
