"""The one thing wanted from EXIF: the orientation.

A reader of the TIFF structure in an EXIF block, bounded in every step; a block that is broken says nothing (orientation
1), since a picture must not be refused for its metadata. Source: TIFF 6.0, section 2; Exif 2.32, 4.6.4 (tag 0x0112).
"""

from __future__ import annotations

import struct

from pixelmill.images.formats import Data

_ORIENTATION = 0x0112
_SHORT = 3
_LONG = 4
_MAX_ENTRIES = 1_024  # of IFD0; real ones have a few dozen

SWAPS_SIDES = frozenset({5, 6, 7, 8})
"""Orientations that turn the picture by a quarter: width and height change places."""


def orientation(block: Data) -> int:
    """The orientation, 1 to 8, of an EXIF block (with or without its ``Exif`` prefix); 1 where it says none."""
    start = 6 if bytes(block[:6]) in (b"Exif\0\0", b"Exif\0\xff") else 0
    view = memoryview(block)[start:]
    try:
        order = {b"II": "<", b"MM": ">"}[bytes(view[:2])]
        _, ifd = struct.unpack_from(order + "HI", view, 2)
        (count,) = struct.unpack_from(order + "H", view, ifd)
        for entry in range(ifd + 2, ifd + 2 + 12 * min(count, _MAX_ENTRIES), 12):
            tag, kind = struct.unpack_from(order + "HH", view, entry)
            if tag == _ORIENTATION and kind in (_SHORT, _LONG):
                (value,) = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), view, entry + 8)
                return int(value) if 1 <= value <= 8 else 1
    except (KeyError, struct.error):
        return 1
    return 1
