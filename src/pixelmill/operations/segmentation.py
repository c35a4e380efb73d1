"""Operations that part an image into regions: watershed, components, grabcut.

Regions are numbered from 1; 0 is no region. A label image is 16-bit gray that holds the numbers as they are: write it
as PNG.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from pixelmill.errors import NotApplicable
from pixelmill.images.image import Image, Size
from pixelmill.images.regions import Region
from pixelmill.operations.component_tiles import (
    AREA,
    BOTTOM,
    RIGHT,
    SUM_X,
    SUM_Y,
    Joined,
    join,
    labeled,
    parts_of,
)
from pixelmill.operations.drawing import channels_with_color, outlined, outlined_part, painted, rgb8_of
from pixelmill.operations.objects import Foreground, Side, by_side, side_of
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.parameters import Color
from pixelmill.operations.passes import Array, Form, Look, Pass, Place, Survey, within
from pixelmill.operations.pixels import fit_depth, full_scale
from pixelmill.operations.watershed_tiles import (
    Steps,
    areas_of,
    cores_of,
    flood_of,
    lines_in,
    regions_of,
    state_of,
    watershed_passes,
)

MAX_LISTED = 1_000
"""Components that are listed; the count is of all."""
_MAX_LABEL = 65_535
_SEED = 1
"""Of OpenCV's random numbers where clusters start: the same image gives the same cut."""
_CUT_SIDE = 1_024
"""GrabCut looks at no more pixels a side; its time grows with their number, and its edge is smoothed anyway."""

_FOREGROUND = (
    "Which side of Otsu's threshold is an object; auto: the one that has less of the image's outermost row and columns"
)


def _as_number(value: Any) -> Any:
    """A number that the text form wrote; pydantic compares choices as they are."""
    return int(value) if isinstance(value, str) and value in {"4", "8"} else value


class Watershed(Operation):
    """Part objects that touch each other: Otsu's threshold, opening, distance transform, watershed.

    Objects are what lies on one side of Otsu's threshold of luma at 8 bits. Their cores, where the distance to the
    background is above a part of the greatest one within the same connected area, are the markers that are grown along
    the least differences of neighbors (minimum spanning forest, Cousty et al. 2009). Transparency is not looked at.
    overlay draws the borders into the image; labels gives the numbers of the regions, with 0 between them and where
    none is; count leaves the image as it is.
    """

    name: ClassVar[str] = "watershed"
    family: ClassVar[str] = "segmentation"
    summary: ClassVar[str] = "Part objects that touch each other, and count them"
    output: ClassVar[Literal["image", "data", "both"]] = "both"
    example: ClassVar[str] = "overlay"

    mode: Literal["overlay", "labels", "count"] = Field(default="overlay", description="What comes out")
    foreground: Foreground = Field(default="auto", description=_FOREGROUND)
    opening: int = Field(
        default=2,
        ge=0,
        le=50,
        description="How often specks are eroded by a pixel and grown back",
        json_schema_extra={"unit": "times"},
    )
    core: float = Field(
        default=0.6,
        ge=0.01,
        le=0.99,
        description="Distance to the background above which a pixel is in a core",
        json_schema_extra={"unit": "of the greatest distance"},
    )
    color: Color = Field(default="ff0000", description="Color of the borders")

    def facts(self) -> Facts:
        """Distances, areas and flooding; what lies far from any object costs nothing of the last."""
        if self.mode == "count":
            return Facts("analysis", "self-exact", ns_per_pixel=31.0, memory_factor=27.0)
        return Facts("border-merge", "self-exact", ns_per_pixel=430.0, memory_factor=180.0)

    def channels(self, channels: int) -> int:
        """Gray labels; color where borders are drawn."""
        return {"overlay": channels_with_color(channels), "labels": 1, "count": channels}[self.mode]

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Otsu's threshold, distances, cores by area, and flooding, each joined over seams."""
        labels = self.mode == "labels"
        steps = Steps(
            form,
            self.opening,
            self.core,
            self.mode == "count",
            self._drawn,
            self.channels(form.channels),
            np.dtype(np.uint16) if labels else form.dtype,
        )
        expected = watershed_passes(steps, Side(0, True))
        return by_side(self.foreground, lambda side: watershed_passes(steps, side), expected)

    def apply(self, image: Image) -> Step:
        """Flood; ``count`` of the objects is the data."""
        everything = Region(0, 0, *image.size)
        place = Place(image.size, everything, everything, 0, 1)
        state = state_of(_objects(image, self.foreground), self.opening)
        areas, labels = areas_of(state, place)
        state = cores_of(state, labels, areas.greatest, self.core)
        flood, node = flood_of(None if self.mode == "count" else rgb8_of(image), state, place)
        found = regions_of([flood], image.size.width)
        data = {"count": found.number}
        if node is None:
            return Step(image, data)
        regions = found.of_nodes[0][node]
        drawn = self._drawn(image.pixels, regions, lines_in(regions))
        return Step(image.with_pixels(drawn) if self.channels(image.channels) == image.channels else Image(drawn), data)

    def _drawn(self, pixels: NDArray[Any], regions: NDArray[np.int64], lines: NDArray[np.bool_]) -> NDArray[Any]:
        if self.mode == "labels":
            return _label_image(np.where(lines, 0, np.maximum(regions - 1, 0))).pixels
        return painted(Image(pixels), lines, self.color).pixels


