"""A decoder gives what is needed, at the least cost: orientation, scale and luma."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil
from PIL import ImageOps

from pixelmill.errors import CorruptImage
from pixelmill.images.decode import decode
from pixelmill.images.image import Need, Size
from pixelmill.images.orientation import upright
from pixelmill.images.scales import EIGHTHS, SMALLEST_SIDE, extent, pick_eighths, scaled

sides = st.integers(1, 20_000)
sizes = st.builds(Size, sides, sides)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["jpeg", "png", "webp"])
def test_pictures_come_upright(pictures: Any, fmt: str, orientation: int) -> None:
    exif = b"Exif\0\0" + pictures.exif_block(orientation)
    options: dict[str, Any] = {"lossless": True} if fmt == "webp" else {}
    data = pictures.write(pictures.draw(45, 28), fmt, exif=exif, **options)
    want = np.asarray(ImageOps.exif_transpose(Pil.open(io.BytesIO(data))).convert("RGB"))
    image = decode(data)
    assert image.pixels.flags.c_contiguous
    assert image.pixels.shape == want.shape
    assert np.abs(image.pixels.astype(int) - want).max() <= 1
    if orientation == 1:
        stored = image.pixels
        assert np.array_equal(stored, upright(stored, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_works_for_gray_and_for_16_bits(orientation: int) -> None:
    marks = np.arange(6, dtype=np.uint16).reshape(2, 3)
    picture = Pil.fromarray(marks.astype(np.uint8))
    picture.getexif()[0x0112] = orientation
    want = np.asarray(ImageOps.exif_transpose(picture))
    assert np.array_equal(upright(marks, orientation), want)
    colored = np.dstack([marks, marks + 10, marks + 20])
    assert np.array_equal(upright(colored, orientation)[..., 1], want + 10)


@given(full=sizes, least=st.none() | sizes)
def test_the_scale_is_the_smallest_that_covers_the_need(full: Size, least: Size | None) -> None:
    eighths = pick_eighths(full, least)
    size = scaled(full, eighths)
    assert eighths in EIGHTHS
    if eighths < 8:
        assert least is not None
        assert size.width >= least.width
        assert size.height >= least.height
    if least is not None and min(full) >= SMALLEST_SIDE:
        for smaller in EIGHTHS[: EIGHTHS.index(eighths)]:
            other = scaled(full, smaller)
            assert other.width < least.width or other.height < least.height


@given(full=sizes, eighths=st.sampled_from(EIGHTHS))
def test_the_extent_of_a_scaled_picture_is_exact(full: Size, eighths: int) -> None:
    got = scaled(full, eighths) if min(full) >= SMALLEST_SIDE else full
    width, height = extent(full, got)
    if min(full) >= SMALLEST_SIDE:
        assert (width * 8, height * 8) == (full.width * eighths, full.height * eighths)
    assert 0 <= got.width - width < 1
    assert 0 <= got.height - height < 1


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    least=st.builds(Size, st.integers(1, 400), st.integers(1, 400)),
    orientation=st.integers(1, 8),
    wants_color=st.booleans(),
)
def test_what_comes_covers_the_need_and_keeps_the_aspect(
    pictures: Any, width: int, height: int, least: Size, orientation: int, wants_color: bool
) -> None:
    exif = b"Exif\0\0" + pictures.exif_block(orientation)
    data = pictures.write(pictures.draw(width, height), "jpeg", exif=exif)
    full = Size(height, width) if orientation > 4 else Size(width, height)
    image = decode(data, Need(color=wants_color, least=least))
    covers = image.size.width >= least.width and image.size.height >= least.height
    assert covers or image.size == full
    across, down = extent(full, image.size)
    assert across * full.height == pytest.approx(down * full.width)
    assert image.channels == (3 if wants_color else 1)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("eighths", EIGHTHS)
def test_luma_alone_is_the_gray_of_the_full_decode(photo: bytes, eighths: int, subsampling: int) -> None:
    buffer = io.BytesIO()
    Pil.open(io.BytesIO(photo)).save(buffer, "jpeg", quality=90, subsampling=subsampling, icc_profile=b"")
    least = scaled(Size(640, 427), eighths)
    gray = decode(buffer.getvalue(), Need(color=False, least=least))
    color = decode(buffer.getvalue(), Need(least=least))
    assert gray.size == color.size == least
    want = cv2.cvtColor(color.pixels[..., ::-1], cv2.COLOR_BGR2GRAY)
    # Where a color was clipped to 0 or 255, gray from it can't be luma again.
    inside = ((color.pixels > 0) & (color.pixels < 255)).all(axis=2)
    assert np.abs(gray.pixels.astype(int) - want)[inside].max() <= 2


def test_a_scaled_decode_shows_the_same_picture(photo: bytes) -> None:
    full = decode(photo).pixels
    half = decode(photo, Need(least=Size(300, 200)))
    assert half.size == Size(320, 214)
    want = cv2.resize(full[:426], (320, 213), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(half.pixels[:213] - want).mean() < 3


def test_a_gray_jpeg_is_gray_whatever_is_needed(pictures: Any) -> None:
    data = pictures.write(pictures.draw(64, 64)[..., 0], "jpeg")
    assert decode(data).channels == 1
    assert decode(data, Need(color=False, least=Size(8, 8))).size == Size(8, 8)


def test_odd_sampling_factors_go_another_way(pictures: Any) -> None:
    """Luma three times as wide as chroma: TurboJPEG has no name for it; legal all the same (T.81, A.1.1)."""

    def gray(width: int) -> bytes:
        data: bytes = pictures.write(pictures.draw(width, 40)[..., 1], "jpeg", quality=90)
        return data

    luma, chroma = gray(48), gray(16)
    frame, scan = luma.index(b"\xff\xc0"), luma.index(b"\xff\xda")
    components = b"\1\x31\0\2\x11\0\3\x11\0"
    head = luma[:frame] + b"\xff\xc0\0\x11\x08\0\x28\0\x30\3" + components + luma[frame + 13 : scan]
    scans = b""
    for number, body in ((1, luma), (2, chroma), (3, chroma)):
        at = body.index(b"\xff\xda")
        scans += b"\xff\xda\0\x08\1" + bytes([number]) + body[at + 6 : -2]
    data = head + scans + b"\xff\xd9"
    with pytest.raises(ValueError, match="subsampling"):
        simplejpeg.decode_jpeg(data)
    picture = np.asarray(Pil.open(io.BytesIO(data)))
    assert picture.shape == (40, 48, 3)
    assert np.array_equal(decode(data).pixels, picture)
    assert decode(data, Need(color=False, least=Size(8, 8))).size == Size(48, 40)
    with pytest.raises(CorruptImage):
        decode(data[:-40])


def test_photographs_with_all_orientations_look_alike(assets: Path) -> None:
    for shape in ("Landscape", "Portrait"):
        folder = assets / "variants" / "exif-orientation"
        want = decode((folder / f"{shape}_1.jpg").read_bytes()).pixels.astype(int)
        for orientation in range(2, 9):
            got = decode((folder / f"{shape}_{orientation}.jpg").read_bytes()).pixels
            assert got.shape == want.shape
            assert np.abs(got - want).mean() < 12
