"""The sizes a JPEG can be decoded at, and how much of the picture such a decode covers.

Arithmetic only, shared by decoder and planner. libjpeg-turbo can scale while decoding by M/8; 1/8, 1/4, 3/8, 1/2 and 1
are worth it (``bench/codecs/settings.py``): 3/8 decodes as fast as 4/8 and leaves 44 % fewer pixels to resample, while
5/8 to 7/8 cost more than a full decode, because only powers of two have vector code.

A scaled decode rounds its size up: 997 rows at 1/2 become 499 that stand for 498.5. Who resamples such an image must
map the 498.5 rows that are real, or the result is shifted by up to half a pixel (5 to 16 dB in PSNR); :func:`extent`
tells.
"""

from __future__ import annotations

from pixelmill.images.image import Size

EIGHTHS = (1, 2, 3, 4, 8)
"""Scales in eighths, smallest first."""

SMALLEST_SIDE = 16
"""Images with a shorter side are decoded whole: nothing to win, and their scaled sizes would not be distinct."""


def scaled(full: Size, eighths: int) -> Size:
    """The size of a decode at ``eighths``/8: rounded up, as libjpeg does."""
    return Size(-(-full.width * eighths // 8), -(-full.height * eighths // 8))


def pick_eighths(full: Size, least: Size | None) -> int:
    """The smallest scale, in eighths, whose size still covers ``least`` (None: everything)."""
    if least is None or min(full) < SMALLEST_SIDE:
        return 8
    for eighths in EIGHTHS[:-1]:
        size = scaled(full, eighths)
        if size.width >= least.width and size.height >= least.height:
            return eighths
    return 8


def extent(full: Size, got: Size) -> tuple[float, float]:
    """Width and height, in pixels of ``got``, that the picture of nominal size ``full`` really covers.

    ``got`` is the size of an image that a decoder handed over for a picture of size ``full``. Where it is no scaled
    size of ``full``, it is taken as it is.
    """
    if min(full) >= SMALLEST_SIDE:
        for eighths in EIGHTHS[:-1]:
            if scaled(full, eighths) == got:
                return full.width * eighths / 8, full.height * eighths / 8
    return float(got.width), float(got.height)