class Components(Operation):
    """Find connected areas on one side of Otsu's threshold of luma at 8 bits: how many, where, and how large.

    They are numbered from the top. The data list the box (left, top, width, height), the area in pixels and the center
    of each, of the largest 1,000 at most; the count is of all. Transparency is not looked at. overlay draws the boxes
    that are listed into the image; labels gives the numbers; data leaves the image as it is.
    """

    name: ClassVar[str] = "components"
    family: ClassVar[str] = "segmentation"
    summary: ClassVar[str] = "Connected areas: count, boxes and sizes"
    output: ClassVar[Literal["image", "data", "both"]] = "both"
    example: ClassVar[str] = "overlay"

    mode: Literal["overlay", "labels", "data"] = Field(default="overlay", description="What comes out")
    foreground: Foreground = Field(default="auto", description=_FOREGROUND)
    min_area: int = Field(
        default=1, ge=1, le=1_000_000_000, description="Smaller ones are left out", json_schema_extra={"unit": "pixels"}
    )
    connectivity: Annotated[Literal[4, 8], BeforeValidator(_as_number)] = Field(
        default=8, description="Neighbors that connect: 4 by sides, 8 by corners too"
    )
    color: Color = Field(default="ff0000", description="Color of the boxes")

    def facts(self) -> Facts:
        """Components continue across any distance."""
        kind: Literal["analysis", "border-merge"] = "analysis" if self.mode == "data" else "border-merge"
        return Facts(kind, "cv2-exact", ns_per_pixel=2.5 if self.mode == "data" else 3.7, memory_factor=4.0)

    def channels(self, channels: int) -> int:
        """Gray labels; color where boxes are drawn."""
        return {"overlay": channels_with_color(channels), "labels": 1, "data": channels}[self.mode]

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Otsu's threshold, then components by tile, joined over seams."""
        return by_side(self.foreground, lambda side: (self._survey(form, side),), (self._survey(form, Side(0, True)),))

    def _survey(self, form: Form, side: Side) -> Survey:
        def look(pixels: Array, place: Place) -> Look:
            objects = side.of(np.ascontiguousarray(place.core.of(pixels, place.extended)))
            return Look(parts_of(objects, place, self.connectivity, self.min_area, MAX_LISTED))

        def finish(pixels: Array, place: Place, joined: Joined) -> Array:
            if self.mode == "overlay":
                boxes = _boxes(joined.listed)
                return outlined_part(Image(pixels), boxes, self.color, place.size, place.extended).pixels
            labels = labeled(side.of(np.ascontiguousarray(place.core.of(pixels, place.extended))), self.connectivity)
            numbers = np.zeros(int(labels.max()) + 1, np.int32)
            mine, found = joined.by_tile[place.number]
            numbers[mine] = found
            return within(_label_image(numbers[labels]).pixels, place)

        facts = self.facts()
        return Survey(
            self.name,
            look,
            lambda told: join(told, self.connectivity, self.min_area, MAX_LISTED),
            finish,
            channels=self.channels(form.channels),
            dtype=np.dtype(np.uint16) if self.mode == "labels" else None,
            data=lambda joined: _listed(joined.number, joined.listed, joined.numbers),
            images=self.mode != "data",
            ns_per_pixel=facts.ns_per_pixel,
            memory_factor=12.0,
        )

    def apply(self, image: Image) -> Step:
        """``cv2.connectedComponentsWithStats``, without the small ones."""
        objects = _objects(image, self.foreground)
        _, labels, stats, centers = cv2.connectedComponentsWithStats(objects, connectivity=self.connectivity)
        area = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
        kept = 1 + np.flatnonzero(area[1:] >= self.min_area)
        numbers = np.zeros(len(stats), np.int32)
        numbers[kept] = np.arange(1, len(kept) + 1)
        largest = kept[np.lexsort((kept, -area[kept]))[:MAX_LISTED]]
        table = np.zeros((len(largest), 8), np.int64)
        table[:, :2], table[:, AREA] = stats[largest, :2], area[largest]
        table[:, RIGHT : BOTTOM + 1] = stats[largest, :2] + stats[largest, 2:4]
        table[:, SUM_X : SUM_Y + 1] = np.rint(centers[largest] * area[largest, np.newaxis])
        data = _listed(len(kept), table, numbers[largest])
        if self.mode == "data":
            return Step(image, data)
        if self.mode == "labels":
            return Step(_label_image(numbers[labels]), data)
        return Step(outlined(image, _boxes(table), self.color), data)


