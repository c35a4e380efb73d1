"""Operations that find something out and leave the image as it is: info, histogram, colors, phash, blurhash, sharpness.

What they find are plain JSON values. A pipeline of these alone, without a format, gives data and no image (see
``pipelines/plan.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixelmill.images.image import Image, Size
from pixelmill.images.regions import Region
from pixelmill.images.samples import to_uint8
from pixelmill.operations.levels import counted
from pixelmill.operations.moments import Sums, added, mean_and_deviation, moments
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.passes import Array, Form, Look, Pass, Place, Survey, summed
from pixelmill.operations.pixels import full_scale, gray8_of

_BASE83 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"
_SEED = 1
"""Of OpenCV's random numbers where clusters start: the same image gives the same colors."""
_SAMPLED_SIDE = 160
"""Colors are clustered over a grid of at most that many pixels a side."""
_BLURHASH_SIDE = 128
"""BlurHash holds at most nine waves a side; more pixels than these don't change it."""


class Analysis(Operation):
    """Base of operations that give data; the image passes through."""

    family: ClassVar[str] = "analysis"
    output: ClassVar[Literal["image", "data", "both"]] = "data"

    def find(self, image: Image) -> dict[str, Any]:
        """What is found, as plain JSON values."""
        raise NotImplementedError

    def apply(self, image: Image) -> Step:
        """The same image, and what was found."""
        return Step(image, self.find(image))

    def _told(
        self,
        look: Callable[[Array, Place], Any],
        join: Callable[[Any, Any], Any],
        data: Callable[[Any], dict[str, Any]],
        halo: int = 0,
    ) -> tuple[Pass, ...]:
        """A survey of all tiles whose looks add up."""
        facts = self.facts()
        survey = Survey(
            self.name,
            lambda pixels, place: Look(look(pixels, place)),
            lambda told: told[0][1],
            join=join,
            halo=halo,
            images=False,
            data=data,
            ns_per_pixel=facts.ns_per_pixel,
            memory_factor=max(facts.memory_factor, 1.0),
        )
        return (survey,)


class Info(Analysis):
    """Size, channels, depth, and mean and standard deviation of each channel; and the metadata of the source's file.

    They are of the image as it arrives here, upright, in samples of its depth: 0 to 255, 0 to 65,535, or 0 to 1 where
    depth is 32. ``metadata`` says which blocks the file holds (``exif``, ``xmp``, ``iptc``: bytes), whether one of them
    names a place (``gps``), and camera, date, author and copyright.
    """

    name: ClassVar[str] = "info"
    of_file: ClassVar[bool] = True
    summary: ClassVar[str] = "Size, channels, depth, mean and deviation as data"

    def facts(self) -> Facts:
        """One pass."""
        return Facts("analysis", "cv2-exact", ns_per_pixel=0.07, memory_factor=0.1)

    def find(self, image: Image) -> dict[str, Any]:
        """See the class; the deviation is that of the whole population."""
        form = Form(image.size, image.channels, image.pixels.dtype)
        return self._of(form, moments(np.atleast_3d(_known(image.pixels))))

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Sums."""

        def look(pixels: Array, place: Place) -> Sums:
            return moments(np.atleast_3d(_known(place.core.of(pixels, place.extended))))

        return self._told(look, added, lambda sums: self._of(form, sums))

    def _of(self, form: Form, sums: Sums) -> dict[str, Any]:
        names = _channel_names(form.channels)
        found = [mean_and_deviation(one) for one in sums]
        return {
            "width": form.size.width,
            "height": form.size.height,
            "channels": form.channels,
            "depth": form.dtype.itemsize * 8,
            "has_alpha": form.channels == 4,
            "mean": {name: round(mean, 6) for name, (mean, _) in zip(names, found, strict=True)},
            "std": {name: round(deviation, 6) for name, (_, deviation) in zip(names, found, strict=True)},
        }


class Histogram(Analysis):
    """How many samples of each channel lie in each of equal bins between black and full intensity.

    Where the number of levels is no multiple of the bins, some bins hold one level more than others.
    """

    name: ClassVar[str] = "histogram"
    summary: ClassVar[str] = "Counts of samples by intensity as data"
    example: ClassVar[str] = "16"

    bins: int = Field(default=256, ge=2, le=256, description="Number of bins", json_schema_extra={"unit": "bins"})

    def facts(self) -> Facts:
        """One pass; counting widens the samples of one channel to 64 bits."""
        return Facts("analysis", "self-exact", ns_per_pixel=1.9, memory_factor=3.1)

    def find(self, image: Image) -> dict[str, Any]:
        """Counts by channel; they sum up to the number of pixels."""
        return self._of(self._all_counts(image.pixels))

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Counts."""
        del form
        return self._told(
            lambda pixels, place: self._all_counts(place.core.of(pixels, place.extended)), summed, self._of
        )

    def _all_counts(self, pixels: NDArray[Any]) -> NDArray[np.int64]:
        samples = np.atleast_3d(_known(pixels))
        return np.stack([self._counts(samples[..., channel]) for channel in range(samples.shape[2])])

    def _of(self, counts: NDArray[np.int64]) -> dict[str, Any]:
        names = _channel_names(len(counts))
        return {"bins": self.bins, "counts": dict(zip(names, counts.tolist(), strict=True))}

    def _counts(self, samples: NDArray[Any]) -> NDArray[np.int64]:
        if samples.dtype == np.float32:
            return np.histogram(samples, self.bins, (0.0, 1.0))[0].astype(np.int64)
        levels = int(full_scale(samples.dtype)) + 1
        by_level = counted(samples)
        spread, _ = np.histogram(np.arange(levels), self.bins, (0, levels), weights=by_level)
        return spread.astype(np.int64)


