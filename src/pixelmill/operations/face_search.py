"""Finds faces, for every operation that wants to know where they are.

By YuNet (Wu, Peng and Yu 2023) where its weights are, or by OpenCV's Haar cascade (Viola and Jones 2001; Lienhart
2003), which needs none and finds faces that look into the camera. An image in, boxes out: left, top, width and height
in its pixels.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from cv2.data import haarcascades

from pixelmill.errors import NotApplicable
from pixelmill.images.image import Image, Size
from pixelmill.models.model import Model, Wanted
from pixelmill.operations.drawing import rgb8_of
from pixelmill.operations.matching import shrunk
from pixelmill.operations.pixels import gray8_of

Box: TypeAlias = tuple[int, int, int, int]

MIN_SIZE = 0.05
"""Smallest face by default, of the image's shorter side."""
_FACE_PIXELS = 32
"""Side of the smallest face in what is searched: the cascade's window has 20, and some detail must be left."""
_CASCADE = "haarcascade_frontalface_alt2.xml"
"""Of OpenCV's frontal cascades, the one with the fewest false alarms on photographs."""
MIN_SCORE = 0.7
"""How sure YuNet must be by default."""
_MODEL_FACE_PIXELS = 16
"""The same for YuNet, which sees faces of 10 pixels and more."""
HAAR = "haar"
AUTO = "auto"
LANDMARKS = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")
"""Of the person, in the order in which YuNet tells them."""
_here = threading.local()  # a cascade must not be used by two threads at once


@dataclass(frozen=True, slots=True)
class Face:
    """A face: its box; and, as far as the detector knows them, five points and how sure it is, from 0 to 1."""

    box: Box
    landmarks: tuple[tuple[float, float], ...] = ()
    score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As data tell it."""
        told: dict[str, Any] = {"box": list(self.box)}
        if self.score is not None:
            told["score"] = round(self.score, 3)
        if self.landmarks:
            told["landmarks"] = {
                name: [round(x, 1), round(y, 1)] for name, (x, y) in zip(LANDMARKS, self.landmarks, strict=True)
            }
        return told


def wanted_detector(detector: str | Model) -> tuple[Wanted, ...]:
    """The model that a detector's name asks for: none for ``haar``; ``auto`` does without where YuNet is not here."""
    if isinstance(detector, Model) or detector == HAAR:
        return ()
    return (Wanted("yunet", "faces", optional=True),) if detector == AUTO else (Wanted(detector, "faces"),)


def loaded_detector(detector: str | Model, models: Mapping[str, Model | str | None]) -> str | Model:
    """The detector with the model in place of its name; ``haar`` where an optional one is not here."""
    if not isinstance(detector, str):
        return detector
    for wanted in wanted_detector(detector):
        if wanted.name in models:
            return models[wanted.name] or HAAR
    return detector


def detector_name(detector: str | Model) -> str:
    """As data tell it."""
    if isinstance(detector, str):
        return HAAR if detector == AUTO else detector
    return detector.nature.family


def faces_by(
    detector: str | Model,
    image: Image,
    *,
    score: float = MIN_SCORE,
    scale: float = 1.1,
    neighbors: int = 5,
    min_size: float = MIN_SIZE,
) -> list[Face]:
    """The faces, the largest first. ``auto`` that was never given a model is the cascade."""
    if not isinstance(detector, str):
        return _by_model(detector, image, score, min_size)
    if detector not in (AUTO, HAAR):
        raise NotApplicable(f"faces: the model {detector} was not loaded.", operation="faces")
    return [Face(box) for box in find_faces(image, scale=scale, neighbors=neighbors, min_size=min_size)]


def _by_model(model: Model, image: Image, score: float, min_size: float) -> list[Face]:
    """Searched in color, reduced so far that the smallest face has 16 pixels a side; smaller ones are left out."""
    least = max(1.0, min_size * min(image.size))
    ratio = min(1.0, _MODEL_FACE_PIXELS / least)
    rgb = rgb8_of(image)
    size = (max(1, round(image.size.width * ratio)), max(1, round(image.size.height * ratio)))
    if ratio < 1:
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    rows = model.run(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[0]
    back = np.array(image.size) / (rgb.shape[1], rgb.shape[0])
    faces = []
    for row in rows:
        numbers = row[:14].reshape(7, 2) * back
        if row[14] < score or min(numbers[1]) < 0.8 * least or not np.isfinite(numbers).all():
            continue
        points = tuple((float(x), float(y)) for x, y in numbers[2:])
        faces.append(Face(box_on(image.size, *(float(value) for value in numbers[:2].ravel())), points, float(row[14])))
    return sorted(faces, key=lambda face: (-face.box[2] * face.box[3], face.box))


def find_faces(image: Image, *, scale: float = 1.1, neighbors: int = 5, min_size: float = MIN_SIZE) -> list[Box]:
    """The boxes of faces, the largest first.

    ``scale``: factor between the sizes that are searched; ``neighbors``: hits that must agree; ``min_size``: smallest
    face, of the image's shorter side. Searched in equalized luma, reduced so far that this one has 32 pixels a side.
    """
    ratio = _FACE_PIXELS / max(1.0, min_size * min(image.size))
    gray, shrink = shrunk(gray8_of(image.pixels), max(1, round(max(image.size) * ratio)))
    least = max(1, round(min_size * min(gray.shape)))
    hits = _cascade().detectMultiScale(
        cv2.equalizeHist(gray), scaleFactor=scale, minNeighbors=neighbors, minSize=(least, least)
    )
    boxes = [box_on(image.size, *(np.array(hit).reshape(2, 2) / shrink).ravel()) for hit in hits]
    return sorted(boxes, key=lambda box: (-box[2] * box[3], box))


def box_on(size: Size, x: float, y: float, width: float, height: float) -> Box:
    """Whole pixels of a box, cut off at the edges of an image; never empty."""
    left, top = min(max(0, round(x)), size.width - 1), min(max(0, round(y)), size.height - 1)
    right, bottom = min(size.width, round(x + width)), min(size.height, round(y + height))
    return left, top, max(1, right - left), max(1, bottom - top)


def _cascade() -> Any:
    """The cascade of this thread."""
    if not hasattr(_here, "cascade"):
        _here.cascade = cv2.CascadeClassifier(str(Path(haarcascades) / _CASCADE))
    return _here.cascade
