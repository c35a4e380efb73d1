"""Animations: frames as browsers compose them, durations and loops, through every container and back; hostile ones."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import GifImagePlugin
from PIL import Image as Pil

from pixelmill.errors import CorruptImage, InputError, LimitExceeded, NotApplicable
from pixelmill.images.decode import decode
from pixelmill.images.decode_frames import decode_frame, open_frames
from pixelmill.images.encode import encode
from pixelmill.images.encode_frames import encode_frames
from pixelmill.images.frames import Frame
from pixelmill.images.image import Image, Size
from pixelmill.images.limits import Limits
from pixelmill.images.probe import probe

FORMATS = ["gif", "png", "webp", "avif"]
LOSSLESS: dict[str, dict[str, Any]] = {"png": {}, "webp": {"lossless": True}}
DURATIONS = [50, 120, 30]


def moving(pictures: Any, count: int = 3, size: tuple[int, int] = (61, 40)) -> list[NDArray[np.uint8]]:
    """A picture over which a bar moves: most of a frame equals the one before."""
    base = pictures.draw(*size) // 64 * 64
    made = []
    for number in range(count):
        frame = base.copy()
        frame[8:20, 3 + 9 * number : 9 + 9 * number] = (250, 30, 60 * number % 256)
        made.append(frame)
    return made


def written(frames: Sequence[NDArray[Any]], fmt: str, **options: Any) -> bytes:
    """By Pillow."""
    first, *rest = (Pil.fromarray(frame) for frame in frames)
    buffer = io.BytesIO()
    options = {"duration": DURATIONS, "loop": 3, **({"lossless": True} if fmt == "webp" else {}), **options}
    first.save(buffer, fmt, save_all=True, append_images=rest, **options)
    return buffer.getvalue()


def seen(image: Image | NDArray[Any]) -> NDArray[np.float64]:
    """Premultiplied RGBA from 0 to 1: what can be seen, whatever the mode."""
    pixels = image.pixels if isinstance(image, Image) else image
    full = np.iinfo(pixels.dtype).max
    values = (pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)) / full
    alpha = values[..., 3:] if values.shape[2] == 4 else np.ones((*values.shape[:2], 1))
    return np.dstack((values[..., :3] * alpha, alpha))


def frames_of(data: bytes) -> list[Frame]:
    return list(open_frames(data))


@pytest.mark.parametrize("fmt", FORMATS)
def test_frames_durations_and_loops_are_those_of_the_file(pictures: Any, fmt: str) -> None:
    data = written(moving(pictures), fmt)
    found = open_frames(data)
    assert found.count == probe(data).frames == 3
    assert found.plays == {"gif": 4, "png": 3, "webp": 3, "avif": 0}[fmt]  # a GIF says how often it is shown again
    with Pil.open(io.BytesIO(data)) as theirs:
        for number, frame in enumerate(found):
            theirs.seek(number)
            theirs.load()
            assert frame.duration == DURATIONS[number]
            assert np.array_equal(seen(frame.image), seen(np.array(theirs.convert("RGBA"))))
            assert np.array_equal(decode_frame(data, number).pixels, frame.image.pixels)
    with pytest.raises(NotApplicable, match=r"frame 3: the source .* has 3 of them") as caught:
        decode_frame(data, 3)
    assert caught.value.context["frames"] == 3


@pytest.mark.parametrize("loop", [None, 0, 1, 7, 65_535])
def test_loops_survive_every_container(pictures: Any, loop: int | None) -> None:
    plays = {None: 1, 0: 0}.get(loop, (loop or 0) + 1)
    data = written(moving(pictures), "gif", loop=loop) if loop is not None else None
    if data is None:
        data = encode_frames([Frame(Image(frame), 10.0) for frame in moving(pictures)], 3, 1, "gif")
        assert b"NETSCAPE" not in data
    assert open_frames(data).plays == plays
    for fmt in ("webp", "png", "gif"):
        source = open_frames(data)
        data = encode_frames(source, source.count, source.plays, fmt)
        kept = min(plays, 65_535) if fmt == "webp" or plays > 65_535 else plays
        assert open_frames(data).plays == kept, fmt
    assert open_frames(encode_frames(open_frames(data), 3, plays, "png", {"loop": 5})).plays == 5


def test_there_and_back_through_all_containers_nothing_is_lost(pictures: Any) -> None:
    data = written(moving(pictures), "gif")
    first = frames_of(data)
    for fmt in ("webp", "png", "gif", "png", "webp"):
        data = encode_frames(open_frames(data), 3, 4, fmt, LOSSLESS.get(fmt))
        assert probe(data).format == fmt
        assert open_frames(data).plays == 4
        for frame, kept in zip(first, open_frames(data), strict=True):
            assert frame.duration == kept.duration
            assert np.array_equal(seen(frame.image), seen(kept.image)), fmt
    with Pil.open(io.BytesIO(data)) as theirs:  # and another reader agrees
        for number, frame in enumerate(first):
            theirs.seek(number)
            assert np.array_equal(seen(frame.image), seen(np.array(theirs.convert("RGBA"))))


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_written_frame_is_what_the_still_would_be(pictures: Any, fmt: str) -> None:
    rng = np.random.default_rng(3)
    shown = [rng.integers(0, 256, (23, 31, 4), dtype=np.uint8) for _ in range(3)]
    for frame in shown:
        frame[..., 3] = 255 * (frame[..., 3] > 90)
    data = encode_frames([Frame(Image(frame), 40.0) for frame in shown], 3, 0, fmt, LOSSLESS.get(fmt))
    assert open_frames(data).count == 3
    for frame, kept in zip(shown, open_frames(data), strict=True):
        still = seen(decode(encode(Image(frame), fmt, LOSSLESS.get(fmt))))
        if fmt == "avif":
            assert np.abs(still - seen(kept.image)).mean() < 0.15  # later frames are predicted from earlier ones
        else:
            assert np.array_equal(still, seen(kept.image))


@pytest.mark.parametrize("fmt", ["gif", "png", "webp"])
def test_frames_that_equal_each_other_stay_apart(pictures: Any, fmt: str) -> None:
    for channels in (3, 4):
        still = Image(np.full((9, 8, channels), 200, np.uint8))
        data = encode_frames([Frame(still, 10.0 * n) for n in range(1, 6)], 5, 0, fmt)
        assert [frame.duration for frame in open_frames(data)] == [10, 20, 30, 40, 50]
        with Pil.open(io.BytesIO(data)) as theirs:
            assert theirs.n_frames == 5  # type: ignore[attr-defined]  # of the plugin


@pytest.mark.parametrize("fmt", ["gif", "png"])
@pytest.mark.parametrize("seed", range(8))
def test_disposal_is_that_of_another_reader(pictures: Any, fmt: str, seed: int) -> None:
    """Random rectangles, transparent in parts, with every way to dispose of them, against libvips or OpenCV."""
    rng = np.random.default_rng(seed)
    data = random_gif(rng) if fmt == "gif" else random_apng(rng, pictures)
    theirs = by_vips(data) if fmt == "gif" else by_opencv(data)
    ours = [seen(frame.image) for frame in open_frames(data)]
    assert len(ours) == len(theirs) == 7
    for number, (left, right) in enumerate(zip(ours, theirs, strict=True)):
        assert np.array_equal(left, right), number


def random_gif(rng: np.random.Generator) -> bytes:
    parts = [gif_head(20, 16)]
    for number in range(7):
        x, y = (0, 0) if not number else (int(rng.integers(0, 12)), int(rng.integers(0, 9)))
        width, height = (20, 16) if not number else (int(rng.integers(1, 20 - x)), int(rng.integers(1, 16 - y)))
        disposal = int(rng.integers(1, 4))
        hidden = 0 if disposal == 2 or rng.random() < 0.6 else None  # else libvips clears to a color, unlike browsers
        parts.append(gif_frame(rng.integers(0, 4, (height, width), dtype=np.uint8), x, y, hidden, disposal))
    return b"".join((*parts, b";"))


def gif_head(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x70, 0, 0)


def gif_frame(
    indices: NDArray[np.uint8], x: int = 0, y: int = 0, hidden: int | None = None, disposal: int = 1, cs: int = 4
) -> bytes:
    picture = Pil.fromarray(indices)
    picture.putpalette(bytes((9, 9, 9, 250, 0, 0, 0, 250, 0, 0, 0, 250)))
    clear = {} if hidden is None else {"transparency": hidden}
    options: dict[str, Any] = {"include_color_table": True, "disposal": disposal, "duration": 10 * cs, **clear}
    return b"".join(GifImagePlugin.getdata(picture, (x, y), **options))


def by_vips(data: bytes) -> list[NDArray[np.float64]]:
    pyvips = pytest.importorskip("pyvips")
    reel = pyvips.Image.gifload_buffer(data, n=-1)
    pixels = reel.colourspace("srgb").numpy()
    if pixels.shape[2] == 3:
        pixels = np.dstack((pixels, np.full(pixels.shape[:2], 255, np.uint8)))
    return [seen(part) for part in np.split(pixels, reel.get("n-pages"))]


def by_opencv(data: bytes) -> list[NDArray[np.float64]]:
    _, reel = cv2.imdecodeanimation(np.frombuffer(data, np.uint8))
    return [seen(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGRA2RGBA), np.uint8)) for frame in reel.frames]


def random_apng(rng: np.random.Generator, pictures: Any) -> bytes:
    frames = []
    for number in range(7):
        x, y = (0, 0) if not number else (int(rng.integers(0, 12)), int(rng.integers(0, 9)))
        width, height = (20, 16) if not number else (int(rng.integers(1, 20 - x)), int(rng.integers(1, 16 - y)))
        part = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
        part[..., 3] = 255 * rng.integers(0, 2, (height, width))
        frames.append((part, x, y, int(rng.integers(0, 3)), int(rng.integers(0, 2))))
    return apng(pictures, frames)


def apng(pictures: Any, frames: Sequence[tuple[NDArray[Any], int, int, int, int]], **changes: Any) -> bytes:
    """An APNG from parts: pixels, x, y, disposal, blending. ``changes``: count, sequence, control."""
    chunks: list[bytes] = []
    number = 0
    for index, (part, x, y, disposal, blend) in enumerate(frames):
        still = pictures.write(part, "png")
        packed = b"".join(body for kind, body in chunks_of(still) if kind == b"IDAT")
        if not index:
            count = changes.get("count", len(frames))
            chunks += [still[:33], pictures.chunk(b"acTL", struct.pack(">II", count, 0))]
        control = (part.shape[1], part.shape[0], x, y, *changes.get("delay", (1, 30)), disposal, blend)
        control = changes.get("control", {}).get(index, control)
        chunks.append(pictures.chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, *control)))
        number += changes.get("step", 1)
        if index:
            chunks.append(pictures.chunk(b"fdAT", struct.pack(">I", number) + packed))
            number += 1
        else:
            chunks.append(pictures.chunk(b"IDAT", packed))
    return b"".join((*chunks, pictures.chunk(b"IEND", b"")))


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def test_half_transparent_pixels_blend_as_light_does(pictures: Any) -> None:
    rng = np.random.default_rng(5)
    below, above = (rng.integers(0, 256, (9, 11, 4), dtype=np.uint8) for _ in range(2))
    data = apng(pictures, [(below, 0, 0, 0, 0), (above, 0, 0, 0, 1)])
    _, second = frames_of(data)
    low, high = seen(below), seen(above)
    assert np.abs(seen(second.image) - (high + low * (1 - high[..., 3:]))).max() <= 1.01 / 255


def test_sixteen_bits_stay_in_an_animation() -> None:
    rng = np.random.default_rng(6)
    for shape in ((8, 9), (8, 9, 3), (8, 9, 4)):
        shown = [rng.integers(0, 65_536, shape, dtype=np.uint16) for _ in range(3)]
        data = encode_frames([Frame(Image(frame), 1000 / 30) for frame in shown], 3, 2, "png")
        assert probe(data).depth == 16
        for frame, kept in zip(shown, open_frames(data), strict=True):
            assert np.array_equal(frame, kept.image.pixels)


def test_durations_keep_their_sum_where_the_format_rounds_them(pictures: Any) -> None:
    shown = [Frame(Image(frame), 1000 / 30) for frame in moving(pictures, 30, (12, 30))]
    for fmt, unit in (("gif", 10), ("webp", 1), ("avif", 1)):
        kept = [frame.duration for frame in open_frames(encode_frames(shown, 30, 0, fmt))]
        assert abs(sum(kept) - 1000) <= unit, fmt
        assert max(kept) - min(kept) <= unit, fmt
    data = encode_frames(shown, 30, 0, "png")
    assert {body[20:24] for kind, body in chunks_of(data) if kind == b"fcTL"} == {struct.pack(">HH", 1, 30)}
    assert [frame.duration for frame in open_frames(data)] == [1000 / 30] * 30


@pytest.mark.parametrize("fmt", ["gif", "png", "webp"])
@pytest.mark.parametrize("duration", [0.0, 10.0, 655_350.0])
def test_durations_are_not_mended(pictures: Any, fmt: str, duration: float) -> None:
    shown = [Frame(Image(frame), duration) for frame in moving(pictures)]
    assert [frame.duration for frame in open_frames(encode_frames(shown, 3, 0, fmt))] == [duration] * 3


def test_what_is_above_nothing_never_becomes_nothing(pictures: Any) -> None:
    shown = [Frame(Image(frame), 3.0) for frame in moving(pictures)]
    assert all(frame.duration == 10 for frame in open_frames(encode_frames(shown, 3, 0, "gif")))


@pytest.mark.parametrize("fmt", FORMATS)
def test_an_animation_of_one_frame_is_a_still(pictures: Any, fmt: str) -> None:
    [shown] = moving(pictures, 1)
    data = written([shown], fmt, duration=70)
    found = open_frames(data)
    assert found.count == 1
    [frame] = found
    assert np.array_equal(frame.image.pixels, decode(data).pixels)
    with pytest.raises(NotApplicable, match="one picture"):
        decode_frame(data, 1)


def test_what_lies_outside_of_a_gifs_canvas_is_cut_off() -> None:
    ones, twos = np.full((6, 8), 1, np.uint8), np.full((50, 40), 2, np.uint8)
    data = gif_head(8, 6) + gif_frame(ones) + gif_frame(twos, 5, 4) + gif_frame(twos, 100, 0) + b";"
    first, second, third = (frame.image.pixels for frame in open_frames(data))
    assert first.shape == second.shape == third.shape == (6, 8, 3)
    expected = first.copy()
    expected[4:, 5:] = (0, 250, 0)
    assert np.array_equal(second, expected)
    assert np.array_equal(third, expected)


def test_pictures_larger_than_the_canvas_count_for_the_limit() -> None:
    small, large = np.zeros((6, 8), np.uint8), np.zeros((300, 400), np.uint8)
    data = gif_head(8, 6) + gif_frame(small) + gif_frame(large) + b";"
    with pytest.raises(LimitExceeded, match="120,048 pixels"):
        open_frames(data, Limits(max_pixels=100_000))


def test_a_canvas_that_no_frame_covers_is_transparent() -> None:
    data = gif_head(8, 6) + gif_frame(np.ones((2, 2), np.uint8), 3, 3, None, 2) + gif_frame(np.ones((1, 1), np.uint8))
    first, second = (frame.image.pixels for frame in open_frames(data + b";"))
    assert (int((first[..., 3] > 0).sum()), int((second[..., 3] > 0).sum())) == (4, 1)


@pytest.mark.parametrize("fmt", FORMATS)
def test_half_an_animation_is_refused(pictures: Any, fmt: str) -> None:
    data = written(moving(pictures, 4), fmt, duration=20)
    for end in range(60, len(data) - 1, max(1, len(data) // 150)):
        with pytest.raises(InputError):
            frames_of(data[:end])


GOOD = np.full((6, 8, 3), 90, np.uint8)
HOSTILE: dict[str, dict[str, Any]] = {
    "more frames than announced": {"count": 2},
    "fewer frames than announced": {"count": 4},
    "no frames announced": {"count": 0},
    "a sequence that jumps": {"step": 2},
    "a sequence that stands": {"step": 0},
    "a frame to the right of the canvas": {"control": {1: (8, 6, 1, 0, 1, 10, 0, 0)}},
    "a frame below the canvas": {"control": {1: (8, 6, 0, 1, 1, 10, 0, 0)}},
    "a frame beyond all numbers": {"control": {1: (8, 6, 2**32 - 1, 2**32 - 1, 1, 10, 0, 0)}},
    "a frame without a size": {"control": {1: (0, 6, 0, 0, 1, 10, 0, 0)}},
    "a first frame smaller than the canvas": {"control": {0: (7, 6, 0, 0, 1, 10, 0, 0)}},
    "a disposal that does not exist": {"control": {1: (8, 6, 0, 0, 1, 10, 3, 0)}},
    "a blending that does not exist": {"control": {1: (8, 6, 0, 0, 1, 10, 0, 2)}},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_an_apng_that_contradicts_itself_is_refused(pictures: Any, case: str) -> None:
    data = apng(pictures, [(GOOD, 0, 0, 0, 0)] * 3, **HOSTILE[case])
    if case == "no frames announced":
        assert probe(data).frames == 1  # no animation, as browsers have it
        assert np.array_equal(frames_of(data)[0].image.pixels, GOOD)
        return
    with pytest.raises(CorruptImage):
        frames_of(data)
    assert np.array_equal(decode(data).pixels, GOOD)  # the picture beside the animation is whole


def test_a_frame_with_fewer_pixels_than_it_says_is_refused(pictures: Any) -> None:
    changes = {"control": {1: (8, 6, 0, 0, 1, 10, 0, 0)}}
    with pytest.raises(CorruptImage):
        frames_of(apng(pictures, [(GOOD, 0, 0, 0, 0), (GOOD[:3, :3], 0, 0, 0, 0)], **changes))


def test_a_broken_bit_in_any_chunk_of_an_apng_is_found(pictures: Any) -> None:
    data = apng(pictures, [(GOOD, 0, 0, 0, 0)] * 3)
    for at in range(33, len(data) - 12, 3):
        broken = bytearray(data)
        broken[at] ^= 4
        try:
            shown = frames_of(bytes(broken))
        except InputError:
            continue
        assert len(shown) == 1, at  # the name of acTL was hit: no animation any more


def test_an_apng_without_a_denominator_counts_in_hundredths(pictures: Any) -> None:
    data = apng(pictures, [(GOOD, 0, 0, 0, 0)] * 2, delay=(7, 0))
    assert [frame.duration for frame in open_frames(data)] == [70, 70]


def test_a_picture_beside_the_animation_is_no_frame_of_it(pictures: Any) -> None:
    data = apng(pictures, [(GOOD, 0, 0, 0, 0), (GOOD + 9, 0, 0, 0, 0), (GOOD + 18, 0, 0, 0, 0)])
    whole = chunks_of(data)
    kept = [item for index, item in enumerate(whole) if index != 2]  # without the first fcTL
    parts, number = [data[:8]], 0
    for kind, body in kept:
        if kind in (b"fcTL", b"fdAT"):
            parts.append(pictures.chunk(kind, struct.pack(">I", number) + body[4:]))
            number += 1
        else:
            parts.append(pictures.chunk(kind, struct.pack(">II", 2, 0) if kind == b"acTL" else body))
    first, second = frames_of(b"".join(parts))
    assert (int(first.image.pixels[0, 0, 0]), int(second.image.pixels[0, 0, 0])) == (99, 108)
    assert int(decode(b"".join(parts)).pixels[0, 0, 0]) == 90


def test_thousands_of_tiny_frames_are_read_and_written(pictures: Any) -> None:
    count = 3_000
    data = gif_head(1, 1) + gif_frame(np.ones((1, 1), np.uint8)) * count + b";"
    for fmt in ("png", "webp", "gif"):
        data = encode_frames(open_frames(data), count, 0, fmt)
        assert open_frames(data).count == sum(1 for _ in open_frames(data)) == count


def test_announced_frames_count_for_the_limits(pictures: Any) -> None:
    data = apng(pictures, [(GOOD, 0, 0, 0, 0)] * 2, count=70_000)
    with pytest.raises(LimitExceeded, match="70,000 frames"):
        open_frames(data)
    with pytest.raises(LimitExceeded, match="all frames"):
        open_frames(data, Limits(max_pixels=48 * 70_000 - 1))
    with pytest.raises(LimitExceeded, match="all frames"):
        decode_frame(data, 0, limits=Limits(max_pixels=48 * 70_000 - 1))


def test_frames_of_two_sizes_make_no_animation() -> None:
    sizes = [Frame(Image(np.zeros((4, width, 3), np.uint8)), 10.0) for width in (5, 6)]
    for fmt in FORMATS:
        with pytest.raises(NotApplicable, match=r"Frame 1 came out as 6×4 .* frame:1"):
            encode_frames(sizes, 2, 0, fmt)


def test_frames_are_turned_upright(pictures: Any) -> None:
    shown = moving(pictures)
    exif = Pil.Exif()
    exif[0x0112] = 6
    for fmt in ("png", "webp"):
        data = written(shown, fmt, exif=exif)
        for frame, kept in zip(shown, open_frames(data), strict=True):
            assert np.array_equal(seen(kept.image), seen(np.rot90(frame, -1)))


def test_frame_picks_a_page_of_a_tiff_and_a_picture_of_an_icon(pictures: Any) -> None:
    pages = [pictures.draw(30, 20), pictures.draw(17, 23), pictures.draw(9, 8)]
    first, *rest = (Pil.fromarray(page) for page in pages)
    buffer = io.BytesIO()
    first.save(buffer, "tiff", save_all=True, append_images=rest)
    data = buffer.getvalue()
    for number, page in enumerate(pages):
        assert probe(data, frame=number).size == Size(page.shape[1], page.shape[0])
        assert np.array_equal(decode_frame(data, number).pixels, page)
    with pytest.raises(NotApplicable, match="has 3 of them"):
        decode_frame(data, 3)
    buffer = io.BytesIO()
    Pil.fromarray(pictures.draw(64, 64)).save(buffer, "ico", sizes=[(16, 16), (64, 64), (32, 32)])
    assert [decode_frame(buffer.getvalue(), number).size.width for number in range(3)] == [64, 32, 16]
    with pytest.raises(NotApplicable, match="has 3 of them"):
        decode_frame(buffer.getvalue(), 3)
