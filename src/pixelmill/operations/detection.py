"""Operations that find things in a picture: faces, features, match, codes.

What they find is data; most of them draw it too. Coordinates are pixels of the image as it arrives here; a box is left,
top, width and height.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixelmill.errors import NotApplicable
from pixelmill.images.image import Image, Size
from pixelmill.models.model import Model, Wanted
from pixelmill.operations.drawing import channels_with_color, in_color, line_width, outlined, painted
from pixelmill.operations.face_search import (
    AUTO,
    HAAR,
    MIN_SCORE,
    MIN_SIZE,
    Box,
    box_on,
    detector_name,
    faces_by,
    loaded_detector,
    wanted_detector,
)
from pixelmill.operations.matching import Keypoints, Match, Method, find_keypoints, match_keypoints
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.parameters import Color, ImageParameter, ModelParameter
from pixelmill.operations.pixels import filtered, fit_depth, full_scale, gray8_of
from pixelmill.operations.resample import resample
from pixelmill.operations.second_image import WithSecondImage

MAX_LISTED = 200
"""Keypoints that are told, and faces; counts are of all."""
_MAX_LINES = 200
"""Lines between two images; more can't be told apart."""
_LEAST_CODE = 21
"""Modules a side of the smallest QR code: smaller images hold none."""


class Faces(Operation):
    """Find faces by YuNet (Wu, Peng and Yu 2023), or by OpenCV's Haar cascade (Viola and Jones 2001; Lienhart 2003).

    auto takes YuNet where its weights are (pixelmill models pull yunet), else the cascade, which needs none and misses
    turned and half-hidden faces; a name or a path of a model asks for that one. Searched in a picture reduced so far
    that the smallest face has 16 pixels a side (32 for the cascade); so a small min_size takes longer, and finds the
    faces of groups. The data list the boxes, the largest first; YuNet adds a score and five landmarks of each. draw
    outlines them; blur makes them unrecognizable, with a margin; crop gives the largest one with a margin as a square
    (the middle of the image if there is none); data leaves the image as it is.
    """

    name: ClassVar[str] = "faces"
    family: ClassVar[str] = "detection"
    summary: ClassVar[str] = "Find, outline, blur or cut out faces"
    output: ClassVar[Literal["image", "data", "both"]] = "both"
    example: ClassVar[str] = "draw"

    mode: Literal["data", "draw", "blur", "crop"] = Field(default="data", description="What comes out")
    scale: float = Field(
        default=1.1,
        ge=1.01,
        le=2,
        description="haar: factor between the sizes that are searched; smaller finds more, slower",
        json_schema_extra={"unit": "times"},
    )
    neighbors: int = Field(
        default=5,
        ge=1,
        le=50,
        description="haar: hits that must agree on a face; more give fewer false alarms",
        json_schema_extra={"unit": "hits"},
    )
    min_size: float = Field(
        default=MIN_SIZE,
        ge=0.01,
        le=1,
        description="Smallest face",
        json_schema_extra={"unit": "of the image's shorter side"},
    )
    side: int = Field(
        default=256, ge=1, le=4_096, description="crop: side of the square", json_schema_extra={"unit": "pixels"}
    )
    color: Color = Field(default="00ff00", description="draw: color of the outlines")
    detector: ModelParameter = Field(default=AUTO, description="auto, haar, or the model that finds them")
    score: float = Field(
        default=MIN_SCORE,
        ge=0.3,
        le=1,
        description="yunet: how sure it must be; more gives fewer false alarms",
    )

    def facts(self) -> Facts:
        """Windows of all sizes; grouped over the whole image."""
        kind: Literal["analysis", "whole"] = "analysis" if self.mode == "data" else "whole"
        if isinstance(self.detector, str) and self.detector in {AUTO, HAAR}:
            cost = 50.0 * max(1.0, (0.05 / self.min_size) ** 1.3)
            return Facts(kind, "self-exact", ns_per_pixel=cost, memory_factor=2.0)
        return Facts(kind, "approximate", ns_per_pixel=20.0, memory_factor=2.0)

    def size(self, size: Size) -> Size:
        """The square of crop; otherwise the same."""
        return Size(self.side, self.side) if self.mode == "crop" else size

    def channels(self, channels: int) -> int:
        """Color where outlines are drawn."""
        return channels_with_color(channels) if self.mode == "draw" else channels

    def models(self) -> tuple[Wanted, ...]:
        """YuNet, or the one that is named."""
        return wanted_detector(self.detector)

    def with_models(self, models: Mapping[str, Model | str | None]) -> Operation:
        """With the detector in place."""
        return self.model_copy(update={"detector": loaded_detector(self.detector, models)})

    def apply(self, image: Image) -> Step:
        """Search; ``detector``, ``count``, ``boxes`` and ``faces`` are the data."""
        faces = faces_by(
            self.detector,
            image,
            score=self.score,
            scale=self.scale,
            neighbors=self.neighbors,
            min_size=self.min_size,
        )
        boxes, listed = [face.box for face in faces], faces[:MAX_LISTED]
        data: dict[str, Any] = {
            "count": len(boxes),
            "boxes": [list(face.box) for face in listed],
            "detector": detector_name(self.detector),
        }
        if any(face.landmarks for face in listed):
            data["faces"] = [face.to_dict() for face in listed]
        if self.mode == "draw":
            return Step(outlined(image, boxes, self.color), data)
        if self.mode == "blur":
            return Step(_blurred(image, boxes), data)
        if self.mode == "crop":
            return Step(_cropped(image, boxes[0] if boxes else None, self.side), data)
        return Step(image, data)


