"""Damages image files, and holds what a decoder may do with them."""

from __future__ import annotations

from hypothesis import strategies as st

from pixelmill.errors import InputError
from pixelmill.images.decode import decode
from pixelmill.images.limits import Limits


def flipped(data: st.DataObject, whole: bytes, places: st.SearchStrategy[int]) -> bytes:
    """The file with bits inverted in one to four bytes, at ``places``."""
    broken = bytearray(whole)
    for at, flip in data.draw(st.lists(st.tuples(places, st.integers(1, 255)), min_size=1, max_size=4)):
        broken[at] ^= flip
    return bytes(broken)


def must_decode_or_be_refused(broken: bytes) -> None:
    """A picture within the limits, or an error of the input; every other exception goes on."""
    limits = Limits(max_pixels=1_000_000)
    try:
        image = decode(broken, limits=limits)
    except InputError:
        return
    assert image.size.pixels <= limits.max_pixels
