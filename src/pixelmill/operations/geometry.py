"""Operations that move pixels: resize, crop, rotate, flip.

Sizes follow from integer arithmetic on the nominal size, so that a picture that was decoded at a reduced scale comes
out exactly as large as the whole one would.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from pixelmill.errors import InvalidParameter, NotApplicable, NotTileable
from pixelmill.images.image import Image, Need, Size
from pixelmill.images.regions import Region
from pixelmill.images.scales import extent
from pixelmill.operations.fit import Fit, fitted, placed
from pixelmill.operations.kernels import Kernel, scaled_by
from pixelmill.operations.moves import Turn, affine_table, placed_move, roomy, warped, warped_source
from pixelmill.operations.opacity import by_opacity
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.parameters import Color, Position
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
from pixelmill.operations.resample import Interpolation, resample
from pixelmill.operations.scaling import nearest_passes, scaled_passes

MAX_SIDE = 65_535
MARGIN = 1.15
"""How much larger than the target a reduced decode must be.

PSNR and CPU of gray 256x256 and color fit 512 (``bench/library.py``): 1.25 gives 0.1 dB more at up to 15 % more time.
"""
_WARP_MAX_SIDE = 32_767  # OpenCV's warps address pixels with 16 bits

_KERNEL_COSTS = {"box": 1.0, "bilinear": 1.4, "bicubic": 2.3, "lanczos3": 3.2}

Side = Annotated[int, Field(ge=1, le=MAX_SIDE, json_schema_extra={"unit": "pixels"})]
Offset = Annotated[int, Field(ge=0, le=MAX_SIDE, json_schema_extra={"unit": "pixels"})]


class Resize(Operation):
    """Scale to fit a box of width x height pixels; a side that is left out follows the aspect ratio.

    contain: the largest size within the box, nothing cut off, nothing added. inside: the same, but never larger than
    the image is, also with enlarge. outside: the smallest size that covers the box. cover: as outside, then cut to the
    box around the center. fill: exactly the box, whatever aspect ratio and enlarge say.
    """

    name: ClassVar[str] = "resize"
    family: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "Scale to fit a box, keeping the aspect ratio unless fit=fill"
    example: ClassVar[str] = "256,256"
    positional: ClassVar[int] = 2

    width: Side | SkipJsonSchema[None] = Field(default=None, description="Width of the box")
    height: Side | SkipJsonSchema[None] = Field(default=None, description="Height of the box")
    fit: Fit = Field(default="contain", description="How the image fits into the box")
    interpolation: Interpolation = Field(
        default="auto",
        description="auto and lanczos: low-pass by Lanczos-3, auto from a reduced decode where the format has one; "
        "nearest, linear, cubic, area: the modes of OpenCV as they are",
    )
    enlarge: bool = Field(default=False, description="Scale up images smaller than the box (fill always does)")
    kernel: Kernel | SkipJsonSchema[None] = Field(
        default=None,
        description="In place of interpolation: a kernel that grows with the reduction; box, bilinear, bicubic, "
        "lanczos3: those of Pillow, nearest: OpenCV's INTER_NEAREST_EXACT",
    )

    def model_post_init(self, context: Any, /) -> None:
        """Refuse a resize that asks for nothing, or for two ways."""
        del context
        if self.kernel is not None and self.interpolation != "auto":
            raise InvalidParameter(
                f"resize: kernel={self.kernel} and interpolation={self.interpolation} can't both be meant; give one.",
                operation="resize",
                parameter="kernel",
                allowed="a kernel without an interpolation",
            )
        if self.width is None and self.height is None:
            raise InvalidParameter(
                "resize: width and height are both missing; give at least one.",
                operation="resize",
                parameter="width",
                allowed=f"a whole number from 1 to {MAX_SIDE:,} (pixels)",
            )

    def facts(self) -> Facts:
        """About the cost of the low-pass; other modes are cheaper."""
        if self.kernel is not None and self.kernel != "nearest":
            return Facts(
                "geometric",
                "self-exact",
                ns_per_pixel=_KERNEL_COSTS[self.kernel],
                memory_factor=3.0,
                alpha_memory_factor=9.0,
            )
        cv2_mode = self.kernel is not None or self.interpolation not in ("auto", "lanczos")
        tier: Literal["cv2-exact", "self-exact", "approximate"] = "cv2-exact" if cv2_mode else "self-exact"
        if self.interpolation == "auto" and not cv2_mode:
            tier = "approximate"
        return Facts(
            "geometric", tier, ns_per_pixel=0.5 if cv2_mode else 1.0, memory_factor=2.0, alpha_memory_factor=12.0
        )

    def _fitted(self, size: Size) -> tuple[Size, Size]:
        return fitted(size, self.width, self.height, self.fit, enlarge=self.enlarge)

    def size(self, size: Size) -> Size:
        """As the fit says."""
        return self._fitted(size)[1]

    def need(self, after: Need, size: Size) -> Need:
        """``auto`` is content with a little more than its target; the others are defined on every pixel."""
        scaled, _ = self._fitted(size)
        if self.interpolation != "auto" or self.kernel is not None or scaled == size:
            return Need(color=after.color)
        least = Size(math.ceil(scaled.width * MARGIN), math.ceil(scaled.height * MARGIN))
        return Need(color=after.color, least=Size(min(least.width, size.width), min(least.height, size.height)))

    def resolve(self, size: Size) -> tuple[Operation, ...]:
        """Scale to an exact size, then cut."""
        scaled, left = self._fitted(size)
        steps: list[Operation] = []
        if scaled != size:
            steps.append(Scale(full=size, target=scaled, interpolation=self.interpolation, kernel=self.kernel))
        if left != scaled:
            x, y = (scaled.width - left.width) // 2, (scaled.height - left.height) // 2
            steps.append(Crop(x=x, y=y, width=left.width, height=left.height))
        return tuple(steps)

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Fit this very image."""
        passes: list[Pass] = []
        for step in self.resolve(form.size):
            passes.extend(step.tiled(form))
            form = form._replace(size=step.size(form.size))
        return tuple(passes)

    def apply(self, image: Image) -> Step:
        """Fit this very image."""
        for step in self.resolve(image.size):
            image = step.apply(image).image
        return Step(image)


