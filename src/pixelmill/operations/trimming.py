"""The operation that cuts off a border of one color: trim."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from pixelmill.images.image import Image, Pixels, Size
from pixelmill.images.regions import Region
from pixelmill.operations.moves import placed_move
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.parameters import Color
from pixelmill.operations.passes import Array, Form, Look, Pass, Place, Survey
from pixelmill.operations.pixels import channels_of_color, full_scale

_Bounds: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom."""


class Trim(Operation):
    """Cut off the border that has one color: that of the upper left pixel, or a given one.

    A pixel belongs to the border where each channel is within the tolerance; colors count as far as they are visible.
    An image of nothing but border is left as it is. The data say what was kept.
    Of the frames of an animation everything is kept that isn't border in one of them.
    """

    name: ClassVar[str] = "trim"
    family: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "Cut off a border of similar color"
    output: ClassVar[Literal["image", "data", "both"]] = "both"
    example: ClassVar[str] = "0.1"
    sized_by_pixels: ClassVar[bool] = True
    frames_agree: ClassVar[Literal["first", "union", "settled"] | None] = "union"

    tolerance: float = Field(
        default=0.04,
        ge=0,
        le=1,
        description="Largest difference in a channel",
        json_schema_extra={"unit": "of full intensity"},
    )
    color: Color | SkipJsonSchema[None] = Field(
        default=None, description="Color of the border, by default that of the upper left pixel"
    )

    def facts(self) -> Facts:
        """Compares every pixel."""
        return Facts("reduction", "self-exact", ns_per_pixel=0.24, memory_factor=1.0, alpha_memory_factor=5.3)

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Look for the border's color, then for what isn't border; and cut."""
        if self.color is not None:
            return (self._outside(form, None),)

        def corner(pixels: Array, place: Place) -> Look:
            return Look(pixels[:1, :1].copy() if place.number == 0 else None)

        def first(one: Array | None, other: Array | None) -> Array | None:
            return other if one is None else one

        expected = (self._outside(form, None),)
        look = Survey(
            "corner",
            corner,
            lambda told: told[0][1],
            join=first,
            then=lambda pixel: (self._outside(form, pixel),),
            expected=expected,
            ns_per_pixel=0.1,
        )
        return (look,)

    def _outside(self, form: Form, corner: Array | None) -> Survey:
        """The box of what isn't border, and then a crop to it."""

        def look(pixels: Array, place: Place) -> Look:
            core = np.ascontiguousarray(place.core.of(pixels, place.extended))
            found = self._found(core, corner if corner is not None else core)
            if found is None:
                return Look(None)
            x, y, width, height = found
            left, top = x + place.core.left, y + place.core.top
            return Look((left, top, left + width, top + height))

        def join(one: _Bounds | None, other: _Bounds | None) -> _Bounds | None:
            if one is None or other is None:
                return one or other
            return (min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3]))

        def conclude(told: Any) -> Region:
            left, top, right, bottom = told[0][1] or (0, 0, *form.size)
            return Region(left, top, right - left, bottom - top)

        return Survey(
            self.name,
            look,
            conclude,
            join=join,
            data=lambda box: {"x": box.left, "y": box.top, "width": box.width, "height": box.height},
            then=lambda box: (placed_move(self.name, Size(box.width, box.height), box, (0, 0)),),
            expected=(placed_move(self.name, form.size, Region(0, 0, *form.size), (0, 0)),),
            ns_per_pixel=self.facts().ns_per_pixel,
            memory_factor=5.0,
        )

    def apply(self, image: Image) -> Step:
        """Find the border, and cut into memory of its own."""
        x, y, width, height = self.box(image) or (0, 0, *image.size)
        found = {"x": x, "y": y, "width": width, "height": height}
        if (width, height) == image.size:
            return Step(image, found)
        return Step(image.with_pixels(np.ascontiguousarray(image.pixels[y : y + height, x : x + width])), found)

    def box(self, image: Image) -> tuple[int, int, int, int] | None:
        """What isn't border; None where nothing else is."""
        return self._found(image.pixels, image.pixels[:1, :1])

    def _found(self, pixels: Pixels, corner: Pixels) -> tuple[int, int, int, int] | None:
        full, samples = full_scale(pixels.dtype), _visible(pixels)
        if self.color is None:
            border = [float(value) for value in np.atleast_1d(_visible(corner)[0, 0])]
        else:
            *color, alpha = channels_of_color(self.color, pixels.dtype)
            if pixels.ndim == 2:
                color = [float(np.dot(color, (0.299, 0.587, 0.114)))]
            border = [*(value * alpha / full for value in color), alpha] if samples.shape[2:] == (4,) else color
        slack = self.tolerance * full + (1e-6 if pixels.dtype == np.float32 else 0)
        low, high = np.array([value - slack for value in border]), np.array([value + slack for value in border])
        if samples.dtype != np.float32:  # OpenCV would round bounds to the nearest level
            low, high = np.ceil(low - 1e-6), np.floor(high + 1e-6)
        outside = cv2.bitwise_not(cv2.inRange(samples, low, high))
        x, y, width, height = cv2.boundingRect(outside)
        return (x, y, width, height) if width else None


def _visible(pixels: Pixels) -> NDArray[Any]:
    """Samples to compare: premultiplied where there is alpha, so that hidden colors don't count."""
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return pixels
    work = pixels.astype(np.float32)
    work[..., :3] *= work[..., 3:] / full_scale(pixels.dtype)
    return work
