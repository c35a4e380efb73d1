"""Operations that make a picture look otherwise than a camera sees: sketch, cartoon, pixelate, vignette."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixelmill.images.image import Image, Need, Pixels, Size
from pixelmill.images.regions import Region
from pixelmill.operations.filters import sharpen_kernel
from pixelmill.operations.levels import counted, equalizing
from pixelmill.operations.moves import clipped
from pixelmill.operations.opacity import by_opacity
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.passes import Array, Form, Look, Map, Move, Pass, Place, Survey, summed
from pixelmill.operations.pixels import as_gray, filtered, fit_depth, full_scale, gray8_of
from pixelmill.operations.smoothing import bilateral


class Sketch(Operation):
    """A pencil drawing: sharpened luma, divided by its blurred negative (color dodge), equalized and denoised.

    denoise=full is the chain of OpenCV calls bit for bit, with non-local means (Buades 2005) over 21x21 pixels, which
    takes nearly all of its time. fast denoises at half the size, over 7x7 pixels: 18 times faster there, and
    21 to 23.5 dB PSNR from full. none leaves it out. Works at 8 bits; transparency is dropped.
    """

    name: ClassVar[str] = "sketch"
    family: ClassVar[str] = "artistic"
    summary: ClassVar[str] = "A pencil drawing"

    denoise: Literal["full", "fast", "none"] = Field(
        default="full", description="Non-local means at the end: whole, at half the size, or left out"
    )

    def facts(self) -> Facts:
        """Equalization needs the whole image's histogram."""
        cost = {"full": 157.0, "fast": 10.0, "none": 1.7}[self.denoise]
        tier: Literal["cv2-exact", "approximate"] = "approximate" if self.denoise == "fast" else "cv2-exact"
        return Facts("reduction", tier, halo=24, ns_per_pixel=cost, memory_factor=5.0)

    def channels(self, channels: int) -> int:
        """Gray."""
        del channels
        return 1

    def need(self, after: Need, size: Size) -> Need:
        """Everything: the chain is defined by exact arithmetic on RGB."""
        del after, size
        return Need()

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """What is local, a histogram and its table, and denoising."""
        del form

        def look(pixels: Array, place: Place) -> Look:
            return Look(counted(place.core.of(pixels, place.extended)))

        def finish(pixels: Array, place: Place, table: Array | None) -> Array:
            del place
            return pixels if table is None else cv2.LUT(pixels, table)

        gray8 = np.dtype(np.uint8)
        passes: tuple[Pass, ...] = (
            Map("dodge", lambda pixels, place: _dodged(gray8_of(pixels)), 11, 1, gray8, 1.4, 5.0),
            Survey("equalize", look, lambda told: equalizing(told[0][1]), finish, summed, ns_per_pixel=0.3),
        )
        if self.denoise == "none":
            return passes
        if self.denoise == "full":
            return (*passes, Map("denoise", lambda pixels, place: _denoised(pixels), 13, ns_per_pixel=155.0))
        return (*passes, Map("denoise", _denoised_part, _HALF_HALO, ns_per_pixel=8.0))

    def apply(self, image: Image) -> Step:
        """The chain."""
        drawn: NDArray[Any] = cv2.equalizeHist(_dodged(gray8_of(image.pixels)))
        if self.denoise == "full":
            drawn = _denoised(drawn)
        elif self.denoise == "fast":
            drawn = _denoised_at_half(drawn)
        return Step(as_gray(image, drawn))


_HALF_HALO = 14
"""Twice what non-local means reaches at half the size (2 and 3), and the pixels that are interpolated between."""


def _dodged(gray: NDArray[np.uint8]) -> NDArray[Any]:
    sharp = cv2.filter2D(gray, -1, sharpen_kernel(1.0))
    blurred = cv2.GaussianBlur(np.asarray(255 - sharp), (21, 21), 0)
    return cv2.divide(sharp, np.asarray(255 - blurred), scale=256)


def _denoised(drawn: NDArray[Any]) -> NDArray[Any]:
    return cv2.fastNlMeansDenoising(drawn, None, h=75, templateWindowSize=7, searchWindowSize=21)


def _denoised_at_half(drawn: NDArray[Any]) -> NDArray[Any]:
    """Non-local means (5x5 templates, 7x7 search) on the picture at half its size, scaled back.

    Against the whole at 8 bits, one thread, on photographs: 18 times faster, 21.0 to 23.5 dB; a smaller search window
    alone (7x7) is 5 times faster at 18.1 to 19.4 dB. An odd row or column is repeated, so that half is a half.
    """
    height, width = drawn.shape
    even = cv2.copyMakeBorder(drawn, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    half = cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)
    half = cv2.fastNlMeansDenoising(half, None, h=75, templateWindowSize=5, searchWindowSize=7)
    return cv2.resize(half, even.shape[::-1], interpolation=cv2.INTER_LINEAR)[:height, :width]


