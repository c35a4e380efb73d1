"""Composition: watermark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from pixelmill.errors import InvalidParameter, NotApplicable
from pixelmill.images.image import Image, Need, Size
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.parameters import Position, place
from pixelmill.operations.pixels import from_float, maximum

Reference = Annotated[str, Field(min_length=1, max_length=1_024, json_schema_extra={"format": "image-reference"})]


class Watermark(Operation):
    """Lays a second image over the first one, by its alpha times ``opacity``.

    ``image`` refers to the second one: a path in the library and on the command line, ``upload:ID`` or ``sha256:HEX``
    in the service. ``scale`` is its width as a share of the first one's width; 0 leaves it as it is. What stands over
    the edge is cut off.
    """

    name: ClassVar[str] = "watermark"
    family: ClassVar[str] = "composition"
    summary: ClassVar[str] = "Lay a second image over this one"
    image: Reference = Field(description="The image to lay over", examples=["logo.png"])
    position: Position = Field(default="bottom-right", description="Where")
    opacity: float = Field(default=0.5, ge=0, le=1, description="0 is invisible, 1 as the image is")
    scale: float = Field(default=0.25, ge=0, le=1, description="Width as a share of the picture's; 0: as it is")
    margin: int = Field(
        default=16, ge=0, le=10_000, description="Distance from the edges", json_schema_extra={"unit": "px"}
    )
    _pixels: Image | None = PrivateAttr(None)

    def facts(self) -> Facts:
        """Copies the picture, and blends a part of it."""
        return Facts("whole", "self-exact", ns_per_pixel=0.6, memory_factor=2.0)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel, in color: the watermark may have some."""
        del after, size
        return Need()

    def images(self) -> tuple[str, ...]:
        """The reference, until its pixels are there."""
        return () if self.loaded else (self.image,)

    @property
    def loaded(self) -> bool:
        """Whether it has its pixels."""
        return self._pixels is not None

    def with_images(self, images: Mapping[str, Image | str]) -> Watermark:
        """With another reference, or with pixels."""
        found = images.get(self.image)
        if isinstance(found, str):
            return self.model_copy(update={"image": found})
        copy = self.model_copy()
        if found is not None:
            copy._pixels = found  # noqa: SLF001  our own copy
        return copy

    def apply(self, image: Image) -> Step:
        """Blend; the result has color if the watermark has some, and alpha if the picture has."""
        if self._pixels is None:
            raise InvalidParameter(
                f"The image {self.image!r} of watermark was not loaded.", operation="watermark", parameter="image"
            )
        colors, alpha = self._overlay(self._pixels, image.size)
        if image.channels == 1 and _has_color(colors, alpha):
            image = Image(cv2.cvtColor(image.pixels, cv2.COLOR_GRAY2RGB))  # without a profile: that was of gray
        base = image.pixels
        height, width = alpha.shape
        size = image.size
        x = place(self.position, size.width, width, "x", self.margin)
        y = place(self.position, size.height, height, "y", self.margin)
        left, top = max(0, x), max(0, y)
        right, bottom = min(size.width, x + width), min(size.height, y + height)
        result = base.copy()
        if left < right and top < bottom:
            part = (slice(top - y, bottom - y), slice(left - x, right - x))
            region = (slice(top, bottom), slice(left, right))
            result[region] = _blend(result[region], colors[part], alpha[part])
        return Step(image.with_pixels(result))

    def _overlay(self, mark: Image, size: Size) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """RGB ``H×W×3`` and weight ``H×W`` of the mark, from 0 to 1, scaled."""
        pixels = mark.pixels.astype(np.float32) / np.float32(maximum(mark.pixels.dtype))
        if pixels.ndim == 2:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
        if pixels.shape[2] == 3:
            pixels = np.dstack([pixels, np.ones(pixels.shape[:2], np.float32)])
        if self.scale:
            width = max(1, round(size.width * self.scale))
            height = max(1, round(mark.size.height * width / mark.size.width))
            if height > 4 * size.height + 64:
                raise NotApplicable(
                    f"The watermark would be {height:,} pixels high on an image of {size.height:,}; it is too narrow "
                    "for this scale. Use a smaller scale.",
                    operation="watermark",
                )
            pixels[..., :3] *= pixels[..., 3:]
            shrinks = width < mark.size.width
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
            weight = pixels[..., 3:]
            pixels[..., :3] = np.divide(pixels[..., :3], weight, out=np.zeros_like(pixels[..., :3]), where=weight > 0)
        return pixels[..., :3], pixels[..., 3] * np.float32(self.opacity)


def _has_color(colors: NDArray[np.float32], alpha: NDArray[np.float32]) -> bool:
    """Whether anything that shows is not gray."""
    shown = colors[alpha > 0]
    return bool((shown != shown[:, :1]).any())


def _blend(base: NDArray[Any], colors: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[Any]:
    """``colors`` over ``base`` by ``alpha`` (Porter and Duff 1984)."""
    below = base.astype(np.float32) / np.float32(maximum(base.dtype))
    if base.ndim == 2:
        return from_float(below + (colors[..., 0] - below) * alpha, base.dtype)
    weight = alpha[..., None]
    if base.shape[2] == 3:
        return from_float(below + (colors - below) * weight, base.dtype)
    under = below[..., 3:] * (1 - weight)
    total = weight + under
    mixed = np.divide(colors * weight + below[..., :3] * under, total, out=np.zeros_like(colors), where=total > 0)
    return from_float(np.concatenate([mixed, total], axis=-1).astype(np.float32), base.dtype)
