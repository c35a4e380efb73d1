"""Encoded bytes to :class:`Frames`, or to one chosen frame, page or picture.

Owns which reader composes which animation: GIF and PNG are walked here and composed canvas by canvas; WebP and AVIF
through the animation decoders of libwebp and libavif, in Pillow. An animation is whole or refused: a reader that finds
fewer frames than the header named raises :class:`CorruptImage`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pixelmill.errors import LimitExceeded, NotApplicable, OutOfMemory
from pixelmill.images import apng_frames, decode_webp, gif_frames, webp_header
from pixelmill.images.decode import decode, pixels_of
from pixelmill.images.formats import AVIF, FORMATS, GIF, PNG, WEBP, Data, is_animation
from pixelmill.images.frames import MAX_FRAMES, Frame, Frames
from pixelmill.images.header import Header, WebpFacts, corrupt
from pixelmill.images.image import EVERYTHING, Image, Need
from pixelmill.images.limits import Limits
from pixelmill.images.orientation import upright
from pixelmill.images.pillow_files import open_lazily, profile_of, to_pixels, translated
from pixelmill.images.probe import read_header

_DEFAULT_LIMITS = Limits()
_HUNGER = 10
"""Bytes a pixel at the peak of libavif, which calls it damage when it gets no memory."""


def open_frames(data: Data, limits: Limits = _DEFAULT_LIMITS, need: Need = EVERYTHING) -> Frames:
    """The frames of an animation, upright, in sRGB, nothing of it decoded yet; of a still image its one frame.

    Frames are whole and in color whatever ``need`` says; with ``need.icc`` they keep their profile, as in
    :func:`decode`.

    Raises what :func:`decode` raises; what is wrong with a later frame is told when it is reached.
    """
    header = read_header(data, limits)
    info = header.info
    if not is_animation(info.format, info.frames):
        return Frames(1, 1, lambda: iter((Frame(decode(data, need, limits), 0.0),)))
    if info.frames > MAX_FRAMES:
        raise LimitExceeded(
            f"The image has {info.frames:,} frames; at most {MAX_FRAMES:,} are read. Use a shorter animation.",
            limit="frames",
            value=info.frames,
            maximum=MAX_FRAMES,
        )
    frames = _opened(data, header, limits, need)
    if frames.count != info.frames:
        corrupt(FORMATS[info.format].name.upper(), f"it announces {info.frames:,} frames and holds {frames.count:,}")
    return Frames(frames.count, frames.plays, lambda: _guarded(frames, header))


def decode_frame(data: Data, number: int, need: Need = EVERYTHING, limits: Limits = _DEFAULT_LIMITS) -> Image:
    """Frame, page or picture ``number`` (from 0) as a still image.

    Frames before it are decoded too, as the canvas comes of them. Raises :class:`NotApplicable` where there are not
    so many, and what :func:`decode` raises.
    """
    header = read_header(data, limits, number)
    if not is_animation(header.info.format, header.info.frames):
        return pixels_of(data, header, need)
    for at, frame in enumerate(open_frames(data, limits, need)):
        if at == number:
            return frame.image
    raise NotApplicable(f"There is no frame {number:,}.", operation="frame")  # read_header has counted them


def _opened(data: Data, header: Header, limits: Limits, need: Need) -> Frames:
    """The frames by the reader of their format."""
    name, turn = header.info.format, header.info.orientation
    if name == GIF.name:
        gif = gif_frames.script(data, header.info.stored_size, limits)
        return Frames(
            len(gif.pictures),
            gif.plays,
            lambda: (Frame(Image(pixels), time) for pixels, time in gif_frames.frames(data, gif)),
        )
    if name == PNG.name:
        png = apng_frames.script(data, header)
        return Frames(
            len(png.pictures),
            png.plays,
            lambda: (
                Frame(Image(upright(pixels, turn), icc), time)
                for pixels, icc, time in apng_frames.frames(data, png, icc=need.icc)
            ),
        )
    if name == WEBP.name:
        return _webp(data, header, need)
    return Frames(header.info.frames, 0, lambda: _by_pillow(data, header, need))  # Pillow does not tell how often


def _webp(data: Data, header: Header, need: Need) -> Frames:
    from PIL.WebPImagePlugin import WebPImageFile

    facts = header.facts
    assert isinstance(facts, WebpFacts)
    decode_webp.check_end(data)
    with translated(WEBP.name), open_lazily(data, WEBP.name) as opened:
        assert isinstance(opened, WebPImageFile)
        count, plays = opened.n_frames, int(opened.info["loop"])
    return Frames(count, plays, lambda: _by_pillow(data, header, need, webp_header.profile(data, facts)))


def _by_pillow(data: Data, header: Header, need: Need, profile: bytes | None = None) -> Iterator[Frame]:
    """Frames as the decoders behind Pillow compose them, one at a time."""
    info = header.info
    if info.format == AVIF.name:
        np.empty(info.stored_size.pixels * _HUNGER, np.uint8)  # MemoryError here names the reason
    with translated(info.format), open_lazily(data, info.format) as picture:
        if picture.size != info.stored_size or getattr(picture, "n_frames", 1) != info.frames:
            corrupt(info.format.upper(), "its frames are not what its header says")
        for number in range(info.frames):
            picture.seek(number)
            picture.load()
            pixels, icc = to_pixels(picture, profile or profile_of(picture), keep=need.icc)
            yield Frame(Image(upright(pixels, info.orientation), icc), float(picture.info.get("duration", 0)))


def _guarded(frames: Frames, header: Header) -> Iterator[Frame]:
    """All the frames, with a want of memory told as such."""
    size = header.info.stored_size
    try:
        yield from frames
    except MemoryError as error:
        raise OutOfMemory(
            f"There is not enough memory to decode {size.width:,}×{size.height:,} pixels. "
            "Use a smaller image, or raise the memory limit of the workers."
        ) from error