def _denoised_part(drawn: NDArray[Any], place: Place) -> NDArray[Any]:
    """The same of a part, which begins on the whole image's grid of 2x2 pixels."""
    odd_x, odd_y = place.extended.left % 2, place.extended.top % 2
    done = np.zeros_like(drawn)
    if drawn.shape[0] > odd_y and drawn.shape[1] > odd_x:
        done[odd_y:, odd_x:] = _denoised_at_half(np.ascontiguousarray(drawn[odd_y:, odd_x:]))
    return done


class Cartoon(Operation):
    """A cartoon: colors made even by bilateral filters (Tomasi and Manduchi 1998), with black lines.

    Lines are where luma, after a median of 5x5, lies below the mean of its surroundings. Lines come from luma at 8
    bits, colors keep their depth; alpha is left alone.
    """

    name: ClassVar[str] = "cartoon"
    family: ClassVar[str] = "artistic"
    summary: ClassVar[str] = "A cartoon: even colors and black lines"
    example: ClassVar[str] = "4"

    passes: int = Field(
        default=3, ge=0, le=10, description="How often colors are made even", json_schema_extra={"unit": "passes"}
    )
    lines: int = Field(
        default=3, ge=0, le=15, description="Thickness of lines, 0 for none", json_schema_extra={"unit": "pixels"}
    )
    contrast: float = Field(
        default=0.02,
        ge=0,
        le=0.5,
        description="How much darker than its surroundings a line must be",
        json_schema_extra={"unit": "of full intensity"},
    )

    def facts(self) -> Facts:
        """Each bilateral pass looks 4 pixels around."""
        halo = max(4 * self.passes, self.lines + 3)
        return Facts("local", "cv2-exact", halo=halo, ns_per_pixel=4.0 + 23.0 * self.passes, memory_factor=5.0)

    def apply(self, image: Image) -> Step:
        """Even out, then draw."""
        pixels = image.pixels
        has_alpha = image.has_alpha
        colors: NDArray[Any] = np.ascontiguousarray(pixels[..., :3]) if has_alpha else pixels
        colors = self._evened(colors)
        if self.lines:
            luma = cv2.medianBlur(gray8_of(pixels), 5)
            paper = cv2.adaptiveThreshold(
                luma,
                255,
                cv2.ADAPTIVE_THRESH_MEAN_C,
                cv2.THRESH_BINARY,
                blockSize=2 * self.lines + 3,
                C=self.contrast * 255,
            )
            colors = colors * (paper > 0).reshape(*paper.shape, *(1,) * (colors.ndim - 2))
        if has_alpha:
            colors = np.concatenate((colors, pixels[..., 3:]), axis=2)
        return Step(image.with_pixels(np.array(colors, pixels.dtype)))

    def _evened(self, colors: NDArray[Any]) -> NDArray[Any]:
        """After all passes; 16 bits on float samples, for which OpenCV has the filter."""
        depth = colors.dtype
        if depth == np.uint16:
            colors = colors.astype(np.float32)
        for _ in range(self.passes):
            colors = bilateral(colors, 9, 0.12 * full_scale(depth), 7.0, full_scale(depth))
        return colors if colors.dtype == depth and depth != np.float32 else fit_depth(colors, depth)


