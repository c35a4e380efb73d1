"""Color spaces, profiles, depths and transparency come out as RGB(A) or gray, in sRGB."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil
from PIL import ImageCms

from pixelmill.images import color, png_rows
from pixelmill.images.decode import decode
from pixelmill.images.image import Need
from pixelmill.images.probe import probe


def near(left: Any, right: Any, within: int) -> bool:
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    return int(np.abs(left.astype(np.int32) - right.astype(np.int32)).max()) <= within


def write_again(photo: bytes, **options: Any) -> bytes:
    """The photograph without its profile."""
    buffer = io.BytesIO()
    Pil.open(io.BytesIO(photo)).save(buffer, "jpeg", icc_profile=b"", **options)
    return buffer.getvalue()


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """An sRGB profile whose red and blue primaries changed places: valid, and far from sRGB."""
    profile = bytearray(srgb_profile())
    (count,) = struct.unpack_from(">I", profile, 128)
    tags = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, blue = tags[b"rXYZ"] + 4, tags[b"bXYZ"] + 4
    profile[red : red + 8], profile[blue : blue + 8] = profile[blue : blue + 8], profile[red : red + 8]
    return bytes(profile)


def gray_profile(gamma: float) -> bytes:
    """A gray profile with one gamma, built by hand (ICC.1, 8.4.2): white point and gray curve."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", 0xF6D6, 0x10000, 0xD32D)
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"gray\0" + bytes(78 + 4 + 4 + 3)
    body, table, at = b"", b"", 128 + 4 + 36
    for name, tag in ((b"desc", text), (b"wtpt", white), (b"kTRC", curve)):
        padded = tag + bytes(-len(tag) % 4)
        table += name + struct.pack(">II", at + len(body), len(padded))
        body += padded
    header = struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ") + bytes(12) + b"acsp"
    header += bytes(128 - len(header) - 60) + struct.pack(">iii", 0xF6D6, 0x10000, 0xD32D)
    header += bytes(128 - len(header))
    whole = header + struct.pack(">I", 3) + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def test_jpeg_is_read_as_libjpeg_reads_it(photo: bytes) -> None:
    for subsampling in (0, 1, 2):
        data = write_again(photo, subsampling=subsampling)
        image = decode(data)
        assert image.icc is None
        assert image.pixels.flags.c_contiguous
        assert near(image.pixels, Pil.open(io.BytesIO(data)), 1)


def test_the_profile_of_a_photograph_is_used(photo: bytes) -> None:
    """The photograph is in Adobe RGB: its greens are stronger than they look when taken as sRGB."""
    assert not near(decode(photo).pixels, Pil.open(io.BytesIO(photo)), 20)


@pytest.mark.parametrize("profile", [srgb_profile(), b"broken", srgb_profile()[:200], b""])
def test_srgb_and_broken_profiles_change_nothing(pictures: Any, profile: bytes) -> None:
    rgb = pictures.draw(40, 30)
    for fmt in ("png", "webp"):
        options: dict[str, Any] = {"lossless": True} if fmt == "webp" else {}
        plain = decode(pictures.write(rgb, fmt, **options))
        tagged = decode(pictures.write(rgb, fmt, icc_profile=profile, **options))
        assert np.array_equal(plain.pixels, tagged.pixels)
        assert tagged.icc is None
    plain = decode(pictures.write(rgb, "jpeg"))
    assert np.array_equal(plain.pixels, decode(pictures.write(rgb, "jpeg", icc_profile=profile)).pixels)


