"""Linear operations on a neighborhood of each pixel: gaussian, sharpen, box, unsharp, emboss, convolve.

Borders are mirrored without the edge pixel. What takes noise away and keeps edges is in ``smoothing.py``.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from pixelmill.errors import InvalidParameter
from pixelmill.images.image import Image, Need, Size
from pixelmill.operations.opacity import local_by_opacity
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.passes import Form, Pass
from pixelmill.operations.pixels import filtered, full_scale, laid_out, on_colors


class Gaussian(Operation):
    """Blur with a Gaussian. Transparency is blurred with the colors."""

    name: ClassVar[str] = "gaussian"
    family: ClassVar[str] = "filters"
    summary: ClassVar[str] = "Blur"
    example: ClassVar[str] = "2"

    sigma: float = Field(
        ge=0.1, le=100, description="Standard deviation of the Gaussian", json_schema_extra={"unit": "pixels"}
    )

    def facts(self) -> Facts:
        """Separable; OpenCV's kernel has about 6 sigma taps for 8 bits, 8 sigma for more (which the halo covers)."""
        halo = (round(8 * self.sigma + 1) | 1) // 2
        cost = 0.2 + 0.5 * self.sigma + 0.02 * self.sigma**2
        return Facts("local", "cv2-exact", halo=halo, ns_per_pixel=cost, memory_factor=2.0, alpha_memory_factor=8.5)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel, as sigma counts in them; luma is enough if it is afterwards."""
        del size
        return Need(color=after.color)

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Local, once it is known whether anything shines through."""
        return local_by_opacity(self, form, self._blurred)

    def apply(self, image: Image) -> Step:
        """Blur."""
        return Step(image.with_pixels(self._blurred(image.pixels)))

    def _blurred(self, pixels: NDArray[Any], opaque: bool | None = None) -> NDArray[Any]:
        def run(samples: NDArray[Any]) -> NDArray[Any]:
            return cv2.GaussianBlur(samples, (0, 0), self.sigma, borderType=cv2.BORDER_REFLECT_101)

        return filtered(pixels, run, opaque=opaque)


class Sharpen(Operation):
    """Add to each pixel its difference from its four neighbors: the kernel 0 -a 0 / -a 1+4a -a / 0 -a 0.

    Transparency is left alone.
    """

    name: ClassVar[str] = "sharpen"
    family: ClassVar[str] = "filters"
    summary: ClassVar[str] = "Sharpen edges"

    amount: float = Field(default=1.0, ge=0, le=10, description="Strength a of the kernel; 0 changes nothing")

    def facts(self) -> Facts:
        """A 3x3 kernel."""
        return Facts("local", "cv2-exact", halo=1, ns_per_pixel=0.5)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel; the result is cut off at black and white, so color stays too."""
        del after, size
        return Need()

    def apply(self, image: Image) -> Step:
        """Filter the colors."""
        pixels = image.pixels
        colors: NDArray[Any] = np.ascontiguousarray(pixels[..., :3]) if image.has_alpha else pixels
        sharp = cv2.filter2D(colors, -1, sharpen_kernel(self.amount), borderType=cv2.BORDER_REFLECT_101)
        if sharp.dtype == np.float32:
            sharp = np.clip(sharp, 0.0, 1.0)
        return Step(image.with_pixels(np.dstack((sharp, pixels[..., 3])) if image.has_alpha else sharp))


def sharpen_kernel(amount: float) -> NDArray[np.float32]:
    """The 3x3 kernel of :class:`Sharpen`."""
    a = amount
    return np.array([[0, -a, 0], [-a, 1 + 4 * a, -a], [0, -a, 0]], np.float32)


class Box(Operation):
    """Blur with the mean of a square. Transparency is blurred with the colors."""

    name: ClassVar[str] = "box"
    family: ClassVar[str] = "filters"
    summary: ClassVar[str] = "Blur by the mean of a square"
    example: ClassVar[str] = "3"

    radius: int = Field(
        ge=1,
        le=200,
        description="Reach of the square; it is 2 * radius + 1 wide",
        json_schema_extra={"unit": "pixels"},
    )

    def facts(self) -> Facts:
        """Running sums: the radius costs nothing, but above 7 the sums need 32 bits."""
        cost = 0.4 if self.radius <= 7 else 0.6
        return Facts(
            "local", "cv2-exact", halo=self.radius, ns_per_pixel=cost, memory_factor=2.0, alpha_memory_factor=8.5
        )

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel, as the radius counts in them; luma is enough if it is afterwards."""
        del size
        return Need(color=after.color)

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Local, once it is known whether anything shines through."""
        return local_by_opacity(self, form, self._blurred)

    def apply(self, image: Image) -> Step:
        """``cv2.blur``."""
        return Step(image.with_pixels(self._blurred(image.pixels)))

    def _blurred(self, pixels: NDArray[Any], opaque: bool | None = None) -> NDArray[Any]:
        side = 2 * self.radius + 1
        source = pixels
        if source.dtype == np.float32:  # one sample that is no number would spoil all running sums behind it
            source = np.clip(np.nan_to_num(source), np.float32(0), np.float32(1))

        def run(samples: NDArray[Any]) -> NDArray[Any]:
            if samples.dtype == np.float32:
                samples = _summable(samples, full_scale(source.dtype))
            return cv2.blur(samples, (side, side), borderType=cv2.BORDER_REFLECT_101)

        blurred = filtered(source, run, opaque=opaque)
        if blurred.dtype == np.float32:  # running sums may end a little outside of what they add up
            blurred = np.clip(blurred, 0.0, 1.0)
        return blurred


_STEPS = 1 << 30
"""Sums of that many to the full range, of as many as a box holds, are exact in 64 bits."""


def _summable(samples: NDArray[Any], full: float) -> NDArray[Any]:
    """Floats on a grid so fine that running sums over them don't depend on where they began."""
    steps = np.float32(_STEPS if full == 1.0 else _STEPS >> (8 if full == 255.0 else 16))
    scaled: NDArray[Any] = samples * steps
    np.rint(scaled, out=scaled)
    scaled /= steps
    return scaled