def _boxes(table: NDArray[np.int64]) -> list[tuple[int, int, int, int]]:
    """Left, top, width and height."""
    return [(left, top, right - left, bottom - top) for left, top, right, bottom in table[:, : BOTTOM + 1].tolist()]


def _listed(count: int, table: NDArray[np.int64], numbers: NDArray[Any]) -> dict[str, Any]:
    rows = zip(_boxes(table), table.tolist(), numbers.tolist(), strict=True)
    return {
        "count": count,
        "components": [
            {
                "number": int(number),
                "box": list(box),
                "area": row[AREA],
                "center": [round(row[SUM_X] / row[AREA], 2), round(row[SUM_Y] / row[AREA], 2)],
            }
            for box, row, number in rows
        ],
    }


class Grabcut(Operation):
    """Cut the object in a rectangle out of its background (GrabCut, Rother et al. 2004); the rest gets transparent.

    What is outside the rectangle is background; the rectangle is given, or the image without a margin. The cut is found
    at no more than 1,024 pixels a side and scaled up smoothly. Where nothing lies outside the rectangle, nothing is cut
    off. The data tell the box of what is kept (left, top, width, height) and its share of the image.
    """

    name: ClassVar[str] = "grabcut"
    family: ClassVar[str] = "segmentation"
    summary: ClassVar[str] = "Cut an object out of its background"
    output: ClassVar[Literal["image", "data", "both"]] = "both"
    example: ClassVar[str] = "0.05"

    margin: float = Field(
        default=0.05,
        ge=0,
        le=0.45,
        description="What is background on each side, where no width and height are given",
        json_schema_extra={"unit": "of the image's shorter side"},
    )
    x: int = Field(
        default=0, ge=0, le=65_535, description="Left edge of the rectangle", json_schema_extra={"unit": "pixels"}
    )
    y: int = Field(
        default=0, ge=0, le=65_535, description="Upper edge of the rectangle", json_schema_extra={"unit": "pixels"}
    )
    width: int = Field(
        default=0,
        ge=0,
        le=65_535,
        description="Width of the rectangle; 0: the margin decides",
        json_schema_extra={"unit": "pixels"},
    )
    height: int = Field(
        default=0,
        ge=0,
        le=65_535,
        description="Height of the rectangle; 0: the margin decides",
        json_schema_extra={"unit": "pixels"},
    )
    iterations: int = Field(
        default=5, ge=1, le=20, description="Rounds of estimating and cutting", json_schema_extra={"unit": "rounds"}
    )

    def facts(self) -> Facts:
        """A minimum cut through a graph of all pixels, of a bounded number of them."""
        return Facts("whole", "self-exact", ns_per_pixel=150.0 * self.iterations, memory_factor=33.0)

    def size(self, size: Size) -> Size:
        """The same; raises :class:`NotApplicable` where the rectangle begins outside."""
        self._rectangle(size)
        return size

    def channels(self, channels: int) -> int:
        """RGBA."""
        del channels
        return 4

    def apply(self, image: Image) -> Step:
        """Cut; what was transparent stays so."""
        shows = object_in(image, self._rectangle(image.size), self.iterations)
        left, top, *sides = (int(value) for value in cv2.boundingRect((shows >= 0.5).astype(np.uint8)))
        data = {"box": [left, top, *sides] if all(sides) else None, "share": round(float(shows.mean()), 4)}
        return Step(with_alpha(image, shows), data)

    def _rectangle(self, size: Size) -> tuple[int, int, int, int]:
        """Left, top, width and height within an image of that size; the last two may be 0."""
        if not (self.width and self.height):
            margin = max(1, round(self.margin * min(size))) if self.margin else 0
            return margin, margin, max(0, size.width - 2 * margin), max(0, size.height - 2 * margin)
        if self.x >= size.width or self.y >= size.height:
            raise NotApplicable(
                f"grabcut: the rectangle begins at {self.x},{self.y}, outside the image of {size.width}×{size.height} "
                "pixels. Give a rectangle around the object.",
                operation="grabcut",
            )
        return self.x, self.y, min(self.width, size.width - self.x), min(self.height, size.height - self.y)


