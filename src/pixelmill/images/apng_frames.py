"""The frames of an animated PNG, composed as its specification says.

Every frame is made a PNG of its own, of checked chunks, and read as such: what holds for still files holds for each
frame. Pillow's own reader is not used: it gives 8 bits only, and mixes colors with what is transparent.
Source: PNG specification, third edition, sections 11.3.6 (acTL, fcTL, fdAT) and 13.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.images import decode_png, png_header
from pixelmill.images.formats import PNG, Data
from pixelmill.images.header import Header, PngChunk, PngFacts, corrupt
from pixelmill.images.image import Need, Size

_SHARED = frozenset({b"PLTE", b"tRNS", b"iCCP"})
_CONTROL = struct.Struct(">IIIIIHHBB")
_BACKGROUND, _PREVIOUS = 1, 2
_OVER = 1
_END = b"\0\0\0\0IEND\xaeB`\x82"
_COLOR_TYPE = 25  # where it stands in a file
_GRAY_TYPES = frozenset({0, 4})


@dataclass(frozen=True, slots=True)
class Control:
    """One fcTL chunk: where the picture lies, how it is shown, and the chunks that hold it."""

    x: int
    y: int
    size: Size
    duration: float
    disposal: int
    over: bool
    parts: list[PngChunk] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Script:
    """The whole file: its pictures, what they share, and how often they are shown (0: for ever)."""

    canvas: Size
    pictures: tuple[Control, ...]
    plays: int
    shared: bytes
    alpha: bool


def script(data: Data, header: Header) -> Script:
    """What the chunks say; raises :class:`CorruptImage` where they contradict each other, or the file ends early."""
    facts, canvas = header.facts, header.info.stored_size
    assert isinstance(facts, PngFacts)
    if not facts.complete:
        corrupt("PNG", "it ends before the animation does")
    pictures = _pictures(data, facts, canvas)
    count, plays = struct.unpack_from(">II", _body(data, _only(facts, b"acTL")))
    if count != len(pictures):
        corrupt("PNG", f"it announces {count:,} frames and holds {len(pictures):,}")
    for number, picture in enumerate(pictures):
        if not picture.parts:
            corrupt("PNG", f"there are no pixels in frame {number}")
    first = pictures[0]
    uncovered = first.size != canvas or first.disposal == _PREVIOUS
    alpha = header.info.has_alpha or uncovered or any(item.disposal == _BACKGROUND for item in pictures[:-1])
    pixels = next((at for at, chunk in enumerate(facts.chunks) if chunk.kind == b"IDAT"), 0)
    before = [chunk for chunk in facts.chunks[:pixels] if chunk.kind in _SHARED]
    shared = b"".join(bytes(data[chunk.start - 8 : chunk.start + chunk.length + 4]) for chunk in before)
    return Script(canvas, pictures, plays, shared, alpha)


def _only(facts: PngFacts, kind: bytes) -> PngChunk:
    found = [chunk for chunk in facts.chunks if chunk.kind == kind]
    if len(found) != 1 or found[0].length != 8:
        corrupt("PNG", f"it has {len(found)} {kind.decode()} chunks, or a broken one")
    return found[0]


def _pictures(data: Data, facts: PngFacts, canvas: Size) -> tuple[Control, ...]:
    """Controls with their parts; sequence numbers must count up from 0."""
    pictures: list[Control] = []
    expected, behind_default = 0, False
    for chunk in facts.chunks:
        if chunk.kind == b"IDAT":
            behind_default = True
            if pictures:
                if len(pictures) > 1 or pictures[0].size != canvas:
                    corrupt("PNG", "its first frame is not as large as its canvas")
                pictures[0].parts.append(chunk)
        elif chunk.kind in (b"fcTL", b"fdAT"):
            body = _body(data, chunk)
            if len(body) < 4 or struct.unpack_from(">I", body)[0] != expected:
                corrupt("PNG", f"the parts of its animation are not in order; number {expected} is missing")
            expected += 1
            if chunk.kind == b"fcTL":
                pictures.append(_control(body, len(pictures), canvas))
            elif not pictures or not behind_default or (pictures[-1].parts and pictures[-1].parts[0].kind == b"IDAT"):
                corrupt("PNG", "pixels of its animation belong to no frame")
            else:
                pictures[-1].parts.append(chunk)
    return tuple(pictures)


def _control(body: bytes, number: int, canvas: Size) -> Control:
    if len(body) != _CONTROL.size:
        corrupt("PNG", f"the control chunk of frame {number} is broken")
    _, width, height, x, y, delay, parts, disposal, blend = _CONTROL.unpack(body)
    if not width or not height or x + width > canvas.width or y + height > canvas.height:
        corrupt("PNG", f"frame {number} lies outside of the canvas")
    if disposal > _PREVIOUS or blend > _OVER:
        corrupt("PNG", f"frame {number} is laid down in a way that does not exist")
    return Control(x, y, Size(width, height), 1000 * delay / (parts or 100), disposal, blend == _OVER)


def _body(data: Data, chunk: PngChunk) -> bytes:
    """What is in a chunk, its check sum compared."""
    end = chunk.start + chunk.length
    if zlib.crc32(data[chunk.start - 4 : end]) != struct.unpack_from(">I", data, end)[0]:
        corrupt("PNG", f"the check sum of its {chunk.kind.decode()} chunk is wrong")
    return bytes(data[chunk.start : end])


def frames(data: Data, whole: Script, *, icc: bool = False) -> Iterator[tuple[NDArray[Any], bytes | None, float]]:
    """The canvas after each picture, the profile that its samples keep, and its milliseconds.

    With ``icc`` they keep one wherever the canvas has the colors that it describes: gray that becomes RGBA goes to
    sRGB.
    """
    gray = data[_COLOR_TYPE] in _GRAY_TYPES
    need = Need(icc=icc and not (whole.alpha and gray))
    canvas: NDArray[Any] | None = None
    for number, picture in enumerate(whole.pictures):
        part, profile = _part(data, whole, picture, need)
        if canvas is None:
            shape = (whole.canvas.height, whole.canvas.width, *part.shape[2:])
            canvas = np.zeros(shape, part.dtype)
        place = slice(picture.y, picture.y + picture.size.height), slice(picture.x, picture.x + picture.size.width)
        disposal = _BACKGROUND if picture.disposal == _PREVIOUS and number == 0 else picture.disposal
        before = canvas[place].copy() if disposal == _PREVIOUS else None
        canvas[place] = _over(part, canvas[place]) if picture.over and part.shape[2:] == (4,) else part
        yield canvas.copy(), profile, picture.duration
        if disposal == _BACKGROUND:
            canvas[place] = 0
        elif before is not None:
            canvas[place] = before


def _part(data: Data, whole: Script, picture: Control, need: Need) -> tuple[NDArray[Any], bytes | None]:
    """One picture, read as the PNG that it would be alone; with alpha where any frame has it."""
    head = struct.pack(">II", *picture.size) + bytes(data[24:29])
    packed = b"".join(_body(data, part)[4 if part.kind == b"fdAT" else 0 :] for part in picture.parts)
    signature = PNG.signatures[0][0][1]
    single = b"".join((signature, chunk(b"IHDR", head), whole.shared, chunk(b"IDAT", packed), _END))
    pixels, icc = decode_png.read(single, png_header.read(single), need)
    if whole.alpha and pixels.shape[2:] != (4,):
        rgb = pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)
        return np.dstack((rgb, np.full(rgb.shape[:2], _full(rgb), rgb.dtype))), icc
    return pixels, icc


def _full(samples: NDArray[Any]) -> int:
    return 65_535 if samples.dtype == np.uint16 else 255


def chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk, with its length and check sum."""
    return b"".join((struct.pack(">I", len(body)), kind, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))))


def _over(above: NDArray[Any], below: NDArray[Any]) -> NDArray[Any]:
    """Straight-alpha RGBA over RGBA, rounded (PNG specification, 12.7 and 13.16)."""
    full = _full(above)
    cover = above[..., 3:] / full
    rest = below[..., 3:] / full * (1 - cover)
    alpha = cover + rest
    color = np.divide(
        above[..., :3] * cover + below[..., :3] * rest, alpha, out=np.zeros(above[..., :3].shape), where=alpha > 0
    )
    return np.rint(np.dstack((color, alpha * full))).astype(above.dtype)
