"""Pixels to at most 256 colors and their numbers, as a GIF holds them: still ones, and each frame of an animation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images import palettes

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage


@dataclass(frozen=True, slots=True)
class Indexed:
    """Color numbers ``H×W``, the table (R, G, B, R, …), and the number that is transparent, if one is."""

    indices: NDArray[np.uint8]
    table: bytes
    clear: int | None

    def picture(self) -> PilImage:
        """It for Pillow to write."""
        from PIL import Image as Pil

        made = Pil.fromarray(self.indices)
        made.putpalette(self.table)
        return made

    def compact(self, *, clear: bool) -> Indexed:
        """With a table of its own colors only; with ``clear`` one more is transparent, if there is room."""
        used = np.flatnonzero(np.bincount(self.indices.ravel(), minlength=256))
        numbers = np.zeros(256, np.uint8)
        numbers[used] = np.arange(len(used))
        table = b"".join(self.table[3 * color : 3 * color + 3] for color in used)
        if self.clear is not None:
            return Indexed(numbers[self.indices], table, int(numbers[self.clear]))
        if clear and len(used) < 256:
            return Indexed(numbers[self.indices], table + bytes(3), len(used))
        return Indexed(numbers[self.indices], table, None)


def indexed(pixels: NDArray[np.uint8], colors: int, *, dither: bool) -> Indexed:
    """Gray, RGB or RGBA pixels in the colors that suit them best; less than half opaque ones are transparent.

    Gray keeps its levels where there is room for all of them. Palette and dithering are those of ``palettes.py``.
    """
    if pixels.ndim == 2 and colors == 256:
        return Indexed(pixels, bytes(level for level in range(256) for _ in range(3)), None)
    clear = pixels[..., 3] < 128 if pixels.shape[2:] == (4,) else None
    hides = clear is not None and bool(clear.any())
    rgb = np.ascontiguousarray(pixels[..., :3]) if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    turned = palettes.quantized(np.asarray(rgb, np.uint8), max(1, colors - hides), dither=dither)
    table, indices = bytes(turned.getpalette() or ()), np.array(turned)
    if clear is None or not hides:
        return Indexed(indices, table, None)
    free = len(table) // 3
    indices[clear] = free
    return Indexed(indices, table + bytes(3), free)
