"""An :class:`Image` to the bytes of a file.

Owns which library writes which format, what a format can't hold (depth, transparency, size), and embedding a profile.
Other metadata is written behind it, by ``metadata_write``. Reentrant; the codecs release the GIL.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from pixelmill.errors import NotApplicable, OutOfMemory, RunError
from pixelmill.images import color, extras, tiff_header
from pixelmill.images.encoders import (
    AvifOptions,
    BmpOptions,
    EncodeOptions,
    GifOptions,
    JpegOptions,
    JxlOptions,
    PngOptions,
    TiffOptions,
    WebpOptions,
    options_for,
)
from pixelmill.images.formats import JXL, Format, written_format
from pixelmill.images.gif_palette import indexed
from pixelmill.images.image import Image
from pixelmill.images.indexed import to_palette
from pixelmill.images.samples import color_of_hex, flatten, to_uint8, to_uint16

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

Finish: TypeAlias = Callable[[bytes], bytes]
"""What is done to a file when it is written, such as giving it metadata; its bytes count for ``max_bytes``."""

_Writer: TypeAlias = Callable[[Image, Any], bytes]

_ICC_PART = 65_519  # bytes of a profile in one APP2 segment: 65,535 less length, name, number and count
_AVIF_PEAK: Mapping[int, int] = {1: 26, 3: 36, 4: 44}
_AVIF_PEAK_OPENCV, _AVIF_PEAK_FINE = 30, 60
"""Bytes a pixel that writing AVIF takes at its peak, by channels; of RGB by OpenCV; with finer color than a quarter."""
_SAMPLING = {
    "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "422": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}


def encode(
    image: Image,
    fmt: str,
    options: EncodeOptions | Mapping[str, Any] | None = None,
    finish: Finish = bytes,
) -> bytes:
    """The image as a file of format ``fmt`` (a name or alias), as ``finish`` leaves it.

    Samples are rounded to 8 bits where the format has no more (all but PNG, TIFF); ``float32`` goes to 16 bits in PNG.
    Transparent pixels are laid over ``background`` in JPEG and BMP. ``image.icc`` is embedded, it belongs to the
    pixels; in GIF, BMP and JPEG XL, which can't hold it (or whose library can't write it), they are brought to sRGB,
    and so is gray in WebP, whose pixels are RGB.

    Raises:
        UnknownOperation: no such format.
        InvalidParameter: options that don't fit the format.
        NotApplicable: the image is larger than the format can hold.
        MissingExtra: the format needs an extra that is not installed; the message has the command.
        OutOfMemory, RunError: the library could not write it.
    """
    target = written_format(fmt)
    chosen = options_for(target.name, options)
    _check_size(image, target)
    write = _WRITERS[target.name]
    try:
        return within_limit(chosen, lambda options: finish(write(image, options)))
    except MemoryError as error:
        raise _out_of_memory(image, target) from error
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise _out_of_memory(image, target) from error
        raise RunError(f"The image could not be written as {target.name}: {error.err or error}.") from error
    except (OSError, ValueError, RuntimeError) as error:
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


def within_limit(options: Any, write: Callable[[Any], bytes]) -> bytes:
    """What ``write`` makes of the options; where these have ``max_bytes``, at the highest quality that keeps it.

    ``write`` gets options without that limit, at most 9 times: files grow with quality, but for a few bytes, so halving
    the interval finds it. Raises :class:`NotApplicable` where quality 1 is too large as well.
    """
    limit = getattr(options, "max_bytes", None)
    if limit is None:
        return write(options)

    def at(quality: int) -> bytes:
        return write(options.model_copy(update={"quality": quality, "max_bytes": None}))

    body = at(options.quality)
    if len(body) <= limit:
        return body
    best = at(1)
    if len(best) > limit:
        raise NotApplicable(
            f"The file has {len(best):,} bytes at quality 1 already, with its metadata; max_bytes is {limit:,}. Resize "
            "the image to fewer pixels, or allow more bytes.",
            operation="format",
            parameter="max_bytes",
            bytes=len(best),
            maximum=limit,
        )
    fits, too_large = 1, options.quality
    while too_large - fits > 1:
        middle = (fits + too_large) // 2
        body = at(middle)
        if len(body) <= limit:
            fits, best = middle, body
        else:
            too_large = middle
    return best


def _out_of_memory(image: Image, target: Format) -> OutOfMemory:
    size = image.size
    return OutOfMemory(f"There is not enough memory to write {size.width:,}×{size.height:,} pixels as {target.name}.")


def _jpeg(image: Image, options: JpegOptions) -> bytes:
    pixels = to_uint8(image.pixels)
    if image.has_alpha:
        pixels = flatten(pixels, color_of_hex(options.background))
    pixels = np.ascontiguousarray(pixels)
    if options.progressive or options.optimize:
        flags = [cv2.IMWRITE_JPEG_QUALITY, options.quality, cv2.IMWRITE_JPEG_PROGRESSIVE, int(options.progressive)]
        flags += [cv2.IMWRITE_JPEG_OPTIMIZE, 1] if options.optimize else []
        flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _SAMPLING[options.subsampling]]
        body = _cv2_encode(".jpg", pixels, flags)
    elif pixels.ndim == 2:
        body = simplejpeg.encode_jpeg(pixels[..., np.newaxis], options.quality, "GRAY", "Gray")
    else:
        body = simplejpeg.encode_jpeg(pixels, options.quality, "RGB", options.subsampling)
    return body if image.icc is None else with_app2(body, image.icc)


def with_app2(body: bytes, profile: bytes) -> bytes:
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
    if options.colors is not None:
        return _palette_png(image, options, options.colors)
    pixels = image.pixels if image.pixels.dtype == np.uint8 else to_uint16(image.pixels)
    flags = [cv2.IMWRITE_PNG_COMPRESSION, options.compression]
    if options.filter == "none":
        flags += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    body = _cv2_encode(".png", np.ascontiguousarray(pixels), flags)
    return body if image.icc is None else with_iccp(body, image.icc)


def _palette_png(image: Image, options: PngOptions, colors: int) -> bytes:
    """With 1, 2, 4 or 8 bits a pixel, as many as the palette needs."""
    from PIL import Image as Pil

    indices, palette = to_palette(to_uint8(image.pixels), colors, dither=options.dither)
    picture = Pil.fromarray(indices)
    picture.putpalette(palette[:, :3].tobytes())
    alpha = {} if (palette[:, 3] == 255).all() else {"transparency": palette[:, 3].tobytes()}
    # optimize=False: it would choose a compression of its own.
    return _pillow_save(picture, "PNG", compress_level=options.compression, icc_profile=image.icc, **alpha)


def with_iccp(body: bytes, profile: bytes) -> bytes:
    """A PNG with the profile in an iCCP chunk behind IHDR."""
    chunk = b"iCCP" + b"icc\0\0" + zlib.compress(profile)
    length, checksum = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    return b"".join((body[:33], length, chunk, checksum, body[33:]))


def _webp(image: Image, options: WebpOptions) -> bytes:
    image = for_webp(image)
    return _pillow_encode(
        to_uint8(image.pixels),
        "WEBP",
        quality=options.quality,
        lossless=options.lossless,
        method=options.effort,
        exact=options.lossless,  # colors below full transparency are pixels too
        alpha_quality=options.alpha_quality,
        icc_profile=image.icc or b"",
        exif=b"",
        xmp=b"",
    )


def for_webp(image: Image) -> Image:
    """Gray with a profile in sRGB, without one: WebP has no gray, and the profile describes nothing else."""
    return Image(in_srgb(image)) if image.channels == 1 and image.icc is not None else image


def check_avif_memory(image: Image, options: AvifOptions) -> None:
    """Raise :class:`MemoryError` where the encoder would get none at its peak; some end the process there."""
    peak = _AVIF_PEAK[image.channels] if options.subsampling == "420" else _AVIF_PEAK_FINE
    np.empty(image.size.pixels * (_AVIF_PEAK_OPENCV if _suits_opencv(image, options) else peak), np.uint8)


def _suits_opencv(image: Image, options: AvifOptions) -> bool:
    return image.channels == 3 and image.icc is None and options.quality < 100 and options.subsampling == "420"


def _avif(image: Image, options: AvifOptions) -> bytes:
    """By OpenCV's libavif, which takes about half of Pillow's time for the same file, where it can hold the image.

    It has no profiles and no choice of subsampling, and takes quality 100 to mean 4:4:4 without loss; Pillow does not.
    """
    check_avif_memory(image, options)
    if _suits_opencv(image, options):
        flags = [cv2.IMWRITE_AVIF_QUALITY, options.quality, cv2.IMWRITE_AVIF_SPEED, options.speed]
        return _cv2_encode(".avif", np.ascontiguousarray(to_uint8(image.pixels)), flags)
    return _pillow_encode(
        to_uint8(image.pixels),
        "AVIF",
        quality=options.quality,
        speed=options.speed,
        **({} if image.channels == 1 else {"subsampling": ":".join(options.subsampling)}),
        max_threads=1,  # the pool runs a process a core
        icc_profile=image.icc or b"",
        exif=b"",
        xmp=b"",
    )


def _jxl(image: Image, options: JxlOptions) -> bytes:
    library = extras.to_write(JXL)
    done: bytes = library.jpegxl_encode(
        np.ascontiguousarray(in_srgb(image)),
        distance=0.0 if options.lossless else options.distance or _butteraugli(options.quality),
        lossless=options.lossless,
        effort=options.effort,
        numthreads=1,  # the pool runs a process a core
    )
    return done


def _butteraugli(quality: int) -> float:
    """The distance that libjxl takes for a quality (JxlEncoderDistanceFromQuality), 0.1 where that is lossless."""
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25


def _tiff(image: Image, options: TiffOptions) -> bytes:
    packing = {"none": 1, "lzw": 5, "deflate": 8, "packbits": 32_773}[options.compression]
    flags = [cv2.IMWRITE_TIFF_COMPRESSION, packing]
    if options.predictor == "none":
        flags += [cv2.IMWRITE_TIFF_PREDICTOR, cv2.IMWRITE_TIFF_PREDICTOR_NONE]
    body = _cv2_encode(".tiff", np.ascontiguousarray(image.pixels), flags)
    added: dict[int, tuple[int, int, bytes]] = {}
    if image.has_alpha:
        added[tiff_header.EXTRA] = (3, 1, struct.pack("<H", 2))  # straight alpha, which OpenCV does not say
    if image.icc is not None:
        added[tiff_header.ICC] = (7, len(image.icc), image.icc)
    if not added:
        return body
    return tiff_header.with_directory(body, "<", False, {**dict(tiff_header.tags_of(body)), **added})


def in_srgb(image: Image) -> NDArray[np.uint8]:
    """8-bit samples in sRGB, for formats that hold no profile."""
    return color.to_srgb(to_uint8(image.pixels), image.icc, "gray" if image.channels == 1 else "rgb")


def _gif(image: Image, options: GifOptions) -> bytes:
    pixels = in_srgb(image)
    if pixels.ndim == 2 and options.colors == 256:
        return _pillow_encode(pixels, "GIF")
    coded = indexed(pixels, options.colors, dither=options.dither)
    if coded.clear is None:
        return _pillow_save(coded.picture(), "GIF")
    return _pillow_save(coded.picture(), "GIF", transparency=coded.clear, optimize=False)


def _bmp(image: Image, options: BmpOptions) -> bytes:
    pixels = in_srgb(image)
    if image.has_alpha:
        pixels = flatten(pixels, color_of_hex(options.background))
    return _cv2_encode(".bmp", np.ascontiguousarray(pixels), [])


def _pillow_encode(pixels: NDArray[np.uint8], name: str, **options: Any) -> bytes:
    from PIL import Image as Pil

    mode = "L" if pixels.ndim == 2 else "RGB" if pixels.shape[2] == 3 else "RGBA"
    data = np.ascontiguousarray(pixels).tobytes()
    return _pillow_save(Pil.frombuffer(mode, pixels.shape[1::-1], data, "raw", mode, 0, 1), name, **options)


def _pillow_save(picture: PilImage, name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    return buffer.getvalue()


def _cv2_encode(extension: str, pixels: NDArray[Any], flags: list[int]) -> bytes:
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    done, body = cv2.imencode(extension, pixels, flags)
    if not done:
        raise RunError(f"The image could not be written as {extension.removeprefix('.')}.")
    return bytes(body)


_WRITERS: Mapping[str, _Writer] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "avif": _avif,
    "jxl": _jxl,
    "tiff": _tiff,
    "gif": _gif,
    "bmp": _bmp,
}
