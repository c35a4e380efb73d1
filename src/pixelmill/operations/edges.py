"""Operations that find edges: canny on luma, and the derivatives sobel, scharr and laplacian of each channel.

Borders are mirrored without the edge pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from pixelmill.errors import InvalidParameter
from pixelmill.images.image import Image, Need, Size
from pixelmill.operations.canny_tiles import canny_survey
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.parameters import as_number
from pixelmill.operations.passes import Form, Pass
from pixelmill.operations.pixels import as_gray, fit_depth, gray8_of, on_colors
from pixelmill.operations.plain_opencv import without_ipp


class Canny(Operation):
    """Edges after Canny (1986): white lines of one pixel on black, found in luma at 8 bits.

    Gradients above high start an edge; those above low continue it. They are sums of the Sobel operator on samples from
    0 to 255. Transparency is dropped.
    """

    name: ClassVar[str] = "canny"
    family: ClassVar[str] = "edges"
    summary: ClassVar[str] = "Edges as white lines on black"
    example: ClassVar[str] = "100,200"
    positional: ClassVar[int] = 2

    low: float = Field(default=100, ge=0, le=1_000_000, description="Gradient that continues an edge")
    high: float = Field(default=200, ge=0, le=1_000_000, description="Gradient that starts an edge; at least low")
    aperture: Annotated[Literal[3, 5, 7], BeforeValidator(as_number)] = Field(
        default=3, description="Size of the Sobel operator", json_schema_extra={"unit": "pixels"}
    )
    l2: bool = Field(default=False, description="Gradient by the root of squares, not by the sum of absolutes")

    def model_post_init(self, context: Any, /) -> None:
        """Refuse thresholds in the wrong order."""
        del context
        if self.low > self.high:
            raise InvalidParameter(
                f"canny: low={self.low:g} is above high={self.high:g}. Give the lower threshold first.",
                operation="canny",
                parameter="low",
                allowed="at most high",
            )

    def facts(self) -> Facts:
        """Edges continue across any distance: a halo alone never makes tiles exact."""
        cost = 2.5 if self.aperture == 3 else 14.0  # of luma, which is what it asks for
        return Facts("border-merge", "cv2-exact", halo=self.aperture // 2 + 1, ns_per_pixel=cost, memory_factor=6.0)

    def channels(self, channels: int) -> int:
        """Gray."""
        del channels
        return 1

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel, of luma."""
        del after, size
        return Need(color=False)

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Candidates by tile; what is weak and crosses seams is decided for all of them."""
        del form
        cost = self.facts().ns_per_pixel
        return (canny_survey(self.low, self.high, self.aperture, l2=self.l2, ns_per_pixel=cost),)

    def apply(self, image: Image) -> Step:
        """Gray, then ``cv2.Canny``."""
        gray = gray8_of(image.pixels)
        edges = cv2.Canny(gray, self.low, self.high, apertureSize=self.aperture, L2gradient=self.l2)
        return Step(as_gray(image, edges))


Direction = Literal["both", "x", "y"]


class Sobel(Operation):
    """The gradient after Sobel (1968) of each channel, as its length or along one axis without the sign.

    A step of the full range gives 4 times the full range at aperture 3, so strong edges are cut off at white;
    scale=0.25 keeps them. Put grayscale before it for edges without color. Transparency is left alone.
    """

    name: ClassVar[str] = "sobel"
    family: ClassVar[str] = "edges"
    summary: ClassVar[str] = "Strength of edges by the Sobel operator"
    example: ClassVar[str] = "both,scale=0.5"

    direction: Direction = Field(
        default="both", description="The gradient's length, or only its part along x (upright edges) or y"
    )
    aperture: Annotated[Literal[3, 5, 7], BeforeValidator(as_number)] = Field(
        default=3, description="Size of the operator", json_schema_extra={"unit": "pixels"}
    )
    scale: float = Field(default=1.0, ge=0, le=100, description="What the result is multiplied by")

    def facts(self) -> Facts:
        """Two separable kernels, and a root for both."""
        cost = (3.1 if self.direction == "both" else 1.6) + 0.1 * self.aperture
        return Facts("local", "cv2-exact", halo=self.aperture // 2, ns_per_pixel=cost, memory_factor=13.0)

    def apply(self, image: Image) -> Step:
        """``cv2.Sobel`` in ``float32``."""

        def run(colors: NDArray[Any]) -> NDArray[Any]:
            def derivative(x: int, y: int) -> NDArray[Any]:
                with without_ipp():
                    return cv2.Sobel(colors, cv2.CV_32F, x, y, ksize=self.aperture, borderType=cv2.BORDER_REFLECT_101)

            return _strength(derivative, self.direction, self.scale, colors.dtype)

        return Step(on_colors(image, run))


class Scharr(Operation):
    """The gradient after Scharr (2000) of each channel: 3x3 as Sobel's, but true to direction.

    A step of the full range gives 16 times the full range; the default scale of 0.0625 makes that white. Transparency
    is left alone.
    """

    name: ClassVar[str] = "scharr"
    family: ClassVar[str] = "edges"
    summary: ClassVar[str] = "Strength of edges by the Scharr operator"
    example: ClassVar[str] = "both,scale=0.25"

    direction: Direction = Field(
        default="both", description="The gradient's length, or only its part along x (upright edges) or y"
    )
    scale: float = Field(default=0.0625, ge=0, le=100, description="What the result is multiplied by")

    def facts(self) -> Facts:
        """Two separable kernels, and a root for both."""
        cost = 3.1 if self.direction == "both" else 1.9
        return Facts("local", "cv2-exact", halo=1, ns_per_pixel=cost, memory_factor=13.0)

    def apply(self, image: Image) -> Step:
        """``cv2.Scharr`` in ``float32``."""

        def run(colors: NDArray[Any]) -> NDArray[Any]:
            def derivative(x: int, y: int) -> NDArray[Any]:
                with without_ipp():
                    return cv2.Scharr(colors, cv2.CV_32F, x, y, borderType=cv2.BORDER_REFLECT_101)

            return _strength(derivative, self.direction, self.scale, colors.dtype)

        return Step(on_colors(image, run))


class Laplacian(Operation):
    """The Laplacian of each channel without its sign: bright where samples differ from the mean of their neighbors.

    Transparency is left alone.
    """

    name: ClassVar[str] = "laplacian"
    family: ClassVar[str] = "edges"
    summary: ClassVar[str] = "Edges and fine detail by the second derivative"
    example: ClassVar[str] = "3"

    aperture: Annotated[Literal[1, 3, 5, 7], BeforeValidator(as_number)] = Field(
        default=1,
        description="Size of the operator; 1 is the 3x3 kernel 0 1 0 / 1 -4 1 / 0 1 0",
        json_schema_extra={"unit": "pixels"},
    )
    scale: float = Field(default=1.0, ge=0, le=100, description="What the result is multiplied by")

    def facts(self) -> Facts:
        """One kernel, or two separable ones."""
        cost = 2.2 if self.aperture < 5 else 3.2
        return Facts("local", "cv2-exact", halo=max(1, self.aperture // 2), ns_per_pixel=cost, memory_factor=9.0)

    def apply(self, image: Image) -> Step:
        """``cv2.Laplacian`` in ``float32``."""

        def run(colors: NDArray[Any]) -> NDArray[Any]:
            with without_ipp():
                second = cv2.Laplacian(colors, cv2.CV_32F, ksize=self.aperture, borderType=cv2.BORDER_REFLECT_101)
            np.abs(second, out=second)
            second *= np.float32(self.scale)
            return fit_depth(second, colors.dtype)

        return Step(on_colors(image, run))


def _strength(
    derivative: Callable[[int, int], NDArray[Any]], direction: Direction, scale: float, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """The gradient's length, or its part along one axis without the sign, times ``scale``; at the depth ``dtype``."""
    if direction == "both":
        # Not cv2.magnitude: its last bit of float32 differs between threads, as the IPP switch is one of each thread.
        x, y = derivative(1, 0), derivative(0, 1)
        x *= x
        y *= y
        x += y
        length = np.sqrt(x, out=x)
    else:
        length = derivative(1, 0) if direction == "x" else derivative(0, 1)
        np.abs(length, out=length)
    length *= np.float32(scale)
    return fit_depth(length, dtype)
