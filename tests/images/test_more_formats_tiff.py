"""TIFF: every layout and depth is read as it was written, written as asked, and refused by name where it is broken."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from damage import flipped, must_decode_or_be_refused
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil
from PIL import ImageCms, ImageOps

from pixelmill.errors import CorruptImage, InputError, LimitExceeded, UnsupportedFormat
from pixelmill.images import tiff_header
from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.header import TiffFacts
from pixelmill.images.image import Image, Size
from pixelmill.images.limits import Limits
from pixelmill.images.probe import probe

PACKINGS = ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "tiff_lzma", "zstd"]
SHORT = 3


def tiff(pixels: Any, order: str = "<", *, apart: bool = False, big: bool = False, **more: tuple[int, ...]) -> bytes:
    """A plain TIFF by hand: one strip (a plane, where they are apart), numbers in the given byte order."""
    height, width = pixels.shape[:2]
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    planes = [pixels[..., n] for n in range(samples)] if apart and samples > 1 else [pixels]
    strips = [np.ascontiguousarray(plane).astype(plane.dtype.newbyteorder(order)).tobytes() for plane in planes]
    magic = {"<": b"II", ">": b"MM"}[order]
    head = magic + (struct.pack(order + "HHHQ", 43, 8, 0, 0) if big else struct.pack(order + "HI", 42, 0))
    starts, at = [], len(head)
    for strip in strips:
        starts.append(at)
        at += len(strip)
    tags = {
        256: (width,),
        257: (height,),
        258: (8 * pixels.itemsize,) * samples,
        259: (1,),
        262: (1 if samples == 1 else 2,),
        273: tuple(starts),
        277: (samples,),
        278: (height,),
        279: tuple(len(strip) for strip in strips),
        284: (2 if apart else 1,),
        339: ({"u": 1, "i": 2, "f": 3}[pixels.dtype.kind],) * samples,
        **{int(name[1:]): numbers for name, numbers in more.items()},
    }
    blobs = {tag: (4, len(numbers), struct.pack(f"{order}{len(numbers)}I", *numbers)) for tag, numbers in tags.items()}
    for tag in (258, 338, 339):
        if tag in tags:
            blobs[tag] = (SHORT, len(tags[tag]), struct.pack(f"{order}{len(tags[tag])}H", *tags[tag]))
    return tiff_header.with_directory(head + b"".join(strips), order, big, blobs)


def values_of(shape: tuple[int, ...], kind: Any) -> Any:
    rng = np.random.default_rng(7)
    if kind == np.float32:
        return rng.random(shape, dtype=np.float32)
    return rng.integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)


@pytest.fixture(scope="session")
def packed(pictures: Any) -> dict[str, bytes]:
    rgb = pictures.draw(48, 40)
    deep = encode(Image(rgb.astype(np.uint16) * 257), "tiff", {"compression": "lzw"})
    return {**{name: pictures.write(rgb, "tiff", compression=name) for name in PACKINGS}, "deep": deep}


def same(data: bytes, within: int = 0) -> None:
    """The decoded pixels are Pillow's, upright, cut to the 8 bits that Pillow gives."""
    image = decode(data)
    with Pil.open(io.BytesIO(data)) as opened:
        opened.load()
        wanted: Any = ImageOps.exif_transpose(opened)
        if not wanted.mode.startswith("I;16"):
            wanted = wanted.convert({1: "L", 3: "RGB", 4: "RGBA"}[image.channels])
    pixels = image.pixels.astype(int)
    if image.pixels.dtype == np.uint16 and not wanted.mode.startswith("I;16"):
        pixels >>= 8
    assert np.abs(pixels - np.asarray(wanted)).max() <= within
    info = probe(data)
    assert (info.size, info.bytes, info.has_alpha) == (image.size, len(data), image.has_alpha)


@pytest.mark.parametrize("name", PACKINGS)
def test_every_packing_is_read_as_pillow_reads_it(packed: dict[str, bytes], name: str) -> None:
    same(packed[name])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"])
@pytest.mark.parametrize("packing", ["raw", "tiff_lzw"])
def test_every_mode_is_read_as_pillow_reads_it(pictures: Any, mode: str, packing: str) -> None:
    picture = Pil.fromarray(np.dstack([pictures.draw(33, 21), pictures.draw(33, 21)[..., 2]]))
    if mode in ("CMYK", "YCbCr", "RGBX"):
        picture = picture.convert("RGB")
    same(
        pictures.write(
            picture.convert("P").convert("PA") if mode == "PA" else picture.convert(mode), "tiff", compression=packing
        ),
        1,
    )


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(9, 14), (9, 14, 3), (9, 14, 4), (1, 1, 3)])
def test_every_depth_keeps_every_bit(shape: tuple[int, ...], kind: Any, order: str, apart: bool) -> None:
    pixels = values_of(shape, kind)
    more: dict[str, Any] = {"t338": (2,)} if shape[-1] == 4 else {}
    for big in (False, True):
        image = decode(tiff(pixels, order, apart=apart, big=big, **more))
        assert image.pixels.dtype == kind
        assert np.array_equal(image.pixels, pixels)
    info = probe(tiff(pixels, order, apart=apart, **more))
    assert info.depth == 8 * np.dtype(kind).itemsize
    assert info.mode == {2: "gray", 3: {3: "rgb", 4: "rgba"}.get(shape[-1])}[len(shape)]


