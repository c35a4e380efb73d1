"""TIFF bytes to pixels: the first page, by Pillow's libtiff; color of 16 bits or float by OpenCV's.

Pillow cuts deep color to 8 bits; OpenCV keeps it, but mixes up deep planes that are stored apart: such planes are read
one by one, as gray pictures. Both see the page's own tags only (see ``tiff_header.rebuilt``).
"""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import UnsupportedFormat
from pixelmill.images import color, tiff_header
from pixelmill.images.formats import Data
from pixelmill.images.header import Header, TiffFacts, corrupt
from pixelmill.images.image import Need
from pixelmill.images.pillow_files import open_lazily, to_pixels, translated

_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1
_APART, _FLOAT, _NOT_PACKED = 2, 3, 1
_ASSOCIATED = 1
_quiet = threading.Lock()


def read(data: Data, header: Header, need: Need) -> tuple[NDArray[Any], bytes | None]:
    """Pixels as stored (not turned), in sRGB; 16-bit and float samples keep their numbers and their profile."""
    facts = header.facts
    assert isinstance(facts, TiffFacts)
    profile = tiff_header.profile(data, facts)
    if _is_swapped_twice(data, facts):
        pixels, icc = _by_cv2(tiff_header.rebuilt(data, facts)), color.profile_kept(profile, "gray", keep=need.icc)
    elif not tiff_header.is_deep_color(data, facts):
        pixels, icc = _by_pillow(data, facts, profile, keep=need.icc)
    else:
        apart = tiff_header.number(data, facts, tiff_header.PLANAR, 1) == _APART
        pixels = _planes(data, facts) if apart else _by_cv2(tiff_header.rebuilt(data, facts))
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            pixels = _straight(pixels, tiff_header.number(data, facts, tiff_header.EXTRA, 2))
        icc = color.profile_kept(profile, "rgb", keep=need.icc)
    if pixels.shape[:2] != (header.info.stored_size.height, header.info.stored_size.width):
        corrupt("TIFF", "its picture is not as large as its header says")
    return pixels, icc


def _is_swapped_twice(data: Data, facts: TiffFacts) -> bool:
    """Gray floats, packed, in the other byte order: libtiff turns their bytes, and then Pillow does so again."""
    return (
        facts.order == ">"
        and tiff_header.number(data, facts, tiff_header.SAMPLES, 1) == 1
        and tiff_header.number(data, facts, tiff_header.BITS, 1) == 32
        and tiff_header.number(data, facts, tiff_header.SAMPLE_FORMAT, 1) == _FLOAT
        and tiff_header.number(data, facts, tiff_header.COMPRESSION, 1) != _NOT_PACKED
    )


def _by_pillow(data: Data, facts: TiffFacts, profile: bytes | None, *, keep: bool) -> tuple[NDArray[Any], bytes | None]:
    with translated("tiff"), open_lazily(tiff_header.rebuilt(data, facts), "tiff") as picture:
        pixels, icc = to_pixels(picture, profile, keep=keep)
    if pixels.dtype == np.uint16:
        if tiff_header.number(data, facts, tiff_header.BITS, 16) == 12:
            pixels = pixels << 4 | pixels >> 8
        if tiff_header.number(data, facts, tiff_header.PHOTOMETRIC, _BLACK_IS_ZERO) == _WHITE_IS_ZERO:
            pixels = np.invert(pixels)
    return pixels, icc


def _planes(data: Data, facts: TiffFacts) -> NDArray[Any]:
    """Planes stored apart, each decoded as a gray picture of its own."""
    samples = tiff_header.number(data, facts, tiff_header.SAMPLES, 1)
    bits = tiff_header.number(data, facts, tiff_header.BITS, 1)
    kind = tiff_header.number(data, facts, tiff_header.SAMPLE_FORMAT, 1)
    places = {
        tag: tiff_header.values(data, facts, tag)
        for tag in (
            tiff_header.STRIP_OFFSETS,
            tiff_header.STRIP_SIZES,
            tiff_header.TILE_OFFSETS,
            tiff_header.TILE_SIZES,
        )
        if tag in facts.tags
    }
    if any(not found or len(found) % samples for found in places.values()):
        corrupt("TIFF", "its planes are not of the same length")
    single = {
        tiff_header.SAMPLES: (1,),
        tiff_header.BITS: (bits,),
        tiff_header.SAMPLE_FORMAT: (kind,),
        tiff_header.PHOTOMETRIC: (_BLACK_IS_ZERO,),
        tiff_header.PLANAR: (1,),
    }
    bare = TiffFacts(facts.order, facts.big, {tag: at for tag, at in facts.tags.items() if tag != tiff_header.EXTRA})
    planes = []
    for plane in range(samples):
        own = {
            tag: found[plane * len(found) // samples : (plane + 1) * len(found) // samples]
            for tag, found in places.items()
        }
        with translated("tiff"), open_lazily(tiff_header.rebuilt(data, bare, {**single, **own}), "tiff") as picture:
            planes.append(to_pixels(picture, None)[0])
    return np.dstack(planes)


def _by_cv2(page: bytes) -> NDArray[Any]:
    """OpenCV writes what libtiff complains about to its log, which is silent meanwhile."""
    logging = cv2.utils.logging
    with _quiet:
        level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        try:
            pixels = cv2.imdecode(np.frombuffer(page, np.uint8), cv2.IMREAD_UNCHANGED)
        finally:
            logging.setLogLevel(level)
    if pixels is None:
        corrupt("TIFF", "its pixels can't be unpacked")
    if pixels.ndim == 2 and pixels.dtype == np.float32:
        return np.asarray(pixels)
    if pixels.ndim != 3 or pixels.dtype not in (np.uint16, np.float32):
        raise UnsupportedFormat("This kind of deep TIFF is not read. Convert the file to PNG.", format="tiff")
    code = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return np.asarray(cv2.cvtColor(pixels, code))


def _straight(pixels: NDArray[Any], extra: int) -> NDArray[Any]:
    """Straight alpha: color that was multiplied by it is divided; a fourth sample of no meaning is dropped."""
    if extra == _ASSOCIATED:
        full = 65_535 if pixels.dtype == np.uint16 else 1
        alpha = pixels[..., 3:].astype(np.float64) / full
        plain = np.divide(pixels[..., :3], alpha, out=np.zeros(pixels[..., :3].shape), where=alpha > 0)
        if full > 1:
            plain = np.rint(np.clip(plain, 0, full))
        return np.dstack((plain.astype(pixels.dtype), pixels[..., 3]))
    return pixels
