"""Operations on a neighborhood of each pixel: gaussian, sharpen. Borders are mirrored without the edge pixel."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixelmill.images.image import Image, Need, Size
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.pixels import filtered


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
        return Facts("local", "cv2-exact", halo=halo, ns_per_pixel=cost, memory_factor=2.0)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel, as sigma counts in them; luma is enough if it is afterwards."""
        del size
        return Need(color=after.color)

    def apply(self, image: Image) -> Step:
        """Blur."""

        def run(pixels: NDArray[Any]) -> NDArray[Any]:
            return cv2.GaussianBlur(pixels, (0, 0), self.sigma, borderType=cv2.BORDER_REFLECT_101)

        return Step(image.with_pixels(filtered(image.pixels, run)))


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
