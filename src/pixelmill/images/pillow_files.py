"""Opens a file with one plugin of Pillow, and makes arrays of what it gives.

Owns the table of plugins (never ``Image.open``, which guesses), what each mode of Pillow becomes, and turning whatever
a plugin raises into the error tree: Pillow's plugins end on hostile bytes in many kinds of exceptions, of which it
promises no list. Knows nothing of limits: they are checked on the header that is made from the lazily opened file.
"""

from __future__ import annotations

import functools
import importlib
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import CorruptImage, OutOfMemory, PixelmillError, UnsupportedFormat
from pixelmill.images import color
from pixelmill.images.formats import Data
from pixelmill.images.header import MAX_ICC_BYTES

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage
    from PIL.ImageFile import ImageFile

PLUGINS = {
    "avif": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "gif": ("PIL.GifImagePlugin", "GifImageFile"),
    "webp": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "bmp": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "qoi": ("PIL.QoiImagePlugin", "QoiImageFile"),
    "jpeg2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
}
_TITLES = {"jpeg2000": "JPEG 2000", "jxl": "JPEG XL"}
_GRAY = frozenset({"1", "L", "I;16", "I;16L", "I;16B", "I;16N", "F"})
_DEEP = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_PLAIN = {"L": "L", "RGB": "RGB", "RGBA": "RGBA", "1": "L", "CMYK": "CMYK", "RGBX": "RGB", "YCbCr": "RGB"}
READ_MODES = frozenset({*_PLAIN, *_DEEP, "F", "LA", "La", "P", "PA", "RGBa", "LAB"})


def title(name: str) -> str:
    """The format's name for people."""
    return _TITLES.get(name, name.upper())


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Everything that a plugin of Pillow raises inside, as an error of our tree."""
    try:
        yield
    except PixelmillError:
        raise
    except MemoryError as error:
        raise OutOfMemory(f"There is not enough memory to decode this {title(name)} file.") from error
    except Exception as error:
        text = str(error) or type(error).__name__
        if "nsupported" in text or "not supported" in text:
            raise UnsupportedFormat(
                f"This kind of {title(name)} is not read ({text}). Convert the file to PNG.", format=name
            ) from error
        raise CorruptImage(
            f"The {title(name)} file is damaged: {text}. Get a fresh copy of it.", format=name
        ) from error


def open_lazily(data: Data, name: str) -> ImageFile:
    """The file with its header read, and no pixel; inside :func:`translated`."""
    if name == "tiff":
        return _tiff(data)
    module, plugin = PLUGINS[name]
    opener: type[ImageFile] = getattr(importlib.import_module(module), plugin)
    return opener(io.BytesIO(data))


def _tiff(data: Data) -> ImageFile:
    from PIL import _imaging
    from PIL.TiffImagePlugin import TiffImageFile

    class Page(TiffImageFile):
        """Without Pillow's own limit on pixels, which warns: ours were checked on the header."""

        def load_prepare(self) -> None:
            if self._im is None:
                self.im = _imaging.new(self.mode, self._tile_size)
            super().load_prepare()

    _silence_libtiff()
    return Page(io.BytesIO(data))


@functools.cache
def _silence_libtiff() -> None:
    """Let Pillow's libtiff print nothing: Pillow turns off its warnings, and leaves its errors on stderr.

    A libtiff that is linked into Pillow without names stays as it is; what it returns tells of errors anyhow.
    """
    import ctypes

    from PIL import _imaging

    with suppress(OSError, AttributeError):
        setter = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
        setter(None)


def profile_of(picture: PilImage) -> bytes | None:
    """The profile that came with the file; None where there is none, or it is too large."""
    found = picture.info.get("icc_profile")
    return bytes(found) if isinstance(found, bytes) and 0 < len(found) <= MAX_ICC_BYTES else None


def mode_of(picture: PilImage) -> str:
    """The mode as :class:`ImageInfo` names it."""
    if picture.mode in ("P", "PA"):
        return "palette"
    if picture.mode in _GRAY and not picture.has_transparency_data:
        return "gray"
    if picture.mode == "CMYK":
        return "cmyk"
    return "rgba" if picture.has_transparency_data else "rgb"


def to_pixels(picture: PilImage, profile: bytes | None, *, keep: bool = False) -> tuple[NDArray[Any], bytes | None]:
    """Gray, RGB or RGBA in sRGB; samples of 16 bits or float keep a profile that is not sRGB. Loads the picture.

    With ``keep``, the others keep one of gray or of RGB as well.
    """
    picture.load()
    space: color.Space = "gray" if picture.mode in _GRAY or picture.mode in ("LA", "La") else "rgb"
    if picture.mode in _DEEP or picture.mode == "F":
        deep = np.array(picture).astype(np.float32 if picture.mode == "F" else np.uint16, copy=False)
        return deep, color.profile_kept(profile, space, keep=keep)
    if picture.mode == "CMYK":
        return color.to_srgb(np.array(picture), profile, "cmyk"), None
    if picture.mode == "LAB":
        return color.lab_to_srgb(picture), None
    return color.managed(_plain(picture), profile, space, keep=keep)


def _plain(picture: PilImage) -> NDArray[np.uint8]:
    mode = "RGBA" if picture.has_transparency_data else _PLAIN.get(picture.mode, "RGB")
    if picture.mode == "La":
        picture = picture.convert("LA")
    elif picture.mode == "PA":
        picture = picture.convert("RGBA")
    return np.array(picture if picture.mode == mode else picture.convert(mode))