class Features(Operation):
    """Find keypoints by ORB (Rublee et al. 2011), SIFT (Lowe 2004) or AKAZE (Alcantarilla et al. 2013).

    Searched in luma at no more than 2,048 pixels a side. The data tell the count, and place, diameter, angle and
    strength of the 200 strongest at most.
    """

    name: ClassVar[str] = "features"
    family: ClassVar[str] = "detection"
    summary: ClassVar[str] = "Find and draw keypoints"
    output: ClassVar[Literal["image", "data", "both"]] = "both"
    example: ClassVar[str] = "sift"

    method: Method = Field(default="orb", description="How keypoints are found")
    count: int = Field(
        default=500,
        ge=1,
        le=10_000,
        description="Keypoints at most, the strongest",
        json_schema_extra={"unit": "points"},
    )
    draw: bool = Field(default=True, description="Draw them into the image; otherwise there is data only")
    color: Color = Field(default="00ff00", description="Color of the circles")

    def facts(self) -> Facts:
        """The strongest of the whole image."""
        cost = {"orb": 6.0, "sift": 55.0, "akaze": 42.0}[self.method]
        memory = {"orb": 3.6, "sift": 79.0, "akaze": 31.0}[self.method]
        return Facts("whole" if self.draw else "analysis", "approximate", ns_per_pixel=cost, memory_factor=memory)

    def channels(self, channels: int) -> int:
        """Color where they are drawn."""
        return channels_with_color(channels) if self.draw else channels

    def apply(self, image: Image) -> Step:
        """Find; and draw circles of the keypoints' size with their direction."""
        found = find_keypoints(image, self.method, self.count)
        data = {"count": len(found), "keypoints": _listed(found)}
        if not self.draw:
            return Step(image, data)
        mask = np.zeros(image.pixels.shape[:2], np.uint8)
        width = line_width(image.size)
        for (x, y), size, angle in zip(found.points, found.sizes, np.deg2rad(found.angles), strict=True):
            center, radius = (round(x), round(y)), max(2, round(size / 2))
            cv2.circle(mask, center, radius, 255, width)
            tip = (round(x + radius * float(np.cos(angle))), round(y + radius * float(np.sin(angle))))
            cv2.line(mask, center, tip, 255, width)
        return Step(painted(image, mask, self.color), data)


