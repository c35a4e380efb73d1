"""A probe tells what the header says, checks limits on it, and allocates no pixel."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest

from pixelmill.errors import CorruptImage, LimitExceeded
from pixelmill.images.image import Size
from pixelmill.images.limits import Limits
from pixelmill.images.probe import probe


@pytest.mark.parametrize("fmt", ["jpeg", "png", "webp"])
def test_format_size_and_mode_are_told(pictures: Any, fmt: str) -> None:
    data = pictures.write(pictures.draw(61, 37), fmt)
    info = probe(data)
    assert (info.format, info.media_type, info.size) == (fmt, f"image/{fmt}", Size(61, 37))
    assert (info.mode, info.depth, info.frames, info.bytes) == ("rgb", 8, 1, len(data))
    assert not info.has_icc
    assert probe(memoryview(data)) == info


def test_the_pixels_need_not_be_there(pictures: Any) -> None:
    for fmt in ("jpeg", "png", "webp"):
        data = pictures.write(pictures.draw(400, 300), fmt)
        assert probe(data[:700]).size == Size(400, 300)


def test_a_photograph_is_probed(photo: bytes) -> None:
    assert probe(photo).size == Size(640, 427)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("fmt", ["jpeg", "png", "webp"])
def test_orientation_turns_the_size(pictures: Any, fmt: str, order: str, orientation: int) -> None:
    block = pictures.exif_block(orientation, order)
    info = probe(pictures.write(pictures.draw(60, 30), fmt, exif=b"Exif\0\0" + block))
    assert info.orientation == orientation
    assert info.stored_size == Size(60, 30)
    assert info.size == (Size(30, 60) if orientation > 4 else Size(60, 30))


@pytest.mark.parametrize(
    "block", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"XX*\0\x08\0\0\0", b"II*\0\x08\0\0\0\xff\xff"]
)
def test_a_broken_exif_block_says_nothing(pictures: Any, block: bytes) -> None:
    assert probe(pictures.write(pictures.draw(8, 8), "jpeg", exif=b"Exif\0\0" + block)).orientation == 1


def test_orientations_outside_1_to_8_say_nothing(pictures: Any) -> None:
    for value in (0, 9, 65535):
        data = pictures.write(pictures.draw(8, 8), "jpeg", exif=b"Exif\0\0" + pictures.exif_block(value))
        assert probe(data).orientation == 1


def test_modes_and_alpha_are_told(pictures: Any) -> None:
    rgb = pictures.draw(9, 9)
    gray = rgb[..., 0]
    alpha = np.dstack([rgb, gray])
    from PIL import Image as Pil

    def mode(data: bytes) -> tuple[str, bool]:
        info = probe(data)
        return info.mode, info.has_alpha

    assert mode(pictures.write(gray, "jpeg")) == ("gray", False)
    assert mode(pictures.write(Pil.fromarray(rgb).convert("CMYK"), "jpeg")) == ("cmyk", False)
    assert mode(pictures.write(gray, "png")) == ("gray", False)
    assert mode(pictures.write(alpha, "png")) == ("rgba", True)
    assert mode(pictures.write(alpha, "webp")) == ("rgba", True)
    assert mode(pictures.write(alpha, "webp", lossless=True)) == ("rgba", True)
    assert mode(pictures.write(Pil.fromarray(rgb).convert("P"), "png")) == ("palette", False)
    assert mode(pictures.write(Pil.fromarray(rgb).convert("P"), "png", transparency=0)) == ("palette", True)


@pytest.mark.parametrize("fmt", ["png", "webp"])
def test_frames_are_counted_and_all_of_them_limited(pictures: Any, fmt: str) -> None:
    from PIL import Image as Pil

    frames = [Pil.fromarray(np.roll(pictures.draw(20, 10), 3 * n, axis=1)) for n in range(5)]
    data = pictures.write(frames[0], fmt, save_all=True, append_images=frames[1:], duration=10)
    assert probe(data).frames == 5
    assert probe(data, Limits(max_pixels=5 * 200)).frames == 5
    with pytest.raises(LimitExceeded, match="1,000 pixels in all frames"):
        probe(data, Limits(max_pixels=5 * 200 - 1))


def test_limits_name_what_is_too_much(photo: bytes) -> None:
    for limits, what in (
        (Limits(max_bytes=1000), "bytes"),
        (Limits(max_side=639), "pixels a side"),
        (Limits(max_pixels=640 * 427 - 1), "pixels in all frames"),
    ):
        with pytest.raises(LimitExceeded) as caught:
            probe(photo, limits)
        assert caught.value.context["limit"] == what
        assert caught.value.context["value"] > caught.value.context["maximum"]


def test_a_lying_header_is_refused_before_anything_is_allocated(pictures: Any) -> None:
    rows = zlib.compress(bytes(100_000_000), 9)
    lie = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        [pictures.chunk(b"IHDR", lie), pictures.chunk(b"IDAT", rows), pictures.chunk(b"IEND", b"")]
    )
    tracemalloc.start()
    try:
        with pytest.raises(LimitExceeded):
            probe(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xe0\0\x01",
        b"\xff\xd8\xff\xda\0\x02",
        b"\xff\xd8\xff\xc0\0\x0b\x08\0\0\0\0\x01\x01\x11\0\xff\xda\0\x02",
        b"\xff\xd8" + b"\xff" * 5_000,
        b"\xff\xd8" + b"\xff\xe5\0\x02" * 6_000,
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
        b"RIFF\0\0\0\0WEBP",
        b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0",
        b"RIFF\x20\0\0\0WEBPVP8 \x0a\0\0\0" + b"\1" * 20,
        b"RIFF\x20\0\0\0WEBPJUNK\x0a\0\0\0" + b"\1" * 20,
    ],
)
def test_broken_headers_are_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptImage):
        probe(data)


def test_a_webp_whose_canvas_and_picture_differ_is_corrupt(pictures: Any) -> None:
    data = bytearray(pictures.write(pictures.draw(20, 10), "webp", exif=b"Exif\0\0" + pictures.exif_block(1)))
    assert data[12:16] == b"VP8X"
    data[24] = 5
    with pytest.raises(CorruptImage, match="6×10"):
        probe(bytes(data))


def test_a_hostile_count_of_webp_chunks_is_bounded() -> None:
    body = b"VP8X\x0a\0\0\0\x02\0\0\0\0\0\0\0\0\0" + b"ANMF\0\0\0\0" * 70_000
    with pytest.raises(LimitExceeded, match="frames"):
        probe(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body)


def test_limits_are_lowered_and_never_raised() -> None:
    own = Limits(max_bytes=100, max_pixels=200, max_side=300)
    assert own.lowered() == own
    assert own.lowered(max_bytes=99, max_pixels=201) == Limits(max_bytes=99, max_pixels=200, max_side=300)
    assert own.lowered(max_side=1).max_side == 1
