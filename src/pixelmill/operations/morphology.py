"""Operations of gray-scale morphology: erode, dilate, opening, closing, morph_gradient.

Each channel by itself; what is beyond the image's border never wins. Transparency is left alone. Knows OpenCV's
structuring elements and nothing of other families.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixelmill.images.image import Image
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.pixels import on_colors

_SHAPES = {"rect": cv2.MORPH_RECT, "cross": cv2.MORPH_CROSS, "ellipse": cv2.MORPH_ELLIPSE}


class _Morphology(Operation):
    """What the five have in common: the element, and how often."""

    family: ClassVar[str] = "morphology"
    example: ClassVar[str] = "2,shape=ellipse"
    code: ClassVar[int]
    """OpenCV's number of the operation."""
    passes: ClassVar[int] = 1
    """How often an element is laid on after the other, which adds up in the halo."""
    sweeps: ClassVar[int] = 1
    """How many erosions and dilations it costs."""

    radius: int = Field(
        default=1,
        ge=1,
        le=50,
        description="Reach of the structuring element; it is 2 * radius + 1 wide",
        json_schema_extra={"unit": "pixels"},
    )
    shape: Literal["rect", "cross", "ellipse"] = Field(default="rect", description="Form of the structuring element")
    iterations: int = Field(default=1, ge=1, le=20, description="How often erosion or dilation is repeated")

    def facts(self) -> Facts:
        """Rectangles are separable; the cost of the others grows with the element's area."""
        area = 0.006 * (2 * self.radius + 1) ** 2 if self.shape == "ellipse" else 0.015 * (2 * self.radius + 1)
        cost = (0.05 + area) * self.iterations * self.sweeps
        halo = self.radius * self.iterations * self.passes
        return Facts("local", "cv2-exact", halo=halo, ns_per_pixel=cost, memory_factor=2.0)

    def apply(self, image: Image) -> Step:
        """``cv2.morphologyEx``."""
        side = 2 * self.radius + 1
        element = cv2.getStructuringElement(_SHAPES[self.shape], (side, side))

        def run(colors: NDArray[Any]) -> NDArray[Any]:
            done: NDArray[Any] = cv2.morphologyEx(colors, self.code, element, iterations=self.iterations)
            return np.asarray(done)

        return Step(on_colors(image, run))


class Erode(_Morphology):
    """Each sample becomes the darkest under the structuring element: bright parts shrink.

    Each channel by itself; transparency is left alone.
    """

    name: ClassVar[str] = "erode"
    summary: ClassVar[str] = "Shrink what is bright"
    code: ClassVar[int] = cv2.MORPH_ERODE


class Dilate(_Morphology):
    """Each sample becomes the brightest under the structuring element: bright parts grow.

    Each channel by itself; transparency is left alone.
    """

    name: ClassVar[str] = "dilate"
    summary: ClassVar[str] = "Grow what is bright"
    code: ClassVar[int] = cv2.MORPH_DILATE


class Opening(_Morphology):
    """Erode, then dilate: bright specks smaller than the structuring element vanish, the rest keeps its size.

    Each channel by itself; transparency is left alone.
    """

    name: ClassVar[str] = "opening"
    summary: ClassVar[str] = "Remove small bright specks"
    code: ClassVar[int] = cv2.MORPH_OPEN
    passes: ClassVar[int] = 2
    sweeps: ClassVar[int] = 2


class Closing(_Morphology):
    """Dilate, then erode: dark holes smaller than the structuring element are filled, the rest keeps its size.

    Each channel by itself; transparency is left alone.
    """

    name: ClassVar[str] = "closing"
    summary: ClassVar[str] = "Fill small dark holes"
    code: ClassVar[int] = cv2.MORPH_CLOSE
    passes: ClassVar[int] = 2
    sweeps: ClassVar[int] = 2


class MorphGradient(_Morphology):
    """Dilation minus erosion: outlines, as bright as the step across them.

    Each channel by itself; transparency is left alone.
    """

    name: ClassVar[str] = "morph_gradient"
    summary: ClassVar[str] = "Outlines by morphology"
    code: ClassVar[int] = cv2.MORPH_GRADIENT
    sweeps: ClassVar[int] = 2
