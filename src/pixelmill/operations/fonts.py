"""Fonts that text is written in: Pillow's built-in one, and files of the user's, which FreeType reads.

Bytes in, fonts of a size out. A file is a TrueType or OpenType font of bounded size; nothing here opens files or knows
fonts of the machine, so that the same pipeline gives the same picture everywhere. Letters are laid out one after the
other (no shaping, no ligatures): whether a library that could do more is there differs from machine to machine.
"""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING

from pixelmill.errors import InvalidParameter
from pixelmill.operations.parameters import BUILT_IN_FONTS, Font

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

MAX_FONT_BYTES = 20_000_000
_SIGNATURES = (b"\0\1\0\0", b"OTTO", b"true", b"ttcf")
"""First bytes of TrueType, OpenType with CFF outlines, Apple's TrueType, and a collection (its first font counts)."""
_NO_CHARACTER = "\uffff"
_CHECKED_AT = 16  # pixels; any size shows whether FreeType can read it, and which letters it has


def font_of(data: bytes, shown: str) -> Font:
    """The font in a file's bytes; ``shown`` names it in messages.

    Raises :class:`InvalidParameter`: too large, not TrueType or OpenType, or broken.
    """
    if len(data) > MAX_FONT_BYTES:
        raise _refused(shown, f"it has more than {MAX_FONT_BYTES:,} bytes")
    if not data.startswith(_SIGNATURES):
        raise _refused(shown, "it is no TrueType or OpenType font (WOFF files must be unpacked first)")
    font = Font(data)
    try:
        opened(font, _CHECKED_AT).getbbox("Ag")
    except (OSError, ValueError) as error:
        raise _refused(shown, f"FreeType can't read it ({error}); the file is broken") from error
    return font


def opened(font: Font | str, size: int) -> FreeTypeFont:
    """The font at that size in pixels; text is the name of a built-in family."""
    return built_in_font(size) if isinstance(font, str) else _from_file(font, size)


@functools.lru_cache(maxsize=8)
def built_in_font(size: int) -> FreeTypeFont:
    """Pillow's own font, at that size in pixels."""
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # with a size given, unless Pillow was built without FreeType
    return font


@functools.lru_cache(maxsize=4)  # of up to 20 MB
def _from_file(font: Font, size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(io.BytesIO(font.data), size, layout_engine=ImageFont.Layout.BASIC)


def missing_letters(text: str, font: Font | str) -> list[str]:
    """The characters of ``text`` that the font has no glyph for, each once: FreeType draws its empty box for them.

    FreeType tells of it only by what it draws: so each is compared with a code point that is no character.
    """
    small = opened(font, _CHECKED_AT)
    box = _drawn(_NO_CHARACTER, small)
    letters = dict.fromkeys(letter for letter in text if not letter.isspace())
    return [letter for letter in letters if _drawn(letter, small) == box]


def _drawn(letter: str, font: FreeTypeFont) -> tuple[tuple[int, int], bytes]:
    mask, (left, top) = font.getmask2(letter)
    return (left, top), bytes(mask)


def _refused(shown: str, reason: str) -> InvalidParameter:
    return InvalidParameter(
        f"text: the font {shown!r} can't be used: {reason}. Give a .ttf or .otf file of at most "
        f"{MAX_FONT_BYTES // 1_000_000} MB, or one of the built-in families: {', '.join(BUILT_IN_FONTS)}.",
        operation="text",
        parameter="font",
        allowed=f"{', '.join(BUILT_IN_FONTS)}, or a font file",
    )