class Colors(Analysis):
    """The dominant colors, the most frequent first, with the part of the visible pixels that is nearest to each.

    They are the centers of clusters by k-means (OpenCV, k-means++ start, fixed seed) in 8-bit RGB over a grid of at
    most 160×160 pixels. Pixels that are more than half transparent don't count. An image of fewer colors gives fewer.
    """

    name: ClassVar[str] = "colors"
    summary: ClassVar[str] = "The dominant colors as data"
    example: ClassVar[str] = "5"

    k: int = Field(default=5, ge=1, le=32, description="How many colors at most", json_schema_extra={"unit": "colors"})

    def facts(self) -> Facts:
        """A pass over at most 25,600 samples; a share of each pixel of a usual photograph."""
        return Facts("analysis", "self-exact", ns_per_pixel=1.0 * self.k, memory_factor=0.2)

    def find(self, image: Image) -> dict[str, Any]:
        """``colors``: hex RRGGBB, rgb from 0 to 255, and share from 0 to 1."""
        return self._of(_visible_samples(image, _step(image.size)))

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """The samples on the grid, in the order of the whole image."""
        del form

        def look(pixels: Array, place: Place) -> dict[int, NDArray[np.uint8]]:
            core, step = place.core, _step(place.size)
            first_row, first = -core.top % step, -core.left % step
            part = place.core.of(pixels, place.extended)
            rows = range(first_row, core.height if first < core.width else 0, step)
            line = part[:, first:]
            return {
                (core.top + row) * place.size.width + core.left: _visible_samples(Image(line[row : row + 1]), step)
                for row in rows
            }

        def found(told: dict[int, NDArray[np.uint8]]) -> dict[str, Any]:
            return self._of(np.concatenate([told[place] for place in sorted(told)]))

        return self._told(look, lambda one, other: {**one, **other}, found)

    def _of(self, seen: NDArray[np.uint8]) -> dict[str, Any]:
        kinds = np.unique(seen, axis=0)
        if len(kinds) == 0:
            return {"colors": []}
        count = min(self.k, len(kinds))
        cv2.setRNGSeed(_SEED)  # of this thread only
        stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 0.25)
        _, labels, centers = cv2.kmeans(seen.astype(np.float32), count, None, stop, 3, cv2.KMEANS_PP_CENTERS)
        shares = np.bincount(labels.ravel(), minlength=count) / len(seen)
        rows = [
            (float(share), [round(float(value)) for value in rgb]) for share, rgb in zip(shares, centers, strict=True)
        ]
        rows.sort(key=lambda row: (-row[0], row[1]))
        return {
            "colors": [{"hex": bytes(rgb).hex(), "rgb": rgb, "share": round(share, 4)} for share, rgb in rows if share]
        }


