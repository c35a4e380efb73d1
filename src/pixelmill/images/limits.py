"""Limits on what is decoded, checked on the header before pixels are allocated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from pixelmill.errors import LimitExceeded
from pixelmill.images.image import ImageInfo, Size


@dataclass(frozen=True, slots=True)
class _OfImages:
    """What limits of whole images and of those in tiles have in common."""

    max_bytes: int
    max_pixels: int
    max_side: int

    def lowered(self, max_bytes: int | None = None, max_pixels: int | None = None, max_side: int | None = None) -> Self:
        """These, and each that is given where it is smaller."""
        return replace(
            self,
            max_bytes=self.max_bytes if max_bytes is None else min(self.max_bytes, max_bytes),
            max_pixels=self.max_pixels if max_pixels is None else min(self.max_pixels, max_pixels),
            max_side=self.max_side if max_side is None else min(self.max_side, max_side),
        )


@dataclass(frozen=True, slots=True)
class Limits(_OfImages):
    """Bounds for whole images. Pixels count all frames of an animation."""

    max_bytes: int = 100_000_000
    max_pixels: int = 100_000_000
    max_side: int = 16_384

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


@dataclass(frozen=True, slots=True)
class TiledLimits(_OfImages):
    """Bounds for images that are cut into tiles and never held whole, and of the seconds that such a run may take."""

    timeout_s: float

    def check_bytes(self, count: int) -> None:
        """Raise :class:`LimitExceeded` if a file of ``count`` bytes is too large to be run in tiles too."""
        if count > self.max_bytes:
            raise _exceeded("bytes", count, self.max_bytes, "PIXELMILL_TILED_MAX_BYTES")


@dataclass(frozen=True, slots=True)
class RegionLimits:
    """Bounds for images that are read by regions: of the picture, and of what has to be in memory at once.

    ``max_unit_bytes`` is of the pixels of one tile or strip, or of the whole of what can't be decoded in part (an
    interlaced PNG, a progressive JPEG).
    """

    max_pixels: int = 100_000_000_000
    max_side: int = 1_000_000
    max_unit_bytes: int = 256 << 20

    def check_size(self, size: Size) -> None:
        """Raise :class:`LimitExceeded` for a picture of more pixels, or pixels a side."""
        for what, value, maximum in (
            ("pixels a side", max(size), self.max_side),
            ("pixels", size.pixels, self.max_pixels),
        ):
            if value > maximum:
                raise LimitExceeded(
                    f"The image has {value:,} {what}; in tiles, the limit is {maximum:,}. Use a smaller image.",
                    limit=what,
                    value=value,
                    maximum=maximum,
                )

    def check_unit(self, value: int, what: str) -> None:
        """Raise :class:`LimitExceeded` for ``value`` bytes of ``what`` that would be in memory at once."""
        if value > self.max_unit_bytes:
            raise LimitExceeded(
                f"{what} takes {value:,} bytes in memory at once; the limit is {self.max_unit_bytes:,}. Convert the "
                "file to a TIFF with tiles.",
                limit="bytes at once",
                value=value,
                maximum=self.max_unit_bytes,
            )


def _exceeded(what: str, value: int, maximum: int, setting: str) -> LimitExceeded:
    return LimitExceeded(
        f"The image has {value:,} {what}; the limit is {maximum:,}. "
        f"Use a smaller image, or raise the limit with {setting}.",
        limit=what,
        value=value,
        maximum=maximum,
    )
