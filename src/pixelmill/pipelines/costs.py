"""What decoding and encoding cost, in CPU time and memory: constants for the planner's estimates.

CPU nanoseconds on one current server core (measured on photographs of 1 to 6 megapixels, one thread, with the codecs of
``images/``); operations state their own costs in ``facts()``. An estimate is good to a factor of about two: how well a
picture compresses and whether a JPEG is progressive is not looked at (such a one takes about twice the time, and 3 to
6 bytes a pixel for its coefficients whatever the scale).
"""

from __future__ import annotations

from pixelmill.images.image import Size

HELD_CANVASES = 4
"""Frames of an animation that live beside the one at work: the canvas, what disposal brings back, the last result."""

OVERHEAD_S = 60e-6
"""CPU seconds of a run beside decoding, operations and encoding."""

_DECODE_BASE = {
    "jpeg": 1.9,
    "png": 0.0,
    "webp": 9.0,
    "avif": 8.6,
    "jxl": 20.0,
    "heic": 42.0,
    "tiff": 0.0,
    "gif": 8.0,
    "bmp": 0.0,
    "pnm": 1.0,
    "ico": 9.0,
    "qoi": 700.0,
    "jpeg2000": 42.0,
    "svg": 30.0,  # of simple drawings; filters cost any amount
}
"""ns a pixel of the file: entropy decoding, which no scale makes cheaper."""
_DECODE_SAMPLE = {"jpeg": 0.45, "png": 9.0, "webp": 0.5, "tiff": 4.0, "bmp": 0.65}
"""ns a sample that comes out."""
_ENCODE_BASE = {
    "jpeg": 1.2,
    "png": 0.0,
    "webp": 75.0,
    "avif": 180.0,
    "jxl": 31.0,
    "tiff": 0.0,
    "gif": 270.0,
    "bmp": 0.0,
    "auto": 90.0,
}
_ENCODE_SAMPLE = {
    "jpeg": 0.45,
    "png": 24.0,
    "webp": 1.0,
    "avif": 0.0,
    "jxl": 0.0,
    "tiff": 8.0,
    "gif": 0.0,
    "bmp": 0.6,
    "auto": 1.5,
}
_DECODE_COPIES = {
    "jpeg": 1.0,
    "png": 2.0,
    "webp": 2.0,
    "avif": 4.0,
    "jxl": 6.0,
    "heic": 4.0,
    "tiff": 4.0,
    "gif": 3.0,
    "bmp": 2.0,
    "pnm": 3.0,
    "ico": 2.0,
    "qoi": 4.0,
    "jpeg2000": 6.0,
    "svg": 4.0,
}
"""Live copies of the pixels at the peak of a decode; one more where a profile is converted or the picture is turned."""

_ENCODE_COPIES = {"jpeg": 3, "png": 3, "webp": 5, "avif": 10, "jxl": 8, "tiff": 5, "gif": 5, "bmp": 4, "auto": 7}


def decode_seconds(fmt: str, full: Size, got: Size, channels: int, sample_bytes: int) -> float:
    """CPU seconds to decode a file of ``full`` pixels to ``got`` ones; 0 for pixels that are there already."""
    base, sample = _DECODE_BASE.get(fmt, 0.0), _DECODE_SAMPLE.get(fmt, 0.0)
    return (full.pixels * base + got.pixels * channels * sample_bytes * sample) * 1e-9


def encode_seconds(fmt: str, size: Size, channels: int, sample_bytes: int) -> float:
    """CPU seconds to encode."""
    return size.pixels * (_ENCODE_BASE[fmt] + channels * sample_bytes * _ENCODE_SAMPLE[fmt]) * 1e-9


def decode_bytes(fmt: str, got: Size, channels: int, sample_bytes: int, *, converts: bool) -> int:
    """Bytes of pixels that live at the peak of a decode."""
    copies = _DECODE_COPIES.get(fmt, 0.0) + converts
    return int(got.pixels * channels * sample_bytes * max(1.0, copies))


def encode_bytes(fmt: str, size: Size, channels: int, sample_bytes: int) -> int:
    """Bytes of pixels and result that live at the peak of an encode: the input, the library's copies, and the file."""
    return _ENCODE_COPIES[fmt] * size.pixels * channels * sample_bytes
