"""Filters that take noise away and keep edges: median, bilateral, denoise.

Colors only; transparency is left alone. What OpenCV has at 8 bits only is done by NumPy, or in ``float32``, at the
others.
"""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixelmill.images.image import Image
from pixelmill.images.samples import to_uint16
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.pixels import fit_depth, full_scale, on_colors
from pixelmill.operations.plain_opencv import without_ipp

_BLOCK_SAMPLES = 1 << 21
"""Samples of windows that are sorted at once: 4 to 8 MB."""


class Median(Operation):
    """Each sample becomes the median of a square around it: specks vanish, edges stay. Transparency is left alone.

    From radius 3 on, images of 16 bits or floats take much longer than those of 8 bits: every window is sorted.
    """

    name: ClassVar[str] = "median"
    family: ClassVar[str] = "filters"
    summary: ClassVar[str] = "Remove specks and keep edges"
    example: ClassVar[str] = "2"

    radius: int = Field(
        default=1,
        ge=1,
        le=15,
        description="Reach of the square; it is 2 * radius + 1 wide",
        json_schema_extra={"unit": "pixels"},
    )

    def facts(self) -> Facts:
        """Sorting networks for 3x3 and 5x5, histograms above (of 8 bits; see the class for others)."""
        cost = {1: 0.2, 2: 1.1}.get(self.radius, 29.0)
        return Facts("local", "cv2-exact", halo=self.radius, ns_per_pixel=cost, memory_factor=2.0)

    def apply(self, image: Image) -> Step:
        """``cv2.medianBlur``, whose borders repeat the edge pixel; ``numpy.median`` where that can't."""

        def run(colors: NDArray[Any]) -> NDArray[Any]:
            if colors.dtype != np.uint8 and self.radius > 2:
                return _median_of_windows(colors, self.radius)
            return cv2.medianBlur(colors, 2 * self.radius + 1)

        return Step(on_colors(image, run))


