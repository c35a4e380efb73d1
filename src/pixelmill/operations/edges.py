"""Operations that find edges: canny."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import cv2
from pydantic import BeforeValidator, Field

from pixelmill.errors import InvalidParameter
from pixelmill.images.image import Image, Need, Size
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.pixels import as_gray, gray8_of


def _as_number(value: Any) -> Any:
    """A number that the text form wrote; pydantic compares choices as they are."""
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 4 else value


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
    aperture: Annotated[Literal[3, 5, 7], BeforeValidator(_as_number)] = Field(
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

    def apply(self, image: Image) -> Step:
        """Gray, then ``cv2.Canny``."""
        gray = gray8_of(image.pixels)
        edges = cv2.Canny(gray, self.low, self.high, apertureSize=self.aperture, L2gradient=self.l2)
        return Step(as_gray(image, edges))
