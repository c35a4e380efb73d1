"""The operation that straightens a quadrilateral: perspective.

Corners lie on the edges of pixels: (0, 0) is the image's upper left corner and (width, height) its lower right one, so
that the corners of the image itself give the image back. Knows nothing of how corners are found.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from pixelmill.errors import InvalidParameter, NotApplicable, NotTileable
from pixelmill.images.image import Image, Need, Size
from pixelmill.images.regions import Region
from pixelmill.operations.geometry import MAX_SIDE, Side
from pixelmill.operations.moves import perspective_table, warped, warped_source
from pixelmill.operations.opacity import by_opacity
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.passes import Array, Form, Move, Pass
from pixelmill.operations.pixels import filtered
from pixelmill.operations.resample import resample

_WARP_MAX_SIDE = 32_767  # OpenCV's warps address pixels with 16 bits
_LEAST_AREA = 0.25
"""Square pixels that the triangle at each corner has at least."""

Coordinate = Annotated[float, Field(ge=0, le=MAX_SIDE, json_schema_extra={"unit": "pixels"})]


class Perspective(Operation):
    """Straighten the quadrilateral of four corners into a rectangle, such as a page that was photographed.

    The corners go clockwise from the one that becomes the upper left; the quadrilateral must be convex and lie within
    the image. A side that is left out is as long as the longer of the two edges that it is made of.
    """

    name: ClassVar[str] = "perspective"
    family: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "Straighten a quadrilateral into a rectangle"
    example: ClassVar[str] = "12,8,180,20,190,140,5,150"
    positional: ClassVar[int] = 8

    x1: Coordinate = Field(description="Upper left corner, from the left")
    y1: Coordinate = Field(description="Upper left corner, from the top")
    x2: Coordinate = Field(description="Upper right corner, from the left")
    y2: Coordinate = Field(description="Upper right corner, from the top")
    x3: Coordinate = Field(description="Lower right corner, from the left")
    y3: Coordinate = Field(description="Lower right corner, from the top")
    x4: Coordinate = Field(description="Lower left corner, from the left")
    y4: Coordinate = Field(description="Lower left corner, from the top")
    width: Side | SkipJsonSchema[None] = Field(default=None, description="Width of the result")
    height: Side | SkipJsonSchema[None] = Field(default=None, description="Height of the result")

    def model_post_init(self, context: Any, /) -> None:
        """Refuse corners that span no convex quadrilateral, or go counterclockwise."""
        del context
        corners = self._corners
        for index in range(4):
            before, at, after = corners[index - 1], corners[index], corners[(index + 1) % 4]
            cross = (at[0] - before[0]) * (after[1] - at[1]) - (at[1] - before[1]) * (after[0] - at[0])
            if cross < 2 * _LEAST_AREA:
                raise InvalidParameter(
                    f"perspective: the corners span no convex quadrilateral at corner {index + 1}, ({at[0]:g}, "
                    f"{at[1]:g}). Give them clockwise from the upper left, no three on one line.",
                    operation="perspective",
                    parameter=f"x{index + 1}",
                    allowed="four corners of a convex quadrilateral, clockwise",
                )

    @property
    def _corners(self) -> tuple[tuple[float, float], ...]:
        return ((self.x1, self.y1), (self.x2, self.y2), (self.x3, self.y3), (self.x4, self.y4))

    @property
    def _natural(self) -> Size:
        """As long as the longer of opposite edges."""
        corners = self._corners
        top, right, bottom, left = (math.dist(a, b) for a, b in itertools.pairwise((*corners, corners[0])))
        return Size(max(1, round(max(top, bottom))), max(1, round(max(left, right))))

    def facts(self) -> Facts:
        """A warp, and a resampling where it shrinks."""
        return Facts("geometric", "self-exact", ns_per_pixel=6.0, memory_factor=1.5, alpha_memory_factor=8.5)

    def size(self, size: Size) -> Size:
        """As asked; raises :class:`NotApplicable` where a corner lies outside the image."""
        for x, y in self._corners:
            if x > size.width or y > size.height:
                raise NotApplicable(
                    f"perspective: the corner ({x:g}, {y:g}) does not lie within the image, which has "
                    f"{size.width:,}×{size.height:,} pixels there. Choose corners within it.",
                    operation="perspective",
                    size=list(size),
                )
        natural = self._natural
        return Size(self.width or natural.width, self.height or natural.height)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel: the corners count in them."""
        del size
        return Need(color=after.color)

    def _matrix(self, warped: Size) -> NDArray[np.float64]:
        """From the image to the rectangle; OpenCV counts from the centers of pixels."""
        edges = ((0, 0), (warped.width, 0), warped, (0, warped.height))
        return cv2.getPerspectiveTransform(
            np.asarray(self._corners, np.float32) - 0.5, np.asarray(edges, np.float32) - 0.5
        )

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Warp by OpenCV's own table of coordinates, then scale."""
        target, natural = self.size(form.size), self._natural
        straight = Size(max(target.width, natural.width), max(target.height, natural.height))
        table = perspective_table(self._matrix(straight), straight)
        if straight != target:
            raise NotTileable(
                "perspective: a result that is smaller than the quadrilateral can't be had over tiles. Leave width "
                "and height out, and put a resize behind it.",
                operation=self.name,
            )

        def passes(opaque: bool | None) -> tuple[Pass, ...]:
            def apply(pixels: Array, source: Region, region: Region) -> Array:
                def run(samples: Array) -> Array:
                    return warped(samples, table, source, region, cv2.BORDER_REPLICATE)

                done = filtered(pixels, run, opaque=opaque)
                return np.clip(done, 0.0, 1.0) if done.dtype == np.float32 else done

            source = warped_source(table, form.size)
            return (Move(self.name, target, source, apply, ns_per_pixel=50.0, memory_factor=16.0),)

        return by_opacity(form, passes)

    def apply(self, image: Image) -> Step:
        """Warp, at the length of the edges where the result is smaller, so that shrinking does not alias."""
        target, natural = self.size(image.size), self._natural
        straight = Size(max(target.width, natural.width), max(target.height, natural.height))
        if max(*image.size, *straight) > _WARP_MAX_SIDE:
            raise NotApplicable(
                f"perspective: images may have {_WARP_MAX_SIDE:,} pixels a side; this one has "
                f"{image.size.width:,}×{image.size.height:,} there, and {straight.width:,}×{straight.height:,} "
                "straightened. Resize it first.",
                operation="perspective",
            )
        matrix = self._matrix(straight)

        def run(source: NDArray[Any]) -> NDArray[Any]:
            done: NDArray[Any] = cv2.warpPerspective(
                source, matrix, straight, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
            )
            return done if straight == target else resample(done, target, "lanczos")

        done = filtered(image.pixels, run)
        return Step(image.with_pixels(np.clip(done, 0.0, 1.0) if done.dtype == np.float32 else done))