class MatchImages(WithSecondImage):
    """Find this picture's motif in a second image: keypoints, ratio test (Lowe 2004), homography by RANSAC.

    The data tell the number of keypoints, matches and inliers, and the homography, three rows of three, that takes
    pixels (x, y, 1) of this image to those of the second; null if there is none. Where turning, scaling and moving
    explain the matches about as well as a view from elsewhere, it is one of these. draw gives both side by side, the
    second one within a box of this image's size, with lines between the inliers.
    """

    name: ClassVar[str] = "match"
    family: ClassVar[str] = "detection"
    summary: ClassVar[str] = "Find the same motif in a second image"
    output: ClassVar[Literal["image", "data", "both"]] = "both"
    example: ClassVar[str] = "other.jpg"

    image: ImageParameter = Field(description="The second image: a path, a URI, or sha256:HEX of stored bytes")
    method: Method = Field(default="sift", description="How keypoints are found")
    ratio: float = Field(
        default=0.75,
        ge=0.1,
        le=1,
        description="The nearest must be nearer than this",
        json_schema_extra={"unit": "of the distance of the second nearest"},
    )
    threshold: float = Field(
        default=3, ge=0.5, le=50, description="How far off an inlier may be", json_schema_extra={"unit": "pixels"}
    )
    count: int = Field(
        default=4_000,
        ge=4,
        le=10_000,
        description="Keypoints of each image at most, the strongest",
        json_schema_extra={"unit": "points"},
    )
    draw: bool = Field(default=True, description="Draw both images and the matches; otherwise there is data only")
    color: Color = Field(default="00ff00", description="Color of the lines")

    def facts(self) -> Facts:
        """Keypoints of two images, and each descriptor with each."""
        kind: Literal["analysis", "whole"] = "whole" if self.draw else "analysis"
        cost = {"orb": 29.0, "sift": 160.0, "akaze": 100.0}[self.method]
        memory = {"orb": 17.0, "sift": 79.0, "akaze": 32.0}[self.method]
        return Facts(kind, "approximate", ns_per_pixel=cost, memory_factor=memory)

    def size(self, size: Size) -> Size:
        """Twice as wide where both are drawn."""
        return Size(2 * size.width, size.height) if self.draw else size

    def channels(self, channels: int) -> int:
        """Color where both are drawn."""
        return channels_with_color(channels) if self.draw else channels

    def apply(self, image: Image) -> Step:
        """Match; raises :class:`NotApplicable` while the second image is a mere reference."""
        if isinstance(self.image, str):
            raise NotApplicable(f"match: {self.image!r} was not loaded.", operation="match")
        first = find_keypoints(image, self.method, self.count)
        second = find_keypoints(self.image, self.method, self.count)
        match = match_keypoints(first, second, ratio=self.ratio, threshold=self.threshold)
        data = {
            "keypoints": [len(first), len(second)],
            "matches": len(match.first),
            "inliers": int(np.count_nonzero(match.inlier)),
            "homography": _rows(match.homography),
        }
        return Step(_side_by_side(image, self.image, match, self.color) if self.draw else image, data)


class Codes(Operation):
    """Read QR codes and barcodes (EAN-8, EAN-13, UPC-A, UPC-E), with OpenCV's detectors.

    The data list type, text, box and the four corners of each; a QR code that was seen but not read has no text (null).
    """

    name: ClassVar[str] = "codes"
    family: ClassVar[str] = "detection"
    summary: ClassVar[str] = "Read QR codes and barcodes"
    output: ClassVar[Literal["image", "data", "both"]] = "both"
    example: ClassVar[str] = "draw=true"

    draw: bool = Field(default=False, description="Outline them in the image; otherwise there is data only")
    color: Color = Field(default="00ff00", description="Color of the outlines")

    def facts(self) -> Facts:
        """Two detectors over the whole image."""
        kind: Literal["analysis", "whole"] = "whole" if self.draw else "analysis"
        return Facts(kind, "approximate", ns_per_pixel=8.0, memory_factor=4.0)

    def channels(self, channels: int) -> int:
        """Color where outlines are drawn."""
        return channels_with_color(channels) if self.draw else channels

    def apply(self, image: Image) -> Step:
        """Read; from the top down."""
        gray = gray8_of(image.pixels)
        codes = [*_qr_codes(gray), *_barcodes(gray)] if min(gray.shape) >= _LEAST_CODE else []
        listed = [
            {
                "type": kind,
                "text": text,
                "box": list(_box_around(image.size, corners)),
                "corners": [[round(float(x), 1), round(float(y), 1)] for x, y in corners],
            }
            for kind, text, corners in sorted(codes, key=lambda code: (code[2][:, 1].min(), code[2][:, 0].min()))
        ]
        data = {"count": len(listed), "codes": listed}
        if not self.draw:
            return Step(image, data)
        mask = np.zeros(gray.shape, np.uint8)
        outlines = [np.rint(corners).astype(np.int32) for _, _, corners in codes]
        cv2.polylines(mask, outlines, isClosed=True, color=255, thickness=line_width(image.size))
        return Step(painted(image, mask, self.color), data)


def _box_around(size: Size, corners: NDArray[np.float64]) -> Box:
    low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
    return box_on(size, float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]))


def _blurred(image: Image, boxes: list[Box]) -> Image:
    """Faces, and an eighth of their size around, by a Gaussian of a quarter of their width."""
    pixels = image.pixels.copy()
    for x, y, width, height in boxes:
        left, top, w, h = box_on(image.size, x - width / 8, y - height / 8, 1.25 * width, 1.25 * height)
        face: NDArray[Any] = np.ascontiguousarray(pixels[top : top + h, left : left + w])
        blur = functools.partial(
            cv2.GaussianBlur, ksize=(0, 0), sigmaX=max(1.0, width / 4), borderType=cv2.BORDER_REPLICATE
        )
        pixels[top : top + h, left : left + w] = filtered(face, blur)
    return image.with_pixels(pixels)