class Unsharp(Operation):
    """Unsharp masking: add to each color sample its difference from a Gaussian blur. Transparency is left alone."""

    name: ClassVar[str] = "unsharp"
    family: ClassVar[str] = "filters"
    summary: ClassVar[str] = "Sharpen detail of a chosen size"
    example: ClassVar[str] = "1.5,amount=0.8"

    sigma: float = Field(
        default=1.0,
        ge=0.1,
        le=100,
        description="Standard deviation of the blur: the size of the detail",
        json_schema_extra={"unit": "pixels"},
    )
    amount: float = Field(default=1.0, ge=0, le=10, description="How much of the difference is added")
    threshold: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Smaller differences are left alone, such as noise",
        json_schema_extra={"unit": "full range"},
    )

    def facts(self) -> Facts:
        """A Gaussian and a weighted sum."""
        halo = (round(8 * self.sigma + 1) | 1) // 2
        cost = 0.5 + 0.5 * self.sigma + 0.02 * self.sigma**2 + (4.0 if self.threshold else 0.0)
        return Facts("local", "cv2-exact", halo=halo, ns_per_pixel=cost, memory_factor=4.0)

    def apply(self, image: Image) -> Step:
        """``cv2.addWeighted`` of the image and its ``cv2.GaussianBlur``."""

        def run(colors: NDArray[Any]) -> NDArray[Any]:
            blurred = cv2.GaussianBlur(colors, (0, 0), self.sigma, borderType=cv2.BORDER_REFLECT_101)
            sharp = _weighted(colors, 1.0 + self.amount, blurred, -self.amount)
            if self.threshold == 0.0:
                return sharp
            large = cv2.absdiff(colors, blurred) >= self.threshold * full_scale(colors.dtype)
            return np.where(large, sharp, colors)

        return Step(on_colors(image, run))


def _weighted(colors: NDArray[Any], weight: float, others: NDArray[Any], other: float) -> NDArray[Any]:
    """``cv2.addWeighted``, the same wherever a pixel lies."""
    if colors.dtype != np.float32:
        return cv2.addWeighted(colors, weight, others, other, 0.0)
    pairs = np.stack((colors, others), axis=2).reshape(*colors.shape[:2], -1)

    def add(part: NDArray[Any]) -> NDArray[Any]:
        half = part.shape[2] // 2
        one, two = (np.ascontiguousarray(samples) for samples in (part[..., :half], part[..., half:]))
        return cv2.addWeighted(one, weight, two, other, 0.0).reshape(*part.shape[:2], half)

    return laid_out(add, pairs).reshape(colors.shape)


