"""The table of what is compared: for each format its files, and who can read and write it.

Adding a format or a library: one function each way (bytes to ``H×W×3`` RGB ``uint8``, and back) and one line in
``FORMATS``. What a library can't do here, or is not installed for, is left out and told on stderr.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image as Pil

from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.image import Image

RGB: TypeAlias = NDArray[np.uint8]
Decode: TypeAlias = Callable[[bytes], RGB]
Encode: TypeAlias = Callable[[RGB], bytes]


class NotDone(Exception):
    """A library answers without a result."""


@dataclass(frozen=True, slots=True)
class Direction:
    """Candidates of one direction by name, which of them Pixelmill uses, and why, as far as the figures don't tell."""

    candidates: Mapping[str, Any]
    used: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Format:
    """One format: what makes the files to be decoded, its decoders, and its encoders with Pixelmill's defaults."""

    name: str
    make: Encode
    decoding: Direction
    encoding: Direction | None = None
    lossless: bool = False


def ours(data: bytes) -> RGB:
    """Pixelmill as a whole: probe, limits, checks, profile."""
    pixels = decode(data).pixels
    return np.asarray(pixels, np.uint8)


def our_file(fmt: str, rgb: RGB) -> bytes:
    """Pixelmill as a whole, with its default options."""
    return encode(Image(rgb), fmt)


def opencv(data: bytes) -> RGB:
    """OpenCV, in RGB."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise NotDone("OpenCV gave no picture")
    return np.asarray(pixels, np.uint8)


def opencv_file(extension: str, flags: tuple[int, ...], rgb: RGB) -> bytes:
    """OpenCV; it wants BGR."""
    done, body = cv2.imencode(extension, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), flags)
    if not done:
        raise NotDone("OpenCV wrote nothing")
    return bytes(body)


def pillow(data: bytes) -> RGB:
    """Pillow."""
    with Pil.open(io.BytesIO(data)) as picture:
        return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


def pillow_file(fmt: str, options: Mapping[str, Any], rgb: RGB) -> bytes:
    """Pillow."""
    buffer = io.BytesIO()
    Pil.fromarray(rgb).save(buffer, fmt, **options)
    return buffer.getvalue()


def turbo(data: bytes) -> RGB:
    """simplejpeg, where every warning of libjpeg-turbo is an error."""
    return np.asarray(simplejpeg.decode_jpeg(data, "RGB", strict=True), np.uint8)


def turbo_file(rgb: RGB) -> bytes:
    """Simplejpeg at quality 80."""
    return bytes(simplejpeg.encode_jpeg(rgb, 80, "RGB", "420"))


def vips(data: bytes) -> RGB:
    """libvips, told to fail on files that end early."""
    picture = _vips().Image.new_from_buffer(data, "", access="sequential", fail_on="truncated")
    return np.asarray(picture[0:3].numpy(), np.uint8) if picture.bands > 3 else np.asarray(picture.numpy(), np.uint8)


def vips_file(extension: str, options: Mapping[str, Any], rgb: RGB) -> bytes:
    """Libvips."""
    return bytes(_vips().Image.new_from_array(rgb, interpretation="srgb").write_to_buffer(extension, **options))


def _vips() -> Any:
    module = importlib.import_module("pyvips")
    module.cache_set_max(0)  # or the second round would be free
    return module


def tifffile(data: bytes) -> RGB:
    """tifffile; LZW is by imagecodecs, where that is there."""
    return np.asarray(importlib.import_module("tifffile").imread(io.BytesIO(data)), np.uint8)


def tifffile_file(rgb: RGB) -> bytes:
    """Tifffile with LZW."""
    buffer = io.BytesIO()
    importlib.import_module("tifffile").imwrite(buffer, rgb, photometric="rgb", compression="lzw")
    return buffer.getvalue()


def imagecodecs(data: bytes) -> RGB:
    """Libjxl by imagecodecs."""
    return np.asarray(importlib.import_module("imagecodecs").jpegxl_decode(data, numthreads=1), np.uint8)


def imagecodecs_file(rgb: RGB) -> bytes:
    """Libjxl by imagecodecs, at the distance and effort of Pixelmill's defaults."""
    module = importlib.import_module("imagecodecs")
    return bytes(module.jpegxl_encode(rgb, distance=1.45, effort=4, numthreads=1))


