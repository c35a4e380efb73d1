"""Brings bytes and pixels to a run: files of library users, and images among the parameters, with a bounded cache.

A service hands over bytes and never lets a pipeline name a file: where a mapping of images is given, only what is in it
can be used.
"""

from __future__ import annotations

import functools
import hashlib
import stat
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelmill.errors import (
    InvalidURI,
    LimitExceeded,
    ObjectNotFound,
    PixelmillError,
    StorageDenied,
    StorageUnavailable,
)
from pixelmill.images.decode import decode
from pixelmill.images.header import no_such_frame
from pixelmill.images.image import Image, ImageInfo
from pixelmill.images.limits import Limits
from pixelmill.images.regions import Raster
from pixelmill.models.model import Model, ModelSource, Wanted
from pixelmill.operations.parameters import BUILT_IN_FONTS, Font

if TYPE_CHECKING:
    from pixelmill.models.sessions import Sessions

PIXELS = "pixels"
"""The format's name of a source that was no file."""


def read_file(path: str | Path, limits: Limits) -> bytes:
    """The whole file.

    Raises:
        ObjectNotFound: no such file, or no regular one.
        StorageDenied: no permission.
        LimitExceeded: more bytes than allowed.
        StorageUnavailable: it could not be read.
    """
    path = Path(path)
    try:
        status = path.stat()  # before it is opened: opening a named pipe waits for a writer
        if stat.S_ISDIR(status.st_mode):
            raise ObjectNotFound(f"{str(path)!r} is a folder. Give the path of an image file.")
        if not stat.S_ISREG(status.st_mode):
            raise ObjectNotFound(f"{str(path)!r} is no regular file. Give the path of an image file.")
        limits.check_bytes(status.st_size)
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)  # it may have grown
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ObjectNotFound(f"There is no file {str(path)!r}. Check the path.") from error
    except PermissionError as error:
        raise StorageDenied(f"{str(path)!r} may not be read: permission denied.") from error
    except ValueError as error:  # a NUL in the name
        raise InvalidURI(f"{str(path)!r} is no path: {error}.") from error
    except OSError as error:
        raise StorageUnavailable(f"{str(path)!r} could not be read: {error.strerror or error}.") from error
    limits.check_bytes(len(data))
    return data


def info_of(raster: Raster, fmt: str = PIXELS) -> ImageInfo:
    """What a header would say of such pixels."""
    return ImageInfo(
        format=fmt,
        media_type="",
        size=raster.size,
        stored_size=raster.size,
        mode={1: "gray", 3: "rgb", 4: "rgba"}[raster.channels],
        depth=8 * raster.dtype.itemsize,
        has_alpha=raster.channels == 4,
        has_icc=raster.icc is not None,
    )


def info_of_pixels(image: Image, frame: int | None = None) -> ImageInfo:
    """The facts of pixels, as a header would tell them; raises :class:`NotApplicable` for any frame but 0."""
    if frame:
        raise no_such_frame(PIXELS, frame, 1)
    raster = Raster(image.size, image.channels, image.pixels.dtype, image.icc)
    return replace(info_of(raster), bytes=image.pixels.nbytes)


class _Decoded:
    """Decoded images by digest of their bytes; bounded in number and bytes, the least recently used goes first."""

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._items: OrderedDict[bytes, Image] = OrderedDict()
        self._bytes = 0

    def get(self, data: bytes, limits: Limits) -> Image:
        """The image of these bytes, which are within the limits."""
        limits.check_bytes(len(data))
        key = hashlib.sha256(data).digest()
        with self._lock:
            found = self._items.get(key)
            if found is not None:
                self._items.move_to_end(key)
        if found is not None:
            if found.size.pixels <= limits.max_pixels and max(found.size) <= limits.max_side:
                return found
            return decode(data, limits=limits)  # which says what is too large
        image = decode(data, limits=limits)
        if image.pixels.nbytes <= self._max_bytes:
            self._put(key, image)
        return image

    def _put(self, key: bytes, image: Image) -> None:
        with self._lock:
            if key in self._items:
                return
            self._items[key] = image
            self._bytes += image.pixels.nbytes
            while len(self._items) > self._max_items or self._bytes > self._max_bytes:
                _, gone = self._items.popitem(last=False)
                self._bytes -= gone.pixels.nbytes

    def __len__(self) -> int:
        return len(self._items)


