"""PBM, PGM, PPM and PAM: every kind, depth and way of writing numbers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from damage import flipped, must_decode_or_be_refused
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil

from pixelmill.errors import CorruptImage, InputError, LimitExceeded, UnsupportedFormat
from pixelmill.images.decode import decode
from pixelmill.images.image import Size
from pixelmill.images.probe import probe

SAMPLES = {
    "pbm": b"P4 11 3\n" + bytes([0xA5, 0x60] * 3),
    "pgm": b"P5\n# a comment\n4 3\n255\n" + bytes(range(12)),
    "ppm": b"P6 2 2 65535\n" + bytes(range(24)),
    "plain": b"P3 2 1 7\n0 1 2 # three\n7 7 7\n",
    "bits": b"P1 4 2\n0101\n1 0 10\n",
    "pam": b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n" + bytes(range(8)),
}


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_raw_files_are_read_as_pillow_reads_them(pictures: Any, mode: str) -> None:
    data = pictures.write(Pil.fromarray(pictures.draw(33, 21)).convert(mode), "ppm")
    image = decode(data)
    wanted = Pil.open(io.BytesIO(data)).convert("L" if mode == "1" else mode)
    assert np.array_equal(image.pixels, np.asarray(wanted))
    assert probe(data).mode == {"1": "gray", "L": "gray", "RGB": "rgb"}[mode]
    assert probe(data).depth == (1 if mode == "1" else 8)


@pytest.mark.parametrize("name", ["pbm", "pgm", "plain", "bits"])
def test_other_kinds_are_read_as_pillow_reads_them(name: str) -> None:
    image = decode(SAMPLES[name])
    wanted = Pil.open(io.BytesIO(SAMPLES[name])).convert("L" if image.channels == 1 else "RGB")
    assert np.array_equal(image.pixels, np.asarray(wanted))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("full", [65_535, 1_023, 300])
@pytest.mark.parametrize("plain", [False, True])
def test_16_bits_are_kept_and_scaled_to_the_full_range(channels: int, full: int, plain: bool) -> None:
    shape = (5, 7) if channels == 1 else (5, 7, 3)
    samples = np.random.default_rng(3).integers(0, full, shape, endpoint=True)
    kind = {1: 2, 3: 3}[channels] if plain else {1: 5, 3: 6}[channels]
    body = " ".join(map(str, samples.ravel())).encode() if plain else samples.astype(">u2").tobytes()
    image = decode(f"P{kind} 7 5 {full}\n".encode() + body)
    assert image.pixels.dtype == np.uint16
    assert np.array_equal(image.pixels, np.floor(samples * 65_535 / full + 0.5))


@pytest.mark.parametrize(("full", "kind"), [(1, np.uint8), (15, np.uint8), (255, np.uint8), (4_095, np.uint16)])
@pytest.mark.parametrize(("samples", "name"), [(1, "GRAYSCALE"), (2, "GRAYSCALE_ALPHA"), (3, "RGB"), (4, "RGB_ALPHA")])
def test_pam_of_every_kind(full: int, kind: Any, samples: int, name: str) -> None:
    values = np.random.default_rng(4).integers(0, full, (3, 4, samples), endpoint=True)
    head = f"P7\nWIDTH 4\nHEIGHT 3\nDEPTH {samples}\nMAXVAL {full}\nTUPLTYPE {name}\nENDHDR\n".encode()
    data = head + values.astype("u1" if full < 256 else ">u2").tobytes()
    image = decode(data)
    wanted = np.floor(values * float(np.iinfo(kind).max) / full + 0.5)
    wanted = {1: wanted[..., 0], 2: wanted[..., [0, 0, 0, -1]]}.get(samples, wanted)
    assert image.pixels.dtype == kind
    assert np.array_equal(image.pixels, wanted)
    assert probe(data).has_alpha == image.has_alpha


def test_black_and_white_pam_is_white_where_it_is_1() -> None:
    head = b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 1\nMAXVAL 1\nTUPLTYPE BLACKANDWHITE\nENDHDR\n"
    assert decode(head + b"\0\1").pixels.tolist() == [[0, 255]]


def test_a_pam_of_other_tuples_is_refused_by_name() -> None:
    head = b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 5\nMAXVAL 1\nTUPLTYPE SPECTRUM\nENDHDR\n"
    with pytest.raises(UnsupportedFormat, match="tuples"):
        decode(head + bytes(10))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"P5 -4 3 255\n", "header"),
        (b"P5 0 3 255\n", "size"),
        (b"P5 4 3 70000\n", "largest"),
        (b"P5 4 3 255", "header"),
        (b"P5 2 2 255\n\0\0\0", "ends before"),
        (b"P5 1 1 7\n\x08", "above 7"),
        (b"P2 2 1 255\n1 x", "letters"),
        (b"P2 2 1 255\n1", "ends before"),
        (b"P1 2 1\n12", "above 1"),
        (b"P7\nWIDTH 2\nENDHDR\n", "header"),
    ],
)
def test_broken_files_say_why(data: bytes, why: str) -> None:
    with pytest.raises(CorruptImage, match=why):
        decode(data)


def test_sizes_are_checked_before_samples_are_read() -> None:
    with pytest.raises(LimitExceeded):
        decode(b"P6 16000 16000 255\n")
    with pytest.raises(LimitExceeded, match="letters"):
        probe(b"P2 9 9 255\n" + b"1 " * 17_000_000)
    assert probe(b"P5 9 9 255\n").size == Size(9, 9)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_truncated_file_is_refused(name: str) -> None:
    data = SAMPLES[name].rstrip(b"\n")
    for cut in range(len(data) - (name == "plain")):
        with pytest.raises(InputError):
            decode(data[:cut])


@settings(max_examples=400, deadline=None)
@given(name=st.sampled_from(sorted(SAMPLES)), data=st.data())
def test_flipped_bits_give_a_picture_or_a_named_error(name: str, data: st.DataObject) -> None:
    whole = SAMPLES[name]
    places = st.integers(0, len(whole) - 1)
    must_decode_or_be_refused(flipped(data, whole, places))