def test_tiles_are_put_together() -> None:
    pixels = values_of((32, 48, 3), np.uint16)
    for kind in (np.uint8, np.uint16):
        tiles = [pixels[y : y + 16, x : x + 16].astype(kind).tobytes() for y in (0, 16) for x in (0, 16, 32)]
        size = len(tiles[0])
        starts = tuple(8 + size * n for n in range(6))
        tags = {256: (48,), 257: (32,), 258: (8 * np.dtype(kind).itemsize,) * 3, 259: (1,), 262: (2,), 277: (3,)}
        tags |= {322: (16,), 323: (16,), 324: starts, 325: (size,) * 6}
        blobs = {tag: (4, len(numbers), struct.pack(f"<{len(numbers)}I", *numbers)) for tag, numbers in tags.items()}
        blobs[258] = (SHORT, 3, struct.pack("<3H", *tags[258]))
        data = tiff_header.with_directory(b"II*\0\0\0\0\0" + b"".join(tiles), "<", False, blobs)
        assert np.array_equal(decode(data).pixels, pixels.astype(kind))


def test_white_may_be_zero() -> None:
    for kind in (np.uint8, np.uint16):
        pixels = values_of((5, 6), kind)
        assert np.array_equal(decode(tiff(pixels, t262=(0,))).pixels, np.invert(pixels))


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_color_that_was_multiplied_by_alpha_is_divided(kind: Any) -> None:
    full = 65_535 if kind == np.uint16 else 1.0
    pixels = np.array([[[full / 4, full / 2, 0, full / 2], [0, 0, 0, 0], [full, 0, full, full]]], dtype=kind)
    again = decode(tiff(pixels, t338=(1,))).pixels
    wanted = np.array([[[full / 2, full, 0, full / 2], [0, 0, 0, 0], [full, 0, full, full]]])
    assert np.abs(again - wanted).max() <= full * 3e-5


