"""Operations on the color of each pixel alone: grayscale, brightness, contrast, gamma, invert."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixelmill.images.image import Image, Need, Size
from pixelmill.operations.operation import Facts, Operation, Pointwise, Step
from pixelmill.operations.pixels import as_gray, gray_of


class Grayscale(Operation):
    """Keep luma only (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B). Transparency is kept.

    A JPEG that is gray from the start of the pipeline is decoded without its color, as OpenCV's IMREAD_GRAYSCALE does.
    """

    name: ClassVar[str] = "grayscale"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Remove color"

    def facts(self) -> Facts:
        """One weighted sum a pixel."""
        return Facts("pointwise", "cv2-exact", ns_per_pixel=0.1, memory_factor=0.4)

    def channels(self, channels: int) -> int:
        """Gray, or RGBA where there is transparency."""
        return 4 if channels == 4 else 1

    def need(self, after: Need, size: Size) -> Need:
        """Luma is enough, and averages of luma are the luma of averages."""
        del size
        return Need(color=False, least=after.least)

    def apply(self, image: Image) -> Step:
        """Convert; RGBA stays RGBA, with equal colors."""
        pixels = image.pixels
        if pixels.ndim == 2:
            return Step(image)
        gray = gray_of(pixels)
        if not image.has_alpha:
            return Step(as_gray(image, gray))
        spread: NDArray[Any] = np.dstack((gray, gray, gray, pixels[..., 3]))
        return Step(Image(spread))


class Brightness(Pointwise):
    """Add a part of the full range to each color sample; what leaves the range is cut off."""

    name: ClassVar[str] = "brightness"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Lighter or darker by a fixed amount"
    example: ClassVar[str] = "0.2"

    amount: float = Field(
        ge=-1, le=1, description="What is added: 0.1 is a tenth of the range", json_schema_extra={"unit": "full range"}
    )

    def curve(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """``x + amount``."""
        return x + self.amount


class Contrast(Pointwise):
    """Stretch the color samples around middle gray; what leaves the range is cut off."""

    name: ClassVar[str] = "contrast"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "More or less contrast around middle gray"
    example: ClassVar[str] = "1.5"

    factor: float = Field(ge=0, le=100, description="1 changes nothing, 0 gives flat gray, 2 doubles the differences")

    def curve(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """``(x - 0.5) * factor + 0.5``."""
        return (x - 0.5) * self.factor + 0.5


class Gamma(Pointwise):
    """Raise each color sample to the power 1 / gamma: above 1 lightens the middle tones, below 1 darkens them."""

    name: ClassVar[str] = "gamma"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Lighter or darker middle tones; black and white stay"
    example: ClassVar[str] = "1.8"

    gamma: float = Field(ge=0.05, le=20, description="1 changes nothing; 2.2 lightens, 0.45 darkens")

    def curve(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """``x ** (1 / gamma)``."""
        result: NDArray[Any] = x ** (1.0 / self.gamma)
        return result


class Invert(Pointwise):
    """The negative: light becomes dark, each color its opposite."""

    name: ClassVar[str] = "invert"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Negative colors"

    def curve(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """``1 - x``."""
        return 1.0 - x

    def need(self, after: Need, size: Size) -> Need:
        """A straight line that cuts nothing off commutes with averages and with luma."""
        del size
        return after
