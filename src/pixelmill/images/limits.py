"""Limits on what is decoded, checked on the header before pixels are allocated."""

from __future__ import annotations

from dataclasses import dataclass

from pixelmill.errors import LimitExceeded
from pixelmill.images.image import ImageInfo


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for whole images. Pixels count all frames of an animation."""

    max_bytes: int = 100_000_000
    max_pixels: int = 100_000_000
    max_side: int = 16_384

    def lowered(
        self, max_bytes: int | None = None, max_pixels: int | None = None, max_side: int | None = None
    ) -> Limits:
        """These, and each that is given where it is smaller."""
        return Limits(
            max_bytes=self.max_bytes if max_bytes is None else min(self.max_bytes, max_bytes),
            max_pixels=self.max_pixels if max_pixels is None else min(self.max_pixels, max_pixels),
            max_side=self.max_side if max_side is None else min(self.max_side, max_side),
        )

    def check_bytes(self, count: int) -> None:
        """Raise :class:`LimitExceeded` if a file of ``count`` bytes is too large."""
        if count > self.max_bytes:
            raise _exceeded("bytes", count, self.max_bytes, "PIXELMILL_MAX_BYTES")

    def check_info(self, info: ImageInfo) -> None:
        """Raise :class:`LimitExceeded` if the header names more pixels than allowed."""
        side = max(info.stored_size)
        if side > self.max_side:
            raise _exceeded("pixels a side", side, self.max_side, "PIXELMILL_MAX_SIDE")
        pixels = info.size.pixels * max(1, info.frames)
        if pixels > self.max_pixels:
            raise _exceeded("pixels in all frames", pixels, self.max_pixels, "PIXELMILL_MAX_PIXELS")


def _exceeded(what: str, value: int, maximum: int, setting: str) -> LimitExceeded:
    return LimitExceeded(
        f"The image has {value:,} {what}; the limit is {maximum:,}. "
        f"Use a smaller image, or raise the limit with {setting}.",
        limit=what,
        value=value,
        maximum=maximum,
    )
