"""Tones and colors: grayscale, brightness, contrast, gamma, invert."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixelmill.images.image import Image, Need, Size
from pixelmill.operations.operation import Facts, Operation, Pointwise, Step
from pixelmill.operations.pixels import luma, on_colors


class Grayscale(Operation):
    """BT.601 luma (0.299 R + 0.587 G + 0.114 B), as OpenCV's RGB2GRAY. RGBA stays RGBA, with gray colors."""

    name: ClassVar[str] = "grayscale"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Luma only"

    def facts(self) -> Facts:
        """Pointwise."""
        return Facts("pointwise", "cv2-exact", ns_per_pixel=0.1, memory_factor=0.4)

    def need(self, after: Need, size: Size) -> Need:
        """The luma plane is enough."""
        del size
        return Need(color=False, least=after.least)

    def apply(self, image: Image) -> Step:
        """Gray, or RGBA with equal colors."""
        pixels = image.pixels
        if image.channels == 1:
            return Step(image)
        gray = luma(pixels)
        if image.has_alpha:
            return Step(image.with_pixels(np.dstack([gray, gray, gray, pixels[..., 3]])))
        # A profile of RGB does not describe gray samples.
        return Step(Image(gray))


@lru_cache(maxsize=256)
def table(operations: tuple[Pointwise, ...], levels: int) -> NDArray[Any]:
    """The rounded curves of ``operations``, one after the other, as one table of ``levels`` (256 or 65,536) entries."""
    white = levels - 1
    dtype = np.uint8 if levels == 256 else np.uint16
    result = np.arange(levels, dtype=dtype)
    for operation in operations:
        values = np.clip(operation.curve(np.linspace(0.0, 1.0, levels)), 0.0, 1.0)
        result = np.rint(values * white).astype(dtype)[result]
    result.flags.writeable = False
    return result


def apply_pointwise(operations: tuple[Pointwise, ...], image: Image) -> Image:
    """Apply curves to the colors of an image; on integers by one table, the same to the bit as one by one."""

    def change(pixels: NDArray[Any]) -> NDArray[Any]:
        if pixels.dtype == np.uint8:
            mapped: NDArray[Any] = cv2.LUT(pixels, table(operations, 256))
            return mapped
        if pixels.dtype == np.uint16:
            deep: NDArray[Any] = table(operations, 65536)[pixels]
            return deep
        for operation in operations:
            curve = operation.curve(pixels.astype(np.float64))
            pixels = np.clip(curve, 0.0, 1.0).astype(np.float32)
        return pixels

    return image.with_pixels(on_colors(image.pixels, change))


class _Curve(Pointwise):
    """What the pointwise operations share."""

    def facts(self) -> Facts:
        """Pointwise, by table."""
        return Facts("pointwise", "cv2-exact", ns_per_pixel=0.25, memory_factor=1.0)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel, in color: a curve that bends or clips commutes neither with luma nor with a reduced decode."""
        del after, size
        return Need()

    def apply(self, image: Image) -> Step:
        """By table on integers, by the curve on floats."""
        return Step(apply_pointwise((self,), image))


class Brightness(_Curve):
    """Adds ``amount`` to every color sample."""

    name: ClassVar[str] = "brightness"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Lighter or darker by a constant"
    amount: float = Field(ge=-1, le=1, description="What is added, as a share of white", examples=[0.2])

    def curve(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """X + amount."""
        return x + self.amount


class Contrast(_Curve):
    """Scales the distance of every color sample from middle gray."""

    name: ClassVar[str] = "contrast"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "More or less contrast around middle gray"
    factor: float = Field(ge=0, le=10, description="1 changes nothing, 0 gives gray", examples=[1.5])

    def curve(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """(x - 0.5) factor + 0.5."""
        return (x - 0.5) * self.factor + 0.5


class Gamma(_Curve):
    """Raises every color sample to the power 1 / ``gamma``, as ImageMagick's ``-gamma`` does."""

    name: ClassVar[str] = "gamma"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Lighter or darker middle tones"
    gamma: float = Field(ge=0.05, le=20, description="Above 1 lightens, below 1 darkens", examples=[1.8])

    def curve(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """X to the power 1 / gamma."""
        return np.power(x, 1.0 / self.gamma)


class Invert(_Curve):
    """White minus every color sample."""

    name: ClassVar[str] = "invert"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "The negative"
    positional: ClassVar[int] = 0

    def need(self, after: Need, size: Size) -> Need:
        """As after it: an inversion commutes with luma and with any averaging."""
        del size
        return after

    def curve(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """1 - x."""
        return 1.0 - x
