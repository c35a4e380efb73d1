"""Encoders' options and color profiles hold for animations as they hold for still images, or are refused by name."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image as Pil

from pixelmill import Pipeline
from pixelmill.errors import NotApplicable
from pixelmill.images.decode import decode
from pixelmill.images.decode_frames import open_frames
from pixelmill.images.encode import encode
from pixelmill.images.encode_frames import encode_frames
from pixelmill.images.frames import Frame
from pixelmill.images.image import Image, Need
from pixelmill.images.metadata_look import describe
from pixelmill.images.profiles import P3, ColorSpace, profile_of
from pixelmill.pipelines.outcome import Outcome

WIDE = profile_of(ColorSpace(primaries=P3))
GRAY = profile_of(ColorSpace(primaries=None, gamma=1.8))
PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>'
    b'<rdf:li xml:lang="x-default">' + b"windmill " * 400 + b"</rdf:li></rdf:Alt></dc:description>"
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def animation(photo: bytes, fmt: str, icc: bytes | None = None, options: dict[str, object] | None = None) -> bytes:
    """Three views of a photograph, in the numbers of a profile."""
    pixels = np.asarray(decode(photo).pixels[:160, :240], np.uint8)
    views = [np.ascontiguousarray(np.roll(pixels, 40 * number, axis=1)) for number in range(3)]
    return encode_frames([Frame(Image(view, icc), 40.0) for view in views], 3, 0, fmt, options)


def written(outcome: Outcome) -> bytes:
    assert outcome.bytes is not None
    assert outcome.frames == 3
    return outcome.bytes


@pytest.mark.parametrize("fmt", ["webp", "avif"])
def test_max_bytes_counts_the_whole_animation(photo: bytes, fmt: str) -> None:
    source = animation(photo, "png")
    full = len(written(Pipeline.parse(f"resize:120/format:{fmt}").run(source)))
    limit = full * 2 // 3
    outcome = Pipeline.parse(f"trim/resize:120/format:{fmt},max_bytes={limit}").run(source)
    assert limit // 2 < len(written(outcome)) <= limit
    assert outcome.data["trim"]["width"] == 240
    with pytest.raises(NotApplicable, match="max_bytes"):
        Pipeline.parse(f"resize:120/format:{fmt},max_bytes=100").run(source)


@pytest.mark.parametrize("fmt", ["jpeg", "webp", "avif"])
def test_max_bytes_counts_the_metadata_too(photo: bytes, fmt: str) -> None:
    held = BytesIO()
    Pil.fromarray(np.asarray(decode(photo).pixels[:160, :240])).save(held, "JPEG", quality=95, xmp=PACKET)
    bare = Pipeline.parse(f"format:{fmt}").run(held.getvalue())
    assert bare.bytes is not None
    limit = len(bare.bytes) * 3 // 4 + len(PACKET)
    outcome = Pipeline.parse(f"metadata:keep/format:{fmt},max_bytes={limit}").run(held.getvalue())
    assert outcome.bytes is not None
    assert len(outcome.bytes) <= limit
    assert "xmp" in describe(outcome.bytes, fmt)


def test_subsampling_holds_for_an_animated_avif(photo: bytes) -> None:
    source = animation(photo, "png")
    pipeline = "hue:120/format:avif,quality=95,subsampling={}"
    coarse, fine = (written(Pipeline.parse(pipeline.format(kind)).run(source)) for kind in ("420", "444"))
    exact = list(open_frames(written(Pipeline.parse("hue:120/format:png").run(source))))

    def error(body: bytes) -> float:
        pairs = zip(exact, open_frames(body), strict=True)
        return float(np.mean([np.abs(a.image.pixels.astype(int) - b.image.pixels).mean() for a, b in pairs]))

    assert error(fine) < 0.8 * error(coarse)


def test_an_animated_png_takes_no_palette_and_says_why(photo: bytes) -> None:
    source = animation(photo, "webp")
    with pytest.raises(NotApplicable, match="one palette for all its frames"):
        Pipeline.parse("format:png,colors=16").run(source)
    assert Pipeline.parse("frame:1/format:png,colors=16").run(source).frames == 1


@pytest.mark.parametrize("target", ["png", "webp,lossless=true", "avif"])
@pytest.mark.parametrize("source", ["png", "webp"])
def test_icc_keeps_profile_and_numbers_of_every_frame(photo: bytes, source: str, target: str) -> None:
    options: dict[str, object] = {"lossless": True} if source == "webp" else {}
    data = animation(photo, source, WIDE, options)
    body = written(Pipeline.parse(f"metadata:strip,icc=true/format:{target}").run(data))
    plain = animation(photo, source, None, options)
    for was, now in zip(open_frames(plain), open_frames(body, need=Need(icc=True)), strict=True):
        assert now.image.icc == WIDE
        if target != "avif":
            assert np.array_equal(was.image.pixels[..., :3], now.image.pixels[..., :3])
    srgb = written(Pipeline.parse("format:png").run(data))
    assert decode(srgb, Need(icc=True)).icc is None
    assert not np.array_equal(decode(srgb).pixels[..., :3], decode(plain).pixels[..., :3])


def test_frames_of_a_kept_profile_can_be_taken_one_by_one(photo: bytes) -> None:
    data = animation(photo, "png", WIDE)
    outcome = Pipeline.parse("frame:2/metadata:strip,icc=true/format:png").run(data)
    assert outcome.bytes is not None
    assert decode(outcome.bytes, Need(icc=True)).icc == WIDE


@pytest.mark.parametrize("animated", [False, True])
def test_gray_in_webp_is_brought_to_srgb(animated: bool) -> None:
    """A profile of gray says nothing about the RGB that a WebP holds: readers would ignore it."""
    ramp = np.tile(np.arange(256, dtype=np.uint8), (32, 1))
    frames = [Frame(Image(view, GRAY), 40.0) for view in (ramp, np.ascontiguousarray(ramp[:, ::-1]))]
    source = encode_frames(frames, 2, 0, "png") if animated else encode(frames[0].image, "png")
    outcome = Pipeline.parse("metadata:strip,icc=true/format:webp,lossless=true").run(source)
    assert outcome.bytes is not None
    found = decode(outcome.bytes, Need(icc=True))
    assert found.icc is None
    expected = decode(source).pixels
    assert expected[0, 128] > 140
    assert np.array_equal(found.pixels[..., 0], expected)