class Phash(Analysis):
    """A perceptual hash of 64 bits in hex: images that look alike differ in few bits.

    Luma at 32×32 pixels, its cosine transform, and of the 8×8 lowest frequencies, row by row, a 1 for each above their
    median (Zauner 2010, as the ImageHash library does it). Compare by the number of bits that differ: up to about 10 of
    64 is the same picture. Transparency is dropped.
    """

    name: ClassVar[str] = "phash"
    summary: ClassVar[str] = "A perceptual hash as data"

    def facts(self) -> Facts:
        """Luma, reduced by area."""
        return Facts("analysis", "self-exact", ns_per_pixel=0.55, memory_factor=0.5)

    def find(self, image: Image) -> dict[str, Any]:
        """``hash``: 16 hex digits."""
        small = cv2.resize(gray8_of(image.pixels), (32, 32), interpolation=cv2.INTER_AREA)
        # Rounded: in flat images the frequencies are zero but for the last bits of the arithmetic.
        low = np.round(cv2.dct(small.astype(np.float64))[:8, :8], 6)
        return {"hash": np.packbits(low > np.median(low)).tobytes().hex()}


class Blurhash(Analysis):
    """A BlurHash: 6 to 166 characters that a page draws as a blurred picture until the image is there.

    The published algorithm (https://github.com/woltapp/blurhash/blob/master/Algorithm.md): cosine components in linear
    light, quantized, in base 83. Taken over at most 128×128 pixels, averaged. Transparency is dropped.
    """

    name: ClassVar[str] = "blurhash"
    summary: ClassVar[str] = "A BlurHash for placeholders as data"
    example: ClassVar[str] = "4,3"
    positional: ClassVar[int] = 2

    x: int = Field(default=4, ge=1, le=9, description="Components across", json_schema_extra={"unit": "components"})
    y: int = Field(default=3, ge=1, le=9, description="Components down", json_schema_extra={"unit": "components"})

    def facts(self) -> Facts:
        """Reduced by area; the rest is small."""
        return Facts("analysis", "self-exact", ns_per_pixel=0.7, memory_factor=1.0)

    def find(self, image: Image) -> dict[str, Any]:
        """``hash``, and the components ``x`` and ``y``."""
        rgb = _rgb8(image)
        size = (min(_BLURHASH_SIDE, rgb.shape[1]), min(_BLURHASH_SIDE, rgb.shape[0]))
        if size != (rgb.shape[1], rgb.shape[0]):
            rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        waves = _waves(_linear(rgb / 255.0), self.x, self.y)
        return {"hash": _written(waves, self.x, self.y), "x": self.x, "y": self.y}


