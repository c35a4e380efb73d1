"""An EXIF block (or the tags of a TIFF) as directories of values, and back: what a rewriter of EXIF stands on.

Values are read one by one by type, count and place, each checked against the block, and are laid out anew in writing:
nothing is copied blindly, and no byte that no directory names survives. There are four directories, each read once
(main, photo, place, interoperability), so that loops of them lead nowhere; the thumbnail's is never read.
A value that lies outside, or is of no known type, is dropped alone. Sources: TIFF 6.0, section 2; Exif 3.0, 4.6.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from pixelmill.images.formats import Data

MAX_BYTES = 1_000_000
"""Of the values of a block: cameras write up to 64 kB, all that a JPEG holds."""

PHOTO, PLACE, INTEROPERABILITY = 34665, 34853, 40965  # tags that point to directories
_POINTERS = frozenset({PHOTO, PLACE, INTEROPERABILITY})
DESCRIPTION, ORIENTATION, MAKE, MODEL, SOFTWARE, DATE, ARTIST, COPYRIGHT = 270, 274, 271, 272, 305, 306, 315, 33432
TAKEN, MAKER_NOTE, USER_COMMENT, COLOR_SPACE, WIDTH, HEIGHT = 36867, 37500, 37510, 40961, 40962, 40963
XMP, IPTC, PHOTOSHOP = 700, 33723, 34377

ASCII, SHORT, LONG, UNDEFINED = 2, 3, 4, 7
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 129: 1}  # 129: UTF-8 of Exif 3
_WORDS = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8}  # bytes that change places with the byte order
_LAST_PLACE = 31  # of the tags of a place
_PROCESSING_SOFTWARE = 11
_MAX_ENTRIES = 1_024  # of a directory; real ones have a few dozen

# How pixels lie in a TIFF, pages and thumbnails, other blocks, where a map is: untrue of a new picture, or no EXIF.
NOT_EXIF = frozenset(
    {*range(254, 260), *range(262, 267), 273, *range(277, 282), *range(284, 286), *range(288, 294), 297, 301}
    | {*range(317, 348), 400, 401, *range(512, 522), *range(529, 533), 559, XMP, 4096, 32995, 32996, 32997, 32998}
    | {33421, 33422, 33550, 33920, 33922, IPTC, 34264, PHOTOSHOP, 34675, 34732, 34735, 34736, 34737, 37724, 42112}
    | {42113, 50215, 50216, 50217, 50218, 50784, 50740, *range(50706, 50740), *range(50741, 50784)}
)


class Value(NamedTuple):
    """Of a tag: its type, how many values it has, and their bytes in the block's order."""

    kind: int
    length: int
    data: bytes


Directory = Mapping[int, Value]


@dataclass(frozen=True, slots=True)
class Exif:
    """The directories of a block; ``order`` is the byte order as ``struct`` writes it."""

    order: str
    main: Directory = field(default_factory=dict)
    photo: Directory = field(default_factory=dict)
    place: Directory = field(default_factory=dict)
    interoperability: Directory = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.main or self.photo or self.place)

    def text(self, tag: int) -> str:
        """A text of the main or the photo directory, without padding; empty where there is none."""
        found = self.main.get(tag) or self.photo.get(tag)
        if found is None or found.kind not in (2, 129):
            return ""
        return found.data.split(b"\0")[0].decode("utf-8", "replace").strip()

    def number(self, value: int, kind: int = SHORT) -> Value:
        """A whole number as a value of this block."""
        return Value(kind, 1, struct.pack(self.order + ("H" if kind == SHORT else "I"), value))


def read(block: Data) -> Exif | None:
    """The block (with or without its ``Exif`` prefix; or a whole TIFF); None where it is none."""
    start = 6 if bytes(block[:6]) in (b"Exif\0\0", b"Exif\0\xff") else 0
    try:
        return _Reader(memoryview(block)[start:]).read()
    except (KeyError, struct.error):
        return None


