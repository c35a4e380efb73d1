"""JPEG bytes to pixels, by libjpeg-turbo (simplejpeg): scaled while decoding, and luma alone, where that is enough.

A file that ends early or whose entropy-coded data is damaged is refused, never filled up with gray. Odd sampling
factors that the TurboJPEG interface does not know go through Pillow.
"""

from __future__ import annotations

import io
import re
from typing import NoReturn

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from pixelmill.errors import CorruptImage, LimitExceeded, OutOfMemory, UnsupportedFormat
from pixelmill.images import color, jpeg_header
from pixelmill.images.formats import Data
from pixelmill.images.header import Header, JpegFacts, corrupt
from pixelmill.images.image import Need, Size
from pixelmill.images.orientation import as_stored
from pixelmill.images.scales import pick_eighths, scaled

_READ_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})  # baseline, extended, progressive; the last two arithmetic
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF, 0xF7})
_MAX_SCANS = 500  # of a progressive file; each costs a pass over the picture, real ones have about ten
_SPACES: dict[str, color.Space] = {"gray": "gray", "ycbcr": "rgb", "rgb": "rgb", "cmyk": "cmyk", "ycck": "cmyk"}
_TARGETS = {"gray": "GRAY", "rgb": "RGB", "cmyk": "CMYK"}


def read(data: Data, header: Header, need: Need) -> tuple[NDArray[np.uint8], bytes | None]:
    """Pixels as stored (not turned), in sRGB, at the smallest scale that still serves; and a profile that is kept."""
    facts, info = header.facts, header.info
    assert isinstance(facts, JpegFacts)
    _refuse_unread(data, header, facts)
    space = _SPACES[facts.color]
    profile = jpeg_header.profile(data, facts)
    # Luma is the gray of sRGB only where the samples are sRGB: right color comes before the short cut.
    luma = not need.color and facts.color == "ycbcr" and color.is_srgb(profile, "rgb")
    target = "GRAY" if luma else _TARGETS[space]
    eighths = pick_eighths(info.stored_size, as_stored(need.least, info.orientation))
    pixels = _decode(data, target, header, eighths)
    if luma:
        return pixels, None
    if space == "cmyk" and facts.adobe:
        pixels = np.invert(pixels)  # Adobe stores light, not ink
    return color.managed(pixels, profile, space, keep=need.icc)


def _refuse_unread(data: Data, header: Header, facts: JpegFacts) -> None:
    depth = header.info.depth
    if facts.frame in _LOSSLESS:
        raise UnsupportedFormat("Lossless JPEG is not read. Convert the file to PNG, or to common JPEG.", format="jpeg")
    if depth != 8:
        raise UnsupportedFormat(
            f"JPEG with {depth} bits a sample is not read. Convert the file to PNG, or to JPEG with 8.", format="jpeg"
        )
    if facts.frame not in _READ_FRAMES:
        raise UnsupportedFormat("Hierarchical JPEG is not read. Convert the file to common JPEG.", format="jpeg")
    if facts.color not in _SPACES:
        raise UnsupportedFormat(
            f"JPEG with {facts.components} color components is not read. Convert the file to RGB.", format="jpeg"
        )
    if facts.frame in (0xC2, 0xCA):
        scans = bytes(data).count(b"\xff\xda", facts.scan_at)
        if scans > _MAX_SCANS:
            raise LimitExceeded(
                f"The JPEG file has {scans:,} progressive scans; the limit is {_MAX_SCANS}. Save it again.",
                limit="scans",
                value=scans,
                maximum=_MAX_SCANS,
            )


def _decode(data: Data, target: str, header: Header, eighths: int) -> NDArray[np.uint8]:
    size = scaled(header.info.stored_size, eighths)
    try:
        pixels = _strictly(data, target, size)
    except ValueError as error:
        if "subsampling" in str(error):
            return _pillow(data, target, header)
        _translate(str(error))
    if pixels.shape[:2] != (size.height, size.width):
        corrupt("JPEG", "its picture is not as large as its header says")
    return pixels[..., 0] if target == "GRAY" else pixels


def _strictly(data: Data, target: str, size: Size) -> NDArray[np.uint8]:
    """Every warning of libjpeg is an error, but for two that leave the picture whole."""
    try:
        return _turbo(data, target, size)
    except ValueError as error:
        text = str(error)
        if "ICC" in text:
            return _turbo(jpeg_header.without_metadata(data), target, size)
        if "extraneous bytes before marker 0xd9" in text:
            # Junk between the last row and the end marker: all rows were read without a complaint.
            return _turbo(data, target, size, strict=False)
        raise


def _turbo(data: Data, target: str, size: Size, *, strict: bool = True) -> NDArray[np.uint8]:
    pixels = simplejpeg.decode_jpeg(data, target, min_height=size.height, min_width=size.width, strict=strict)
    return np.asarray(pixels, dtype=np.uint8)


def _translate(text: str) -> NoReturn:
    """An error of libjpeg-turbo as one of ours."""
    if "memory" in text.lower():
        raise OutOfMemory("There is not enough memory to decode this JPEG.")
    if "Premature end" in text:
        corrupt("JPEG", "it ends before the picture does")
    if re.search(r"[Uu]nsupported|[Nn]ot supported|not implemented", text):
        raise UnsupportedFormat(f"This kind of JPEG is not read ({text}). Save it as common JPEG.", format="jpeg")
    corrupt("JPEG", text)


def _pillow(data: Data, target: str, header: Header) -> NDArray[np.uint8]:
    """The slow way, at full size, for sampling factors that the TurboJPEG interface refuses."""
    from PIL.JpegImagePlugin import JpegImageFile

    mode = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}[target]
    try:
        with JpegImageFile(io.BytesIO(jpeg_header.without_metadata(data))) as picture:
            if picture.size != header.info.stored_size:
                corrupt("JPEG", "its picture is not as large as its header says")
            if mode == "CMYK":
                picture.load()
                return np.invert(np.array(picture, dtype=np.uint8))  # Pillow has inverted it already, see read()
            return np.array(picture.convert(mode), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, TypeError) as error:
        raise CorruptImage(f"The JPEG file is damaged: {error}. Get a fresh copy of it.", format="jpeg") from error