_decoded = _Decoded(max_items=32, max_bytes=64_000_000)


def load_images(
    references: tuple[str, ...], given: Mapping[str, bytes | Path | Image] | None, limits: Limits
) -> dict[str, Image]:
    """Pixels of the images that a pipeline refers to.

    ``given`` has bytes, a file or pixels by reference; None means that references are paths of local files.
    Errors are those of reading and decoding, and name the reference.
    """
    return {reference: _load_image(reference, given, limits) for reference in references}


def load_fonts(references: tuple[str, ...], given: Mapping[str, Any] | None, limits: Limits) -> dict[str, Font]:
    """The fonts that a pipeline refers to, as :func:`load_images` does with images; ``given`` may hold both.

    Raises what reading raises, :class:`InvalidParameter` for a font that can't be used.
    """
    from pixelmill.operations.fonts import MAX_FONT_BYTES, font_of

    fonts: dict[str, Font] = {}
    for reference in references:
        shown = reference if len(reference) <= 120 else reference[:117] + "..."
        value = Path(reference) if given is None else given.get(reference)
        if not isinstance(value, bytes | Path):
            raise ObjectNotFound(f"The font {shown!r} of the pipeline was not given to the run.", reference=shown)
        try:
            few = replace(limits, max_bytes=min(limits.max_bytes, MAX_FONT_BYTES))
            data = read_file(value, few) if isinstance(value, Path) else value
        except PixelmillError as error:
            raise type(error)(
                f"The font {shown!r} of the pipeline is neither a built-in family ({', '.join(BUILT_IN_FONTS)}) nor a "
                f"file that can be read: {error.detail}",
                **error.context,
            ) from error
        fonts[reference] = font_of(data, shown)
    return fonts


def load_models(wanted: tuple[Wanted, ...], source: ModelSource | None) -> dict[str, Model | None]:
    """The models that a pipeline wants, by the name it asks with; None for an optional one that is not here.

    Raises :class:`ModelError`, :class:`MissingExtra`, :class:`InvalidParameter`.
    """
    source = source or own_models()
    return {item.name: source.load(item) for item in wanted}


@functools.cache
def own_models() -> Sessions:
    """Sessions in this process over the models folder of this user, for a library that was told no other."""
    from pixelmill.models.folder import ModelFolder
    from pixelmill.models.sessions import Sessions

    return Sessions(ModelFolder())


def _load_image(reference: str, given: Mapping[str, bytes | Path | Image] | None, limits: Limits) -> Image:
    shown = reference if len(reference) <= 120 else reference[:117] + "..."
    if given is None:
        if "://" in reference or reference.startswith("sha256:"):
            raise InvalidURI(
                f"The image {shown!r} of the pipeline is no local path. Give one, or hand its bytes over in `images`."
            )
        value: bytes | Path | Image = Path(reference)
    elif reference in given:
        value = given[reference]
    else:
        raise ObjectNotFound(f"The image {shown!r} of the pipeline was not given to the run.", reference=shown)
    if isinstance(value, Image):
        return value
    try:
        return _decoded.get(read_file(value, limits) if isinstance(value, Path) else bytes(value), limits)
    except LimitExceeded as error:
        raise LimitExceeded(f"The image {shown!r} of the pipeline: {error.detail}", **error.context) from error
    except PixelmillError as error:
        raise type(error)(f"The image {shown!r} of the pipeline: {error.detail}", **error.context) from error
