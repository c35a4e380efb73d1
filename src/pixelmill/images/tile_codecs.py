"""Tiles of samples to bytes and back, as TIFF packs them: deflate, LZW, Zstandard, none; and both predictors.

Deflate is zlib's, or libdeflate's where imagecodecs (an extra) is installed: over twice as fast, the same format.
Reentrant; the libraries release the GIL. Sources: TIFF 6.0, section 14; Adobe's TIFF technical note 3 (floats).
"""

from __future__ import annotations

import functools
import importlib
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import MissingExtra

NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, ZSTD = 1, 5, 7, 8, 32946, 50000
"""Compressions by their number in a TIFF."""
PLAIN, HORIZONTAL, FLOATING = 1, 2, 3
"""Predictors."""


class Unpackable(Exception):
    """The bytes are not what they should be, or not as many."""


@functools.cache
def library() -> Any:
    """The module imagecodecs, or None where it is not installed."""
    try:
        return importlib.import_module("imagecodecs")
    except ImportError:
        return None


def unpacks(compression: int) -> bool:
    """Whether :func:`unpack` does here."""
    return compression in (NONE, DEFLATE, OLD_DEFLATE) or (compression in (LZW, ZSTD) and library() is not None)


def unpack(data: bytes, compression: int, length: int) -> bytes | bytearray:
    """The first ``length`` bytes of what was packed; raises :class:`Unpackable` where there are fewer.

    No more than that is unpacked, whatever the bytes hold.
    """
    found: bytes | bytearray = data
    if compression in (DEFLATE, OLD_DEFLATE):
        found = _inflate(data, length)
    elif compression != NONE:
        codecs = library()
        unpacker = codecs.lzw_decode if compression == LZW else codecs.zstd_decode
        try:
            found = unpacker(data, out=bytearray(length))
        except (RuntimeError, ValueError, TypeError) as error:
            raise Unpackable(str(error)) from error
    if len(found) < length:
        raise Unpackable("it ends too early")
    return found if len(found) == length else found[:length]


def _inflate(data: bytes, length: int) -> bytes | bytearray:
    codecs = library()
    if codecs is not None:
        try:
            found: bytes | bytearray = codecs.deflate_decode(data, out=bytearray(length))
        except (RuntimeError, ValueError, TypeError):
            pass  # more than expected, or broken: zlib tells which
        else:
            return found
    try:
        return zlib.decompressobj().decompress(data, length)
    except zlib.error as error:
        raise Unpackable(str(error)) from error


def pack(data: bytes | memoryview, compression: int, level: int) -> bytes:
    """``data`` packed; ``level`` is that of the library, 1 to 9 for deflate and 1 to 19 for Zstandard."""
    if compression == NONE:
        return bytes(data)
    codecs = library()
    if compression in (DEFLATE, OLD_DEFLATE):
        return zlib.compress(data, level) if codecs is None else bytes(codecs.deflate_encode(data, level))
    if codecs is None:
        name = {LZW: "lzw", ZSTD: "zstd"}.get(compression, str(compression))
        raise MissingExtra(
            f"Packing tiles with {name} needs an extra that is not installed here. Install it: "
            "pip install 'pixelmill[tiles]', or choose deflate.",
            extra="tiles",
        )
    return bytes(codecs.lzw_encode(data) if compression == LZW else codecs.zstd_encode(data, level))


def gzipped(data: bytes, level: int) -> bytes:
    """``data`` as gzip has it, without a time: the same bytes whenever they are made."""
    codecs = library()
    if codecs is not None:
        return bytes(codecs.gzip_encode(data, level))
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def with_differences(tile: NDArray[Any], predictor: int) -> NDArray[Any]:
    """``H×W`` or ``H×W×C`` as a predictor leaves it: of integers the same shape, of floats ``H×bytes``."""
    if predictor == PLAIN:
        return tile
    if predictor == HORIZONTAL:
        out = tile.copy()
        np.subtract(tile[:, 1:], tile[:, :-1], out=out[:, 1:])
        return out
    height, samples = tile.shape[0], tile.shape[2] if tile.ndim == 3 else 1
    big = np.ascontiguousarray(tile, tile.dtype.newbyteorder(">")).view(np.uint8)
    planes = big.reshape(height, -1, tile.dtype.itemsize).transpose(0, 2, 1).reshape(height, -1)
    out = planes.copy()
    np.subtract(planes[:, samples:], planes[:, :-samples], out=out[:, samples:])
    return out


def without_differences(
    data: bytes | bytearray, shape: tuple[int, ...], dtype: np.dtype[Any], predictor: int
) -> NDArray[Any]:
    """The tile of that shape that ``with_differences`` was made of, in this machine's byte order.

    It may be a view of ``data``.
    """
    native = dtype.newbyteorder("=")
    if predictor == FLOATING:
        height, samples = shape[0], shape[2] if len(shape) == 3 else 1
        rows = np.frombuffer(data, np.uint8).reshape(height, -1, samples)
        summed = np.add.accumulate(rows, axis=1, dtype=np.uint8).reshape(height, dtype.itemsize, -1)
        return (
            np.ascontiguousarray(summed.transpose(0, 2, 1)).view(dtype.newbyteorder(">")).astype(native).reshape(shape)
        )
    tile = np.frombuffer(data, dtype).reshape(shape).astype(native, copy=False)
    if predictor == PLAIN:
        return tile
    codecs = library()
    if codecs is not None:
        return np.asarray(codecs.delta_decode(tile, axis=1))
    return np.add.accumulate(tile, axis=1, dtype=native)
