"""Operations that turn and mirror: rotate, flip. Quarter turns and mirrors move pixels, other angles interpolate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from pixelmill.errors import NotApplicable
from pixelmill.images.image import Image, Need, Size
from pixelmill.images.regions import Region
from pixelmill.operations.moves import Turn, affine_table, placed_move, roomy, warped, warped_source
from pixelmill.operations.opacity import by_opacity
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.parameters import Color
from pixelmill.operations.passes import Array, Form, Move, Pass
from pixelmill.operations.pixels import (
    channels_of_color,
    channels_with,
    filtered,
    fit_depth,
    full_scale,
    is_gray_color,
    with_room_for,
)

_WARP_MAX_SIDE = 32_767  # OpenCV's warps address pixels with 16 bits


class Rotate(Operation):
    """Rotate clockwise around the center. Multiples of 90 degrees move pixels exactly, others interpolate (cubic).

    Corners that the image does not cover get the background: by default transparent where the image has an alpha
    channel, and black where it has none.
    """

    name: ClassVar[str] = "rotate"
    family: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "Rotate clockwise by any angle"
    example: ClassVar[str] = "90"

    angle: float = Field(ge=-360, le=360, description="Angle, clockwise", json_schema_extra={"unit": "degrees"})
    expand: bool = Field(default=True, description="Grow so that nothing is cut off; otherwise keep the size")
    background: Color | SkipJsonSchema[None] = Field(default=None, description="Color of uncovered corners")

    @property
    def _turns(self) -> int | None:
        """Quarter turns clockwise, 0 to 3, or None for other angles."""
        return int(self.angle // 90) % 4 if self.angle % 90 == 0 else None

    def facts(self) -> Facts:
        """A copy, or a warp."""
        if self._turns is not None:
            return Facts("geometric", "cv2-exact", ns_per_pixel=0.2)
        return Facts("geometric", "cv2-exact", ns_per_pixel=6.0, memory_factor=3.0, alpha_memory_factor=10.0)

    def size(self, size: Size) -> Size:
        """The same, or what holds the rotated rectangle."""
        if not self.expand or self._turns in (0, 2):
            return size
        if self._turns is not None:
            return Size(size.height, size.width)
        angle = math.radians(self.angle)
        c, s = abs(math.cos(angle)), abs(math.sin(angle))
        return Size(
            max(1, math.ceil(size.width * c + size.height * s - 1e-6)),
            max(1, math.ceil(size.width * s + size.height * c - 1e-6)),
        )

    def need(self, after: Need, size: Size) -> Need:
        """Quarter turns pass it on where a reduced decode stays aligned (see :func:`_aligned`)."""
        turns = self._turns
        color = after.color or (self.background is not None and not is_gray_color(self.background))
        if turns is None or after.least is None or (turns % 2 and not self.expand):
            return Need(color=color)
        if not _aligned(size, x=turns in (2, 3), y=turns in (1, 2)):
            return Need(color=color)
        least = after.least
        return Need(color=color, least=Size(least.height, least.width) if turns % 2 else least)

    def channels(self, channels: int) -> int:
        """RGB where colored corners are put around gray."""
        return channels if self._turns == 0 else channels_with(self.background, channels)

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Turn, or warp by OpenCV's own table of coordinates."""
        turns, target = self._turns, self.size(form.size)
        if turns == 0:
            return ()
        first = roomy(form, self.background)
        if turns is not None:
            return (*first, self._turn(form.size, turns, target))
        table = affine_table(self._matrix(form.size, target))

        def passes(opaque: bool | None) -> tuple[Pass, ...]:
            def apply(pixels: Array, source: Region, region: Region) -> Array:
                def run(samples: Array) -> Array:
                    border = self._border(pixels)
                    return warped(samples, table, source, region, cv2.BORDER_CONSTANT, border)

                return self._weighed(pixels, run, opaque)

            facts = self.facts()
            memory = max(facts.memory_factor, facts.alpha_memory_factor * (opaque is False)) + 6.0
            source = warped_source(table, form.size)
            return (Move(self.name, target, source, apply, ns_per_pixel=30.0, memory_factor=memory),)

        return (*first, *by_opacity(form, passes))

    def _turn(self, size: Size, turns: int, target: Size) -> Move:
        turned = Size(size.height, size.width) if turns % 2 else size
        wide, high = min(turned.width, target.width), min(turned.height, target.height)
        window = Region((turned.width - wide) // 2, (turned.height - high) // 2, wide, high)
        at = ((target.width - wide) // 2, (target.height - high) // 2)
        return placed_move(self.name, target, window, at, self._filling, Turn(size, turns, None))

    def apply(self, image: Image) -> Step:
        """Rotate."""
        turns, target = self._turns, self.size(image.size)
        if turns == 0:
            return Step(image)
        image = with_room_for(image, self.background)
        pixels = image.pixels
        if turns is None:
            return Step(image.with_pixels(self._warped(pixels, target)))
        code = (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)[turns - 1]
        return Step(image.with_pixels(self._placed(cv2.rotate(pixels, code), target)))

    def _fill(self, pixels: NDArray[Any]) -> tuple[float, float, float, float]:
        color = self.background if self.background is not None else "00000000"
        return channels_of_color(color, pixels.dtype)

    def _filling(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """One pixel of the background."""
        shape = pixels.shape[2:]
        return fit_depth(np.array(self._fill(pixels)[: shape[0] if shape else 1]), pixels.dtype).reshape(shape)

    def _placed(self, turned: NDArray[Any], target: Size) -> NDArray[Any]:
        """Quarter-turned pixels around the center of ``target``, cut off or on background; half pixels go up, left."""
        height, width = turned.shape[:2]
        if (width, height) == target:
            return turned
        canvas = np.empty((target.height, target.width, *turned.shape[2:]), turned.dtype)
        canvas[...] = self._filling(turned)
        wide, high = min(width, target.width), min(height, target.height)
        left, top = (width - wide) // 2, (height - high) // 2
        x, y = (target.width - wide) // 2, (target.height - high) // 2
        canvas[y : y + high, x : x + wide] = turned[top : top + high, left : left + wide]
        return canvas

    def _warped(self, pixels: NDArray[Any], target: Size) -> NDArray[Any]:
        height, width = pixels.shape[:2]
        if max(width, height, *target) > _WARP_MAX_SIDE:
            raise NotApplicable(
                f"rotate: by other than multiples of 90 degrees, images may have {_WARP_MAX_SIDE:,} pixels a side; "
                f"this one has {width:,}×{height:,} there. Resize it first.",
                operation="rotate",
            )
        matrix = self._matrix(Size(width, height), target)

        def run(source: NDArray[Any]) -> NDArray[Any]:
            border = self._border(pixels)
            return cv2.warpAffine(
                source, matrix, target, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=border
            )

        return self._weighed(pixels, run)

    def _matrix(self, size: Size, target: Size) -> NDArray[np.float64]:
        width, height = size
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -self.angle, 1.0)
        matrix[:, 2] += ((target.width - width) / 2, (target.height - height) / 2)
        return np.asarray(matrix, np.float64)

    def _border(self, pixels: NDArray[Any]) -> tuple[float, ...]:
        *color, alpha = self._fill(pixels)
        if pixels.ndim == 2 or pixels.shape[2] == 3:
            return tuple(color)
        weight = alpha / full_scale(pixels.dtype)
        return (*(value * weight for value in color), alpha)

    def _weighed(
        self, pixels: NDArray[Any], run: Callable[[NDArray[Any]], NDArray[Any]], opaque: bool | None = None
    ) -> NDArray[Any]:
        covers = self._fill(pixels)[3] == full_scale(pixels.dtype)
        done = filtered(pixels, run, keeps_opaque=covers, opaque=opaque)
        return np.clip(done, 0.0, 1.0) if done.dtype == np.float32 else done


class Flip(Operation):
    """Mirror: horizontal swaps left and right, vertical swaps top and bottom, both is a half turn."""

    name: ClassVar[str] = "flip"
    family: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "Mirror left to right, top to bottom, or both"
    example: ClassVar[str] = "horizontal"

    direction: Literal["horizontal", "vertical", "both"] = Field(description="What is swapped")

    def facts(self) -> Facts:
        """A copy."""
        return Facts("geometric", "cv2-exact", ns_per_pixel=0.1)

    def need(self, after: Need, size: Size) -> Need:
        """Passed on, where a reduced decode stays aligned (see :func:`_aligned`)."""
        if _aligned(size, x=self.direction != "vertical", y=self.direction != "horizontal"):
            return after
        return Need(color=after.color)

    @property
    def _code(self) -> int:
        return {"vertical": 0, "horizontal": 1, "both": -1}[self.direction]

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Mirror."""
        turn = Turn(form.size, 0, self._code)
        return (placed_move(self.name, form.size, Region(0, 0, *form.size), (0, 0), turn=turn),)

    def apply(self, image: Image) -> Step:
        """Mirror."""
        return Step(image.with_pixels(cv2.flip(image.pixels, self._code).reshape(image.pixels.shape)))


def _aligned(size: Size, *, x: bool, y: bool) -> bool:
    """Whether mirroring in x or y keeps a reduced decode aligned.

    A side that is no multiple of 8 ends in a pixel that is only partly real; mirrored, it would stand at the start,
    where the resampler does not expect it.
    """
    return not ((x and size.width % 8) or (y and size.height % 8))