def object_in(image: Image, rectangle: tuple[int, int, int, int], iterations: int) -> NDArray[np.float32]:
    """1 where the object in a rectangle (left, top, width, height) is, 0 where the background is; ``H×W``.

    Found at no more than 1,024 pixels a side, and scaled up smoothly.
    """
    x, y, width, height = rectangle
    small = rgb8_of(image)
    scale = min(1.0, _CUT_SIDE / max(image.size))
    if scale < 1:
        reduced = (max(1, round(image.size.width * scale)), max(1, round(image.size.height * scale)))
        small = cv2.resize(small, reduced, interpolation=cv2.INTER_AREA)
    across, down = small.shape[1] / image.size.width, small.shape[0] / image.size.height
    left, right = round(x * across), round((x + width) * across)
    top, bottom = round(y * down), round((y + height) * down)
    shows = _cut(small, (left, top, right - left, bottom - top), iterations)
    if scale < 1:
        shows = np.clip(cv2.resize(shows, tuple(image.size), interpolation=cv2.INTER_LINEAR), 0.0, 1.0)
    return shows


def _objects(image: Image, foreground: Foreground) -> NDArray[np.uint8]:
    """255 where an object is, ``H×W``."""
    return side_of(image.pixels, foreground).of(image.pixels)


def _label_image(numbers: NDArray[Any]) -> Image:
    """Numbers as 16-bit gray; those above 65,535 become 65,535."""
    return Image(np.minimum(numbers, _MAX_LABEL).astype(np.uint16))


def _cut(rgb: NDArray[np.uint8], box: tuple[int, int, int, int], iterations: int) -> NDArray[np.float32]:
    """1 where the object is, 0 where the background is."""
    height, width = rgb.shape[:2]
    x, y, w, h = box
    if w <= 0 or h <= 0 or (w >= width and h >= height):
        return np.ones((height, width), np.float32)  # nothing is known of one of the two
    mask = np.full((height, width), cv2.GC_BGD, np.uint8)
    mask[y : y + h, x : x + w] = cv2.GC_PR_FGD
    cv2.setRNGSeed(_SEED)  # of this thread only
    cv2.grabCut(rgb, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), iterations, cv2.GC_INIT_WITH_MASK)
    return ((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.float32)


def with_alpha(image: Image, shows: NDArray[np.float32]) -> Image:
    """RGBA with the image's own transparency and that of ``shows`` (0 to 1)."""
    pixels: NDArray[Any] = image.pixels
    full = full_scale(pixels.dtype)
    color = np.dstack((pixels, pixels, pixels)) if pixels.ndim == 2 else pixels[..., :3]
    alpha = fit_depth(shows * (pixels[..., 3].astype(np.float32) if image.has_alpha else full), pixels.dtype)
    return Image(np.dstack((color, alpha)), image.icc if image.channels > 1 else None)