_LIGHTS = {
    "top-left": (-1, -1),
    "top": (0, -1),
    "top-right": (1, -1),
    "left": (-1, 0),
    "right": (1, 0),
    "bottom-left": (-1, 1),
    "bottom": (0, 1),
    "bottom-right": (1, 1),
}


class Emboss(Operation):
    """A relief: slopes that face the light become brighter, the others darker. Transparency is left alone.

    The 3x3 kernel for light from the top left is -2a -a 0 / -a 1 a / 0 a 2a.
    """

    name: ClassVar[str] = "emboss"
    family: ClassVar[str] = "filters"
    summary: ClassVar[str] = "A relief lit from one side"
    example: ClassVar[str] = "0.8,light=left"

    strength: float = Field(default=1.0, ge=0, le=10, description="Strength a of the kernel; 0 changes nothing")
    light: Literal["top-left", "top", "top-right", "left", "right", "bottom-left", "bottom", "bottom-right"] = Field(
        default="top-left", description="Where the light comes from"
    )

    def facts(self) -> Facts:
        """A 3x3 kernel."""
        return Facts("local", "cv2-exact", halo=1, ns_per_pixel=0.6, memory_factor=2.0)

    def apply(self, image: Image) -> Step:
        """``cv2.filter2D``."""
        toward = np.array(_LIGHTS[self.light], np.float32)
        y, x = np.mgrid[-1:2, -1:2]
        kernel = -self.strength * (x * toward[0] + y * toward[1])
        kernel[1, 1] = 1.0
        return Step(on_colors(image, lambda colors: _correlated(colors, kernel.astype(np.float32))))


def _as_tuple(value: Any) -> Any:
    """JSON and the text form have lists."""
    return tuple(value) if isinstance(value, list) else value


class Convolve(Operation):
    """Filter each channel with a kernel of your own: each sample becomes the weighted sum of its neighborhood.

    The kernel is laid on as it is written (correlation, as in OpenCV's filter2D), its middle on the pixel. Results
    beyond black and white are cut off; offset=0.5 shows negative sums. Transparency is left alone.
    """

    name: ClassVar[str] = "convolve"
    family: ClassVar[str] = "filters"
    summary: ClassVar[str] = "Filter with a kernel of your own"
    example: ClassVar[str] = "0:-1:0:-1:5:-1:0:-1:0"

    kernel: Annotated[tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...], BeforeValidator(_as_tuple)] = Field(
        min_length=9,
        max_length=81,
        description="Weights row by row, of a square 3, 5, 7 or 9 wide; in the text form with colons between them",
    )
    normalize: bool = Field(
        default=False, description="Divide the weights by their sum, which keeps the brightness; a sum of 0 is left"
    )
    offset: float = Field(
        default=0.0, ge=-1, le=1, description="What is added to each sum", json_schema_extra={"unit": "full range"}
    )

    def model_post_init(self, context: Any, /) -> None:
        """Refuse a number of weights that is no odd square."""
        del context
        if len(self.kernel) not in (9, 25, 49, 81):
            raise InvalidParameter(
                f"convolve: a kernel of {len(self.kernel)} weights is no square with a middle. Give 9, 25, 49 or 81.",
                operation="convolve",
                parameter="kernel",
                allowed="9, 25, 49 or 81 numbers",
            )

    def facts(self) -> Facts:
        """Small enough that OpenCV sums directly, so tiles are exact."""
        side = round(len(self.kernel) ** 0.5)
        cost = 0.06 * len(self.kernel)
        return Facts("local", "cv2-exact", halo=side // 2, ns_per_pixel=cost, memory_factor=2.0)

    def apply(self, image: Image) -> Step:
        """``cv2.filter2D``."""
        side = round(len(self.kernel) ** 0.5)
        weights = np.array(self.kernel, np.float64).reshape(side, side)
        total = float(weights.sum())
        if self.normalize and abs(total) > 1e-9:
            weights = weights / total
        kernel = weights.astype(np.float32)
        return Step(on_colors(image, lambda colors: _correlated(colors, kernel, self.offset)))


def _correlated(colors: NDArray[Any], kernel: NDArray[np.float32], offset: float = 0.0) -> NDArray[Any]:
    """``cv2.filter2D`` at the same depth; ``offset`` is on the scale from 0 to 1."""
    delta = offset * full_scale(colors.dtype)
    done: NDArray[Any] = cv2.filter2D(colors, -1, kernel, delta=delta, borderType=cv2.BORDER_REFLECT_101)
    return done
