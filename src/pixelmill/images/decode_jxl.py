"""JPEG XL bytes to pixels by libjxl, through imagecodecs (an extra). The first frame of an animation.

libjxl applies the orientation. Samples of 9 to 16 bits come as ``uint16``, float ones as ``float32``. A profile that is
embedded in the codestream is read by pylibjxl, of the same extra: imagecodecs gives none, and pylibjxl no more than 8
bits a sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import UnsupportedFormat
from pixelmill.images import color, extras
from pixelmill.images.formats import JXL, Data
from pixelmill.images.header import MAX_ICC_BYTES, Header, JxlFacts, corrupt
from pixelmill.images.image import Need
from pixelmill.images.samples import spread_gray, straight, stretch

_HUNGER = 24
"""Bytes a pixel at the peak of a decode; the library calls it damage when it gets no memory."""


def read(data: Data, header: Header, need: Need) -> tuple[NDArray[Any], bytes | None]:
    """Pixels, upright, in sRGB; deep samples keep a profile that is not sRGB.

    libjxl could leave out detail, but no wrapper at hand lets it.
    """
    facts, size = header.facts, header.info.stored_size
    assert isinstance(facts, JxlFacts)
    library = extras.to_read(JXL)
    whole = bytes(data)
    np.empty(size.pixels * _HUNGER, np.uint8)  # MemoryError here names the reason
    try:
        pixels = library.jpegxl_decode(whole, index=0, numthreads=1)  # the pool runs a process a core
    except (RuntimeError, ValueError) as error:
        corrupt("JPEG XL", f"its pixels can't be unpacked ({error})")
    if pixels.shape[:2] != (size.height, size.width) or pixels.ndim > 3 or (pixels.ndim == 3 and pixels.shape[2] > 4):
        raise UnsupportedFormat(
            "JPEG XL with channels beside color and transparency is not read. Convert the file to PNG.", format=JXL.name
        )
    profile = _embedded(whole) if facts.embedded else facts.profile
    return _plain(pixels, profile, header.info.depth, associated=facts.associated, keep=need.icc)


def _embedded(data: bytes) -> bytes | None:
    library = extras.to_read(JXL, "pylibjxl")
    try:
        with library.JXL(threads=1, pool_size=1) as codec:
            _, metadata = codec.decode(data, metadata=True)
    except RuntimeError as error:
        corrupt("JPEG XL", f"its profile can't be unpacked ({error})")
    profile = metadata.get("icc")
    return bytes(profile) if profile and len(profile) <= MAX_ICC_BYTES else None


def _plain(
    pixels: NDArray[Any], profile: bytes | None, depth: int, *, associated: bool, keep: bool
) -> tuple[NDArray[Any], bytes | None]:
    space: color.Space = "gray" if pixels.ndim == 2 or pixels.shape[2] < 3 else "rgb"
    if pixels.dtype.kind == "f":
        pixels = pixels.astype(np.float32, copy=False)
    elif depth not in (8, 16):
        pixels = stretch(pixels, depth)
    if pixels.ndim == 3 and pixels.shape[2] < 3:
        pixels = spread_gray(pixels)
    if associated and pixels.shape[-1] == 4:
        pixels = straight(pixels)
    if pixels.dtype == np.uint8:
        return color.managed(np.ascontiguousarray(pixels), profile, space, keep=keep)
    fits = space == "rgb" or pixels.ndim == 2
    return pixels, color.profile_kept(profile, space, keep=keep) if fits else None