@pytest.mark.parametrize("fmt", ["jpeg", "png", "webp"])
def test_a_profile_is_brought_to_srgb(pictures: Any, fmt: str) -> None:
    every: dict[str, dict[str, Any]] = {
        "jpeg": {"quality": 95, "subsampling": 0},
        "webp": {"lossless": True},
        "png": {},
    }
    options = every[fmt]
    data = pictures.write(pictures.draw(64, 48), fmt, icc_profile=swapped_profile(), **options)
    assert probe(data).has_icc
    picture = Pil.open(io.BytesIO(data)).convert("RGB")
    want = ImageCms.profileToProfile(
        picture,
        ImageCms.ImageCmsProfile(io.BytesIO(swapped_profile())),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    image = decode(data)
    assert image.icc is None
    assert near(image.pixels, want, 1)
    assert not near(image.pixels, picture, 40)


def test_alpha_is_kept_beside_a_profile(pictures: Any) -> None:
    rgba = np.dstack([pictures.draw(30, 20), np.arange(600, dtype=np.uint8).reshape(20, 30)])
    image = decode(pictures.write(rgba, "png", icc_profile=swapped_profile()))
    assert np.array_equal(image.pixels[..., 3], rgba[..., 3])
    opaque = decode(pictures.write(np.ascontiguousarray(rgba[..., :3]), "png", icc_profile=swapped_profile()))
    assert np.array_equal(image.pixels[..., :3], opaque.pixels)


def test_right_color_comes_before_the_luma_short_cut(pictures: Any) -> None:
    rgb = pictures.draw(64, 48)
    luma = Need(color=False)
    assert decode(pictures.write(rgb, "jpeg", icc_profile=srgb_profile()), luma).channels == 1
    assert decode(pictures.write(rgb, "jpeg", icc_profile=swapped_profile()), luma).channels == 3


@pytest.mark.parametrize("fmt", ["jpeg", "png"])
def test_gray_profiles_go_by_their_curve(pictures: Any, fmt: str) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    image = decode(pictures.write(ramp, fmt, icc_profile=gray_profile(1.0)))
    assert image.channels == 1
    assert image.pixels[8, 128] > 180  # half the light is a light gray
    assert image.pixels[8, 0] <= 1
    assert image.pixels[8, 255] >= 254


def test_gray_with_alpha_and_a_gray_profile_goes_by_the_same_curve(pictures: Any) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    both = Pil.merge("LA", [Pil.fromarray(ramp), Pil.fromarray(ramp[:, ::-1].copy())])
    gray = decode(pictures.write(ramp, "png", icc_profile=gray_profile(1.0))).pixels
    image = decode(pictures.write(both, "png", icc_profile=gray_profile(1.0)))
    assert np.array_equal(image.pixels[..., 0], gray)
    assert np.array_equal(image.pixels[..., 3], ramp[:, ::-1])


def test_a_profile_for_another_color_space_is_ignored(pictures: Any) -> None:
    gray = pictures.draw(20, 20)[..., 0]
    assert np.array_equal(decode(pictures.write(gray, "png", icc_profile=swapped_profile())).pixels, gray)


def test_the_cache_of_transforms_is_bounded() -> None:
    cache = color._Transforms(3)
    for number in range(9):
        cache.get(b"profile %d" % number, "rgb")
    assert len(cache) == 3


def test_cmyk_is_read_as_pillow_reads_it(pictures: Any) -> None:
    cmyk = Pil.fromarray(pictures.draw(60, 40)).convert("CMYK")
    data = pictures.write(cmyk, "jpeg", quality=95)
    picture = Pil.open(io.BytesIO(data))
    assert picture.mode == "CMYK"
    assert near(decode(data).pixels, picture.convert("RGB"), 2)
    assert decode(data, Need(color=False)).channels == 3


def test_rgb_coded_jpeg_is_not_taken_for_ycbcr(pictures: Any) -> None:
    rgb = pictures.draw(60, 40)
    data = pictures.write(rgb, "jpeg", quality=95, keep_rgb=True)
    assert near(decode(data).pixels, Pil.open(io.BytesIO(data)), 1)
    assert decode(data, Need(color=False)).channels == 3


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_keeps_every_bit(pictures: Any, channels: int) -> None:
    rng = np.random.default_rng(channels)
    samples = rng.integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    image = decode(pictures.raw_png(7, 5, 16, color_type, rows))
    want = {
        1: samples[..., 0],
        2: samples[..., [0, 0, 0, 1]] if channels == 2 else samples,
        3: samples,
        4: samples,
    }[channels]
    assert image.pixels.dtype == np.uint16
    assert np.array_equal(image.pixels, want)


@pytest.mark.parametrize(("width", "height"), [(7, 5), (1, 1), (2, 9), (8, 8), (17, 3)])
def test_interlaced_16_bit_png_is_put_together(pictures: Any, width: int, height: int) -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (height, width, 3), dtype=np.uint16)
    rows = b""
    for left, top, across, down in png_rows._ADAM7:
        part = samples[top::down, left::across]
        if part.size:
            rows += b"".join(b"\0" + row.astype(">u2").tobytes() for row in part)
    image = decode(pictures.raw_png(width, height, 16, 2, rows, adam7=True))
    assert np.array_equal(image.pixels, samples)


def test_16_bit_png_keeps_a_profile_it_can_not_be_freed_of(pictures: Any) -> None:
    import zlib

    rows = b"".join(b"\0" + bytes(7 * 6) for _ in range(5))
    for profile, kept in ((swapped_profile(), swapped_profile()), (srgb_profile(), None)):
        tag = pictures.chunk(b"iCCP", b"x\0\0" + zlib.compress(profile))
        assert decode(pictures.raw_png(7, 5, 16, 2, rows, tag)).icc == kept


