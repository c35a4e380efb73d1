"""Frames to the file of an animation, one after the other: GIF, PNG (APNG), WebP, AVIF.

Each frame is coded by the library that writes still images of the format, and the container around them is put together
here, for three reasons: Pillow's own writers of GIF and PNG hold all frames as pixels and drop those that equal the one
before, libwebp's drops them too, and none keeps 16 bits. Of a frame only the rectangle that changed is coded. Held are
the last frame, the next one, and what is coded. AVIF, whose frames depend on each other, is written whole by libavif.

Sources: PNG specification, third edition, 11.3.6; GIF89a specification; WebP container specification, "Animation".
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import NotApplicable, OutOfMemory, RunError
from pixelmill.images.apng_frames import chunk
from pixelmill.images.encode import Finish, check_avif_memory, encode, for_webp, in_srgb, within_limit
from pixelmill.images.encoders import EncodeOptions, GifOptions, PngOptions, options_for
from pixelmill.images.formats import AVIF, PNG, WEBP, written_format
from pixelmill.images.frames import Frame
from pixelmill.images.gif_palette import indexed
from pixelmill.images.image import Image
from pixelmill.images.samples import to_uint8

Place: TypeAlias = tuple[slice, slice]
"""Rows and columns."""

_U16 = 65_535
_U24 = 2**24 - 1
_CLEAR, _STAYS = 2, 1  # what becomes of a GIF's picture when its time is over
_VP8X_ALPHA, _VP8X_ICC, _VP8X_ANIMATION = 0x10, 0x20, 0x02
_REPLACES = 0b10  # of a WebP's frame: it is not blended


def encode_frames(
    frames: Iterable[Frame],
    count: int,
    plays: int,
    fmt: str,
    options: EncodeOptions | Mapping[str, Any] | None = None,
    finish: Finish = bytes,
) -> bytes:
    """An animation of ``count`` frames, shown ``plays`` times (0: for ever), as a file of format ``fmt``.

    ``frames`` are gone through once, but with ``max_bytes`` among the options once for each quality that is tried.

    Depth, transparency and profiles are as :func:`encode` has them. Durations are rounded to what the format holds
    (GIF 10 ms, WebP and AVIF 1 ms; PNG fractions) so that the sum stays; ``loop`` among the options goes over
    ``plays``. AVIF is always shown for ever: Pillow can't say otherwise. ``finish`` is that of :func:`encode`.

    Raises:
        NotApplicable: frames differ in size or kind, or are larger than the format can hold; or a PNG is to have a
            palette, of which it holds one for all frames.
        What :func:`encode` raises.
    """
    target = written_format(fmt)
    chosen = options_for(target.name, options)
    shown = getattr(chosen, "loop", None)
    try:
        write = _WRITERS[target.name]
        shown = plays if shown is None else shown
        return within_limit(chosen, lambda options: finish(write(_alike(frames), count, shown, options)))
    except MemoryError as error:
        raise OutOfMemory(f"There is not enough memory to write {count:,} frames as {target.name}.") from error
    except (OSError, ValueError, struct.error) as error:
        raise RunError(f"The animation could not be written as {target.name}: {error}.") from error


def _alike(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames, which must have one size, depth and number of channels."""
    first: Image | None = None
    for number, frame in enumerate(frames):
        image = frame.image
        first = first or image
        if image.pixels.shape != first.pixels.shape or image.pixels.dtype != first.pixels.dtype:
            raise NotApplicable(
                f"Frame {number} came out as {_kind(image)}, the first one as {_kind(first)}; an animation has "
                f"one size and kind. Take one frame with frame:{number}.",
                operation="format",
                frame=number,
            )
        yield frame


def _kind(image: Image) -> str:
    size = image.size
    return f"{size.width:,}×{size.height:,} pixels of {image.channels} channels of {image.pixels.dtype}"


def _changed(before: NDArray[Any] | None, after: NDArray[Any]) -> Place:
    """The smallest rectangle that holds every difference; one pixel where there is none, everything at first."""
    if before is None:
        return slice(0, after.shape[0]), slice(0, after.shape[1])
    different = before != after
    mask = different if different.ndim == 2 else different.any(axis=2)
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return slice(y, y + max(1, height)), slice(x, x + max(1, width))


def _whole_units(durations: Iterable[Fraction], maximum: int) -> Iterator[int]:
    """Durations in whole units: what rounding takes from one is given to the next; what was above 0 stays so."""
    owed = Fraction(0)
    for duration in durations:
        whole = max(round(duration + owed), int(duration > 0))
        whole = min(max(0, whole), maximum) if duration else 0
        owed = max(Fraction(-1, 2), min(Fraction(1, 2), owed + duration - whole))
        yield whole


