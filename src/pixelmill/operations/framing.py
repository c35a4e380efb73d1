"""Operations that choose or enlarge the frame of a picture: smart_crop, pad, trim.

Pixels keep their values; what changes is which of them there are. Knows nothing of scaling or of drawing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from pixelmill.errors import InvalidParameter, NotApplicable
from pixelmill.images.image import Image, Need, Pixels, Size
from pixelmill.images.regions import Region
from pixelmill.models.model import Model, Wanted
from pixelmill.operations.face_search import AUTO, Box, detector_name, faces_by, loaded_detector, wanted_detector
from pixelmill.operations.fit import placed
from pixelmill.operations.geometry import MAX_SIDE, Offset, Side
from pixelmill.operations.moves import placed_move, roomy
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.parameters import Color, ModelParameter, Position
from pixelmill.operations.passes import Array, Form, Look, Pass, Place, Survey
from pixelmill.operations.pixels import (
    channels_of_color,
    channels_with,
    full_scale,
    gray8_of,
    is_gray_color,
    with_room_for,
)

_SALIENCY_SIDE = 64
"""The longer side at which the spectral residual is taken, as in its paper."""
_EDGES_SIDE = 256


class SmartCrop(Operation):
    """Cut out the rectangle of that size that holds most of what catches the eye.

    saliency: the spectral residual (Hou and Zhang 2007) of luma, at 64 pixels. edges: the energy of Sobel's gradient,
    at 256 pixels. Of equal places the one nearest to the center is taken. faces: around the faces that the operation
    of that name finds; where not all fit in, around as many of the largest ones as do; saliency decides where there is
    none. The data say where the rectangle was, what decided, and for faces how many were found.
    In an animation it is that of the first frame.
    """

    name: ClassVar[str] = "smart_crop"
    family: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "Cut out the part that catches the eye"
    output: ClassVar[Literal["image", "data", "both"]] = "both"
    example: ClassVar[str] = "100,80"
    positional: ClassVar[int] = 2
    frames_agree: ClassVar[Literal["first", "union"] | None] = "first"

    width: Side = Field(description="Width of the rectangle")
    height: Side = Field(description="Height of the rectangle")
    attention: Literal["saliency", "edges", "faces"] = Field(default="saliency", description="What is looked for")
    detector: ModelParameter = Field(default=AUTO, description="faces: auto, haar, or the model that finds them")

    def facts(self) -> Facts:
        """Luma of everything, then small things; or the search for faces."""
        if self.attention == "faces":
            return Facts("whole", "self-exact", ns_per_pixel=50.0, memory_factor=1.0)
        return Facts("whole", "self-exact", ns_per_pixel=0.53, memory_factor=0.6)

    def models(self) -> tuple[Wanted, ...]:
        """What finds faces, where they are looked for."""
        return wanted_detector(self.detector) if self.attention == "faces" else ()

    def with_models(self, models: Mapping[str, Model | str | None]) -> Operation:
        """With the detector in place."""
        if self.attention != "faces":
            return self
        return self.model_copy(update={"detector": loaded_detector(self.detector, models)})

    def size(self, size: Size) -> Size:
        """The rectangle; raises :class:`NotApplicable` where it is larger than the image."""
        if self.width > size.width or self.height > size.height:
            raise NotApplicable(
                f"smart_crop: {self.width:,}×{self.height:,} pixels can't be cut out of an image that has "
                f"{size.width:,}×{size.height:,} there. Choose a smaller rectangle, or put a resize with "
                "fit=outside and enlarge before it.",
                operation="smart_crop",
                size=list(size),
            )
        return Size(self.width, self.height)

    def apply(self, image: Image) -> Step:
        """Look, and cut into memory of its own."""
        (x, y, width, height), found = self._look(image)
        part = np.ascontiguousarray(image.pixels[y : y + height, x : x + width])
        return Step(image.with_pixels(part), {"x": x, "y": y, "width": width, "height": height, **found})

    def box(self, image: Image) -> tuple[int, int, int, int]:
        """The rectangle that is cut out."""
        return self._look(image)[0]

    def _look(self, image: Image) -> tuple[tuple[int, int, int, int], dict[str, Any]]:
        """The rectangle; what decided, and for faces how many were found."""
        size = self.size(image.size)
        faces = [face.box for face in faces_by(self.detector, image)] if self.attention == "faces" else []
        decided = self.attention if faces or self.attention != "faces" else "saliency"
        if size == image.size:
            x, y = 0, 0
        else:
            x, y = _around(faces, size, image.size) if faces else self._corner(image, edges=decided == "edges")
        found: dict[str, Any] = {"attention": decided}
        if self.attention == "faces":
            found |= {"faces": len(faces), "detector": detector_name(self.detector)}
        return (x, y, *size), found

    def _corner(self, image: Image, *, edges: bool) -> tuple[int, int]:
        small = _reduced(gray8_of(image.pixels), _EDGES_SIDE if edges else _SALIENCY_SIDE)
        energy = _edge_energy(small) if edges else _spectral_residual(small)
        x_scale, y_scale = energy.shape[1] / image.size.width, energy.shape[0] / image.size.height
        window = Size(max(1, round(self.width * x_scale)), max(1, round(self.height * y_scale)))
        x, y = _best_window(energy, window)
        return (
            min(round(x / x_scale), image.size.width - self.width),
            min(round(y / y_scale), image.size.height - self.height),
        )


def _around(faces: Sequence[Box], window: Size, size: Size) -> tuple[int, int]:
    """The upper left corner of a window within an image of ``size``, its middle on that of ``faces``.

    Of faces (at least one, the largest first) that don't fit together the smallest are left out.
    """
    for count in range(len(faces), 0, -1):
        kept = faces[:count]
        left, top = min(box[0] for box in kept), min(box[1] for box in kept)
        right, bottom = max(box[0] + box[2] for box in kept), max(box[1] + box[3] for box in kept)
        if right - left <= window.width and bottom - top <= window.height:
            break
    x, y = (left + right - window.width) // 2, (top + bottom - window.height) // 2
    return min(max(0, x), size.width - window.width), min(max(0, y), size.height - window.height)


def _reduced(gray: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
    """``gray`` with at most ``side`` pixels on its longer side, from 0 to 1."""
    height, width = gray.shape
    scale = side / max(width, height)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        gray = np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)
    return gray / 255


def _spectral_residual(gray: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hou and Zhang, "Saliency Detection: A Spectral Residual Approach", CVPR 2007. Zero for a flat image.

    Without the mean, which would lift the whole plane and hide what is darker than it.
    """
    if np.ptp(gray) == 0:
        return np.zeros(gray.shape)
    spectrum = np.fft.fft2(gray)
    log_amplitude = np.log(np.abs(spectrum) + 1e-9)
    log_amplitude[0, 0] = np.mean((log_amplitude[0, -1], log_amplitude[-1, 0]))
    residual = np.exp(log_amplitude - cv2.blur(log_amplitude, (3, 3)))
    residual[0, 0] = 0
    saliency = np.abs(np.fft.ifft2(residual * np.exp(1j * np.angle(spectrum)))) ** 2
    return np.asarray(cv2.GaussianBlur(saliency, (0, 0), 2.5))


