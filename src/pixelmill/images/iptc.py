"""IPTC blocks: datasets of the Information Interchange Model, in Photoshop's image resources or bare.

Lengths are checked one by one; from the first lie on, the rest is dropped. Sources: IPTC-NAA IIM 4.2, section 1.5;
Adobe, "Photoshop File Formats", image resource blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

MAX_BYTES = 256_000
_MAX_SETS = 4_096
_MARK = 0x1C
_SIGNATURES = frozenset({b"8BIM", b"PHUT", b"AgHg", b"DCSR", b"MeSa"})
_RESOURCE = 0x0404

CHARACTER_SET = (1, 90)
BY_LINE, CREDIT, COPYRIGHT = (2, 80), (2, 110), (2, 116)
CREDITS = frozenset({CHARACTER_SET, BY_LINE, CREDIT, COPYRIGHT})
_PREVIEW = frozenset({(2, 200), (2, 201), (2, 202)})
_UTF8 = b"\x1b%G"


class Dataset(NamedTuple):
    """One of them: record and number, and its bytes."""

    key: tuple[int, int]
    data: bytes


def read(block: bytes) -> tuple[Dataset, ...]:
    """The datasets up to the first that is not whole, without previews."""
    found: list[Dataset] = []
    at, size = 0, min(len(block), MAX_BYTES)
    while at + 5 <= size and block[at] == _MARK and len(found) < _MAX_SETS:
        record, number, length = struct.unpack_from(">BBH", block, at + 1)
        at += 5
        if length & 0x8000:  # the low bits say how many bytes the length has
            wide = length & 0x7FFF
            length = int.from_bytes(block[at : at + wide], "big") if wide <= 4 else size
            at += wide
        if at + length > size:
            break
        if (record, number) not in _PREVIEW:
            found.append(Dataset((record, number), block[at : at + length]))
        at += length
    return tuple(found)


def write(sets: Sequence[Dataset]) -> bytes:
    """The block: the inverse of :func:`read`."""
    parts = []
    for (record, number), data in sets:
        size = struct.pack(">H", len(data)) if len(data) < 0x8000 else b"\x80\x04" + struct.pack(">I", len(data))
        parts.append(bytes((_MARK, record, number)) + size + data)
    return b"".join(parts)


def text_of(sets: Sequence[Dataset], key: tuple[int, int]) -> list[str]:
    """The texts of a dataset: UTF-8 where the block says so or they are; else Latin-1, as most writers do."""
    texts = []
    for item in sets:
        if item.key == key:
            try:
                texts.append(item.data.decode("utf-8").strip("\0 "))
            except UnicodeDecodeError:
                texts.append(item.data.decode("latin-1").strip("\0 "))
    return [text for text in texts if text]


def of_resources(block: bytes) -> bytes:
    """The IPTC block among Photoshop's resources; empty where there is none."""
    at = 0
    while at + 12 <= len(block) and block[at : at + 4] in _SIGNATURES:
        (kind,) = struct.unpack_from(">H", block, at + 4)
        at += 6
        at += 1 + block[at] + (~block[at] & 1)  # a name, padded to an even length with its own
        if at + 4 > len(block):
            break
        (length,) = struct.unpack_from(">I", block, at)
        at += 4
        if kind == _RESOURCE:
            return block[at : at + length]  # what is not there, the datasets will miss
        at += length + (length & 1)
    return b""


def resource(block: bytes) -> bytes:
    """The IPTC block as the only one of Photoshop's resources."""
    return b"8BIM" + struct.pack(">HHI", _RESOURCE, 0, len(block)) + block + bytes(len(block) & 1)