class Sharpness(Analysis):
    """Two measures of focus in luma at 8 bits, larger for sharper images of the same motif and size.

    laplacian: the variance of the Laplacian (Pech-Pacheco et al. 2000). tenengrad: the mean square of the Sobel
    gradient (Tenenbaum 1970). Noise counts as sharp; compare at one size.
    """

    name: ClassVar[str] = "sharpness"
    summary: ClassVar[str] = "How well the image is in focus as data"

    def facts(self) -> Facts:
        """Three small filters of luma, in 32-bit floats."""
        return Facts("analysis", "cv2-exact", ns_per_pixel=0.95, memory_factor=3.1)

    def find(self, image: Image) -> dict[str, Any]:
        """``laplacian`` and ``tenengrad``, in squares of 8-bit levels."""
        return self._of(self._sums(image.pixels, Region(0, 0, *image.size), Region(0, 0, *image.size)))

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Sums."""
        del form
        return self._told(lambda pixels, place: self._sums(pixels, place.core, place.extended), summed, self._of, 1)

    def _sums(self, pixels: NDArray[Any], core: Region, extended: Region) -> NDArray[np.int64]:
        """Pixels, sum of the Laplacian, of its squares, and of those of the gradient."""
        gray = gray8_of(pixels)
        second, across, down = (
            np.ascontiguousarray(core.of(found, extended), np.int32)
            for found in (
                cv2.Laplacian(gray, cv2.CV_16S),
                cv2.Sobel(gray, cv2.CV_16S, 1, 0),
                cv2.Sobel(gray, cv2.CV_16S, 0, 1),
            )
        )
        squares = [int(np.sum(part * part, dtype=np.int64)) for part in (second, across, down)]
        return np.array([core.pixels, int(second.sum(dtype=np.int64)), squares[0], squares[1] + squares[2]], np.int64)

    def _of(self, sums: NDArray[np.int64]) -> dict[str, Any]:
        count, total, squares, gradients = sums.tolist()
        return {
            "laplacian": round((squares * count - total * total) / count**2, 4),
            "tenengrad": round(gradients / count, 4),
        }


def _channel_names(channels: int) -> tuple[str, ...]:
    return ("gray",) if channels == 1 else ("red", "green", "blue", "alpha")[:channels]


def _known(pixels: NDArray[Any]) -> NDArray[Any]:
    """Samples that are numbers within their range: JSON has no others, and bins neither."""
    if pixels.dtype != np.float32:
        return pixels
    return np.clip(np.nan_to_num(pixels, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)


def _rgb8(image: Image) -> NDArray[np.uint8]:
    """Eight-bit RGB of any image; alpha is dropped."""
    pixels = to_uint8(image.pixels)
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if pixels.ndim == 2 else pixels[..., :3]


def _step(size: Size) -> int:
    """Pixels between two that are sampled."""
    return -(-max(size) // _SAMPLED_SIDE)


def _visible_samples(image: Image, step: int) -> NDArray[np.uint8]:
    """``N×3`` eight-bit RGB of the pixels on the grid that are at least half opaque."""
    grid = Image(image.pixels[::step, ::step])
    samples = _rgb8(grid).reshape(-1, 3)
    if not image.has_alpha:
        return samples
    visible: NDArray[np.bool_] = to_uint8(grid.pixels)[..., 3].reshape(-1) >= 128
    return samples[visible]


def _linear(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear light of sRGB (IEC 61966-2-1), both from 0 to 1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _from_linear(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of :func:`_linear`; cut off at both ends."""
    values = np.clip(values, 0.0, 1.0)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def _waves(light: NDArray[np.float64], count_x: int, count_y: int) -> NDArray[np.float64]:
    """BlurHash's components of ``H×W×3`` linear light, ``count_y×count_x×3``; the first is the mean."""
    height, width = light.shape[:2]
    across = np.cos(np.pi / width * np.outer(np.arange(count_x), np.arange(width)))
    down = np.cos(np.pi / height * np.outer(np.arange(count_y), np.arange(height)))
    waves: NDArray[np.float64] = np.einsum("jy,yxc,ix->jic", down, light, across, optimize=True) * 2
    waves[0, 0] /= 2
    return waves / (width * height)


def _written(waves: NDArray[np.float64], count_x: int, count_y: int) -> str:
    """BlurHash's text: the counts, the largest component, the mean color, then the others."""
    mean, *others = waves.reshape(-1, 3)
    red, green, blue = (int(value) for value in np.floor(_from_linear(mean) * 255 + 0.5))
    largest = float(np.abs(others).max()) if others else 0.0
    level = int(np.clip(np.floor(largest * 166 - 0.5), 0, 82)) if others else 0
    parts = [
        _base83(count_x - 1 + (count_y - 1) * 9, 1),
        _base83(level, 1),
        _base83((red << 16) + (green << 8) + blue, 4),
    ]
    for other in others:
        part = np.sign(other) * np.sqrt(np.abs(other) * 166 / (level + 1))
        r, g, b = (int(value) for value in np.clip(np.floor(part * 9 + 9.5), 0, 18))
        parts.append(_base83((r * 19 + g) * 19 + b, 2))
    return "".join(parts)


def _base83(value: int, digits: int) -> str:
    return "".join(_BASE83[value // 83**place % 83] for place in reversed(range(digits)))
