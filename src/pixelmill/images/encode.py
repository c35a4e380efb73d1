"""An :class:`Image` to the bytes of a file.

Owns which library writes which format, what a format can't hold (depth, transparency, size), and embedding a profile.
No other metadata is ever written. Reentrant; the codecs release the GIL.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from pixelmill.errors import NotApplicable, OutOfMemory, RunError
from pixelmill.images.encoders import EncodeOptions, JpegOptions, PngOptions, WebpOptions, options_for
from pixelmill.images.formats import Format, format_named
from pixelmill.images.image import Image
from pixelmill.images.samples import color_of_hex, flatten, to_uint8, to_uint16

_Writer: TypeAlias = Callable[[Image, Any], bytes]

_ICC_PART = 65_519  # bytes of a profile in one APP2 segment: 65,535 less length, name, number and count
_SAMPLING = {
    "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "422": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}


def encode(image: Image, fmt: str, options: EncodeOptions | Mapping[str, Any] | None = None) -> bytes:
    """The image as a file of format ``fmt`` (a name or alias).

    Samples are rounded to 8 bits where the format has no more (JPEG, WebP); ``float32`` goes to 16 bits in PNG.
    Transparent pixels are laid over ``background`` in JPEG. ``image.icc`` is embedded; it belongs to the pixels.

    Raises:
        UnknownOperation: no such format.
        InvalidParameter: options that don't fit the format.
        NotApplicable: the image is larger than the format can hold.
        OutOfMemory, RunError: the library could not write it.
    """
    target = format_named(fmt)
    chosen = options_for(target.name, options)
    _check_size(image, target)
    try:
        return _WRITERS[target.name](image, chosen)
    except MemoryError as error:
        raise _out_of_memory(image, target) from error
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise _out_of_memory(image, target) from error
        raise RunError(f"The image could not be written as {target.name}: {error.err or error}.") from error
    except (OSError, ValueError) as error:
        raise RunError(f"The image could not be written as {target.name}: {error}.") from error


def _check_size(image: Image, target: Format) -> None:
    side = max(image.size)
    if side > target.max_side:
        raise NotApplicable(
            f"{target.name} holds at most {target.max_side:,} pixels a side; the image has "
            f"{image.size.width:,}×{image.size.height:,}. Resize it, or write png.",
            operation="format",
            maximum=target.max_side,
        )


def _out_of_memory(image: Image, target: Format) -> OutOfMemory:
    size = image.size
    return OutOfMemory(f"There is not enough memory to write {size.width:,}×{size.height:,} pixels as {target.name}.")


def _jpeg(image: Image, options: JpegOptions) -> bytes:
    pixels = to_uint8(image.pixels)
    if image.has_alpha:
        pixels = flatten(pixels, color_of_hex(options.background))
    pixels = np.ascontiguousarray(pixels)
    if options.progressive:
        flags = [cv2.IMWRITE_JPEG_QUALITY, options.quality, cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
        flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _SAMPLING[options.subsampling]]
        body = _cv2_encode(".jpg", pixels, flags)
    elif pixels.ndim == 2:
        body = simplejpeg.encode_jpeg(pixels[..., np.newaxis], options.quality, "GRAY", "Gray")
    else:
        body = simplejpeg.encode_jpeg(pixels, options.quality, "RGB", options.subsampling)
    return body if image.icc is None else _with_app2(body, image.icc)


def _with_app2(body: bytes, profile: bytes) -> bytes:
    """A JPEG with the profile in APP2 segments behind its first one (ICC.1, annex B.4)."""
    count = -(-len(profile) // _ICC_PART)
    if count > 255:
        return body  # no JPEG can hold it
    at = 2
    if body[2:4] == b"\xff\xe0":
        at = 4 + struct.unpack_from(">H", body, 4)[0]
    segments = []
    for number in range(count):
        part = profile[number * _ICC_PART : (number + 1) * _ICC_PART]
        segments.append(b"\xff\xe2" + struct.pack(">H", 16 + len(part)) + b"ICC_PROFILE\0" + bytes((number + 1, count)))
        segments.append(part)
    return b"".join((body[:at], *segments, body[at:]))


def _png(image: Image, options: PngOptions) -> bytes:
    pixels = image.pixels if image.pixels.dtype == np.uint8 else to_uint16(image.pixels)
    body = _cv2_encode(".png", np.ascontiguousarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, options.compression])
    return body if image.icc is None else _with_iccp(body, image.icc)


def _with_iccp(body: bytes, profile: bytes) -> bytes:
    """A PNG with the profile in an iCCP chunk behind IHDR."""
    chunk = b"iCCP" + b"icc\0\0" + zlib.compress(profile)
    length, checksum = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    return b"".join((body[:33], length, chunk, checksum, body[33:]))


def _webp(image: Image, options: WebpOptions) -> bytes:
    from PIL import Image as Pil

    pixels = np.ascontiguousarray(to_uint8(image.pixels))
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[image.channels]
    picture = Pil.frombuffer(mode, image.size, pixels.tobytes(), "raw", mode, 0, 1)
    buffer = io.BytesIO()
    picture.save(
        buffer,
        "WEBP",
        quality=options.quality,
        lossless=options.lossless,
        method=options.effort,
        exact=options.lossless,  # colors below full transparency are pixels too
        icc_profile=image.icc or b"",
        exif=b"",
        xmp=b"",
    )
    return buffer.getvalue()


def _cv2_encode(extension: str, pixels: NDArray[Any], flags: list[int]) -> bytes:
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    done, body = cv2.imencode(extension, pixels, flags)
    if not done:
        raise RunError(f"The image could not be written as {extension.removeprefix('.')}.")
    return bytes(body)


_WRITERS: Mapping[str, _Writer] = {"jpeg": _jpeg, "png": _png, "webp": _webp}
