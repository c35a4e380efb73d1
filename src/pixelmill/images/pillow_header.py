"""Reads the headers of the formats that Pillow decodes whole: AVIF, GIF, BMP, QOI, JPEG 2000.

The plugin of exactly that format reads them, lazily: no pixel is decoded. What the plugins leave open is settled here:
frames of a GIF are counted by a walk over its blocks, and what Pillow decodes in Python is bounded.
Sources: GIF89a specification, sections 18 to 27; ISO/IEC 15444-1 annex A (markers).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pixelmill.errors import LimitExceeded, UnsupportedFormat
from pixelmill.images import exif
from pixelmill.images.formats import AVIF, BMP, FORMATS, GIF, JPEG2000, QOI, Data
from pixelmill.images.header import Header, PillowFacts, corrupt, oriented
from pixelmill.images.image import ImageInfo, Size
from pixelmill.images.pillow_files import READ_MODES, mode_of, open_lazily, profile_of, title, translated

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MAX_SLOW_PIXELS = 16_000_000
"""Of QOI and run-length coded BMP, which are decoded in Python, at one to three million pixels a second."""

_MAX_FRAMES = 65_536
_MAX_BLOCKS = 1_000_000  # of a GIF, of up to 255 bytes each; a walk over them takes a fifth of a second
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
GIF_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
"""Names of the extension that says how often an animation is shown."""


def _read(name: str, data: Data) -> Header:
    with translated(name), open_lazily(data, name) as picture:
        return _header(name, data, picture)


avif = partial(_read, AVIF.name)
bmp = partial(_read, BMP.name)
gif = partial(_read, GIF.name)
jpeg2000 = partial(_read, JPEG2000.name)
qoi = partial(_read, QOI.name)


def _header(name: str, data: Data, picture: ImageFile) -> Header:
    stored = Size(*picture.size)
    if min(stored) < 1:
        corrupt(title(name), f"its header gives the size {stored.width}×{stored.height}")
    if picture.mode not in READ_MODES:
        raise UnsupportedFormat(
            f"{title(name)} with samples of the kind {picture.mode} is not read. Convert the file to PNG.", format=name
        )
    slow = name == QOI.name or (bool(picture.tile) and picture.tile[0].codec_name == "bmp_rle")
    if slow and stored.pixels > MAX_SLOW_PIXELS:
        raise LimitExceeded(
            f"The {title(name)} file has {stored.pixels:,} pixels; of this slow kind {MAX_SLOW_PIXELS:,} are read. "
            "Convert it to PNG.",
            limit="pixels",
            value=stored.pixels,
            maximum=MAX_SLOW_PIXELS,
        )
    turn = _orientation(picture)
    frames = _gif_frames(data) if name == GIF.name else int(getattr(picture, "n_frames", 1))
    info = ImageInfo(
        format=name,
        media_type=FORMATS[name].media_type,
        size=oriented(stored, turn),
        stored_size=stored,
        mode=mode_of(picture),
        depth=16 if picture.mode.startswith("I;16") else 1 if picture.mode == "1" else 8,
        has_alpha=picture.has_transparency_data,
        orientation=turn,
        frames=max(1, frames),
        has_icc=profile_of(picture) is not None,
        bytes=len(data),
    )
    return Header(info, PillowFacts(picture.mode))


def _orientation(picture: ImageFile) -> int:
    block = picture.info.get("exif")
    return exif.orientation(block) if isinstance(block, bytes) else 1


def _gif_frames(data: Data) -> int:
    """Number of whole or begun pictures; blocks that make no sense end the count.

    Where the file ends early behind a whole picture, and there is a sign that more was to come, that counts too: an
    animation that was cut off is no still image.
    """
    at = behind = 13 + _table(data[10])
    frames = blocks = 0
    size, loops = len(data), False
    while at + 1 < size and data[at] != _TRAILER:
        is_picture = data[at] == _IMAGE
        if is_picture:
            frames += 1
            if at + 10 > size:
                break
            at += 11 + _table(data[at + 9])
        elif data[at] == _EXTENSION:
            loops = loops or bytes(data[at + 3 : at + 14]) in GIF_LOOPS
            at += 2
        else:
            at += 1  # stray bytes between blocks are skipped, as Pillow does
            continue
        while at < size and data[at]:
            at += 1 + data[at]
            blocks += 1
        at += 1
        behind = at if is_picture else behind
        if frames > _MAX_FRAMES or blocks > _MAX_BLOCKS:
            raise LimitExceeded(
                f"The GIF file has more than {_MAX_FRAMES:,} frames or {_MAX_BLOCKS:,} blocks. Use a shorter one.",
                limit="frames",
                value=frames,
                maximum=_MAX_FRAMES,
            )
    ended = at < size and data[at] == _TRAILER
    more = loops or (behind < size and data[behind] == _EXTENSION)
    return frames + (frames > 0 and not ended and behind <= size and more)


def _table(flags: int) -> int:
    """Bytes of the color table that the flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