def pylibjxl(data: bytes) -> RGB:
    """Libjxl by pylibjxl."""
    with importlib.import_module("pylibjxl").JXL(threads=1, pool_size=1) as codec:
        return np.asarray(codec.decode(data), np.uint8)


def heif(data: bytes) -> RGB:
    """Libheif by pillow-heif."""
    module = importlib.import_module("pillow_heif")
    return np.asarray(module.open_heif(data, convert_hdr_to_8bit=True), np.uint8)


def heif_file(rgb: RGB) -> bytes:
    """Libheif by pillow-heif; only to have files to read."""
    module = importlib.import_module("pillow_heif")
    buffer = io.BytesIO()
    module.from_bytes("RGB", (rgb.shape[1], rgb.shape[0]), rgb.tobytes()).save(buffer, quality=80)
    return buffer.getvalue()


def drawing(rgb: RGB) -> bytes:
    """A drawing as large as the picture: discs in the colors that are found along it."""
    height, width = rgb.shape[:2]
    shapes = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">']
    for row in range(0, height, max(1, height // 20)):
        for column in range(0, width, max(1, width // 20)):
            red, green, blue = rgb[row, column]
            shapes.append(f'<circle cx="{column}" cy="{row}" r="{width // 30}" fill="rgb({red},{green},{blue})"/>')
    return "".join((*shapes, "</svg>")).encode()


LIBRARIES: Mapping[str, str] = {
    "simplejpeg": "simplejpeg",
    "OpenCV": "opencv-python-headless",
    "Pillow": "pillow",
    "pyvips": "pyvips-binary",
    "tifffile": "tifffile",
    "imagecodecs": "imagecodecs",
    "pylibjxl": "pylibjxl",
    "pillow-heif": "pillow-heif",
}
"""Candidates and the packages that they come from."""

INSTALLED = frozenset(("simplejpeg", "OpenCV", "Pillow"))
"""Libraries that come with Pixelmill's base."""

_READERS: Mapping[str, Decode] = {"OpenCV": opencv, "Pillow": pillow, "pyvips": vips}


def _reading(used: str, why: str = "", without: tuple[str, ...] = (), **more: Decode) -> Direction:
    everyone = {"Pixelmill": ours, **more, **_READERS}
    return Direction({name: run for name, run in everyone.items() if name not in without}, used, why)


def _writing(fmt: str, used: str, why: str = "", **candidates: Encode) -> Direction:
    return Direction({"Pixelmill": partial(our_file, fmt), **candidates}, used, why)


_AVIF = (cv2.IMWRITE_AVIF_QUALITY, 65, cv2.IMWRITE_AVIF_SPEED, 8)
_ALSO_LUMA = "It also decodes at a reduced scale and luma alone, which thumbnails need."

FORMATS: tuple[Format, ...] = (
    Format(
        "jpeg",
        partial(pillow_file, "JPEG", {"quality": 88}),
        _reading("simplejpeg", _ALSO_LUMA, simplejpeg=turbo),
        _writing(
            "jpeg",
            "simplejpeg",
            simplejpeg=turbo_file,
            OpenCV=partial(opencv_file, ".jpg", (cv2.IMWRITE_JPEG_QUALITY, 80)),
            Pillow=partial(pillow_file, "JPEG", {"quality": 80}),
            pyvips=partial(vips_file, ".jpg", {"Q": 80}),
        ),
    ),
    Format(
        "png",
        partial(pillow_file, "PNG", {}),
        _reading("Pillow"),
        _writing(
            "png",
            "OpenCV",
            OpenCV=partial(opencv_file, ".png", (cv2.IMWRITE_PNG_COMPRESSION, 3)),
            Pillow=partial(pillow_file, "PNG", {"compress_level": 3}),
            pyvips=partial(vips_file, ".png", {"compression": 3}),
        ),
        lossless=True,
    ),
    Format(
        "webp",
        partial(pillow_file, "WEBP", {"quality": 80}),
        _reading("OpenCV"),
        _writing(
            "webp",
            "Pillow",
            OpenCV=partial(opencv_file, ".webp", (cv2.IMWRITE_WEBP_QUALITY, 80)),
            Pillow=partial(pillow_file, "WEBP", {"quality": 80, "method": 4}),
            pyvips=partial(vips_file, ".webp", {"Q": 80, "effort": 4}),
        ),
    ),
    Format(
        "avif",
        partial(pillow_file, "AVIF", {"quality": 65, "speed": 8}),
        _reading("Pillow"),
        _writing(
            "avif",
            "OpenCV",
            "Images with alpha or a profile, and gray ones, are written by Pillow, which can hold them.",
            OpenCV=partial(opencv_file, ".avif", _AVIF),
            Pillow=partial(pillow_file, "AVIF", {"quality": 65, "speed": 8, "max_threads": 1}),
            pyvips=partial(vips_file, ".avif", {"Q": 65, "effort": 1}),
        ),
    ),
    Format(
        "tiff",
        partial(pillow_file, "TIFF", {"compression": "tiff_lzw"}),
        _reading("Pillow", tifffile=tifffile),
        _writing(
            "tiff",
            "OpenCV",
            OpenCV=partial(opencv_file, ".tiff", (cv2.IMWRITE_TIFF_COMPRESSION, 5)),
            Pillow=partial(pillow_file, "TIFF", {"compression": "tiff_lzw"}),
            pyvips=partial(vips_file, ".tif", {"compression": "lzw"}),
            tifffile=tifffile_file,
        ),
        lossless=True,
    ),
    Format(
        "gif",
        partial(pillow_file, "GIF", {}),
        _reading("Pillow"),
        _writing(
            "gif",
            "Pillow",
            "Pixelmill dithers by default: it costs size and PSNR, hides steps in smooth tones; Pillow here doesn't.",
            OpenCV=partial(opencv_file, ".gif", ()),
            Pillow=partial(pillow_file, "GIF", {}),
            pyvips=partial(vips_file, ".gif", {}),
        ),
    ),
    Format(
        "bmp",
        partial(pillow_file, "BMP", {}),
        _reading("Pillow", without=("pyvips",)),
        _writing(
            "bmp",
            "OpenCV",
            OpenCV=partial(opencv_file, ".bmp", ()),
            Pillow=partial(pillow_file, "BMP", {}),
        ),
        lossless=True,
    ),
    Format(
        "jpeg2000",
        partial(pillow_file, "JPEG2000", {"quality_mode": "dB", "quality_layers": [40]}),
        _reading("Pillow", without=("pyvips",)),
    ),
    Format(
        "qoi",
        partial(pillow_file, "QOI", {}),
        _reading("Pillow", without=("pyvips", "OpenCV")),
        lossless=True,
    ),
    Format(
        "pnm",
        partial(pillow_file, "PPM", {}),
        _reading("Pixelmill", without=("pyvips",)),
        lossless=True,
    ),
    Format(
        "ico",
        partial(pillow_file, "ICO", {"sizes": [(256, 256)]}),
        _reading("Pillow", without=("pyvips", "OpenCV")),
        lossless=True,
    ),
    # Of extras.
    Format(
        "jxl",
        imagecodecs_file,
        Direction(
            {"Pixelmill": ours, "imagecodecs": imagecodecs, "pylibjxl": pylibjxl},
            "imagecodecs",
            "pylibjxl gives no more than 8 bits a sample.",
        ),
        _writing("jxl", "imagecodecs", imagecodecs=imagecodecs_file),
    ),
    Format("heic", heif_file, Direction({"Pixelmill": ours, "pillow-heif": heif}, "pillow-heif", "It is alone.")),
    Format("svg", drawing, Direction({"Pixelmill": ours, "pyvips": vips}, "pyvips", "It is alone.")),
)
"""Every format that is read, in the order of the page."""
