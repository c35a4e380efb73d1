"""The values that stand for pixels: :class:`Image`, :class:`Size`, :class:`ImageInfo`, :class:`Need`.

Plain data, no I/O. An image is RGB(A) or gray, never BGR: OpenCV's order lives only inside the call that needs it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]
"""``H×W`` (gray) or ``H×W×C`` with C = 3 (RGB) or 4 (RGBA, straight alpha). float32 runs from 0 to 1."""


class Size(NamedTuple):
    """Width and height in pixels, orientation applied."""

    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """Pixels with what must travel beside them.

    ``pixels``: ``uint8``, ``uint16`` or ``float32``; ``H×W`` or ``H×W×3`` or ``H×W×4``; orientation
    applied, sRGB unless ``icc`` holds another profile. Operations never write into ``pixels`` of their input.
    """

    pixels: Pixels
    icc: bytes | None = None

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if dtype not in (np.uint8, np.uint16, np.float32):
            raise TypeError(f"an Image holds uint8, uint16 or float32, not {dtype}")
        if not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))) or 0 in shape:
            raise ValueError(f"an Image is H×W, H×W×3 or H×W×4 and not empty, got shape {shape}")

    @property
    def size(self) -> Size:
        """Width and height."""
        return Size(int(self.pixels.shape[1]), int(self.pixels.shape[0]))

    @property
    def channels(self) -> int:
        """1 (gray), 3 (RGB) or 4 (RGBA)."""
        return 1 if self.pixels.ndim == 2 else int(self.pixels.shape[2])

    @property
    def has_alpha(self) -> bool:
        """True for RGBA."""
        return self.channels == 4

    def with_pixels(self, pixels: NDArray[Any]) -> Image:
        """The same image with other pixels."""
        return replace(self, pixels=pixels)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the header says, read without decoding pixels.

    ``size`` has the orientation applied; ``stored_size`` is as in the file. ``orientation`` is EXIF's 1 to 8.
    ``mode`` is one of gray, rgb, rgba, cmyk, palette; ``depth`` is bits a sample.
    """

    format: str
    media_type: str
    size: Size
    stored_size: Size
    mode: str
    depth: int = 8
    has_alpha: bool = False
    orientation: int = 1
    frames: int = 1
    has_icc: bool = False
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Need:
    """What a pipeline really needs of a file.

    ``color`` False: luma is enough. ``least`` is the smallest size that still serves (orientation
    applied); None means every pixel. A decoder may always give more than is needed. ``icc`` True: samples keep the
    numbers of the file's profile, which comes with them, where it is one of gray or of RGB.
    """

    color: bool = True
    least: Size | None = None
    icc: bool = False


EVERYTHING = Need()
"""All pixels, in color."""
