"""PNG bytes to pixels: 8 bits a sample by Pillow, 16 bits by OpenCV (Pillow cuts color to 8).

The decoders see the critical chunks only, after their check sums were compared: no text, profile, gamma or animation
chunk can cost or change anything. Transparency by color key is applied here. ``gAMA``
and ``cHRM`` are not applied, as browsers don't for files that carry neither ``sRGB`` nor ``iCCP``.
An animation gives its default image.
"""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import CorruptImage
from pixelmill.images import color, png_header, png_rows
from pixelmill.images.formats import PNG, Data
from pixelmill.images.header import Header, PngChunk, PngFacts, corrupt
from pixelmill.images.image import Need

_SIGNATURE = PNG.signatures[0][0][1]
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_GRAY, _RGB, _PALETTE, _GRAY_ALPHA = 0, 2, 3, 4
_FILL = {1: 255, 2: 85, 4: 17, 8: 1, 16: 1}  # what a raw sample is multiplied by to fill its byte or word

Deep = NDArray[np.uint8] | NDArray[np.uint16]


def read(data: Data, header: Header, need: Need) -> tuple[Deep, bytes | None]:
    """Pixels as stored (not turned): gray, RGB or RGBA of ``uint8`` or ``uint16``, and the profile where it is kept.

    A PNG has one size, and gray costs what it costs. 8-bit pixels are converted to sRGB, unless their profile is to be
    kept. littleCMS is reached through Pillow, which has no 16-bit color: such pixels
    keep their numbers and their profile.
    """
    facts, info = header.facts, header.info
    assert isinstance(facts, PngFacts)
    plain, key = _essence(data, facts)
    pixels = _deep(header, plain) if info.depth == 16 else _shallow(plain, facts.color_type)
    if pixels.shape[:2] != (info.stored_size.height, info.stored_size.width):
        corrupt("PNG", "its picture is not as large as its header says")
    if key is not None:
        pixels = _with_key(pixels, key, info.depth)
    profile = png_header.profile(data, facts)
    space: color.Space = "gray" if facts.color_type in (_GRAY, _GRAY_ALPHA) else "rgb"
    if pixels.dtype == np.uint16:
        fits = space == "rgb" or pixels.ndim == 2  # a profile of gray is none for gray that became RGBA
        return pixels, color.profile_kept(profile, space, keep=need.icc) if fits else None
    return color.managed(pixels.astype(np.uint8, copy=False), profile, space, keep=need.icc)


def _essence(data: Data, facts: PngFacts) -> tuple[bytes, tuple[int, ...] | None]:
    """The file with only what its pixels need, check sums compared, and the transparent color, if one is named."""
    if not facts.complete:
        corrupt("PNG", "it ends before the picture does")
    view = memoryview(data)
    parts: list[bytes | memoryview] = [_SIGNATURE]
    key: tuple[int, ...] | None = None
    seen: set[bytes] = set()
    for chunk in facts.chunks:
        kind = chunk.kind
        if kind == b"tRNS" and b"IDAT" not in seen and kind not in seen:
            if facts.color_type == _PALETTE:
                parts.append(_checked(view, chunk))
            elif facts.color_type in (_GRAY, _RGB):
                key = _key(view, chunk, facts.color_type)
        elif kind in _CRITICAL:
            if kind in (b"IHDR", b"PLTE") and kind in seen:
                corrupt("PNG", f"it has two {kind.decode()} chunks")
            if kind != b"PLTE" or facts.color_type == _PALETTE:
                parts.append(_checked(view, chunk))
        elif not kind[0] & 0x20:
            corrupt("PNG", f"it needs a part ({kind!r}) that no reader of the standard knows")
        seen.add(kind)
    if b"IDAT" not in seen:
        corrupt("PNG", "there are no pixels in it")
    if facts.color_type == _PALETTE and b"PLTE" not in seen:
        corrupt("PNG", "its palette is missing")
    return b"".join(parts), key


def _checked(view: memoryview, chunk: PngChunk) -> memoryview:
    """The whole chunk, its check sum compared."""
    end = chunk.start + chunk.length
    (expected,) = struct.unpack_from(">I", view, end)
    if zlib.crc32(view[chunk.start - 4 : end]) != expected:
        corrupt("PNG", f"the check sum of its {chunk.kind.decode()} chunk is wrong")
    return view[chunk.start - 8 : end + 4]


def _key(view: memoryview, chunk: PngChunk, color_type: int) -> tuple[int, ...] | None:
    samples = 1 if color_type == _GRAY else 3
    if chunk.length != 2 * samples:
        return None
    _checked(view, chunk)
    return struct.unpack_from(f">{samples}H", view, chunk.start)


def _shallow(plain: bytes, color_type: int) -> NDArray[np.uint8]:
    from PIL.PngImagePlugin import PngImageFile

    try:
        with PngImageFile(io.BytesIO(plain)) as picture:
            picture.load()
            if color_type == _PALETTE:
                return np.array(picture.convert("RGBA" if "transparency" in picture.info else "RGB"))
            mode = {_GRAY: "L", _RGB: "RGB"}.get(color_type, "RGBA")
            return np.array(picture if picture.mode == mode else picture.convert(mode))
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError, struct.error, zlib.error) as error:
        raise CorruptImage(f"The PNG file is damaged: {error}. Get a fresh copy of it.", format="png") from error


def _deep(header: Header, plain: bytes) -> NDArray[np.uint16]:
    """By libpng, which gets rows that are known to be good: it would print its complaints."""
    rows = png_rows.unpack(header, plain)
    plain = png_rows.pack(plain[: png_rows.HEADER_END], rows)
    pixels = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        corrupt("PNG", "its pixels can't be unpacked")
    if pixels.ndim == 2:
        return np.asarray(pixels, dtype=np.uint16)
    code = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return np.asarray(cv2.cvtColor(pixels, code), dtype=np.uint16)


def _with_key(pixels: Deep, key: tuple[int, ...], depth: int) -> Deep:
    """RGBA in which the pixels of the key's color are transparent."""
    full = np.iinfo(pixels.dtype).max
    wanted = np.array([(sample & (1 << depth) - 1) * _FILL[depth] for sample in key], dtype=pixels.dtype)
    rgb = cv2.merge([pixels] * 3) if pixels.ndim == 2 else pixels
    hidden = np.all(rgb == wanted, axis=2)
    alpha = np.where(hidden, 0, full).astype(pixels.dtype)
    return np.dstack((rgb, alpha))
