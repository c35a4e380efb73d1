"""PBM, PGM, PPM and PAM: a header of a few numbers, and samples as they are.

Read here and not by Pillow, which decodes most kinds sample by sample in Python, cuts color of 16 bits to 8, and has no
PAM. Source: the Netpbm manual, pages pbm, pgm, ppm and pam.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import LimitExceeded, UnsupportedFormat
from pixelmill.images.formats import PNM, Data
from pixelmill.images.header import Header, NetpbmFacts, corrupt
from pixelmill.images.image import ImageInfo, Need, Size

_MAX_HEADER = 16_384
_MAX_PLAIN_BYTES = 16_000_000  # of samples in letters; parsing takes over twenty times as much memory
_GAP = rb"(?:[ \t\n\v\f\r]|#[^\n\r]*[\n\r])+"
_NUMBERS = {kind: 2 if kind in b"14" else 3 for kind in b"123456"}
_COMMENT = re.compile(rb"#[^\n\r]*")
_TUPLES = {b"BLACKANDWHITE": 1, b"GRAYSCALE": 1, b"RGB": 3}  # and each with _ALPHA
_MODES = {1: "gray", 2: "rgba", 3: "rgb", 4: "rgba"}


def read_header(data: Data) -> Header:
    """The header; raises :class:`CorruptImage`, and :class:`UnsupportedFormat` for a PAM of other tuples."""
    head = bytes(data[:_MAX_HEADER])
    width, height, facts = _pam(head) if head[:2] == b"P7" else _simple(head)
    if min(width, height) < 1 or not 0 < facts.full < 65_536:
        corrupt("PNM", f"its header gives the size {width}×{height} and the largest sample {facts.full}")
    size = Size(width, height)
    alpha = facts.samples in (2, 4)
    depth = 1 if facts.packed or facts.full == 1 else 8 if facts.full < 256 else 16
    mode = _MODES[facts.samples]
    info = ImageInfo(PNM.name, PNM.media_type, size, size, mode, depth, alpha, bytes=len(data))
    if facts.plain and len(data) > _MAX_PLAIN_BYTES:
        raise LimitExceeded(
            f"The PNM file has {len(data):,} bytes of letters; of this slow kind {_MAX_PLAIN_BYTES:,} are read. "
            "Convert it to a raw one, or to PNG.",
            limit="bytes",
            value=len(data),
            maximum=_MAX_PLAIN_BYTES,
        )
    return Header(info, facts)


def _simple(head: bytes) -> tuple[int, int, NetpbmFacts]:
    kind = head[1]
    pattern = b"P." + (_GAP + rb"(\d{1,9})") * _NUMBERS[kind] + rb"[ \t\n\v\f\r]"
    found = re.match(pattern, head)
    if found is None:
        corrupt("PNM", "its header is not whole")
    width, height, *full = (int(part) for part in found.groups())
    return (
        width,
        height,
        NetpbmFacts(
            start=found.end(),
            samples=3 if kind in b"36" else 1,
            full=full[0] if full else 1,
            plain=kind in b"123",
            packed=kind == ord("4"),
            inverted=kind in b"14",
        ),
    )


def _pam(head: bytes) -> tuple[int, int, NetpbmFacts]:
    end = head.find(b"\nENDHDR\n")
    if end < 0:
        corrupt("PNM", "its header is not whole")
    fields: dict[bytes, bytes] = {}
    for line in head[3:end].split(b"\n"):
        name, _, value = line.strip().partition(b" ")
        fields.setdefault(name, value.strip())
    try:
        width, height, samples, full = (int(fields[name]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
    except (KeyError, ValueError):
        corrupt("PNM", "its header is not whole")
    kind = fields.get(b"TUPLTYPE", {1: b"GRAYSCALE", 3: b"RGB"}.get(samples, b""))
    color = kind.removesuffix(b"_ALPHA")
    if _TUPLES.get(color, 0) + (color != kind) != samples:
        raise UnsupportedFormat("PAM of this kind of tuples is not read. Convert it to RGB.", format="pnm")
    return width, height, NetpbmFacts(end + 8, samples, full, plain=False, packed=False, inverted=False)


def read(data: Data, header: Header, need: Need) -> tuple[NDArray[Any], bytes | None]:
    """Gray, RGB or RGBA; ``uint16`` where the largest sample is above 255, else ``uint8``; and no profile."""
    del need
    facts, size = header.facts, header.info.stored_size
    assert isinstance(facts, NetpbmFacts)
    shape = (size.height, size.width) if facts.samples == 1 else (size.height, size.width, facts.samples)
    samples: NDArray[Any]
    if facts.packed:
        row = (size.width + 7) // 8
        raw = _raw(data, replace(facts, full=1), size.height * row).reshape(size.height, row)
        samples = np.unpackbits(raw.astype(np.uint8, copy=False), axis=1, count=size.width)
    else:
        count = size.pixels * facts.samples
        samples = (_plain(data, facts, count) if facts.plain else _raw(data, facts, count)).reshape(shape)
        if samples.max() > facts.full:
            corrupt("PNM", f"a sample of it is above {facts.full}, which it says is the largest")
    full = 255 if facts.full < 256 else 65_535
    kind = np.uint8 if full == 255 else np.uint16
    if facts.full != full:
        steps = (np.arange(facts.full + 1, dtype=np.int64) * 2 * full + facts.full) // (2 * facts.full)  # rounds
        samples = steps.astype(kind)[samples]
    pixels = np.invert(samples.astype(kind)) if facts.inverted else samples.astype(kind)
    return (pixels[..., [0, 0, 0, 1]] if facts.samples == 2 else pixels), None


def _raw(data: Data, facts: NetpbmFacts, count: int) -> NDArray[Any]:
    kind = np.dtype(">u2" if facts.full > 255 else "u1")
    if facts.start + count * kind.itemsize > len(data):
        corrupt("PNM", "it ends before the picture does")
    return np.frombuffer(data, kind, count, facts.start)


def _plain(data: Data, facts: NetpbmFacts, count: int) -> NDArray[Any]:
    """Samples in letters: numbers, or in a PBM single digits that need no gap."""
    text = _COMMENT.sub(b"", bytes(data[facts.start :]))
    if facts.inverted:
        digits = np.frombuffer(b"".join(text.split())[:count], np.uint8) - np.uint8(ord("0"))
        numbers = digits.astype(np.int64)
    else:
        words = text.split(maxsplit=count)[:count]
        if any(not word.isdigit() or len(word) > 9 for word in words):
            corrupt("PNM", "there are letters between its numbers")
        numbers = np.array(words, dtype="S9").astype(np.int64)
    if len(numbers) < count:
        corrupt("PNM", "it ends before the picture does")
    return numbers
