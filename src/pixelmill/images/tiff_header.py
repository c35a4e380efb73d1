"""Reads the directories of a TIFF: of the first page what its pixels need, of the others that they are there.

Every count and offset is checked against the file before anything is read, so that no other reader of the file meets
a surprise (or prints about one). ``rebuilt`` gives the same file with a directory of chosen tags alone: decoders see
neither metadata nor other pages. Sources: TIFF 6.0; Adobe TIFF technical notes 1 to 3; the BigTIFF design.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from pixelmill.errors import UnsupportedFormat
from pixelmill.images.formats import TIFF, Data
from pixelmill.images.header import MAX_ICC_BYTES, Header, TiffFacts, TiffTag, corrupt, no_such_frame, oriented
from pixelmill.images.image import ImageInfo, Size
from pixelmill.images.pillow_files import READ_MODES, mode_of, open_lazily, translated

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, ORIENTATION, SAMPLES, STRIP_SIZES, PLANAR = 273, 274, 277, 279, 284
TILE_OFFSETS, TILE_SIZES, EXTRA, SAMPLE_FORMAT, ICC = 324, 325, 338, 339, 34675

# What pixels need: layout, coding (fax options, predictor, JPEG tables), color (palette, inks, YCbCr), transparency.
NEEDED = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, 266, STRIP_OFFSETS, SAMPLES, 278, STRIP_SIZES, PLANAR, 292, 293}
    | {317, 320, 322, 323, TILE_OFFSETS, TILE_SIZES, 332, EXTRA, SAMPLE_FORMAT, 347, 530, 531, 532}
)
_SINGLE = frozenset({WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, 266, SAMPLES, 278, PLANAR, 292, 293, 317, 322, 323, 332})
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
WHOLE_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}  # types whose values are whole numbers
_MAX_ENTRIES = 4_096
_MAX_PAGES = 65_536
MAX_SAMPLES = 6
# None, fax (three kinds), LZW, JPEG, deflate, PackBits, old deflate, LZMA, Zstandard: what Pillow's libtiff unpacks.
_PACKINGS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000})
_LONG8 = 16
_MAX_OFFSET = 2**32 - 1


def read(data: Data, page: int = 0) -> Header:
    """The header of TIFF bytes, of that page.

    Raises :class:`CorruptImage`, :class:`UnsupportedFormat` for odd samples, :class:`NotApplicable` for a page that is
    not there.
    """
    order, big, first = _start(data)
    tags, following = _directory(data, order, big, first)
    others = _others(data, order, big, first, following)
    if page > len(others):
        raise no_such_frame(TIFF.name, page, 1 + len(others))
    if page:
        tags, _ = _directory(data, order, big, others[page - 1])
    facts = TiffFacts(order, big, tags)
    stored = Size(number(data, facts, WIDTH, 0), number(data, facts, HEIGHT, 0))
    if min(stored) < 1:
        corrupt("TIFF", f"its header gives the size {stored.width}×{stored.height}")
    packing = number(data, facts, COMPRESSION, 1)
    if packing not in _PACKINGS:
        raise UnsupportedFormat(f"TIFF with compression {packing} is not read. Convert the file to PNG.", format="tiff")
    samples = number(data, facts, SAMPLES, 1)
    if not 1 <= samples <= MAX_SAMPLES:
        raise UnsupportedFormat(f"TIFF with {samples:,} samples a pixel is not read. Convert it to RGB.", format="tiff")
    _check(data, facts)
    turn = number(data, facts, ORIENTATION, 1)
    turn = turn if 1 <= turn <= 8 else 1
    mode, alpha, depth = _color(data, facts, samples)
    info = ImageInfo(
        format=TIFF.name,
        media_type=TIFF.media_type,
        size=oriented(stored, turn),
        stored_size=stored,
        mode=mode,
        depth=depth,
        has_alpha=alpha,
        orientation=turn,
        frames=1 + len(others),
        has_icc=ICC in tags,
        bytes=len(data),
    )
    return Header(info, facts)


def _check(data: Data, facts: TiffFacts) -> None:
    """Lists that libtiff would complain about: values where one is meant, and packed pixels outside of the file."""
    for tag in _SINGLE & facts.tags.keys():
        if facts.tags[tag].count != 1 or facts.tags[tag].kind not in WHOLE_TYPES:
            corrupt("TIFF", f"tag {tag} of its first page is not one whole number")
    for at, lengths in ((STRIP_OFFSETS, STRIP_SIZES), (TILE_OFFSETS, TILE_SIZES)):
        starts, sizes = values(data, facts, at), values(data, facts, lengths)
        if sizes and len(sizes) != len(starts):
            corrupt("TIFF", "it has not as many lengths of its parts as places")
        if any(start + size > len(data) for start, size in zip(starts, sizes, strict=False)):
            corrupt("TIFF", "it ends before the picture does")
    if STRIP_OFFSETS not in facts.tags and TILE_OFFSETS not in facts.tags:
        corrupt("TIFF", "there are no pixels in it")


def _color(data: Data, facts: TiffFacts, samples: int) -> tuple[str, bool, int]:
    """Mode, transparency and depth: told by the tags for deep color, by Pillow for all the rest."""
    depth = number(data, facts, BITS, 1)
    if is_deep_color(data, facts):
        return ("rgb", False, depth) if samples == 3 else ("rgba", True, depth)
    with translated("tiff"), open_lazily(rebuilt(data, facts), "tiff") as picture:
        if picture.mode not in READ_MODES:
            raise UnsupportedFormat(
                "TIFF with samples of this kind is not read. Convert the file to PNG.", format="tiff"
            )
        return mode_of(picture), picture.has_transparency_data, depth


def is_deep_color(data: Data, facts: TiffFacts) -> bool:
    """Whether it is RGB or RGBA of 16-bit or float samples, of which Pillow would give 8 bits, or nothing."""
    kinds = {(16, 1), (32, 3)}
    formats = values(data, facts, SAMPLE_FORMAT) or (1,)
    return (
        number(data, facts, PHOTOMETRIC, -1) == 2
        and number(data, facts, SAMPLES, 1) in (3, 4)
        and len(set(values(data, facts, BITS))) == len(set(formats)) == 1
        and (number(data, facts, BITS, 1), formats[0]) in kinds
    )


def _start(data: Data) -> tuple[str, bool, int]:
    order = "<" if bytes(data[:2]) == b"II" else ">"
    big = data[3 if order == ">" else 2] == 43
    if big and bytes(data[4:8]) != struct.pack(order + "HH", 8, 0):
        corrupt("TIFF", "its header is not that of a BigTIFF")
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    return order, big, at


def _directory(data: Data, order: str, big: bool, at: int) -> tuple[Mapping[int, TiffTag], int]:
    """The tags of the directory at ``at`` that are whole, and the place of the next one (0: none)."""
    size, head, step, inline = len(data), 8 if big else 2, 20 if big else 12, 8 if big else 4
    if at < 8 or at + head > size:
        corrupt("TIFF", "it ends before the directory of its first page")
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    end = at + head + step * count
    if count > _MAX_ENTRIES or end + inline > size + inline:
        corrupt("TIFF", "the directory of its first page is not whole")
    tags: dict[int, TiffTag] = {}
    for entry in range(at + head, end, step):
        tag, kind, number_of = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, entry)
        place = entry + step - inline
        length = number_of * TYPE_SIZES.get(kind, 0)
        if length > inline:
            (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, place)
        if length > 0 and place + length <= size:
            tags.setdefault(tag, TiffTag(kind, number_of, place, length))
        elif tag in NEEDED:
            corrupt("TIFF", f"tag {tag} of its first page lies outside of the file")
    following = struct.unpack_from(order + ("Q" if big else "I"), data, end)[0] if end + inline <= size else 0
    return tags, int(following)


def _others(data: Data, order: str, big: bool, first: int, at: int) -> list[int]:
    """Places of the directories of further pages, without copies and masks; a chain that breaks or loops ends there."""
    seen, found = {first}, list[int]()
    head, step, inline = (8, 20, 8) if big else (2, 12, 4)
    while at and at not in seen and len(seen) < _MAX_PAGES and at + head <= len(data):
        seen.add(at)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
        end = at + head + step * count
        if end > len(data) or not count:
            break
        tag, _, _, low = struct.unpack_from(order + ("HHQI" if big else "HHII"), data, at + head)
        if not (tag == SUBFILE and low & 0b101):  # tags are sorted: this one would be the first
            found.append(at)
        at = struct.unpack_from(order + ("Q" if big else "I"), data, end)[0] if end + inline <= len(data) else 0
    return found


def values(data: Data, facts: TiffFacts, tag: int) -> tuple[int, ...]:
    """The whole numbers of a tag; empty where it is missing or holds something else."""
    found = facts.tags.get(tag)
    if found is None or found.kind not in WHOLE_TYPES:
        return ()
    return struct.unpack_from(f"{facts.order}{found.count}{WHOLE_TYPES[found.kind]}", data, found.start)


def number(data: Data, facts: TiffFacts, tag: int, default: int) -> int:
    """The first whole number of a tag, or the default."""
    return next(iter(values(data, facts, tag)), default)


def profile(data: Data, facts: TiffFacts) -> bytes | None:
    """The ICC profile; None where there is none, or it is too large."""
    found = facts.tags.get(ICC)
    return bytes(data[found.start : found.start + found.length]) if found and found.length <= MAX_ICC_BYTES else None


def rebuilt(data: Data, facts: TiffFacts, changes: Mapping[int, tuple[int, ...]] | None = None) -> bytes:
    """The file with one directory, at its end, of the tags that pixels need; ``changes`` replace their numbers.

    It is a common TIFF, of a BigTIFF too (which Pillow knows in one byte order only): limits keep it below 4 GB.
    """
    blobs = {tag: _blob(data, found) for tag, found in facts.tags.items() if tag in NEEDED}
    long = {tag: values(data, facts, tag) for tag, (kind, _, _) in blobs.items() if kind == _LONG8}
    for tag, numbers in {**long, **(changes or {})}.items():
        if max(numbers) > _MAX_OFFSET:
            corrupt("TIFF", f"a number of its tag {tag} is beyond the file")
        kind = 3 if max(numbers) < 65_536 else 4
        blobs[tag] = (kind, len(numbers), struct.pack(f"{facts.order}{len(numbers)}{WHOLE_TYPES[kind]}", *numbers))
    if number(data, facts, SAMPLES, 1) == 1:
        blobs.pop(PLANAR, None)  # says nothing of one plane, and Pillow takes it wrong
    start = bytes(data[:2]) + struct.pack(facts.order + "HI", 42, 0)
    return with_directory(start + bytes(data[8:]), facts.order, False, blobs)


def _blob(data: Data, tag: TiffTag) -> tuple[int, int, bytes]:
    return tag.kind, tag.count, bytes(data[tag.start : tag.start + tag.length])


def with_directory(data: Data, order: str, big: bool, blobs: Mapping[int, tuple[int, int, bytes]]) -> bytes:
    """The file with a new only directory at its end; ``blobs`` are type, count and bytes of each tag."""
    inline, wide = (8, "Q") if big else (4, "I")
    parts, at = [bytes(len(data) & 1)], len(data) + (len(data) & 1)
    entries = b""
    for tag in sorted(blobs):
        kind, count, blob = blobs[tag]
        entries += struct.pack(order + "HH" + wide, tag, kind, count)
        if len(blob) <= inline:
            entries += blob.ljust(inline, b"\0")
            continue
        entries += struct.pack(order + wide, at)
        parts.append(blob + bytes(len(blob) & 1))
        at += len(parts[-1])
    directory = struct.pack(order + ("Q" if big else "H"), len(blobs)) + entries + bytes(inline)
    pointer = struct.pack(order + wide, at)
    head = 8 if big else 4
    return b"".join((data[:head], pointer, data[head + inline :], *parts, directory))


def tags_of(data: Data) -> Iterator[tuple[int, tuple[int, int, bytes]]]:
    """Every tag of the first directory with its type, count and bytes."""
    order, big, at = _start(data)
    tags, _ = _directory(data, order, big, at)
    for tag, found in tags.items():
        yield tag, _blob(data, found)