def _median_of_windows(colors: NDArray[Any], radius: int) -> NDArray[Any]:
    """The median of ``2 * radius + 1`` squared samples of each channel, edges repeated, a part at a time."""
    side = 2 * radius + 1
    rest = [(0, 0)] * (colors.ndim - 2)
    padded = np.pad(colors, [(radius, radius), (radius, radius), *rest], mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(0, 1))
    result = np.empty_like(colors)
    pixel = colors[0, 0].size * side * side
    columns = min(colors.shape[1], max(1, _BLOCK_SAMPLES // pixel))
    rows = max(1, _BLOCK_SAMPLES // (columns * pixel))
    for top in range(0, len(colors), rows):
        for left in range(0, colors.shape[1], columns):
            part = np.s_[top : top + rows, left : left + columns]
            result[part] = np.median(windows[part], axis=(-2, -1))
    return result


class Bilateral(Operation):
    """Blur what is alike, keep edges (Tomasi and Manduchi 1998). Transparency is left alone.

    16 bits are filtered in ``float32``.
    """

    name: ClassVar[str] = "bilateral"
    family: ClassVar[str] = "filters"
    summary: ClassVar[str] = "Smooth surfaces and keep edges"
    example: ClassVar[str] = "0.1,3"
    positional: ClassVar[int] = 2

    sigma_color: float = Field(
        default=0.1,
        ge=0.001,
        le=1,
        description="How different samples may be and still be mixed",
        json_schema_extra={"unit": "full range"},
    )
    sigma_space: float = Field(
        default=3.0,
        ge=0.5,
        le=20,
        description="Standard deviation of the blur; it reaches 1.5 times as far",
        json_schema_extra={"unit": "pixels"},
    )

    def facts(self) -> Facts:
        """Every neighbor within the radius is weighted anew."""
        radius = self._radius()
        cost = 0.3 + 0.3 * (2 * radius + 1) ** 2
        return Facts("local", "cv2-exact", halo=radius, ns_per_pixel=cost, memory_factor=4.0)

    def _radius(self) -> int:
        return max(1, round(1.5 * self.sigma_space))

    def apply(self, image: Image) -> Step:
        """``cv2.bilateralFilter``."""
        diameter = 2 * self._radius() + 1

        def run(colors: NDArray[Any]) -> NDArray[Any]:
            work = colors
            if colors.dtype == np.uint16:
                work = colors.astype(np.float32) / np.float32(65_535)
            strength = self.sigma_color * full_scale(work.dtype)
            done = bilateral(work, diameter, strength, self.sigma_space, full_scale(work.dtype))
            return fit_depth(done * np.float32(65_535), colors.dtype) if colors.dtype == np.uint16 else done

        return Step(on_colors(image, run))


_BESIDE = 64
"""Columns that are put beside floats: OpenCV rounds the end of a row otherwise."""


def bilateral(colors: NDArray[Any], diameter: int, sigma_color: float, sigma_space: float, full: float) -> NDArray[Any]:
    """``cv2.bilateralFilter``; of floats, from 0 to ``full``, with weights that don't depend on the range of samples.

    OpenCV tabulates the weights of floats between the least and the greatest sample that it is given, so that a part
    of an image would get others: here it is given 0 and ``full``, far enough below the picture.
    """
    if colors.dtype != np.float32:
        return cv2.bilateralFilter(colors, diameter, sigma_color, sigma_space)
    reach = diameter // 2
    height, width = colors.shape[:2]
    beside = -(-reach // _BESIDE) * _BESIDE
    work = cv2.copyMakeBorder(colors, reach, reach + 1, beside, beside, cv2.BORDER_REFLECT_101)
    work[-1], work[-1, 0] = 0.0, full
    with without_ipp():
        done = cv2.bilateralFilter(work, diameter, sigma_color, sigma_space)
    return np.ascontiguousarray(done[reach : reach + height, beside : beside + width])


class Denoise(Operation):
    """Take noise away by non-local means (Buades 2005): the mean of patches that look alike. Slow.

    Colors of 8 bits are filtered as lightness and color, 16 bits and floats as 16 bits with all channels at once.
    Transparency is left alone.
    """

    name: ClassVar[str] = "denoise"
    family: ClassVar[str] = "filters"
    summary: ClassVar[str] = "Take noise away by non-local means"
    example: ClassVar[str] = "5"

    strength: float = Field(
        default=3.0,
        ge=0.1,
        le=100,
        description="About the standard deviation of the noise; more takes detail away",
        json_schema_extra={"unit": "levels of 8 bits"},
    )
    color_strength: float = Field(
        default=3.0,
        ge=0.1,
        le=100,
        description="The same for noise in color (8 bits only; deeper images use strength)",
        json_schema_extra={"unit": "levels of 8 bits"},
    )
    patch: int = Field(
        default=3,
        ge=1,
        le=5,
        description="Reach of the patches that are compared",
        json_schema_extra={"unit": "pixels"},
    )
    search: int = Field(
        default=10,
        ge=1,
        le=20,
        description="How far away patches are looked for; the time grows with its square",
        json_schema_extra={"unit": "pixels"},
    )

    def facts(self) -> Facts:
        """Every patch within the search window is compared."""
        cost = 35.0 + 0.87 * (2 * self.search + 1) ** 2
        return Facts("local", "cv2-exact", halo=self.patch + self.search, ns_per_pixel=cost, memory_factor=6.0)

    def apply(self, image: Image) -> Step:
        """``cv2.fastNlMeansDenoising`` or ``cv2.fastNlMeansDenoisingColored``."""
        sizes = (2 * self.patch + 1, 2 * self.search + 1)

        def run(colors: NDArray[Any]) -> NDArray[Any]:
            if colors.dtype != np.uint8:
                deep = to_uint16(colors)
                done = cv2.fastNlMeansDenoising(deep, [self.strength * 257], None, *sizes, cv2.NORM_L1)
                return done if colors.dtype == np.uint16 else (done / 65_535).astype(np.float32)
            if colors.ndim == 2:
                return cv2.fastNlMeansDenoising(colors, None, self.strength, *sizes)
            bgr = np.ascontiguousarray(colors[..., ::-1])
            done = cv2.fastNlMeansDenoisingColored(bgr, None, self.strength, self.color_strength, *sizes)
            return np.ascontiguousarray(done[..., ::-1])

        return Step(on_colors(image, run))
