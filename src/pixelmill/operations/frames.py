"""Operations that finish the edge of a picture: border, round_corners.

Knows nothing of what the picture shows, nor of other pictures.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from pixelmill.images.image import Image, Need, Size
from pixelmill.images.regions import Region
from pixelmill.operations.blending import over
from pixelmill.operations.moves import placed_move, roomy
from pixelmill.operations.operation import Facts, Kind, Operation, Step
from pixelmill.operations.parameters import Color
from pixelmill.operations.passes import Array, Form, Map, Pass, Place
from pixelmill.operations.pixels import (
    channels_of_color,
    channels_with,
    fit_depth,
    full_scale,
    is_gray_color,
    with_room_for,
)

Thickness = Annotated[int, Field(ge=1, le=16_384, json_schema_extra={"unit": "pixels"})]


class Border(Operation):
    """Draw a border of one color: around the image, which grows, or inside, over its edges.

    An image with an alpha channel gets the color's; others get an opaque border around them, and inside as much of it
    as its alpha says.
    """

    name: ClassVar[str] = "border"
    family: ClassVar[str] = "composition"
    summary: ClassVar[str] = "Draw a border"
    example: ClassVar[str] = "10,ffffff"
    positional: ClassVar[int] = 2

    thickness: Thickness = Field(default=10, description="Thickness of each side")
    color: Color = Field(default="000000", description="Color of the border")
    inside: bool = Field(default=False, description="Over the edges, so that the size stays")

    def facts(self) -> Facts:
        """A copy."""
        kind: Kind = "pointwise" if self.inside else "geometric"
        return Facts(kind, "self-exact", ns_per_pixel=0.1, memory_factor=1.2)

    def size(self, size: Size) -> Size:
        """With the border."""
        if self.inside:
            return size
        return Size(size.width + 2 * self.thickness, size.height + 2 * self.thickness)

    def channels(self, channels: int) -> int:
        """RGB where color is put around gray."""
        return channels_with(self.color, channels)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel; in color where the border has one."""
        del size
        return Need(color=after.color or not is_gray_color(self.color))

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Draw."""
        first = roomy(form, self.color)
        if self.inside:

            def draw(pixels: Array, place: Place) -> Array:
                return self._drawn_inside(
                    pixels, channels_of_color(self.color, pixels.dtype), place.size, place.extended
                )

            return (*first, Map(self.name, draw, ns_per_pixel=0.2, memory_factor=1.3))

        def fill(pixels: Array) -> Array:
            shape = pixels.shape[2:]
            samples = channels_of_color(self.color, pixels.dtype)[: shape[0] if shape else 1]
            return fit_depth(np.array(samples), pixels.dtype).reshape(shape)

        at = (self.thickness, self.thickness)
        return (*first, placed_move(self.name, self.size(form.size), Region(0, 0, *form.size), at, fill))

    def apply(self, image: Image) -> Step:
        """Draw."""
        image = with_room_for(image, self.color)
        pixels = image.pixels
        samples = channels_of_color(self.color, pixels.dtype)
        if not self.inside:
            value = fit_depth(np.array(samples), pixels.dtype).astype(float).tolist()
            side = self.thickness
            done = cv2.copyMakeBorder(pixels, side, side, side, side, cv2.BORDER_CONSTANT, value=value)
            return Step(image.with_pixels(done))
        everything = Region(0, 0, *image.size)
        return Step(image.with_pixels(self._drawn_inside(pixels, samples, image.size, everything)))

    def _drawn_inside(
        self, pixels: NDArray[Any], samples: tuple[float, ...], size: Size, region: Region
    ) -> NDArray[Any]:
        """``pixels`` are those of a region of an image of ``size``."""
        width, height = size
        rows, columns = min(self.thickness, (height + 1) // 2), min(self.thickness, (width + 1) // 2)
        done = pixels.copy()
        colors = 1 if pixels.ndim == 2 else 3
        color = np.array(samples[:colors], np.float32).reshape(1, 1, colors)
        alpha = np.full((1, 1, 1), samples[3] / full_scale(pixels.dtype), np.float32)
        below, behind = max(rows, height - rows), max(columns, width - columns)
        sides = (
            Region(0, 0, width, rows),
            Region(0, below, width, height - below),
            Region(0, rows, columns, below - rows),
            Region(behind, rows, width - behind, below - rows),
        )
        for side in sides:
            part = side.overlap(region)
            if part.pixels:
                part.of(done, region)[...] = over(color, alpha, part.of(pixels, region))
        return done


class RoundCorners(Operation):
    """Round the corners off: to transparency, which gives the image an alpha channel, or to a background.

    The radius is at most half of the shorter side. A background has no alpha of its own here.
    """

    name: ClassVar[str] = "round_corners"
    family: ClassVar[str] = "composition"
    summary: ClassVar[str] = "Round the corners off"
    example: ClassVar[str] = "20"

    radius: Thickness = Field(default=20, description="Radius of the corners")
    background: Color | SkipJsonSchema[None] = Field(
        default=None, description="Color of what is cut off, by default transparent"
    )

    def facts(self) -> Facts:
        """A copy, and the corners."""
        return Facts("pointwise", "self-exact", ns_per_pixel=0.2, memory_factor=2.7)

    def channels(self, channels: int) -> int:
        """RGBA, or what the background needs."""
        return 4 if self.background is None else channels_with(self.background, channels)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel; in color where the background has one, or where an RGBA image is made."""
        del size
        return Need(color=after.color or self.background is None or not is_gray_color(self.background))

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Fade the corners that a tile sees."""

        def draw(pixels: Array, place: Place) -> Array:
            return self._rounded(Image(pixels), place.size, place.extended).pixels

        channels = self.channels(form.channels)
        return (Map(self.name, draw, channels=channels, ns_per_pixel=0.3, memory_factor=2.7),)

    def apply(self, image: Image) -> Step:
        """Fade each corner by how much of its pixels the arc covers."""
        return Step(self._rounded(image, image.size, Region(0, 0, *image.size)))

    def _rounded(self, image: Image, size: Size, region: Region) -> Image:
        """``image`` is a region of one of ``size``."""
        image = _with_alpha(image) if self.background is None else with_room_for(image, self.background)
        done = image.pixels.copy()
        width, height = size
        keep = _corner(min(self.radius, width / 2, height / 2))
        side = len(keep)
        for left, top, mask in (
            (0, 0, keep),
            (width - side, 0, keep[:, ::-1]),
            (0, height - side, keep[::-1]),
            (width - side, height - side, keep[::-1, ::-1]),
        ):
            corner = Region(left, top, side, side)
            part = corner.overlap(region)
            if part.pixels:
                view = part.of(done, region)
                view[...] = self._faded(view, part.of(mask, corner))
        return image.with_pixels(done)

    def _faded(self, part: NDArray[Any], keep: NDArray[np.float32]) -> NDArray[Any]:
        if self.background is None:
            faded = part.copy()
            faded[..., 3] = fit_depth(part[..., 3] * keep, part.dtype)
            return faded
        samples = channels_of_color(self.background, part.dtype)[: 1 if part.ndim == 2 else 3]
        color = np.array(samples, np.float32).reshape(1, 1, -1)
        return over(color, (1 - keep)[..., np.newaxis], part)


def _corner(radius: float) -> NDArray[np.float32]:
    """How much of each pixel of the upper left corner stays, from 0 to 1: by the distance of its center to the arc."""
    off = radius - (np.arange(max(1, int(radius)), dtype=np.float32) + 0.5)
    return np.clip(radius - np.hypot(off[:, np.newaxis], off) + 0.5, 0, 1)


def _with_alpha(image: Image) -> Image:
    """As RGBA, opaque where it had no alpha."""
    if image.has_alpha:
        return image
    gray = image.channels == 1
    pixels = cv2.cvtColor(image.pixels, cv2.COLOR_GRAY2RGBA if gray else cv2.COLOR_RGB2RGBA)
    return Image(pixels, None if gray else image.icc)
