"""The metadata of an image file, found by format: EXIF, XMP, IPTC, and the short texts of a PNG.

Nothing here raises: what is broken, too large or not there is None, since metadata never costs the picture. Bounded in
every step; pixels are not touched. Sources: Exif 3.0, 4.7; XMP specification part 3 (JPEG, PNG, TIFF, GIF);
PNG third edition, 11.3; WebP container specification; ISO/IEC 15444-1, I.7.2 (uuid boxes); JPEG 2000 uuids as ExifTool
documents them. Extended XMP of a JPEG (what did not fit into 64 kB: pictures, depth maps, history) is not read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from pixelmill.errors import PixelmillError
from pixelmill.images import exif_block, heic, iptc, jpeg_header, png_header, xmp
from pixelmill.images.exif_block import Exif
from pixelmill.images.formats import Data
from pixelmill.images.header import PngChunk, PngFacts
from pixelmill.images.pillow_files import open_lazily, translated

XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"
EXIF_MARK = b"Exif\0"
PHOTOSHOP_MARK = b"Photoshop 3.0\0"
PNG_XMP = b"XML:com.adobe.xmp"
GIF_XMP = b"XMP DataXMP"
_JP2_EXIF = b"JpgTiffExif->JP2"
_JP2_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_MAX_TEXT = 10_000
_MAX_BOXES = 4_096
_MAX_BLOCKS = 1_000_000
_APP1, _APP13 = 0xE1, 0xED
_RAW_PROFILES = {
    b"exif": "exif",
    b"APP1": "exif",
    b"xmp": "xmp",
    b"iptc": "iptc",
    b"8bim": "iptc",
}


@dataclass(frozen=True, slots=True)
class Blocks:
    """What a file holds. ``sizes`` are bytes in the file by kind; ``texts`` are PNG's ``Author`` and ``Copyright``."""

    exif: Exif | None = None
    xmp: bytes | None = None
    iptc: tuple[iptc.Dataset, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Raw:
    """Blocks as bytes; the first of a kind counts."""

    found: dict[str, bytes] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, block: Data, maximum: int) -> None:
        if 0 < len(block) <= maximum:
            self.found.setdefault(kind, bytes(block))


def read(data: Data, fmt: str) -> Blocks:
    """The blocks of a file of format ``fmt`` (as ``probe`` names it)."""
    raw = _Raw()
    try:
        if fmt in _READERS:
            _READERS[fmt](data, raw)
    except (PixelmillError, struct.error, IndexError, ValueError, zlib.error):
        pass  # what was found until there counts
    exif = raw.found.get("exif")
    parsed = exif_block.read(data if fmt == "tiff" else exif) if exif is not None else None
    if parsed is not None:
        parsed = _without_blocks(parsed, raw)
    sets = iptc.read(raw.found.get("iptc", b""))
    sizes = {kind: len(block) for kind, block in raw.found.items()}
    if parsed is None or not parsed:
        sizes.pop("exif", None)
    elif fmt == "tiff":
        sizes["exif"] = len(exif_block.write(parsed))
    if not sets:
        sizes.pop("iptc", None)
    return Blocks(parsed, raw.found.get("xmp"), sets, raw.texts, sizes)


def _jpeg(data: Data, raw: _Raw) -> None:
    resources: list[bytes] = []
    try:
        for marker, start, end in jpeg_header.segments(data):
            if marker == _APP1 and bytes(data[start : start + 5]) == EXIF_MARK:
                raw.add("exif", data[start + 6 : end], exif_block.MAX_BYTES)
            elif marker == _APP1 and bytes(data[start : start + 29]) == XMP_MARK:
                raw.add("xmp", data[start + 29 : end], xmp.MAX_BYTES)
            elif marker == _APP13 and bytes(data[start : start + 14]) == PHOTOSHOP_MARK:
                resources.append(bytes(data[start + 14 : end]))
    finally:
        raw.add("iptc", iptc.of_resources(b"".join(resources)), iptc.MAX_BYTES)


def _png(data: Data, raw: _Raw) -> None:
    facts = png_header.read(data).facts
    assert isinstance(facts, PngFacts)
    for chunk in facts.chunks:
        body = data[chunk.start : chunk.start + chunk.length]
        if chunk.kind == b"eXIf":
            raw.add("exif", body, exif_block.MAX_BYTES)
        elif chunk.kind in (b"tEXt", b"zTXt", b"iTXt") and chunk.length <= 2 * xmp.MAX_BYTES:
            _png_text(chunk, bytes(body), raw)


def _png_text(chunk: PngChunk, body: bytes, raw: _Raw) -> None:
    keyword, _, rest = body.partition(b"\0")
    profile = keyword.startswith(b"Raw profile type ")
    if keyword != PNG_XMP and not profile and keyword not in (b"Author", b"Copyright"):
        return
    text, encoding = _inflated(chunk.kind, rest), "utf-8" if chunk.kind == b"iTXt" else "latin-1"
    if keyword == PNG_XMP:
        raw.add("xmp", text, xmp.MAX_BYTES)
    elif profile:
        _raw_profile(keyword[17:], text, raw)
    elif 0 < len(text) <= _MAX_TEXT:
        raw.texts.setdefault(keyword.decode(), text.decode(encoding, "replace").strip("\0 "))


