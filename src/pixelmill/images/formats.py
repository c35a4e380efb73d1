"""The table of formats, and telling them apart by their first bytes.

A name, an extension or a declared media type is never trusted: :func:`sniff` and :func:`identify` look at the bytes.
What is known but not read (yet) is named in the refusal. This module decodes nothing.

SVG is text: no byte stands at a fixed place, so :func:`is_svg` reads over what may stand before its root.

Adding a format: one entry in ``FORMATS``, a header reader in ``probe.py``, a pixel reader in ``decode.py``, a writer in
``encode.py`` with its options in ``encoders.py``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeAlias

from pixelmill.errors import UnknownOperation, UnsupportedFormat

Data: TypeAlias = bytes | bytearray | memoryview
"""Encoded bytes of an image file."""

Signature: TypeAlias = tuple[tuple[int, bytes], ...]
"""Offsets and the bytes that must stand there."""


@dataclass(frozen=True, slots=True)
class Format:
    """One format that is read, and written where ``written`` says so.

    ``extensions`` start with the one that results get. A file of the format starts as one of ``signatures``.
    ``max_side`` is the largest width or height that the format (or the library that writes it) can hold.
    """

    name: str
    media_type: str
    extensions: tuple[str, ...]
    signatures: tuple[Signature, ...]
    max_side: int
    alpha: bool
    deep: bool
    """Whether 16 bits a sample can be written."""

    icc: bool = True
    """Whether a profile can be embedded; without, results are brought to sRGB."""

    written: bool = True
    extra: str | None = None
    """The extra that brings the library that reads and writes it; None where the base install does."""

    animated: bool = False
    """Whether a file of it can be an animation, and is written as one."""

    @property
    def extension(self) -> str:
        """The extension that results get, with its dot."""
        return self.extensions[0]

    def matches(self, data: Data) -> bool:
        """Whether ``data`` starts as this format does."""
        if not self.signatures:
            return is_svg(data)
        return any(_matches(signature, data) for signature in self.signatures)


JPEG = Format(
    name="jpeg",
    media_type="image/jpeg",
    extensions=(".jpg", ".jpeg", ".jpe", ".jfif"),
    signatures=(((0, b"\xff\xd8\xff"),),),
    max_side=65_500,
    alpha=False,
    deep=False,
)
PNG = Format(
    name="png",
    media_type="image/png",
    extensions=(".png", ".apng"),
    signatures=(((0, b"\x89PNG\r\n\x1a\n"),),),
    max_side=1_000_000,
    alpha=True,
    deep=True,
    animated=True,
)
WEBP = Format(
    name="webp",
    media_type="image/webp",
    extensions=(".webp",),
    signatures=(((0, b"RIFF"), (8, b"WEBP")),),
    max_side=16_383,
    alpha=True,
    deep=False,
    animated=True,
)

AVIF = Format(
    name="avif",
    media_type="image/avif",
    extensions=(".avif", ".avifs"),
    signatures=tuple(
        ((4, b"ftyp" + brand), *compatible)
        for brand, compatible in (
            (b"avif", ()),
            (b"avis", ()),
            *((b"mif1", ((at, b"avif"),)) for at in range(16, 40, 4)),
            *((b"msf1", ((at, b"avis"),)) for at in range(16, 40, 4)),
        )
    ),
    max_side=16_384,
    alpha=True,
    deep=False,
    animated=True,
)
GIF = Format(
    name="gif",
    media_type="image/gif",
    extensions=(".gif",),
    signatures=(((0, b"GIF87a"),), ((0, b"GIF89a"),)),
    max_side=65_535,
    alpha=True,
    deep=False,
    icc=False,
    animated=True,
)
BMP = Format(
    name="bmp",
    media_type="image/bmp",
    extensions=(".bmp", ".dib"),
    signatures=(((0, b"BM"),),),
    max_side=1_000_000,
    alpha=False,
    deep=False,
    icc=False,
)
TIFF = Format(
    name="tiff",
    media_type="image/tiff",
    extensions=(".tiff", ".tif"),
    signatures=(((0, b"II*\0"),), ((0, b"MM\0*"),), ((0, b"II+\0"),), ((0, b"MM\0+"),)),
    max_side=1_000_000,
    alpha=True,
    deep=True,
)
PNM = Format(
    name="pnm",
    media_type="image/x-portable-anymap",
    extensions=(".pnm", ".pbm", ".pgm", ".ppm", ".pam"),
    signatures=tuple(((0, b"P%d" % kind + gap),) for kind in range(1, 8) for gap in (b"\n", b" ", b"\r", b"\t")),
    max_side=1_000_000,
    alpha=True,
    deep=True,
    written=False,
)
ICO = Format(
    name="ico",
    media_type="image/vnd.microsoft.icon",
    extensions=(".ico",),
    signatures=(((0, b"\0\0\x01\0"),),),
    max_side=256,
    alpha=True,
    deep=False,
    written=False,
)
QOI = Format(
    name="qoi",
    media_type="image/qoi",
    extensions=(".qoi",),
    signatures=(((0, b"qoif"),),),
    max_side=1_000_000,
    alpha=True,
    deep=False,
    written=False,
)
JPEG2000 = Format(
    name="jpeg2000",
    media_type="image/jp2",
    extensions=(".jp2", ".j2k", ".jpc", ".j2c", ".jpx", ".jpf"),
    signatures=(((0, b"\0\0\0\x0cjP  \r\n\x87\n"),), ((0, b"\xff\x4f\xff\x51"),)),
    max_side=1_000_000,
    alpha=True,
    deep=False,
    written=False,
)
JXL = Format(
    name="jxl",
    media_type="image/jxl",
    extensions=(".jxl",),
    signatures=(((0, b"\xff\x0a"),), ((0, b"\0\0\0\x0cJXL \r\n\x87\n"),)),
    max_side=1_000_000,
    alpha=True,
    deep=False,
    icc=False,
    extra="jxl",
)
HEIC = Format(
    name="heic",
    media_type="image/heic",
    extensions=(".heic", ".heif", ".hif"),
    signatures=tuple(
        ((4, b"ftyp" + brand), *compatible)
        for brand, compatible in (
            (b"heic", ()),
            (b"heix", ()),
            *(
                (brand, ((at, coding),))
                for brand in (b"mif1", b"msf1")
                for at in range(16, 40, 4)
                for coding in (b"heic", b"heix")
            ),
        )
    ),
    max_side=16_384,
    alpha=True,
    deep=False,
    written=False,
    extra="heic",
)
SVG = Format(
    name="svg",
    media_type="image/svg+xml",
    extensions=(".svg",),
    signatures=(),
    max_side=32_767,
    alpha=True,
    deep=False,
    icc=False,
    written=False,
    extra="svg",
)

UNDECIDED = Format(
    name="auto",
    media_type="application/octet-stream",
    extensions=("",),
    signatures=(),
    max_side=1_000_000,
    alpha=True,
    deep=False,
)
"""Stands in plans for the format that ``format:auto`` will choose, and nowhere else."""

FORMATS: Mapping[str, Format] = {
    fmt.name: fmt for fmt in (JPEG, PNG, WEBP, AVIF, JXL, HEIC, TIFF, GIF, BMP, PNM, ICO, QOI, JPEG2000, SVG)
}
"""Every format that is read, by name."""

WRITTEN: Mapping[str, Format] = {name: fmt for name, fmt in FORMATS.items() if fmt.written}
"""Every format that is written, by name."""

ALIASES: Mapping[str, str] = {
    "jpg": "jpeg",
    "jpe": "jpeg",
    "jfif": "jpeg",
    "apng": "png",
    "tif": "tiff",
    "jp2": "jpeg2000",
    "jpegxl": "jxl",
    "heif": "heic",
}

# First match wins: the specific stands before the general.
_NOT_READ: tuple[tuple[str, tuple[Signature, ...]], ...] = (
    (
        "a HEIF file of a coding other than HEVC, or a sequence",
        tuple(((4, b"ftyp" + brand),) for brand in (b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")),
    ),
    ("an ISO media file (MP4, MOV or the like)", (((4, b"ftyp"),),)),
    ("PDF", (((0, b"%PDF"),),)),
    ("PostScript", (((0, b"%!PS"),), ((0, b"\xc5\xd0\xd3\xc6"),))),
    ("Photoshop (PSD)", (((0, b"8BPS"),),)),
    ("OpenEXR", (((0, b"v/1\x01"),),)),
    ("Radiance HDR", (((0, b"#?RADIANCE"),), ((0, b"#?RGBE"),))),
    ("a Windows cursor (CUR)", (((0, b"\0\0\x02\0"),),)),
    ("ICNS", (((0, b"icns"),),)),
    ("DDS", (((0, b"DDS "),),)),
    ("FITS", (((0, b"SIMPLE  ="),),)),
    ("SGI", (((0, b"\x01\xda"),),)),
    ("FLI or FLC", (((4, b"\x11\xaf"),), ((4, b"\x12\xaf"),))),
    ("BLP", (((0, b"BLP1"),), ((0, b"BLP2"),))),
    ("a ZIP archive", (((0, b"PK\x03\x04"),),)),
    ("a gzip archive (such as SVGZ: unpack it first)", (((0, b"\x1f\x8b"),),)),
)


def _matches(signature: Signature, data: Data) -> bool:
    return all(bytes(data[at : at + len(magic)]) == magic for at, magic in signature)


_HEAD = 4_096
"""Bytes in which the root of an SVG must start."""
_BLANKS = re.compile(r"\s*")
_ROOT = re.compile(r"<(?:[A-Za-z_][\w.-]*:)?svg[\s/>]")
# What may stand before the root, and how it ends; a document type with brackets ends behind these.
_PROLOG = (
    (re.compile(r"<\?"), re.compile(r"\?>")),
    (re.compile(r"<!--"), re.compile(r"-->")),
    (re.compile(r"<!DOCTYPE[^>\[]*\["), re.compile(r"\]\s*>")),
    (re.compile(r"<!DOCTYPE"), re.compile(r">")),
)


def is_svg(data: Data) -> bool:
    """Whether the root of an XML document is ``svg``, as far as its first 4 kB tell.

    Declarations, comments and a document type (which may hold entities in brackets) are skipped. Every step goes on
    where the last one ended, so the time is linear whatever the bytes are.
    """
    text = _head(data)
    at = 0
    while True:
        at = _BLANKS.match(text, at).end()  # type: ignore[union-attr] # matches nothing too
        ends = next((ends for start, ends in _PROLOG if start.match(text, at)), None)
        if ends is None:
            return _ROOT.match(text, at) is not None
        end = ends.search(text, at)
        if end is None:
            return False
        at = end.end()


def _head(data: Data) -> str:
    head = bytes(data[:_HEAD])
    wide = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    return head.decode("utf-16" if wide else "utf-8-sig", errors="replace")


def sniff(data: Data) -> Format | None:
    """The format that the first bytes show, or None if it is none that is read."""
    for fmt in FORMATS.values():
        if fmt.matches(data):
            return fmt
    return None


def identify(data: Data) -> Format:
    """Like :func:`sniff`, but raise :class:`UnsupportedFormat` that names what the bytes are, where that is known."""
    found = sniff(data)
    if found is not None:
        return found
    readable = ", ".join(FORMATS)
    if not len(data):
        raise UnsupportedFormat("The file is empty: there is no image in it.", format=None)
    kind = describe(data)
    if kind is not None:
        raise UnsupportedFormat(
            f"The file is {kind}, which is not read. Convert it to one of: {readable}.", format=kind
        )
    raise UnsupportedFormat(
        f"The file is not an image of a known format (its first bytes tell). Formats that are read: {readable}.",
        format=None,
    )


def describe(data: Data) -> str | None:
    """The name of a known format that is not read, by its first bytes; None if unknown."""
    for kind, signatures in _NOT_READ:
        if any(_matches(signature, data) for signature in signatures):
            return kind
    head = bytes(data[:512]).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if head.startswith(b"<?xml"):
        return "an XML document"
    return None


def format_named(name: str) -> Format:
    """The format of that name or alias, read or written; raises :class:`UnknownOperation` with the nearest names."""
    return _named(name, FORMATS)


def written_format(name: str) -> Format:
    """Like :func:`format_named`, but only a format that is written."""
    return _named(name, WRITTEN)


def _named(name: str, known: Mapping[str, Format]) -> Format:
    key = name.strip().lower().removeprefix(".")
    found = known.get(ALIASES.get(key, key))
    if found is not None:
        return found
    names = [*known, *(alias for alias, meant in ALIASES.items() if meant in known)]
    nearest = difflib.get_close_matches(key, names, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
    verb = "written" if known is WRITTEN else "read"
    missing = f"{key} is read, not written." if key in FORMATS else f"There is no format {name!r}."
    raise UnknownOperation(
        f"{missing}{hint} Formats that are {verb}: {', '.join(known)}.",
        operation=name,
        nearest=nearest,
    )


def is_animation(fmt: str, frames: int) -> bool:
    """Whether a file of that format and number of frames is an animation: pages of a TIFF are none."""
    return frames > 1 and fmt in FORMATS and FORMATS[fmt].animated


def format_of_name(path: str | PurePath) -> Format | None:
    """The format that a file name asks for by its extension (for outputs only), or None."""
    suffix = PurePath(path).suffix.lower()
    return next((fmt for fmt in WRITTEN.values() if suffix in fmt.extensions), None)
