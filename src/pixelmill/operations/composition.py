"""Operations that put images together: watermark."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixelmill.errors import NotApplicable
from pixelmill.images.image import Image, Need, Pixels, Size
from pixelmill.images.regions import Region
from pixelmill.operations.blending import Blend, over
from pixelmill.operations.fit import placed
from pixelmill.operations.operation import Facts, Step
from pixelmill.operations.parameters import ImageParameter, Position
from pixelmill.operations.passes import Array, Form, Map, Pass, Place
from pixelmill.operations.pixels import filtered, full_scale
from pixelmill.operations.resample import resample
from pixelmill.operations.second_image import WithSecondImage

_BAND = 1 << 16
"""Pixels that are worked on at a time where the whole image is blended."""


class Watermark(WithSecondImage):
    """Lay another image over this one, with its transparency.

    The mark is scaled to a part of this image's width, and never larger than fits between the margins. A mark with
    color makes a gray image RGB. Tiles repeat it all over the image, from where the one mark would be, the margin
    apart.
    """

    name: ClassVar[str] = "watermark"
    family: ClassVar[str] = "composition"
    summary: ClassVar[str] = "Lay another image over this one"
    example: ClassVar[str] = "logo.png"

    image: ImageParameter = Field(description="The mark: a path, a URI, or sha256:HEX of stored bytes")
    position: Position = Field(default="bottom-right", description="Where the mark is laid")
    opacity: float = Field(default=0.5, ge=0, le=1, description="1 is opaque, 0 invisible")
    scale: float = Field(
        default=0.25, gt=0, le=1, description="Width of the mark", json_schema_extra={"unit": "of the image's width"}
    )
    margin: float = Field(
        default=0.02,
        ge=0,
        le=0.4,
        description="Distance from the edges",
        json_schema_extra={"unit": "of the image's shorter side"},
    )
    tile: bool = Field(default=False, description="Repeat the mark over the whole image")
    blend: Blend = Field(default="normal", description="How the mark's colors mix with those below")

    def facts(self) -> Facts:
        """A copy, and blending below the mark."""
        share = 1.0 if self.tile else self.scale**2
        cost = 8.0 if self.blend == "normal" else 18.0
        return Facts("pointwise", "self-exact", ns_per_pixel=0.1 + cost * share, memory_factor=3.0)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel; normal blending is linear, so luma is enough if it is afterwards."""
        del size
        return Need(color=after.color or self.blend != "normal")

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Blend what a tile sees of the mark."""
        mark = self._mark()
        facts = self.facts()
        channels = 3 if form.channels == 1 and mark.channels > 1 else form.channels
        scaled = _scaled_mark(mark.pixels, self._place(form.size, mark.size)[0], form.dtype, color=channels > 1)

        def draw(pixels: Array, place: Place) -> Array:
            return self._marked(pixels, scaled, place.size, place.extended)

        return (
            Map(
                self.name,
                draw,
                channels=channels,
                ns_per_pixel=facts.ns_per_pixel,
                memory_factor=facts.memory_factor,
            ),
        )

    def _mark(self) -> Image:
        if isinstance(self.image, str):
            raise NotApplicable(f"watermark: {self.image!r} was not loaded.", operation="watermark")
        return self.image

    def apply(self, image: Image) -> Step:
        """Blend; raises :class:`NotApplicable` while the mark is a mere reference."""
        mark = self._mark()
        in_color = image.channels > 1 or mark.channels > 1
        size, _ = self._place(image.size, mark.size)
        scaled = _scaled_mark(mark.pixels, size, image.pixels.dtype, color=in_color)
        result = self._marked(image.pixels, scaled, image.size, Region(0, 0, *image.size))
        return Step(image.with_pixels(result) if result.ndim == image.pixels.ndim else Image(result))

    def _marked(self, pixels: Pixels, scaled: _Scaled, size: Size, region: Region) -> NDArray[Any]:
        """``pixels`` are those of a region of an image of ``size``."""
        color, alpha = scaled
        base: NDArray[Any] = pixels
        if base.ndim == 2 and color.shape[2] > 1:
            base = cv2.cvtColor(base, cv2.COLOR_GRAY2RGB)
        (width, height), (x, y) = self._place(size, self._mark().size)
        result = base.copy()
        if self.tile:
            at = (x - region.left, y - region.top)
            self._lay_tiles(result, color, alpha, at, round(self.margin * min(size)))
            return result
        whole = Region(x, y, width, height)
        part = whole.overlap(region)
        if part.pixels:
            weight = part.of(alpha, whole) * self.opacity
            part.of(result, region)[...] = over(part.of(color, whole), weight, part.of(base, region), self.blend)
        return result

    def _lay_tiles(
        self, result: NDArray[Any], color: NDArray[Any], alpha: NDArray[Any], corner: tuple[int, int], gap: int
    ) -> None:
        """Blend the mark, over and over, into ``result``, some rows at a time."""
        cell_color = np.pad(color, ((0, gap), (0, gap), (0, 0)))
        cell_alpha = np.pad(alpha, ((0, gap), (0, gap), (0, 0))) * self.opacity
        high, wide = cell_color.shape[:2]
        height, width = result.shape[:2]
        columns = (np.arange(width) - corner[0]) % wide
        step = max(1, _BAND // width)
        for start in range(0, height, step):
            rows = (np.arange(start, min(height, start + step)) - corner[1]) % high
            cells = np.ix_(rows, columns)
            band = np.s_[start : start + step]
            result[band] = over(cell_color[cells], cell_alpha[cells], result[band], self.blend)

    def _place(self, size: Size, mark: Size) -> tuple[Size, tuple[int, int]]:
        """The size of the mark on an image of ``size``, and where its upper left corner lies."""
        margin = round(self.margin * min(size))
        room = Size(max(1, size.width - 2 * margin), max(1, size.height - 2 * margin))
        ratio = min(size.width * self.scale, room.width) / mark.width
        ratio = min(ratio, room.height / mark.height)
        width = min(room.width, max(1, round(mark.width * ratio)))
        height = min(room.height, max(1, round(mark.height * ratio)))
        x, y = placed(size, Size(width, height), self.position, margin)
        return Size(width, height), (max(0, x), max(0, y))


_Scaled: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]


def _scaled_mark(mark: Pixels, size: Size, dtype: np.dtype[Any], *, color: bool) -> _Scaled:
    """Color (``H×W×1``, or ``H×W×3`` where ``color`` is asked for, on the scale of ``dtype``), and alpha (0 to 1)."""
    if (mark.shape[1], mark.shape[0]) != size:
        mark = filtered(mark, lambda pixels: resample(pixels, size, "lanczos"))
    samples = np.clip(mark.astype(np.float32) / full_scale(mark.dtype), 0.0, 1.0)
    if samples.ndim == 2:
        samples = samples[..., np.newaxis]
    alpha = samples[..., 3:] if samples.shape[2] == 4 else np.ones((*samples.shape[:2], 1), np.float32)
    colors = samples[..., :3] * full_scale(dtype)
    if color and colors.shape[2] == 1:
        colors = np.repeat(colors, 3, axis=2)
    return colors, alpha
