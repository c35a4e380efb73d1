"""Operations that put images together: watermark."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixelmill.errors import NotApplicable
from pixelmill.images.image import Image, Need, Pixels, Size
from pixelmill.operations.blending import Blend, over
from pixelmill.operations.fit import placed
from pixelmill.operations.operation import Facts, Step
from pixelmill.operations.parameters import ImageParameter, Position
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
        return Facts("whole", "self-exact", ns_per_pixel=0.1 + cost * share, memory_factor=3.0)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel; normal blending is linear, so luma is enough if it is afterwards."""
        del size
        return Need(color=after.color or self.blend != "normal")

    def apply(self, image: Image) -> Step:
        """Blend; raises :class:`NotApplicable` while the mark is a mere reference."""
        if isinstance(self.image, str):
            raise NotApplicable(f"watermark: {self.image!r} was not loaded.", operation="watermark")
        base: NDArray[Any] = image.pixels
        if base.ndim == 2 and self.image.channels > 1:
            base = cv2.cvtColor(base, cv2.COLOR_GRAY2RGB)
        mark_size, (x, y) = self._place(image.size, self.image.size)
        color, alpha = _scaled_mark(self.image.pixels, mark_size, base)
        result = base.copy()
        part = np.s_[y : y + mark_size.height, x : x + mark_size.width]
        if self.tile:
            self._lay_tiles(result, color, alpha, (x, y), round(self.margin * min(image.size)))
        else:
            result[part] = over(color, alpha * self.opacity, base[part], self.blend)
        return Step(image.with_pixels(result) if base.ndim == image.pixels.ndim else Image(result))

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


def _scaled_mark(mark: Pixels, size: Size, base: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Color (``H×W×1`` or ``H×W×3``, on the scale and with the color channels of ``base``), and alpha (0 to 1)."""
    if (mark.shape[1], mark.shape[0]) != size:
        mark = filtered(mark, lambda pixels: resample(pixels, size, "lanczos"))
    samples = np.clip(mark.astype(np.float32) / full_scale(mark.dtype), 0.0, 1.0)
    if samples.ndim == 2:
        samples = samples[..., np.newaxis]
    alpha = samples[..., 3:] if samples.shape[2] == 4 else np.ones((*samples.shape[:2], 1), np.float32)
    color = samples[..., :3] * full_scale(base.dtype)
    if base.ndim == 3 and color.shape[2] == 1:
        color = np.repeat(color, 3, axis=2)
    return color, alpha