def _edge_energy(gray: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y = cv2.Sobel(gray, cv2.CV_64F, 1, 0), cv2.Sobel(gray, cv2.CV_64F, 0, 1)
    return np.asarray(x * x + y * y)


def _best_window(energy: NDArray[np.float64], window: Size) -> tuple[int, int]:
    """The upper left corner of the window with the largest sum; of equal ones the one nearest to the center."""
    table = cv2.integral(energy, sdepth=cv2.CV_64F)
    width, height = min(window.width, energy.shape[1]), min(window.height, energy.shape[0])
    sums = table[height:, width:] - table[:-height, width:] - table[height:, :-width] + table[:-height, :-width]
    top = sums >= sums.max() - 1e-9 * (abs(sums.max()) + 1e-12)
    rows, columns = np.nonzero(top)
    off = np.hypot(columns - (sums.shape[1] - 1) / 2, rows - (sums.shape[0] - 1) / 2)
    nearest = int(np.argmin(off))
    return int(columns[nearest]), int(rows[nearest])


class Pad(Operation):
    """Put background around the image: up to a size, or by margins.

    To a size: a side that the image has or exceeds stays as it is; position says where the image lies. By default the
    background is transparent where the image has an alpha channel, and black where it has none.
    """

    name: ClassVar[str] = "pad"
    family: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "Put background around the image"
    example: ClassVar[str] = "400,400"
    positional: ClassVar[int] = 2

    width: Side | SkipJsonSchema[None] = Field(default=None, description="Least width of the result")
    height: Side | SkipJsonSchema[None] = Field(default=None, description="Least height of the result")
    position: Position = Field(default="center", description="Where the image lies in width and height")
    background: Color | SkipJsonSchema[None] = Field(default=None, description="Color of what is added")
    left: Offset = Field(default=0, description="Margin on the left, in place of width and height")
    top: Offset = Field(default=0, description="Margin at the top")
    right: Offset = Field(default=0, description="Margin on the right")
    bottom: Offset = Field(default=0, description="Margin at the bottom")

    def model_post_init(self, context: Any, /) -> None:
        """Refuse to pad by nothing, or in both ways."""
        del context
        to_size = self.width is not None or self.height is not None
        by_margins = any((self.left, self.top, self.right, self.bottom))
        if to_size == by_margins:
            raise InvalidParameter(
                "pad: give width or height, or margins (left, top, right, bottom), not both; such as pad:400,400 or "
                "pad:left=10,right=10.",
                operation="pad",
                parameter="width",
                allowed=f"a whole number from 1 to {MAX_SIDE:,} (pixels)",
            )

    def facts(self) -> Facts:
        """A copy."""
        return Facts("geometric", "self-exact", ns_per_pixel=0.1)

    def _margins(self, size: Size) -> tuple[int, int, int, int]:
        """Pixels to add on the left, at the top, on the right, at the bottom."""
        if self.width is None and self.height is None:
            return self.left, self.top, self.right, self.bottom
        outer = Size(max(size.width, self.width or 0), max(size.height, self.height or 0))
        x, y = placed(outer, size, self.position)
        return x, y, outer.width - size.width - x, outer.height - size.height - y

    def size(self, size: Size) -> Size:
        """With what is added."""
        left, top, right, bottom = self._margins(size)
        return Size(left + size.width + right, top + size.height + bottom)

    def channels(self, channels: int) -> int:
        """RGB where color is put around gray."""
        return channels_with(self.background, channels)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel; in color where the background has one."""
        del size
        return Need(color=after.color or (self.background is not None and not is_gray_color(self.background)))

    def _filling(self, pixels: NDArray[Any]) -> tuple[float, float, float, float]:
        color = channels_of_color(self.background or "00000000", pixels.dtype)
        if pixels.dtype != np.float32:
            color = (float(round(color[0])), float(round(color[1])), float(round(color[2])), float(round(color[3])))
        return color

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Add."""
        left, top, _, _ = self._margins(form.size)

        def fill(pixels: Array) -> Array:
            shape = pixels.shape[2:]
            return np.array(self._filling(pixels)[: shape[0] if shape else 1], pixels.dtype).reshape(shape)

        window = Region(0, 0, *form.size)
        laid = placed_move(self.name, self.size(form.size), window, (left, top), fill)
        return (*roomy(form, self.background), laid)

    def apply(self, image: Image) -> Step:
        """Add."""
        left, top, right, bottom = self._margins(image.size)
        image = with_room_for(image, self.background)
        color = self._filling(image.pixels)
        done = cv2.copyMakeBorder(image.pixels, top, bottom, left, right, cv2.BORDER_CONSTANT, value=color)
        return Step(image.with_pixels(done))


_Bounds: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom."""


class Trim(Operation):
    """Cut off the border that has one color: that of the upper left pixel, or a given one.

    A pixel belongs to the border where each channel is within the tolerance; colors count as far as they are visible.
    An image of nothing but border is left as it is. The data say what was kept.
    Of the frames of an animation everything is kept that isn't border in one of them.
    """

    name: ClassVar[str] = "trim"
    family: ClassVar[str] = "geometry"
    summary: ClassVar[str] = "Cut off a border of similar color"
    output: ClassVar[Literal["image", "data", "both"]] = "both"
    example: ClassVar[str] = "0.1"
    sized_by_pixels: ClassVar[bool] = True
    frames_agree: ClassVar[Literal["first", "union"] | None] = "union"

    tolerance: float = Field(
        default=0.04,
        ge=0,
        le=1,
        description="Largest difference in a channel",
        json_schema_extra={"unit": "of full intensity"},
    )
    color: Color | SkipJsonSchema[None] = Field(
        default=None, description="Color of the border, by default that of the upper left pixel"
    )

    def facts(self) -> Facts:
        """Compares every pixel."""
        return Facts("reduction", "self-exact", ns_per_pixel=0.24, memory_factor=1.0, alpha_memory_factor=5.3)

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Look for the border's color, then for what isn't border; and cut."""
        if self.color is not None:
            return (self._outside(form, None),)

        def corner(pixels: Array, place: Place) -> Look:
            return Look(pixels[:1, :1].copy() if place.number == 0 else None)

        def first(one: Array | None, other: Array | None) -> Array | None:
            return other if one is None else one

        expected = (self._outside(form, None),)
        look = Survey(
            "corner",
            corner,
            lambda told: told[0][1],
            join=first,
            then=lambda pixel: (self._outside(form, pixel),),
            expected=expected,
            ns_per_pixel=0.1,
        )
        return (look,)

    def _outside(self, form: Form, corner: Array | None) -> Survey:
        """The box of what isn't border, and then a crop to it."""

        def look(pixels: Array, place: Place) -> Look:
            core = np.ascontiguousarray(place.core.of(pixels, place.extended))
            found = self._found(core, corner if corner is not None else core)
            if found is None:
                return Look(None)
            x, y, width, height = found
            left, top = x + place.core.left, y + place.core.top
            return Look((left, top, left + width, top + height))

        def join(one: _Bounds | None, other: _Bounds | None) -> _Bounds | None:
            if one is None or other is None:
                return one or other
            return (min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3]))

        def conclude(told: Any) -> Region:
            left, top, right, bottom = told[0][1] or (0, 0, *form.size)
            return Region(left, top, right - left, bottom - top)

        return Survey(
            self.name,
            look,
            conclude,
            join=join,
            data=lambda box: {"x": box.left, "y": box.top, "width": box.width, "height": box.height},
            then=lambda box: (placed_move(self.name, Size(box.width, box.height), box, (0, 0)),),
            expected=(placed_move(self.name, form.size, Region(0, 0, *form.size), (0, 0)),),
            ns_per_pixel=self.facts().ns_per_pixel,
            memory_factor=5.0,
        )

    def apply(self, image: Image) -> Step:
        """Find the border, and cut into memory of its own."""
        x, y, width, height = self.box(image) or (0, 0, *image.size)
        found = {"x": x, "y": y, "width": width, "height": height}
        if (width, height) == image.size:
            return Step(image, found)
        return Step(image.with_pixels(np.ascontiguousarray(image.pixels[y : y + height, x : x + width])), found)

    def box(self, image: Image) -> tuple[int, int, int, int] | None:
        """What isn't border; None where nothing else is."""
        return self._found(image.pixels, image.pixels[:1, :1])

    def _found(self, pixels: Pixels, corner: Pixels) -> tuple[int, int, int, int] | None:
        full, samples = full_scale(pixels.dtype), _visible(pixels)
        if self.color is None:
            border = [float(value) for value in np.atleast_1d(_visible(corner)[0, 0])]
        else:
            *color, alpha = channels_of_color(self.color, pixels.dtype)
            if pixels.ndim == 2:
                color = [float(np.dot(color, (0.299, 0.587, 0.114)))]
            border = [*(value * alpha / full for value in color), alpha] if samples.shape[2:] == (4,) else color
        slack = self.tolerance * full + (1e-6 if pixels.dtype == np.float32 else 0)
        low, high = np.array([value - slack for value in border]), np.array([value + slack for value in border])
        if samples.dtype != np.float32:  # OpenCV would round bounds to the nearest level
            low, high = np.ceil(low - 1e-6), np.floor(high + 1e-6)
        outside = cv2.bitwise_not(cv2.inRange(samples, low, high))
        x, y, width, height = cv2.boundingRect(outside)
        return (x, y, width, height) if width else None


def _visible(pixels: Pixels) -> NDArray[Any]:
    """Samples to compare: premultiplied where there is alpha, so that hidden colors don't count."""
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return pixels
    work = pixels.astype(np.float32)
    work[..., :3] *= work[..., 3:] / full_scale(pixels.dtype)
    return work
