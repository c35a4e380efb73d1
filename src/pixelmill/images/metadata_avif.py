"""EXIF and XMP into an AVIF file that has none: two more items of its ``meta`` box.

The items' bytes go to the end of the file; the box grows, so every place that is counted from the file's start moves:
those of the items (``iloc``), and of an animation's samples (``stco``, ``co64``). Sources: ISO/IEC 14496-12 (8.11,
8.7.5); ISO/IEC 23008-12, annex A (an Exif item starts with the offset of its TIFF header; XMP is a ``mime`` item).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})


class _Box(NamedTuple):
    kind: bytes
    start: int
    """Of its body."""
    end: int


def write(body: bytes, exif: bytes | None, xmp: bytes | None) -> bytes:
    """The file with the items; unchanged where it is laid out in a way that no encoder at hand writes."""
    items = []
    if exif:
        items.append((b"Exif\0", bytes(4) + exif))
    if xmp:
        items.append((b"mime\0application/rdf+xml\0", xmp))
    boxes = list(_boxes(body, 0, len(body)))
    meta = next((box for box in boxes if box.kind == b"meta"), None)
    if not items or meta is None or any(box.end - box.start > 2**31 for box in boxes):
        return body
    inner = {box.kind: box for box in _boxes(body, meta.start + 4, meta.end)}
    if not {b"pitm", b"iinf", b"iloc"} <= inner.keys():
        return body
    # The length of the new box must be known before places in it are: all numbers in it have a fixed width.
    grown = _meta(body, meta, inner, items, 0, 0)
    if grown is None:
        return body
    growth = len(grown) - (meta.end - meta.start + 8)
    final = _meta(body, meta, inner, items, growth, len(body) + growth + 8)
    assert final is not None
    whole = b"".join((body[: meta.start - 8], final, _moved(body, boxes, meta, growth)))
    return whole + _box(b"mdat", b"".join(block for _, block in items))


def _boxes(body: bytes, at: int, end: int) -> Iterator[_Box]:
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", body, at)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", body, at + 8)
            head = 16
        elif length == 0:
            length = end - at
        if length < head or at + length > end:
            return
        yield _Box(kind, at + head, at + length)
        at += length


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _meta(
    body: bytes,
    meta: _Box,
    inner: dict[bytes, _Box],
    items: list[tuple[bytes, bytes]],
    growth: int,
    at: int,
) -> bytes | None:
    """The new meta box, whose new items lie from ``at`` on; None where it can't be made."""
    first = _free_item(body, inner[b"iinf"])
    primary = body[inner[b"pitm"].start + 4 : inner[b"pitm"].end]
    places = _places(body, inner[b"iloc"], growth, meta.end)
    if len(primary) != 2 or first + len(items) > 65_535 or places is None:
        return None
    links = infos = b""
    for number, (kind, block) in enumerate(items, first):
        infos += _box(b"infe", struct.pack(">IHH", 2 << 24, number, 0) + kind[:4] + kind[4:5] + kind[5:])
        links += _box(b"cdsc", struct.pack(">HH", number, 1) + primary)
        places.append((number, [(at, len(block))]))
        at += len(block)
    parts = [body[meta.start : meta.start + 4]]
    for box in _boxes(body, meta.start + 4, meta.end):
        inside = body[box.start : box.end]
        if box.kind == b"iinf":
            count = struct.unpack_from(">H", inside, 4)[0] + len(items)
            inside = inside[:4] + struct.pack(">H", count) + inside[6:] + infos
        elif box.kind == b"iref":
            inside += links
        elif box.kind == b"iloc":
            inside = _written(places)
        parts.append(_box(box.kind, inside))
    if b"iref" not in inner:
        parts.append(_box(b"iref", bytes(4) + links))
    return _box(b"meta", b"".join(parts))


def _free_item(body: bytes, box: _Box) -> int:
    """The number behind the highest one; 65,535 (no room) where the box is of another kind."""
    highest = 0
    if body[box.start] != 0:
        return 65_535
    for info in _boxes(body, box.start + 6, box.end):
        if body[info.start] != 2:
            return 65_535
        highest = max(highest, struct.unpack_from(">H", body, info.start + 4)[0])
    return highest + 1


_Places = list[tuple[int, list[tuple[int, int]]]]


def _places(body: bytes, box: _Box, growth: int, behind: int) -> _Places | None:
    """Each item's extents in the file, moved where they lie behind ``behind``."""
    if body[box.start] > 1 or (body[box.start] == 1 and body[box.start + 5] & 0x0F):
        return None
    sizes, bases = body[box.start + 4], body[box.start + 5]
    widths = {0: "", 4: "I", 8: "Q"}
    offset, length, base = widths.get(sizes >> 4), widths.get(sizes & 15), widths.get(bases >> 4)
    if not offset or not length or base is None:
        return None
    (count,) = struct.unpack_from(">H", body, box.start + 6)
    at, found = box.start + 8, []
    item = struct.Struct(">H" + ("H" if body[box.start] == 1 else "") + "H" + base + "H")
    extent = struct.Struct(">" + offset + length)
    for _ in range(count):
        fields = item.unpack_from(body, at)
        at += item.size
        method = fields[1] & 15 if body[box.start] == 1 else 0
        if method or fields[-3 if base else -2]:
            return None  # in a box, or in another file
        start = fields[-2] if base else 0
        extents = []
        for _ in range(fields[-1]):
            where, size = extent.unpack_from(body, at)
            at += extent.size
            extents.append((start + where + (growth if start + where >= behind else 0), size))
        found.append((fields[0], extents))
    return found


def _written(places: _Places) -> bytes:
    """The body of an iloc box: version 0, offsets and lengths of 4 bytes, no bases."""
    parts = [struct.pack(">IBBH", 0, 0x44, 0, len(places))]
    for number, extents in places:
        parts.append(struct.pack(">HHH", number, 0, len(extents)))
        parts += [struct.pack(">II", *extent) for extent in extents]
    return b"".join(parts)


def _moved(body: bytes, boxes: list[_Box], meta: _Box, growth: int) -> bytes:
    """What lies behind the meta box, with the samples' places moved."""
    changed = bytearray(body)
    stack = [box for box in boxes if box.kind in _CONTAINERS]
    while stack:
        box = stack.pop()
        if box.kind in _CONTAINERS:
            stack += _boxes(body, box.start, box.end)
        elif box.kind in (b"stco", b"co64"):
            wide = "I" if box.kind == b"stco" else "Q"
            (count,) = struct.unpack_from(">I", body, box.start + 4)
            form = struct.Struct(f">{count}{wide}")
            places = form.unpack_from(body, box.start + 8)
            form.pack_into(changed, box.start + 8, *(at + growth if at >= meta.end else at for at in places))
    return bytes(changed[meta.end :])