class _Reader:
    """One pass over a block, with a budget of bytes: values of a sound block don't overlap."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._order = {b"II": "<", b"MM": ">"}[bytes(view[:2])] if len(view) >= 8 else "<"
        self._big = len(view) >= 16 and struct.unpack_from(self._order + "H", view, 2)[0] == 43
        self._left = min(MAX_BYTES, len(view))
        self._spans: list[tuple[int, int, int]] = []  # tag, start and end of long values of the directory just read

    def read(self) -> Exif:
        (at,) = struct.unpack_from(self._order + ("Q" if self._big else "I"), self._view, 8 if self._big else 4)
        main = self._directory(at)
        spans = [(main, self._spans)]
        photo = self._behind(main, PHOTO)
        spans.append((photo, self._spans))
        interoperability = self._behind(photo, INTEROPERABILITY)
        spans.append((interoperability, self._spans))
        place = {tag: value for tag, value in self._behind(main, PLACE).items() if tag <= _LAST_PLACE}
        hidden = [(start, end) for tag, start, end in self._spans if tag <= _LAST_PLACE]
        for directory, its in spans:  # a value that shares bytes with the place would tell it
            for tag, start, end in its:
                if any(start < other_end and other < end for other, other_end in hidden):
                    directory.pop(tag, None)
        return Exif(
            self._order,
            {tag: value for tag, value in main.items() if _belongs(tag)},
            {tag: value for tag, value in photo.items() if _belongs(tag)},
            place,
            {tag: value for tag, value in interoperability.items() if tag in (1, 2) and len(value.data) <= 4},
        )

    def _behind(self, directory: dict[int, Value], tag: int) -> dict[int, Value]:
        """The directory that a tag points to, which is taken out."""
        self._spans = []
        pointer = directory.pop(tag, None)
        if pointer is None or len(pointer.data) != 4:
            return {}
        try:
            return self._directory(struct.unpack(self._order + "I", pointer.data)[0])
        except struct.error:
            return {}

    def _directory(self, at: int) -> dict[int, Value]:
        head, step, inline = (8, 20, 8) if self._big else (2, 12, 4)
        (count,) = struct.unpack_from(self._order + ("Q" if self._big else "H"), self._view, at)
        found: dict[int, Value] = {}
        self._spans = []
        for entry in range(at + head, at + head + step * min(count, _MAX_ENTRIES), step):
            if entry + step > len(self._view):
                break
            tag, kind, number = struct.unpack_from(self._order + ("HHQ" if self._big else "HHI"), self._view, entry)
            kind = LONG if kind == 13 else kind  # the type of pointers, in some writers
            if tag in found or (tag in NOT_EXIF and tag not in (XMP, IPTC, PHOTOSHOP)):
                continue
            place = entry + step - inline
            value = self._value(place, kind, number, inline, pointer=tag in (PHOTO, PLACE))
            if value is not None:
                found[tag] = value
                if len(value.data) > inline:
                    (start,) = struct.unpack_from(self._order + ("Q" if self._big else "I"), self._view, place)
                    self._spans.append((tag, start, start + len(value.data)))
        return found

    def _value(self, place: int, kind: int, number: int, inline: int, *, pointer: bool) -> Value | None:
        if pointer and kind in (16, 18):  # a BigTIFF may point by 64 bits
            (at,) = struct.unpack_from(self._order + "Q", self._view, place)
            return Value(LONG, 1, struct.pack(self._order + "I", at)) if at < 2**32 else None
        length = number * SIZES.get(kind, 0)
        if length > inline:
            (place,) = struct.unpack_from(self._order + ("Q" if inline == 8 else "I"), self._view, place)
        if not 0 < length <= self._left or place + length > len(self._view):
            return None
        self._left -= length
        return Value(kind, number, bytes(self._view[place : place + length]))


def _belongs(tag: int) -> bool:
    """Whether it may stand in the main or the photo directory: no pointer, and no tag of a place gone astray."""
    return tag not in _POINTERS and (tag > _LAST_PLACE or tag == _PROCESSING_SOFTWARE)


def directory_bytes(order: str, tags: Directory, at: int, following: int = 0) -> bytes:
    """A directory that will lie at ``at``, its long values behind it; ``following`` is the place of the next one."""
    entries, values = b"", b""
    behind = at + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):
        kind, count, data = tags[tag]
        entries += struct.pack(order + "HHI", tag, kind, count)
        if len(data) <= 4:
            entries += data.ljust(4, b"\0")
        else:
            entries += struct.pack(order + "I", behind + len(values))
            values += data + bytes(len(data) & 1)
    return struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", following) + values


def with_pointers(exif: Exif, at: int) -> tuple[dict[int, Value], bytes]:
    """The main directory's tags with pointers to the other ones, and those, as they will lie from ``at`` on."""
    main, photo, behind = dict(exif.main), dict(exif.photo), b""
    if exif.interoperability:
        photo[INTEROPERABILITY] = exif.number(at, LONG)
        behind += directory_bytes(exif.order, exif.interoperability, at)
    for tag, tags in ((PHOTO, photo), (PLACE, exif.place)):
        if tags:
            main[tag] = exif.number(at + len(behind), LONG)
            behind += directory_bytes(exif.order, tags, at + len(behind))
    return main, behind


def write(exif: Exif) -> bytes:
    """The block, without a prefix: the inverse of :func:`read`."""
    main, behind = with_pointers(exif, 8)
    mark = b"II" if exif.order == "<" else b"MM"
    return (
        mark
        + struct.pack(exif.order + "HI", 42, 8 + len(behind))
        + behind
        + directory_bytes(exif.order, main, 8 + len(behind))
    )


def fitting(exif: Exif, limit: int) -> Exif | None:
    """The same in at most ``limit`` bytes: the longest values go, as few as need be; None where nothing is left."""
    excess = len(write(exif)) - limit
    if excess <= 0:
        return exif
    parts = {"main": dict(exif.main), "photo": dict(exif.photo), "place": dict(exif.place)}
    lengths = [(len(value.data), name, tag) for name, tags in parts.items() for tag, value in tags.items()]
    for length, name, tag in sorted(lengths, reverse=True):
        if excess <= 0:
            break
        del parts[name][tag]
        excess -= 12 + (length if length > 4 else 0)
    left = replace(exif, main=parts["main"], photo=parts["photo"], place=parts["place"])
    return left if left and len(write(left)) <= limit else None


def reordered(exif: Exif, order: str) -> Exif:
    """The same values in another byte order."""
    if order == exif.order:
        return exif
    return Exif(
        order,
        *(
            {tag: _swapped(tag, value) for tag, value in tags.items()}
            for tags in (exif.main, exif.photo, exif.place, exif.interoperability)
        ),
    )


def _swapped(tag: int, value: Value) -> Value:
    size = _WORDS.get(value.kind, 1)
    if tag == USER_COMMENT and value.data.startswith(b"UNICODE\0") and not len(value.data) & 1:
        text = np.frombuffer(value.data[8:], np.uint16).byteswap().tobytes()  # it has the block's order
        return value._replace(data=b"UNICODE\0" + text)
    if size == 1:
        return value
    return value._replace(data=np.frombuffer(value.data, f"u{size}").byteswap().tobytes())
