"""Neighborhood filters: gaussian, sharpen."""

from __future__ import annotations

import math
from typing import ClassVar

import cv2
import numpy as np
from pydantic import Field

from pixelmill.images.image import Image, Need, Size
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.pixels import on_colors, premultiplied


class Gaussian(Operation):
    """``cv2.GaussianBlur`` with a kernel that follows from ``sigma`` (6 sigma wide; 8 sigma for 16 bits and float)."""

    name: ClassVar[str] = "gaussian"
    family: ClassVar[str] = "filters"
    summary: ClassVar[str] = "Gaussian blur"
    sigma: float = Field(
        ge=0.1, le=100, description="Standard deviation", examples=[2.0], json_schema_extra={"unit": "px"}
    )

    def facts(self) -> Facts:
        """Local; a separable kernel costs in proportion to its width, and more where its rows leave the cache."""
        halo = math.ceil(4 * self.sigma) + 1
        return Facts(
            "local", "cv2-exact", halo=halo, ns_per_pixel=0.2 + 0.1 * halo + 0.0017 * halo**2, memory_factor=1.5
        )

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel; color only if it is needed later, since a linear filter commutes with luma."""
        del size
        return Need(color=after.color)

    def apply(self, image: Image) -> Step:
        """Blur; RGBA is weighted by its alpha."""
        blurred = premultiplied(image.pixels, lambda pixels: cv2.GaussianBlur(pixels, (0, 0), self.sigma))
        return Step(image.with_pixels(blurred))


class Sharpen(Operation):
    """Adds ``amount`` times the 4-neighbor Laplacian: kernel 0 -a 0 / -a 1+4a -a / 0 -a 0, by ``cv2.filter2D``."""

    name: ClassVar[str] = "sharpen"
    family: ClassVar[str] = "filters"
    summary: ClassVar[str] = "Sharper edges by a 3x3 kernel"
    amount: float = Field(
        default=1.0, ge=0, le=10, description="0 changes nothing; 1 is the usual kernel", examples=[1.0]
    )

    def facts(self) -> Facts:
        """Local, one pixel."""
        return Facts("local", "cv2-exact", halo=1, ns_per_pixel=0.5, memory_factor=1.0)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel, in color: what it clips does not commute with luma."""
        del after, size
        return Need()

    def apply(self, image: Image) -> Step:
        """Filter the colors; alpha stays."""
        a = self.amount
        kernel = np.array([[0, -a, 0], [-a, 1 + 4 * a, -a], [0, -a, 0]], dtype=np.float32)
        changed = on_colors(image.pixels, lambda pixels: cv2.filter2D(pixels, -1, kernel))
        if changed.dtype == np.float32:
            changed = np.clip(changed, 0, 1)
        return Step(image.with_pixels(changed))