class _Clock:
    """:func:`_whole_units`, fed one duration at a time."""

    def __init__(self, unit_ms: int, maximum: int) -> None:
        self._unit, self._next = unit_ms, Fraction(0)
        self._units = _whole_units(iter(lambda: self._next, None), maximum)

    def units(self, duration_ms: float) -> int:
        """That many milliseconds in units."""
        self._next = Fraction(duration_ms) / self._unit
        return next(self._units)


# -- GIF ----------------------------------------------------------------------------------------------------------


def _gif(frames: Iterator[Frame], count: int, plays: int, options: Any) -> bytes:
    """Rectangles, each with a color table of its own: what does not change does not shimmer.

    With alpha frames are whole, and cleared when their time is over.
    """
    from PIL import GifImagePlugin

    assert isinstance(options, GifOptions)
    del count
    parts: list[bytes] = []
    clock = _Clock(10, _U16)
    last: NDArray[np.uint8] | None = None
    for frame in frames:
        image = frame.image
        if not parts:
            parts.append(_gif_head(image, plays))
        pixels = in_srgb(image)
        place = _changed(None if image.has_alpha else last, pixels)
        coded = indexed(np.ascontiguousarray(pixels[place]), options.colors, dither=options.dither)
        coded = coded.compact(clear=image.has_alpha)  # some readers clear to a color where none is transparent
        last = pixels
        parts += GifImagePlugin.getdata(
            coded.picture(),
            (place[1].start, place[0].start),
            duration=10 * clock.units(frame.duration),
            disposal=_CLEAR if image.has_alpha else _STAYS,
            include_color_table=True,
            **({} if coded.clear is None else {"transparency": coded.clear}),
        )
    return b"".join((*parts, b";"))


def _gif_head(image: Image, plays: int) -> bytes:
    """Signature, canvas, and how often it is shown again: nothing says once, 0 for ever."""
    if max(image.size) > _U16:
        raise NotApplicable(f"gif holds at most {_U16:,} pixels a side. Resize the animation.", operation="format")
    head = b"GIF89a" + struct.pack("<HHBBB", *image.size, 0x70, 0, 0)
    if plays == 1:
        return head
    return head + b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<H", min(max(0, plays - 1), _U16)) + b"\0"


# -- PNG ----------------------------------------------------------------------------------------------------------


