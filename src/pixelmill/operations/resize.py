"""Sizes: resize, and the exact steps it resolves to."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from pixelmill.images.image import Image, Need, Size
from pixelmill.operations.geometry import Crop
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.parameters import HexColor, color_values
from pixelmill.operations.pixels import premultiplied
from pixelmill.operations.resample import Interpolation, resample

MAX_SIDE = 65_535
MARGIN = 1.25
"""How much larger than the target a reduced decode must be: costs under 5 % CPU, gains 2 dB (see the decision file)."""

Fit = Literal["inside", "contain", "cover", "fill", "outside"]


class Resize(Operation):
    """Changes the size. One side may be left out: it follows from the aspect ratio.

    ``fit``, for a box of ``width`` x ``height``:

    - ``inside``: as large as fits into the box, aspect kept.
    - ``contain``: the same, then padded with ``background`` to exactly the box.
    - ``cover``: fills the box, aspect kept; what stands over is cut off evenly.
    - ``outside``: as small as covers the box, aspect kept, nothing cut off.
    - ``fill``: exactly the box, whatever the aspect.

    Without ``enlarge`` no picture is scaled up, except by ``fill``, which asks for an exact size.
    """

    name: ClassVar[str] = "resize"
    family: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "Another size"
    positional: ClassVar[int] = 2
    width: int | None = Field(
        default=None,
        ge=1,
        le=MAX_SIDE,
        description="Width of the box",
        examples=[256],
        json_schema_extra={"unit": "px"},
    )
    height: int | None = Field(
        default=None,
        ge=1,
        le=MAX_SIDE,
        description="Height of the box",
        examples=[256],
        json_schema_extra={"unit": "px"},
    )
    fit: Fit = Field(default="inside", description="How the picture meets the box")
    interpolation: Interpolation = Field(
        default="auto", description="auto: Lanczos-3 low pass and cubic sampling; the others are OpenCV's, as they are"
    )
    enlarge: bool = Field(default=False, description="Also scale up")
    background: HexColor = Field(default="ffffff", description="Color of the padding of fit=contain")

    @model_validator(mode="after")
    def _has_a_side(self) -> Self:
        if self.width is None and self.height is None:
            raise ValueError("needs width, height, or both, for example resize:512 or resize:height=512")
        return self

    def facts(self) -> Facts:
        """Source edges lie anywhere: geometric."""
        return Facts("geometric", "self-exact", ns_per_pixel=1.3, memory_factor=1.6)

    def scaled(self, size: Size) -> Size:
        """The size of the picture itself: before cutting off or padding."""
        width, height = self.width, self.height
        if self.fit == "fill":
            return Size(
                width or _side(size.width, height, size.height), height or _side(size.height, width, size.width)
            )
        factors = [target / side for target, side in zip((width, height), size, strict=True) if target is not None]
        factor = max(factors) if self.fit in {"cover", "outside"} else min(factors)
        if not self.enlarge:
            factor = min(factor, 1.0)
        return Size(_round(size.width * factor), _round(size.height * factor))

    def size(self, size: Size) -> Size:
        """The size that comes out."""
        scaled = self.scaled(size)
        box = Size(self.width or scaled.width, self.height or scaled.height)
        if self.fit == "contain":
            return box
        if self.fit == "cover":
            return Size(min(box.width, scaled.width), min(box.height, scaled.height))
        return scaled

    def need(self, after: Need, size: Size) -> Need:
        """A little more than the target; every pixel for OpenCV's own interpolations, and where nothing shrinks."""
        if self.interpolation != "auto":
            return Need(color=after.color)
        scaled = self.scaled(size)
        least = Size(_round_up(scaled.width * MARGIN), _round_up(scaled.height * MARGIN))
        smaller = least.width < size.width and least.height < size.height
        return Need(color=after.color, least=least if smaller else None)

    def resolve(self, size: Size) -> tuple[Operation, ...]:
        """A scale to an exact size, then a crop or a padding."""
        scaled, result = self.scaled(size), self.size(size)
        steps: list[Operation] = [
            Scale(
                width=scaled.width,
                height=scaled.height,
                nominal_width=size.width,
                nominal_height=size.height,
                interpolation=self.interpolation,
            )
        ]
        if self.fit == "contain" and result != scaled:
            steps.append(Letterbox(width=result.width, height=result.height, background=self.background))
        elif result != scaled:
            x, y = (scaled.width - result.width) // 2, (scaled.height - result.height) // 2
            steps.append(Crop(x=x, y=y, width=result.width, height=result.height))
        return tuple(steps)

    def apply(self, image: Image) -> Step:
        """Scale, then cut off or pad."""
        for operation in self.resolve(image.size):
            image = operation.apply(image).image
        return Step(image)


class Scale(Operation):
    """Exactly to a size, from an image that stands for one of the nominal size. Only planners make it."""

    name: ClassVar[str] = "scale"
    family: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "To an exact size"
    width: int
    height: int
    nominal_width: int
    nominal_height: int
    interpolation: Interpolation = "auto"
    mirrored: tuple[bool, bool] = (False, False)

    def facts(self) -> Facts:
        """As ``resize``."""
        return Facts("geometric", "self-exact", ns_per_pixel=1.3, memory_factor=1.6)

    def size(self, size: Size) -> Size:
        """The exact size."""
        del size
        return Size(self.width, self.height)

    def apply(self, image: Image) -> Step:
        """Resample; RGBA is weighted by its alpha."""
        target, nominal = Size(self.width, self.height), Size(self.nominal_width, self.nominal_height)
        resampled = premultiplied(
            image.pixels, lambda pixels: resample(pixels, target, nominal, self.interpolation, self.mirrored)
        )
        return Step(image.with_pixels(resampled))


class Letterbox(Operation):
    """Pads evenly to a size. Only planners make it."""

    name: ClassVar[str] = "letterbox"
    family: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "Pad evenly to a size"
    width: int
    height: int
    background: HexColor

    def facts(self) -> Facts:
        """Copies."""
        return Facts("geometric", "self-exact", ns_per_pixel=0.2, memory_factor=1.0)

    def size(self, size: Size) -> Size:
        """The padded size."""
        del size
        return Size(self.width, self.height)

    def apply(self, image: Image) -> Step:
        """The image in the middle of a plain canvas."""
        pixels = image.pixels
        canvas = np.empty((self.height, self.width, *pixels.shape[2:]), pixels.dtype)
        canvas[:] = color_values(self.background, image.channels, pixels.dtype)
        x, y = (self.width - image.size.width) // 2, (self.height - image.size.height) // 2
        canvas[y : y + image.size.height, x : x + image.size.width] = pixels
        return Step(image.with_pixels(canvas))


def _side(own: int, target: int | None, other: int) -> int:
    return own if target is None else _round(own * target / other)


def _round(value: float) -> int:
    return max(1, int(value + 0.5))


def _round_up(value: float) -> int:
    return -int(-value // 1)
