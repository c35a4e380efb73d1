"""JPEG XL files with other headers: what no encoder at hand writes, over frames that one wrote."""

from __future__ import annotations

from collections.abc import Iterable

from pixelmill.images import jxl_header

Field = tuple[int, int]
"""A value and its number of bits."""

SRGB: tuple[Field, ...] = ((1, 1),)  # all default
P3: tuple[Field, ...] = ((0, 1), (0, 1), (0, 2), (1, 2), (2, 2), (9, 4), (0, 1), (2, 2), (11, 4), (1, 2))
"""Not default, no profile, RGB, D65, primaries 2 + 9, no gamma, transfer 2 + 11, relative intent."""


def bits(fields: Iterable[Field]) -> tuple[int, int]:
    """All fields, one behind the other, as a value and its number of bits."""
    value = count = 0
    for part, width in fields:
        value |= part << count
        count += width
    return value, count


def parts(data: bytes) -> tuple[Field, int, bytes]:
    """Of a codestream: signature and size, the number of bits of its header, and what follows as bytes."""
    reader = jxl_header._Bits(data)
    total = 8 * len(data)
    reader.take(16)
    jxl_header._size(reader)
    size = total - reader._left
    if not reader.flag():
        rest = reader._value
        jxl_header._metadata(reader, jxl_header._Channels())
        if rest & 1:
            assert reader.flag(), "tone mapping is default"
        assert reader.take(2) == 0, "no extensions"
    assert reader.flag(), "transforms are default"
    end = total - reader._left
    return (int.from_bytes(data, "little") & (1 << size) - 1, size), end, data[-(-end // 8) :]


def reheaded(
    data: bytes,
    *,
    orientation: int = 1,
    xyb: bool = False,
    alpha: bool = False,
    associated: bool = False,
    animated: bool = False,
    color: Iterable[Field] = SRGB,
    behind: Field = (0, 0),
) -> bytes:
    """The frames of ``data`` (of 8 bits a sample) below a header of these values; ``behind`` is a coded profile."""
    size, _, frames = parts(data)
    extra: tuple[Field, ...] = ((1, 1), (orientation - 1, 3), (0, 1), (0, 1), (animated, 1))
    if animated:
        extra += ((0, 2), (0, 2), (0, 2), (0, 1))
    channels: tuple[Field, ...] = ((0, 2),)
    if alpha:
        channels = ((1, 2), (0, 1), (0, 2), (0, 1), (0, 2), (0, 2), (0, 2), (associated, 1))
    metadata = (size, (0, 1), *extra, (0, 1), (0, 2), (1, 1), *channels, (xyb, 1), *color)
    value, count = bits((*metadata, (1, 1), (0, 2), (1, 1), behind))
    return value.to_bytes(-(-count // 8), "little") + frames


def coded_profile(tagged: bytes, untagged: bytes) -> Field:
    """The bits of the profile in a codestream, by the same one without it: frames start at a whole byte."""
    _, start, _ = parts(tagged)
    frames = parts(untagged)[2]
    assert tagged.endswith(frames)
    end = 8 * (len(tagged) - len(frames))
    return (int.from_bytes(tagged, "little") & (1 << end) - 1) >> start, end - start
