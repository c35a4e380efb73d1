"""Operations by a table of colors: quantize, which finds one in the image, and colormap, which brings one.

Transparency is left alone. Palettes are of 8 bits.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixelmill.images.image import Image, Need, Size
from pixelmill.images.palettes import quantized
from pixelmill.images.samples import to_uint8
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.pixels import full_scale, gray_of, on_colors


class Quantize(Operation):
    """Few colors: a palette from the image, and each pixel the nearest of them.

    The palette is found by k-means, started so that small areas of a color of their own count too. dither spreads the
    error to the neighbors (Floyd and Steinberg 1976). The palette is found and used at 8 bits; the depth of the image
    stays. An image of no more colors than asked for keeps them.
    """

    name: ClassVar[str] = "quantize"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Few colors, chosen from the image"
    example: ClassVar[str] = "16"

    colors: int = Field(default=16, ge=2, le=256, description="At most so many colors")
    dither: bool = Field(default=True, description="Spread the error to the neighbors")

    def facts(self) -> Facts:
        """A palette, and Pillow's mapping to it; the error runs through the whole image."""
        cost = 15.0 + 0.17 * self.colors
        return Facts("whole", "self-exact", ns_per_pixel=cost, memory_factor=3.4 + 0.03 * self.colors)

    def apply(self, image: Image) -> Step:
        """As ``images/palettes.py`` does it for files."""

        def run(colors: NDArray[Any]) -> NDArray[Any]:
            small: NDArray[Any] = to_uint8(colors)
            rgb = cv2.cvtColor(small, cv2.COLOR_GRAY2RGB) if small.ndim == 2 else small
            done: NDArray[Any] = np.asarray(quantized(rgb, self.colors, dither=self.dither).convert("RGB"))
            done = np.ascontiguousarray(done[..., 0]) if colors.ndim == 2 else done
            return _at_depth(done, colors.dtype)

        return Step(on_colors(image, run))


class Colormap(Operation):
    """Show luma by a scale of colors. Transparency is kept.

    At 8 bits OpenCV's applyColorMap; deeper samples lie between two of its 256 colors.
    """

    name: ClassVar[str] = "colormap"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Luma as a scale of colors"
    example: ClassVar[str] = "viridis"

    map: Literal[
        "autumn",
        "bone",
        "jet",
        "winter",
        "rainbow",
        "ocean",
        "summer",
        "spring",
        "cool",
        "hsv",
        "pink",
        "hot",
        "parula",
        "magma",
        "inferno",
        "plasma",
        "viridis",
        "cividis",
        "twilight",
        "twilight_shifted",
        "turbo",
        "deepgreen",
    ] = Field(default="viridis", description="Which scale")

    def facts(self) -> Facts:
        """A look-up a pixel at 8 bits; interpolation takes longer."""
        return Facts("pointwise", "cv2-exact", ns_per_pixel=0.5, memory_factor=3.0)

    def channels(self, channels: int) -> int:
        """RGB, or RGBA."""
        return max(3, channels)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel, of luma."""
        del after, size
        return Need(color=False)

    def apply(self, image: Image) -> Step:
        """``cv2.applyColorMap``."""
        code = int(getattr(cv2, f"COLORMAP_{self.map.upper()}"))

        def run(colors: NDArray[Any]) -> NDArray[Any]:
            gray = gray_of(colors)
            if gray.dtype == np.uint8:
                return cv2.cvtColor(cv2.applyColorMap(gray, code), cv2.COLOR_BGR2RGB)
            scale = cv2.applyColorMap(np.arange(256, dtype=np.uint8), code)[:, 0, ::-1]
            full = full_scale(gray.dtype)
            steps = np.linspace(0.0, full, 256)
            done = np.empty((*gray.shape, 3), gray.dtype)
            for channel in range(3):
                values = np.interp(gray, steps, scale[:, channel] * (full / 255))
                done[..., channel] = values if gray.dtype == np.float32 else np.rint(values)
            return done

        return Step(on_colors(image, run))


def _at_depth(samples: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """``uint8`` samples at another depth."""
    if dtype == np.uint8:
        return samples
    return samples.astype(np.uint16) * np.uint16(257) if dtype == np.uint16 else samples / np.float32(255)