def _png(frames: Iterator[Frame], count: int, plays: int, options: Any) -> bytes:
    """Rectangles in place of what was there. All chunks of pixels of a frame become one."""
    assert isinstance(options, PngOptions)
    if options.colors is not None:
        raise NotApplicable(
            "An animated png holds one palette for all its frames, so colors can't be reduced frame by frame. Leave "
            "colors out, write gif, or take one frame with frame:0.",
            operation="format",
            parameter="colors",
        )
    parts: list[bytes] = []
    last: NDArray[Any] | None = None
    sequence, header = 0, b""
    for frame in frames:
        image = frame.image
        place = _changed(last, image.pixels)
        chunks = list(_png_chunks(encode(_cut(image, place), PNG.name, options)))
        if last is None:
            header = chunks[0][1]
            before = [chunk(*item) for item in _until_pixels(chunks)]
            parts += [PNG.signatures[0][0][1], before[0], chunk(b"acTL", struct.pack(">II", count, plays)), *before[1:]]
        elif chunks[0][1][8:] != header[8:]:
            raise RunError("The animation could not be written as png: its frames were coded in different ways.")
        rows, columns = place
        size = (columns.stop - columns.start, rows.stop - rows.start)
        where = (*size, columns.start, rows.start, *_png_delay(frame.duration), 0, 0)
        parts.append(chunk(b"fcTL", struct.pack(">IIIIIHHBB", sequence, *where)))
        packed = b"".join(body for kind, body in chunks if kind == b"IDAT")
        if last is None:
            parts.append(chunk(b"IDAT", packed))
        else:
            sequence += 1
            parts.append(chunk(b"fdAT", struct.pack(">I", sequence) + packed))
        sequence += 1
        last = image.pixels
    return b"".join((*parts, chunk(b"IEND", b"")))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _until_pixels(chunks: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    for kind, body in chunks:
        if kind == b"IDAT":
            return
        yield kind, body


def _png_delay(duration_ms: float) -> tuple[int, int]:
    """The nearest fraction of a second whose numbers have 16 bits: thirtieths stay thirtieths."""
    seconds = Fraction(duration_ms) / 1000
    if seconds <= 0:
        return 0, 1000
    nearest = seconds.limit_denominator(min(_U16, max(1, int(_U16 / seconds))))
    return (min(nearest.numerator, _U16), nearest.denominator) if nearest else (1, _U16)


# -- WebP ---------------------------------------------------------------------------------------------------------


def _webp(frames: Iterator[Frame], count: int, plays: int, options: Any) -> bytes:
    """Rectangles in place of what was there, each coded as a still WebP is."""
    del count
    parts: list[bytes] = []
    first, clock, last = None, _Clock(1, _U24), None
    for frame in frames:
        image = for_webp(frame.image)
        first = first or image
        rows, columns = _changed(last, image.pixels)
        place = slice(rows.start & ~1, rows.stop), slice(columns.start & ~1, columns.stop)  # offsets are even
        rows, columns = place
        coded = encode(_cut(image, place), WEBP.name, options)
        where = (columns.start // 2, rows.start // 2, columns.stop - columns.start - 1, rows.stop - rows.start - 1)
        head = b"".join(_u24(number) for number in (*where, clock.units(frame.duration))) + bytes((_REPLACES,))
        parts.append(_riff(b"ANMF", head + b"".join(_webp_picture(coded))))
        last = image.pixels
    assert first is not None
    flags = _VP8X_ANIMATION | _VP8X_ALPHA * first.has_alpha | _VP8X_ICC * (first.icc is not None)
    size = first.size
    canvas = bytes((flags, 0, 0, 0)) + _u24(size.width - 1) + _u24(size.height - 1)
    profile = [] if first.icc is None else [_riff(b"ICCP", first.icc)]
    loop = _riff(b"ANIM", struct.pack("<IH", 0, min(plays, _U16)))
    return _riff(b"RIFF", b"".join((b"WEBP", _riff(b"VP8X", canvas), *profile, loop, *parts)))


def _webp_picture(data: bytes) -> Iterator[bytes]:
    """The chunks of a still WebP that hold its pixels."""
    at = 12
    while at < len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind in (b"ALPH", b"VP8 ", b"VP8L"):
            yield _riff(kind, data[at + 8 : at + 8 + length])
        at += 8 + length + (length & 1)


def _riff(kind: bytes, body: bytes) -> bytes:
    return b"".join((kind, struct.pack("<I", len(body)), body, bytes(len(body) & 1)))


def _u24(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _cut(image: Image, place: Place) -> Image:
    return image.with_pixels(np.ascontiguousarray(image.pixels[place]))


# -- AVIF ---------------------------------------------------------------------------------------------------------


def _avif(frames: Iterator[Frame], count: int, plays: int, options: Any) -> bytes:
    """By libavif, which asks for frames through Pillow."""
    from PIL import Image as Pil

    del plays
    clock = _Clock(1, _U24)
    durations: list[int] = []

    class Reel(Pil.Image):
        """A picture of Pillow that becomes the next frame when it is told to; it goes forward only."""

        is_animated = True
        n_frames = count

        def seek(self, frame: int) -> None:
            if frame >= count:
                raise EOFError
            while len(durations) <= frame:
                upcoming = next(frames)
                durations.append(clock.units(upcoming.duration))
                self._show(upcoming.image)

        def tell(self) -> int:
            return 0

        def _show(self, image: Image) -> None:
            check_avif_memory(image, options)
            pixels = to_uint8(image.pixels)
            if pixels.ndim == 2:  # Pillow would look through all frames for one of color
                pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
            shown = Pil.fromarray(np.ascontiguousarray(pixels))
            self.im, self._mode, self._size = shown.im, shown.mode, shown.size
            self.gray, self.icc = image.channels == 1, image.icc

    reel, buffer = Reel(), io.BytesIO()
    reel.seek(0)
    if max(reel.size) > AVIF.max_side:
        raise NotApplicable(
            f"avif holds at most {AVIF.max_side:,} pixels a side. Resize the animation.", operation="format"
        )
    reel.save(
        buffer,
        AVIF.name.upper(),
        save_all=True,
        duration=durations,
        quality=options.quality,
        speed=options.speed,
        max_threads=1,  # the pool runs a process a core
        subsampling="4:0:0" if reel.gray else ":".join(options.subsampling),
        icc_profile=reel.icc or b"",
        exif=b"",
        xmp=b"",
    )
    return buffer.getvalue()


_Writer: TypeAlias = Callable[[Iterator[Frame], int, int, Any], bytes]
_WRITERS: Mapping[str, _Writer] = {"gif": _gif, "png": _png, "webp": _webp, "avif": _avif}