def _cropped(image: Image, box: Box | None, side: int) -> Image:
    """The square around a face, half as large again and within the image, scaled to ``side``."""
    width, height = image.size
    x, y, w, h = box or (0, 0, width, height)
    edge = min(width, height, round(1.5 * max(w, h))) if box else min(width, height)
    left = min(max(0, x + (w - edge) // 2), width - edge)
    top = min(max(0, y + (h - edge) // 2), height - edge)
    square: NDArray[Any] = np.ascontiguousarray(image.pixels[top : top + edge, left : left + edge])
    scaled = filtered(square, lambda pixels: resample(pixels, Size(side, side), "lanczos"))
    return image.with_pixels(fit_depth(scaled, square.dtype))


def _listed(found: Keypoints) -> list[dict[str, float]]:
    numbers = np.column_stack((found.points, found.sizes, found.angles))[:MAX_LISTED].round(2).tolist()
    return [
        {"x": x, "y": y, "size": size, "angle": angle, "response": round(float(response), 6)}
        for (x, y, size, angle), response in zip(numbers, found.responses[:MAX_LISTED], strict=True)
    ]


def _rows(homography: NDArray[np.float64] | None) -> list[list[float]] | None:
    """Nine significant digits: a thousandth of a pixel at 65,535 pixels."""
    return None if homography is None else [[float(f"{value:.9g}") for value in row] for row in homography]


def _side_by_side(image: Image, other: Image, match: Match, color: str) -> Image:
    """Both images on one twice as wide, and lines between the inliers."""
    base = in_color(image)
    width, height = base.size
    scale = min(width / other.size.width, height / other.size.height)
    fit = Size(*(max(1, min(limit, round(side * scale))) for side, limit in zip(other.size, base.size, strict=True)))
    samples = filtered(other.pixels, lambda pixels: resample(pixels, fit, "lanczos")).astype(np.float32)
    samples = samples if samples.ndim == 3 else np.dstack((samples,) * 3)
    canvas = np.zeros((height, 2 * width, base.channels), base.pixels.dtype)
    canvas[:, :width] = base.pixels
    scaled = samples[..., :3] / full_scale(other.pixels.dtype) * full_scale(base.pixels.dtype)
    canvas[: fit.height, width : width + fit.width, :3] = fit_depth(scaled, base.pixels.dtype)
    if base.has_alpha:
        canvas[:, width:, 3] = full_scale(base.pixels.dtype)
    mask = np.zeros(canvas.shape[:2], np.uint8)
    ratio = np.array([fit.width / other.size.width, fit.height / other.size.height])
    starts = match.first[match.inlier][:_MAX_LINES]
    ends = (match.second[match.inlier][:_MAX_LINES] + 0.5) * ratio - 0.5 + (width, 0)
    for start, end in zip(np.rint(starts).astype(int).tolist(), np.rint(ends).astype(int).tolist(), strict=True):
        cv2.line(mask, start, end, 255, line_width(base.size))
    return painted(base.with_pixels(canvas), mask, color)


Code: TypeAlias = tuple[str, str | None, NDArray[np.float64]]


def _qr_codes(gray: NDArray[np.uint8]) -> list[Code]:
    # As bytes: what a code holds need not be UTF-8.
    detected, contents, corners, _ = cv2.QRCodeDetector().detectAndDecodeBytesMulti(gray)
    if not detected:
        return []
    texts = [bytes(content).decode("utf-8", "replace") or None for content in contents]
    return [("qr", text, np.asarray(at, np.float64)) for text, at in zip(texts, corners, strict=True)]


def _barcodes(gray: NDArray[np.uint8]) -> list[Code]:
    detector = cv2.barcode.BarcodeDetector()
    detected, texts, kinds, corners = detector.detectAndDecodeWithType(gray)
    if not detected:  # the edges of drawn codes are steeper than it likes
        detected, texts, kinds, corners = detector.detectAndDecodeWithType(cv2.GaussianBlur(gray, (0, 0), 0.8))
    if not detected:
        return []
    found = zip(texts, kinds, corners, strict=True)
    return [(kind.lower().replace("_", "-"), text, np.asarray(at, np.float64)) for text, kind, at in found if text]