@pytest.mark.parametrize(("depth", "packed"), [(1, b"\xa0"), (2, b"\xcc"), (4, b"\xf0\xf0")])
def test_few_bits_fill_the_byte_and_a_key_is_transparent(pictures: Any, depth: int, packed: bytes) -> None:
    width = 8 * len(packed) // depth
    pattern = np.array([255, 0] * (width // 2), np.uint8)
    if depth == 1:
        pattern = np.array([255, 0, 255, 0, 0, 0, 0, 0], np.uint8)
    plain = decode(pictures.raw_png(width, 1, depth, 0, b"\0" + packed)).pixels
    assert np.array_equal(plain[0], pattern)
    key = pictures.chunk(b"tRNS", struct.pack(">H", (1 << depth) - 1))
    keyed = decode(pictures.raw_png(width, 1, depth, 0, b"\0" + packed, key)).pixels
    assert np.array_equal(keyed[0, :, 3], 255 - pattern)
    assert np.array_equal(keyed[0, :, 0], pattern)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_color_key_hides_that_color_alone(pictures: Any, depth: int) -> None:
    kind = ">u1" if depth == 8 else ">u2"
    row = np.array([[1, 2, 3], [1, 2, 4], [200, 2, 3]], dtype=kind)
    key = pictures.chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    pixels = decode(pictures.raw_png(3, 1, depth, 2, b"\0" + row.tobytes(), key)).pixels
    full = (1 << depth) - 1
    assert pixels[0].tolist() == [[1, 2, 3, 0], [1, 2, 4, full], [200, 2, 3, full]]


def test_palettes_with_and_without_alpha(pictures: Any) -> None:
    palette = pictures.chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
    alpha = pictures.chunk(b"tRNS", bytes([7]))
    plain = decode(pictures.raw_png(2, 1, 8, 3, b"\0\0\1", palette)).pixels
    assert plain.tolist() == [[[10, 20, 30], [40, 50, 60]]]
    keyed = decode(pictures.raw_png(2, 1, 8, 3, b"\0\0\1", palette, alpha)).pixels
    assert keyed.tolist() == [[[10, 20, 30, 7], [40, 50, 60, 255]]]


def test_gray_with_alpha_becomes_rgba(pictures: Any) -> None:
    pixels = decode(pictures.raw_png(1, 1, 8, 4, b"\0\x40\x80")).pixels
    assert pixels.tolist() == [[[0x40, 0x40, 0x40, 0x80]]]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA"])
def test_png_of_every_mode_is_read_as_pillow_reads_it(pictures: Any, mode: str) -> None:
    picture = Pil.fromarray(np.dstack([pictures.draw(33, 21), pictures.draw(33, 21)[..., 2]])).convert(mode)
    want = {"L": "L", "1": "L", "RGB": "RGB", "P": "RGBA" if "transparency" in picture.info else "RGB"}.get(
        mode, "RGBA"
    )
    image = decode(pictures.write(picture, "png"))
    if mode == "P":
        assert near(image.pixels[..., :3], picture.convert("RGB"), 0)
    else:
        assert near(image.pixels, picture.convert(want), 0)


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
def test_webp_is_read_as_pillow_reads_it(pictures: Any, channels: int, lossless: bool) -> None:
    rgb = pictures.draw(50, 40)
    pixels = rgb if channels == 3 else np.dstack([rgb, rgb[..., 0]])
    data = pictures.write(pixels, "webp", lossless=lossless, exact=True)
    image = decode(data)
    assert image.channels == channels
    assert near(image.pixels, Pil.open(io.BytesIO(data)), 0)


@pytest.mark.parametrize("fmt", ["png", "webp"])
def test_of_an_animation_the_first_frame_is_decoded(pictures: Any, fmt: str) -> None:
    first = pictures.draw(32, 16)
    frames = [Pil.fromarray(np.roll(first, 5 * n, axis=1)) for n in range(3)]
    data = pictures.write(frames[0], fmt, save_all=True, append_images=frames[1:], lossless=True)
    assert np.array_equal(decode(data).pixels[..., :3], first)


def test_pngsuite_pairs_show_the_same_picture(assets: Path) -> None:
    folder = assets / "hostile" / "pngsuite"
    for interlaced in sorted(folder.glob("basi*.png")):
        plain = folder / interlaced.name.replace("basi", "basn")
        left, right = decode(interlaced.read_bytes()), decode(plain.read_bytes())
        assert np.array_equal(left.pixels, right.pixels), interlaced.name


def test_variants_match_pillow(assets: Path) -> None:
    """Every file of ours among the odd but valid ones, against Pillow with its own ICC conversion."""
    from PIL import ImageOps

    checked = 0
    for path in sorted((assets / "variants").rglob("*")):
        if path.suffix not in {".jpg", ".png", ".webp"} or path.name == "xmp_tags_orientation_exiftool.png":
            continue  # that one tells its orientation in XMP alone, which is not read
        data = path.read_bytes()
        image = decode(data)
        with Pil.open(io.BytesIO(data)) as opened:
            picture: Any = ImageOps.exif_transpose(opened)
            profile = opened.info.get("icc_profile")
            wanted = {1: "L", 3: "RGB", 4: "RGBA"}[image.channels]
            picture = picture.convert(wanted)
            if profile and not color.is_srgb(profile, "rgb"):
                picture = ImageCms.profileToProfile(
                    picture,
                    ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                    ImageCms.createProfile("sRGB"),
                    renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                    flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
                )
        assert near(image.pixels, picture, 2), path.name
        checked += 1
    assert checked > 60
