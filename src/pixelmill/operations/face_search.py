"""Finds faces that look into the camera, for every operation that wants to know where they are.

OpenCV's Haar cascade (Viola and Jones 2001; Lienhart 2003). An image in, boxes out: left, top, width and height in its
pixels.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from cv2.data import haarcascades

from pixelmill.images.image import Image, Size
from pixelmill.operations.matching import shrunk
from pixelmill.operations.pixels import gray8_of

Box: TypeAlias = tuple[int, int, int, int]

MIN_SIZE = 0.05
"""Smallest face by default, of the image's shorter side."""
_FACE_PIXELS = 32
"""Side of the smallest face in what is searched: the cascade's window has 20, and some detail must be left."""
_CASCADE = "haarcascade_frontalface_alt2.xml"
"""Of OpenCV's frontal cascades, the one with the fewest false alarms on photographs."""
_here = threading.local()  # a cascade must not be used by two threads at once


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