class Scale(Operation):
    """What a resize resolves to: ``full``, as it may have been decoded, to exactly ``target``."""

    name: ClassVar[str] = "resize"
    family: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "Scale an image of a known nominal size to an exact size"

    full: Size
    target: Size
    interpolation: Interpolation
    kernel: Kernel | None = None

    def facts(self) -> Facts:
        """Those of the resize."""
        width, height = self.target
        return Resize(width=width, height=height, interpolation=self.interpolation, kernel=self.kernel).facts()

    def size(self, size: Size) -> Size:
        """The target."""
        del size
        return self.target

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Lanczos and nearest, each in numbers of the whole image."""
        if "nearest" in (self.interpolation, self.kernel):
            return nearest_passes(form.size, self.target)
        if self.kernel is not None or self.interpolation not in ("auto", "lanczos"):
            raise NotTileable(
                f"resize: {self.kernel or self.interpolation} is defined on the whole image, and can't run over tiles. "
                "Use auto or lanczos.",
                operation=self.name,
            )
        return scaled_passes(form, self.target)

    def apply(self, image: Image) -> Step:
        """Scale, by the extent that a reduced decode really covers."""
        covered = extent(self.full, image.size)

        def run(pixels: NDArray[Any]) -> NDArray[Any]:
            if self.kernel is not None:
                return scaled_by(pixels, self.target, self.kernel)
            return resample(pixels, self.target, self.interpolation, covered)

        scaled = run(image.pixels) if "nearest" in (self.interpolation, self.kernel) else filtered(image.pixels, run)
        if scaled.dtype == np.float32:
            scaled = np.clip(scaled, 0.0, 1.0)  # ringing
        return Step(image.with_pixels(scaled))


class Crop(Operation):
    """Cut out a rectangle: the one whose upper left corner is at (x, y), or the one of that size at a gravity.

    It must lie within the image. Give x and y, or a gravity, not both.
    """

    name: ClassVar[str] = "crop"
    family: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "Cut out a rectangle"
    example: ClassVar[str] = "10,10,100,80"
    positional: ClassVar[int] = 4

    x: Offset | SkipJsonSchema[None] = Field(default=None, description="Left edge, from the left")
    y: Offset | SkipJsonSchema[None] = Field(default=None, description="Upper edge, from the top")
    width: Side = Field(description="Width of the rectangle")
    height: Side = Field(description="Height of the rectangle")
    gravity: Position | SkipJsonSchema[None] = Field(
        default=None, description="Where the rectangle lies, in place of x and y"
    )

    def model_post_init(self, context: Any, /) -> None:
        """Refuse a rectangle that lies nowhere, or at two places."""
        del context
        given = (self.x is not None, self.y is not None)
        if any(given) if self.gravity is not None else not all(given):
            raise InvalidParameter(
                "crop: give x and y, or a gravity, not both; such as crop:10,10,100,80 or "
                "crop:width=100,height=80,gravity=center.",
                operation="crop",
                parameter="x" if self.x is None or self.gravity is not None else "y",
                allowed=f"a whole number from 0 to {MAX_SIDE:,} (pixels)",
            )

    def facts(self) -> Facts:
        """A copy."""
        return Facts("geometric", "self-exact", ns_per_pixel=0.1)

    def _corner(self, size: Size) -> tuple[int, int]:
        """Where the rectangle starts; raises :class:`NotApplicable` where it sticks out."""
        if self.gravity is not None:
            x, y = placed(size, Size(self.width, self.height), self.gravity)
        else:
            x, y = self.x or 0, self.y or 0
        if min(x, y) < 0 or x + self.width > size.width or y + self.height > size.height:
            place = f"at {self.gravity}" if self.gravity is not None else f"from ({x:,}, {y:,})"
            raise NotApplicable(
                f"crop: the rectangle {place} of {self.width:,}×{self.height:,} pixels does not "
                f"lie within the image, which has {size.width:,}×{size.height:,} there. Choose a smaller one, or put a "
                "resize with fit=cover before it.",
                operation="crop",
                size=list(size),
            )
        return x, y

    def size(self, size: Size) -> Size:
        """The rectangle; raises :class:`NotApplicable` where it sticks out."""
        self._corner(size)
        return Size(self.width, self.height)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel: the rectangle counts in them."""
        del size
        return Need(color=after.color)

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Cut."""
        target = self.size(form.size)
        return (placed_move(self.name, target, Region(*self._corner(form.size), *target), (0, 0)),)

    def apply(self, image: Image) -> Step:
        """Cut, into memory of its own."""
        x, y = self._corner(image.size)
        return Step(image.with_pixels(np.ascontiguousarray(image.pixels[y : y + self.height, x : x + self.width])))


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