def _inflated(kind: bytes, rest: bytes) -> bytes:
    """The text behind the keyword of a chunk of that kind, at most ``2 * xmp.MAX_BYTES`` of it; empty if broken."""
    packed = kind == b"zTXt"
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[2]
    if not packed:
        return rest
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(rest, 2 * xmp.MAX_BYTES + 100)
    except zlib.error:
        return b""
    return text if inflate.eof else b""


def _raw_profile(name: bytes, text: bytes, raw: _Raw) -> None:
    """ImageMagick's way: a name, a length, and bytes in hexadecimal."""
    _, _, length, digits = text.split(b"\n", 3)
    block = bytes.fromhex(digits.decode("ascii", "replace"))[: int(length)]
    kind = _RAW_PROFILES.get(name)
    if kind == "exif" and block.startswith(XMP_MARK):
        kind, block = "xmp", block[len(XMP_MARK) :]
    elif kind == "exif" and not block.startswith(EXIF_MARK):
        return
    elif kind == "iptc" and block.startswith((b"8BIM", PHOTOSHOP_MARK)):
        block = iptc.of_resources(block.removeprefix(PHOTOSHOP_MARK))
    if kind is not None:
        raw.add(kind, block, iptc.MAX_BYTES if kind == "iptc" else xmp.MAX_BYTES)


def _webp(data: Data, raw: _Raw) -> None:
    for kind, start, end in riff_chunks(data):
        if kind == b"EXIF":
            raw.add("exif", data[start:end], exif_block.MAX_BYTES)
        elif kind == b"XMP ":
            raw.add("xmp", data[start:end], xmp.MAX_BYTES)


def riff_chunks(data: Data) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the body of each whole chunk of a WebP."""
    at = 12
    for _ in range(65_536):
        if at + 8 > len(data):
            return
        kind, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > len(data):
            return
        yield kind, at + 8, at + 8 + length
        at += 8 + length + (length & 1)


def _avif(data: Data, raw: _Raw) -> None:
    with translated("avif"), open_lazily(data, "avif") as picture:
        for kind in ("exif", "xmp"):
            block = picture.info.get(kind)
            if isinstance(block, bytes):
                raw.add(kind, block, exif_block.MAX_BYTES)


def _heic(data: Data, raw: _Raw) -> None:
    for kind, block in heic.blocks(data).items():
        raw.add(kind, block, exif_block.MAX_BYTES)


def _jxl(data: Data, raw: _Raw) -> None:
    """Boxes of the container; compressed ones are not read."""
    for kind, start, end in _boxes(data):
        if kind == b"Exif" and end - start > 4:
            raw.add(
                "exif", data[start + 4 + int.from_bytes(data[start : start + 4], "big") : end], exif_block.MAX_BYTES
            )
        elif kind == b"xml ":
            raw.add("xmp", data[start:end], xmp.MAX_BYTES)


def _tiff(data: Data, raw: _Raw) -> None:
    raw.found["exif"] = bytes(data[:8])  # the tags are in the file's own directory


def _without_blocks(parsed: Exif, raw: _Raw) -> Exif:
    """In a TIFF, XMP and IPTC lie among the tags: they are taken out."""
    tags = dict(parsed.main)
    packet, block = tags.pop(exif_block.XMP, None), tags.pop(exif_block.IPTC, None)
    resources = tags.pop(exif_block.PHOTOSHOP, None)
    if packet is not None:
        raw.add("xmp", packet.data, xmp.MAX_BYTES)
    if block is not None:
        words = block.data
        if block.kind == exif_block.LONG and words[:1] != b"\x1c":  # swapped, as whole numbers were
            words = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
        raw.add("iptc", words, iptc.MAX_BYTES)
    elif resources is not None:
        raw.add("iptc", iptc.of_resources(resources.data), iptc.MAX_BYTES)
    return replace(parsed, main=tags)


def _gif(data: Data, raw: _Raw) -> None:
    """An application extension that holds the packet as it is, and a trailer that leads every reader to its end."""
    at = bytes(data[: _MAX_BLOCKS * 100]).find(b"\x21\xff\x0b" + GIF_XMP)
    if at >= 0:
        start = at + 14
        block = bytes(data[start : start + xmp.MAX_BYTES + 258])
        end = block.find(b"\x01\xff\xfe\xfd")
        raw.add("xmp", block[: max(0, end)], xmp.MAX_BYTES)


def _jpeg2000(data: Data, raw: _Raw) -> None:
    for kind, start, end in _boxes(data):
        if kind == b"uuid":
            name = bytes(data[start : start + 16])
            if name == _JP2_EXIF:
                raw.add("exif", data[start + 16 : end], exif_block.MAX_BYTES)
            elif name == _JP2_XMP:
                raw.add("xmp", data[start + 16 : end], xmp.MAX_BYTES)


def _boxes(data: Data) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the body of each whole box; none in a bare codestream."""
    at = 0
    for _ in range(_MAX_BOXES):
        if at + 8 > len(data) or data[0] == 0xFF:
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        end = len(data) if length == 0 else at + length
        if end < at + head or end > len(data):
            return
        yield kind, at + head, end
        at = end


_READERS: Mapping[str, Callable[[Data, _Raw], None]] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "avif": _avif,
    "tiff": _tiff,
    "gif": _gif,
    "jpeg2000": _jpeg2000,
    "heic": _heic,
    "jxl": _jxl,
}
