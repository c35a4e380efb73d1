"""Opens an image to be read by regions: the door to the readers of formats. The bytes alone tell the format.

TIFF in all its kinds is read by tiles, in any order. PNG and JPEG that are larger than the cache are read row by row
from the top, JPEG by libvips (an extra). Whatever else ``decode`` reads is decoded whole, within the limits of whole
images.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pixelmill.errors import NotTileable
from pixelmill.images.byte_sources import ByteSource, BytesSource, FileSource
from pixelmill.images.decode import pixels_of
from pixelmill.images.formats import Data, identify, is_animation
from pixelmill.images.header import no_such_frame
from pixelmill.images.image import Image, ImageInfo, Need
from pixelmill.images.limits import Limits, RegionLimits
from pixelmill.images.probe import read_header
from pixelmill.images.region_jpeg import JpegRows
from pixelmill.images.region_memory import MemoryReader
from pixelmill.images.region_png import PngRows
from pixelmill.images.region_rows import RowsReader, ScratchReader
from pixelmill.images.region_tiff import TiffReader
from pixelmill.images.regions import Raster, RegionReader

CACHE_BYTES = 64 << 20
_DEFAULT_LIMITS, _DEFAULT_WHOLE = RegionLimits(), Limits()
_HEAD_BYTES = 1 << 16
_ROWS = frozenset({"png", "jpeg"})


def open_regions(
    source: Path | Data | ByteSource | Image,
    limits: RegionLimits = _DEFAULT_LIMITS,
    *,
    whole: Limits = _DEFAULT_WHOLE,
    page: int = 0,
    level: int = 0,
    keep_icc: bool = False,
    cache_bytes: int = CACHE_BYTES,
    still: bool = True,
) -> RegionReader:
    """A reader of the picture in ``source``, upright and in sRGB as :func:`decode.decode` gives it.

    Args:
        source: a file, its bytes, any :class:`ByteSource` (which the reader then owns), or an image.
        limits: of what is read by regions; checked before pixels are allocated.
        whole: of what has to be decoded whole.
        page: of a TIFF, counted without smaller copies and masks.
        level: of a TIFF with smaller copies of its page: 0 is the page, 1 the first copy. They are what another program
            has shrunk; nothing exact follows from them.
        keep_icc: samples of gray and RGB keep the numbers of their profile, which is in the raster.
        cache_bytes: bound of decoded tiles (or rows) that are kept for the next regions.
        still: of an animation the first frame is what is wanted; else one is refused.

    Raises:
        UnsupportedFormat, CorruptImage, LimitExceeded, NotApplicable (no such page), NotTileable (an animation),
        MissingExtra, StorageError.
    """
    if isinstance(source, Image):
        return MemoryReader(source)
    if isinstance(source, Path):
        source = FileSource(source)
    elif isinstance(source, bytes | bytearray | memoryview):
        source = BytesSource(source)
    try:
        return _reader(source, limits, whole, page, level, Need(icc=keep_icc), cache_bytes, still)
    except BaseException:
        source.close()
        raise


def _reader(
    source: ByteSource,
    limits: RegionLimits,
    whole: Limits,
    page: int,
    level: int,
    need: Need,
    cache_bytes: int,
    still: bool,
) -> RegionReader:
    name = identify(source.read_at(0, min(source.size, _HEAD_BYTES))).name
    if name == "tiff":
        return TiffReader(source, limits, page=page, level=level, keep_icc=need.icc, cache_bytes=cache_bytes)
    if page or level:
        raise no_such_frame(name, max(page, level), 1)
    reader = _by_rows(name, source, limits, need, cache_bytes, still) if name in _ROWS else None
    if reader is not None:
        return reader
    whole.check_bytes(source.size)
    data = source.read_at(0, source.size)
    header = read_header(data, whole)
    _check_still(header.info, still)
    image = pixels_of(data, header, need)
    source.close()
    return MemoryReader(image)


def _check_still(info: ImageInfo, still: bool) -> None:
    if not still and is_animation(info.format, info.frames):
        raise NotTileable(
            f"The source is an animation of {info.frames:,} frames. Animations don't run in tiles: choose one frame "
            "with frame:0 at the start of the pipeline, or a format of still images, such as format:tiff."
        )


def _by_rows(
    name: str, source: ByteSource, limits: RegionLimits, need: Need, cache_bytes: int, still: bool
) -> RegionReader | None:
    """A reader of a picture that is larger than ``cache_bytes`` and has rows that can be decoded one by one."""
    rows = PngRows(source) if name == "png" else JpegRows(source, limits)
    if not rows.readable:
        return None
    header = rows.header
    _check_still(header.info, still)
    limits.check_size(header.info.stored_size)
    black, icc = rows.look(need)
    raster = Raster(header.info.size, 1 if black.ndim == 2 else black.shape[2], black.dtype, icc)
    if raster.bytes <= cache_bytes:
        return None
    bands = partial(rows.bands, need)
    if header.info.orientation == 1:
        return RowsReader(bands, raster, source.close, keep_bytes=cache_bytes)
    return ScratchReader(bands, raster, source.close, turn=header.info.orientation)