class Pixelate(Operation):
    """Squares of one color each, the mean of what they cover; the last ones of a row or column may be cut off."""

    name: ClassVar[str] = "pixelate"
    family: ClassVar[str] = "artistic"
    summary: ClassVar[str] = "Large squares in place of pixels"
    example: ClassVar[str] = "12"

    block: int = Field(default=10, ge=1, le=4096, description="Side of a square", json_schema_extra={"unit": "pixels"})

    def facts(self) -> Facts:
        """One pass of sums, one of copies."""
        each = 1 / self.block
        return Facts(
            "geometric",
            "self-exact",
            ns_per_pixel=0.2 + 13 * each,
            memory_factor=0.4 + 23 * each,
            alpha_memory_factor=7.6 + 21 * each,
        )

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel; means are linear, so luma is enough if it is afterwards."""
        del size
        return Need(color=after.color)

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Mean and repeat, of whole squares."""
        if self.block == 1:
            return ()
        size, block = form.size, self.block
        facts = self.facts()

        def source(region: Region) -> Region:
            left, top = region.left // block * block, region.top // block * block
            return clipped(left, top, -(-region.right // block) * block, -(-region.bottom // block) * block, size)

        def passes(opaque: bool | None) -> tuple[Pass, ...]:
            def apply(pixels: Array, source: Region, region: Region) -> Array:
                return np.ascontiguousarray(region.of(filtered(pixels, self._squares, opaque=opaque), source))

            memory = max(facts.memory_factor, facts.alpha_memory_factor * (opaque is False))
            return (Move(self.name, size, source, apply, ns_per_pixel=facts.ns_per_pixel, memory_factor=memory),)

        return by_opacity(form, passes)

    def apply(self, image: Image) -> Step:
        """Mean and repeat; transparency counts by its weight."""
        if self.block == 1:
            return Step(image)
        return Step(image.with_pixels(filtered(image.pixels, self._squares)))

    def _squares(self, pixels: NDArray[Any]) -> NDArray[Any]:
        height, width = pixels.shape[:2]
        rows, columns = np.arange(0, height, self.block), np.arange(0, width, self.block)
        down = np.stack([pixels[row : row + self.block].sum(axis=0, dtype=np.float64) for row in rows])
        sums = np.add.reduceat(down, columns, axis=1)
        high, wide = np.diff(np.append(rows, height)), np.diff(np.append(columns, width))
        counts = np.outer(high, wide).reshape(len(rows), len(columns), *(1,) * (pixels.ndim - 2))
        means = sums / counts
        if pixels.dtype != np.float32:  # premultiplied samples are float on the scale of their depth
            means = np.rint(means)
        means = means.astype(pixels.dtype)
        return np.repeat(np.repeat(means, wide, axis=1), high, axis=0)


class Vignette(Operation):
    """Darker towards the corners, along ellipses of the image's shape; alpha is left alone.

    Light falls off smoothly (a cubic step) from full, at the radius, to 1 - strength in the very corners.
    """

    name: ClassVar[str] = "vignette"
    family: ClassVar[str] = "artistic"
    summary: ClassVar[str] = "Darken the corners"
    example: ClassVar[str] = "0.6"

    strength: float = Field(default=0.5, ge=0, le=1, description="How dark corners get; 1 is black")
    radius: float = Field(
        default=0.4,
        ge=0,
        le=0.99,
        description="How far from the center it starts",
        json_schema_extra={"unit": "of the way to a corner"},
    )

    def facts(self) -> Facts:
        """Needs to know where a pixel lies in the whole."""
        return Facts("pointwise", "self-exact", ns_per_pixel=4.8, memory_factor=2.0)

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel; a factor for all channels alike, so luma is enough if it is afterwards."""
        del size
        return Need(color=after.color)

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Multiply, by where pixels lie."""
        facts = self.facts()

        def draw(pixels: Array, place: Place) -> Array:
            return self._darker(pixels, place.size, place.extended)

        return (Map(self.name, draw, ns_per_pixel=facts.ns_per_pixel, memory_factor=facts.memory_factor),)

    def apply(self, image: Image) -> Step:
        """Multiply, some rows at a time."""
        return Step(image.with_pixels(self._darker(image.pixels, image.size, Region(0, 0, *image.size))))

    def _darker(self, pixels: Pixels, size: Size, region: Region) -> NDArray[Any]:
        """``pixels`` are those of a region of an image of ``size``."""
        done: NDArray[Any] = pixels.copy()
        across = _from_center(size.width)[region.left : region.right]
        down = _from_center(size.height)[region.top : region.bottom]
        rows = max(1, _BAND // region.width)
        for start in range(0, len(down), rows):
            band = np.s_[start : start + rows]
            light = self._light(np.sqrt((down[band, np.newaxis] ** 2 + across**2) / 2))
            _darken(done, pixels, band, light)
        return done

    def _light(self, distance: NDArray[np.float64]) -> NDArray[np.float64]:
        way = np.clip((distance - self.radius) / (1 - self.radius), 0, 1)
        return np.asarray(1 - self.strength * way * way * (3 - 2 * way))


_BAND = 1 << 16
"""Pixels that are worked on at a time."""


def _from_center(count: int) -> NDArray[np.float64]:
    """Where the centers of pixels lie: -1 and 1 are the edges."""
    return (2 * np.arange(count) + 1) / count - 1


def _darken(done: NDArray[Any], pixels: Pixels, band: slice, light: NDArray[np.float64]) -> None:
    """Write ``pixels`` times ``light`` into those rows of ``done``; alpha excepted."""
    part = pixels[band] if pixels.ndim == 2 else pixels[band][..., :3]
    darker = fit_depth(part * light.reshape(*light.shape, *(1,) * (part.ndim - 2)), pixels.dtype)
    if pixels.ndim == 2:
        done[band] = darker
    else:
        done[band][..., :3] = darker