def test_lab_becomes_rgb() -> None:
    gray = Pil.fromarray(np.full((4, 4, 3), 119, np.uint8))
    lab = ImageCms.profileToProfile(
        gray, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    buffer = io.BytesIO()
    lab.save(buffer, "tiff")
    image = decode(buffer.getvalue())
    assert image.channels == 3
    assert np.abs(image.pixels.astype(int) - 119).max() <= 2


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_page_is_turned_upright(turn: int, kind: Any) -> None:
    pixels = values_of((6, 9, 3), kind)
    data = tiff(pixels, t274=(turn,))
    assert decode(data).size == probe(data).size == (Size(9, 6) if turn < 5 else Size(6, 9))
    shift = 0 if kind == np.uint8 else 8
    small = tiff((pixels >> shift).astype(np.uint8), t274=(turn,))
    with Pil.open(io.BytesIO(small)) as opened:
        upright: Any = ImageOps.exif_transpose(opened)
    assert np.array_equal(decode(data).pixels.astype(int) >> shift, np.asarray(upright))


def test_of_many_pages_the_first_comes_and_all_count(pictures: Any) -> None:
    pages = [Pil.fromarray(np.roll(pictures.draw(32, 16), 5 * n, axis=1)) for n in range(4)]
    data = pictures.write(pages[0], "tiff", save_all=True, append_images=pages[1:])
    assert probe(data).frames == 4
    assert np.array_equal(decode(data).pixels, np.asarray(pages[0]))
    with pytest.raises(LimitExceeded, match="all frames"):
        probe(data, Limits(max_pixels=32 * 16 * 3))


def test_pages_in_a_circle_are_counted_once() -> None:
    data = bytearray(tiff(values_of((2, 2), np.uint8)))
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    struct.pack_into("<I", data, at + 2 + 12 * count, at)
    assert probe(bytes(data)).frames == 1


def test_a_profile_is_brought_to_srgb_or_kept(photo: bytes) -> None:
    with Pil.open(io.BytesIO(photo)) as opened:
        profile = opened.info["icc_profile"]
    rgb = values_of((8, 8, 3), np.uint8)
    data = encode(Image(rgb, icc=profile), "tiff")
    with Pil.open(io.BytesIO(data)) as written:
        assert written.info["icc_profile"] == profile
    assert probe(data).has_icc
    assert decode(data).icc is None
    assert not np.array_equal(decode(data).pixels, rgb)
    deep = decode(encode(Image(rgb.astype(np.uint16) * 257, icc=profile), "tiff"))
    assert deep.icc == profile
    assert np.array_equal(deep.pixels, rgb.astype(np.uint16) * 257)


@pytest.mark.parametrize("compression", ["deflate", "lzw", "none"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(20, 31), (20, 31, 3), (20, 31, 4), (1, 1), (300, 1, 3)])
def test_what_is_written_comes_back(shape: tuple[int, ...], kind: Any, compression: str) -> None:
    pixels = values_of(shape, kind)
    data = encode(Image(pixels), "tif", {"compression": compression})
    again = decode(data)
    assert again.pixels.dtype == kind
    assert np.array_equal(again.pixels, pixels)
    seen = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert seen is not None
    assert seen.shape == shape
    _, facts = tiff_header.read(data).info, tiff_header.read(data).facts
    assert isinstance(facts, TiffFacts)
    packing = {"deflate": 8, "lzw": 5, "none": 1}[compression]
    assert tiff_header.number(data, facts, tiff_header.COMPRESSION, 0) == packing
    assert (tiff_header.values(data, facts, tiff_header.EXTRA) == (2,)) == (len(shape) == 3 and shape[2] == 4)


@pytest.mark.parametrize("name", [*PACKINGS, "deep"])
def test_a_truncated_file_is_refused_or_lost_nothing(packed: dict[str, bytes], name: str) -> None:
    data = packed[name]
    whole = decode(data).pixels
    for cut in sorted({*range(0, len(data), 61), *range(max(0, len(data) - 12), len(data))}):
        try:
            image = decode(data[:cut])
        except InputError:
            continue
        assert cut > len(data) - 12, "only padding may be missing"
        assert np.array_equal(image.pixels, whole)


@settings(max_examples=400, deadline=None)
@given(name=st.sampled_from([*PACKINGS, "deep"]), data=st.data())
def test_flipped_bits_give_a_picture_or_a_named_error(packed: dict[str, bytes], name: str, data: st.DataObject) -> None:
    whole = packed[name]
    end = len(whole) - 1
    places = st.one_of(st.integers(0, min(200, end)), st.integers(0, end), st.integers(max(0, end - 300), end))
    must_decode_or_be_refused(flipped(data, whole, places))


def test_sizes_are_checked_before_pixels_are_made() -> None:
    bomb = tiff(values_of((2, 2), np.uint8), t256=(16_000,), t257=(16_000,))
    with pytest.raises(LimitExceeded):
        decode(bomb)
    with pytest.raises(CorruptImage):
        decode(bomb, limits=Limits(max_pixels=300_000_000))


@pytest.mark.parametrize(
    ("kind", "tags"),
    [(np.int16, {}), (np.uint32, {}), (np.float64, {}), (np.uint8, {"t259": (6,)}), (np.uint8, {"t277": (7,)})],
)
def test_kinds_of_tiff_that_are_not_read_are_refused(kind: Any, tags: dict[str, Any]) -> None:
    with pytest.raises((UnsupportedFormat, CorruptImage)):
        decode(tiff(np.ones((4, 4), kind), **tags))


def test_libtiff_prints_nothing(packed: dict[str, bytes]) -> None:
    script = """
import sys
from pixelmill.errors import InputError
from pixelmill.images.decode import decode
data = sys.stdin.buffer.read()
for at in range(0, len(data), 23):
    for flip in (1, 255):
        broken = bytearray(data)
        broken[at] ^= flip
        try:
            decode(bytes(broken))
        except InputError:
            pass
"""
    for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "deep"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script], input=packed[name], capture_output=True, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_variants_match_pillow(assets: Path) -> None:
    checked = 0
    for path in sorted((assets / "variants").rglob("*.tif*")):
        data = path.read_bytes()
        if path.name == "16bit.s.tif":
            with pytest.raises(UnsupportedFormat):
                decode(data)
        elif path.name == "12bit.cropped.tif":
            with Pil.open(io.BytesIO(data)) as opened:
                assert np.abs(decode(data).pixels - np.asarray(opened) * (65_535 / 4_095)).max() <= 1
        elif path.name.startswith("lab"):
            assert decode(data).channels == 3
        elif path.name == "hopper.iccprofile.tif":
            same(data, 2)
        elif "16bit_RGBa" in path.name:
            assert decode(data).pixels.dtype == np.uint16
        else:
            same(data, 1)
        checked += 1
    assert checked > 25
