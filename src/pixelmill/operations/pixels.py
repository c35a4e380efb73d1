"""What operations do to pixels beside their own work: gray, depth, colors, and filtering with transparency.

Arrays in, arrays out; nothing here writes into its input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Image, Pixels
from pixelmill.images.samples import to_uint8


def full_scale(dtype: np.dtype[Any]) -> float:
    """The sample that stands for full intensity: 255, 65,535 or 1.0."""
    return 1.0 if dtype == np.float32 else float(np.iinfo(dtype).max)


def gray_of(pixels: Pixels) -> NDArray[Any]:
    """Luma (ITU-R BT.601, as OpenCV's ``COLOR_RGB2GRAY``) at the same depth, ``H×W``; alpha is dropped."""
    if pixels.ndim == 2:
        return pixels
    code = cv2.COLOR_RGB2GRAY if pixels.shape[2] == 3 else cv2.COLOR_RGBA2GRAY
    return pointwise(lambda part: cv2.cvtColor(part, code), pixels)


_LINE = 4_096
"""Pixels in a row that :func:`pointwise` lays floats out in: a multiple of all lengths of vectors."""
_TAIL = 64
"""More pixels than one vector holds."""


def pointwise(run: Callable[[NDArray[Any]], NDArray[Any]], pixels: NDArray[Any]) -> NDArray[Any]:
    """``run(pixels)``, a call of OpenCV that looks at one pixel at a time; of floats, the same wherever a pixel lies.

    OpenCV computes the last pixels of a row or of an array without vectors, and rounds some of them another way. So
    floats are laid out in rows without such ends; what a tile gives is then what the whole image gives.
    """
    if pixels.dtype != np.float32:
        return run(pixels)
    return laid_out(run, pixels)


def laid_out(run: Callable[[NDArray[Any]], NDArray[Any]], pixels: NDArray[Any]) -> NDArray[Any]:
    """:func:`pointwise` at any depth."""
    flat = np.ascontiguousarray(pixels).reshape(-1, *pixels.shape[2:])
    body = len(flat) // _LINE * _LINE
    first = max(0, body - _TAIL)  # the last ones of the body are an end of the array
    ends = np.zeros((1, -(-(len(flat) - first) // _TAIL) * _TAIL + _TAIL, *flat.shape[1:]), flat.dtype)
    ends[0, : len(flat) - first] = flat[first:]
    done = run(ends)
    result = np.empty((len(flat), *done.shape[2:]), done.dtype)
    if body:
        result[:body] = run(flat[:body].reshape(-1, _LINE, *flat.shape[1:])).reshape(body, *done.shape[2:])
    result[first:] = done[0, : len(flat) - first]
    return result.reshape(*pixels.shape[:2], *done.shape[2:])


def transformed(colors: NDArray[Any], matrix: NDArray[np.float64]) -> NDArray[Any]:
    """``cv2.transform``, the same wherever a pixel lies."""
    if colors.dtype == np.uint8:  # whose sums are exact
        return cv2.transform(colors, matrix)
    return laid_out(lambda part: cv2.transform(part, matrix), colors)


def gray8_of(pixels: Pixels) -> NDArray[np.uint8]:
    """Luma as ``uint8``; deeper samples are rounded after the conversion."""
    return to_uint8(gray_of(pixels))


def as_gray(image: Image, pixels: NDArray[Any]) -> Image:
    """Gray pixels made from ``image``: without its profile, which describes colors unless it was gray before."""
    return Image(pixels, image.icc if image.channels == 1 else None)


def fit_depth(samples: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Float samples on the scale of ``dtype``, clipped to it, and rounded for integers."""
    clipped: NDArray[Any] = np.clip(samples, 0.0, full_scale(dtype))
    if dtype != np.float32:
        np.rint(clipped, out=clipped)
    return clipped.astype(dtype)


def channels_of_color(color: str, dtype: np.dtype[Any]) -> tuple[float, float, float, float]:
    """Red, green, blue and alpha of ``RRGGBB[AA]`` on the scale of ``dtype``."""
    red, green, blue, *alpha = (value / 255 * full_scale(dtype) for value in bytes.fromhex(color))
    return red, green, blue, alpha[0] if alpha else full_scale(dtype)


def is_gray_color(color: str) -> bool:
    """Whether red, green and blue of ``RRGGBB[AA]`` are the same."""
    return color[0:2] == color[2:4] == color[4:6]


def with_room_for(image: Image, color: str | None) -> Image:
    """A gray image as RGB where ``color`` (``RRGGBB[AA]``) isn't gray; others as they are."""
    if image.channels > 1 or color is None or is_gray_color(color):
        return image
    return Image(cv2.cvtColor(image.pixels, cv2.COLOR_GRAY2RGB))  # without a profile: that was of gray


def channels_with(color: str | None, channels: int) -> int:
    """How many channels :func:`with_room_for` leaves."""
    return 3 if channels == 1 and color is not None and not is_gray_color(color) else channels


def is_opaque(pixels: Pixels) -> bool:
    """Whether nothing shines through."""
    return pixels.ndim == 2 or pixels.shape[2] == 3 or bool(pixels[..., 3].min() >= full_scale(pixels.dtype))


def on_colors(image: Image, run: Callable[[NDArray[Any]], NDArray[Any]]) -> Image:
    """``image`` with ``run`` of its gray or RGB samples, at the same depth; alpha is kept as it is.

    ``run`` may give RGB for gray. Floats are cut off at 0 and 1 before and after, and what is no number is black:
    some calls of OpenCV index tables by samples.
    """
    pixels: NDArray[Any] = image.pixels
    colors: NDArray[Any] = np.ascontiguousarray(pixels[..., :3]) if image.has_alpha else pixels
    if colors.dtype == np.float32:
        colors = np.clip(np.nan_to_num(colors), 0.0, 1.0)
    done = run(colors)
    if done.dtype == np.float32:
        done = np.clip(done, 0.0, 1.0)
    if image.has_alpha:
        done = np.dstack((done, pixels[..., 3]))
    profile = None if image.channels == 1 and done.ndim == 3 else image.icc
    return Image(done, profile)


def filtered(
    pixels: Pixels,
    run: Callable[[NDArray[Any]], NDArray[Any]],
    *,
    keeps_opaque: bool = True,
    opaque: bool | None = None,
) -> NDArray[Any]:
    """``run(pixels)``; where there is transparency, on premultiplied ``float32`` samples.

    Averaging straight alpha would let the hidden colors of transparent pixels bleed into their neighbors
    (Porter and Duff 1984). ``run`` gets samples on the scale of the input's depth. ``keeps_opaque`` False: the result
    may have transparency where the input has none. ``opaque`` tells, where ``pixels`` are a part, whether nothing
    shines through in the whole image.
    """
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return run(pixels)
    if keeps_opaque and (is_opaque(pixels) if opaque is None else opaque):
        return run(pixels)
    return straightened(run(premultiplied(pixels)), pixels.dtype)


_BAND = 1 << 16
"""Pixels that are worked on at a time."""


def _bands(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows, some at a time: what is only in between takes little memory then."""
    rows = max(1, _BAND // max(1, shape[1]))
    return (slice(start, start + rows) for start in range(0, shape[0], rows))


def straightened(samples: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The inverse of :func:`premultiplied`, at the depth ``dtype``."""
    result = np.empty(samples.shape, dtype)
    for band in _bands(samples.shape):
        result[band] = _straight(samples[band], dtype)
    return result


def premultiplied(pixels: Pixels) -> NDArray[np.float32]:
    """RGBA as ``float32`` on its own scale, colors times alpha."""
    full = full_scale(pixels.dtype)
    work = np.empty(pixels.shape, np.float32)
    for band in _bands(pixels.shape):
        work[band] = pixels[band]
        work[band][..., :3] *= work[band][..., 3:] / full
    return work


def _straight(samples: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Premultiplied samples on the scale of ``dtype``, undone and at that depth."""
    full = full_scale(dtype)
    alpha = samples[..., 3:]  # divided by before it is cut off: ringing is in the colors too
    visible = alpha > full / 131_070  # half a level of 16 bits
    color = np.divide(samples[..., :3] * full, alpha, out=np.zeros_like(samples[..., :3]), where=visible)
    return fit_depth(np.concatenate((color, alpha), axis=2), dtype)
