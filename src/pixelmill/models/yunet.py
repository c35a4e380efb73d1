"""YuNet (Wu, Peng and Yu 2023) through OpenCV's own detector, which takes pictures of any size and needs no extra.

The published graphs have a fixed size, and ONNX Runtime would have to run them over tiles; OpenCV runs the same file
over a whole picture: 0.5 CPU seconds for 2,000×1,333 pixels.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pixelmill.errors import ModelRefused
from pixelmill.models.model import NO_OPTIONS, Array, Nature, Options
from pixelmill.models.onnx import refuse_pickle

LEAST_SCORE = 0.3
"""Faces below are not told."""
_OVERLAP = 0.3
_MOST = 5_000
_TRIAL_SIDE = 64


class YunetModel:
    """A :class:`Model`: ``H×W×3`` bytes in BGR in; a row a face out.

    A row is left, top, width and height, x and y of right eye, left eye, nose, right and left corner of the mouth (of
    the person), and the score from 0 to 1.
    """

    def __init__(self, path: Path, name: str) -> None:
        """Load, and try; raises :class:`ModelRefused`."""
        refuse_pickle(path, name)
        self._path, self._name = path, name
        self._nature = Nature(name, "faces", "yunet", (0, 0, 3), "uint8")
        self._here = threading.local()  # a detector must not be used by two threads at once
        self.run(np.zeros((_TRIAL_SIDE, _TRIAL_SIDE, 3), np.uint8))

    @property
    def nature(self) -> Nature:
        """What it is; sides of 0 are free."""
        return self._nature

    def run(self, item: Array, options: Options = NO_OPTIONS) -> tuple[Array, ...]:
        """Faces, the surest first. There are no options."""
        del options
        try:
            detector = self._detector()
            detector.setInputSize((item.shape[1], item.shape[0]))
            _, found = detector.detect(np.ascontiguousarray(item))
        except cv2.error as error:
            if error.code == cv2.Error.StsNoMem:
                raise MemoryError from error
            raise ModelRefused(
                f"The weights of {self._name} ({self._path.name}) are no face detector of the family yunet, or "
                f"damaged: {(error.err or str(error)).strip()[:200]}. `pixelmill models pull yunet --force` fetches "
                "good ones.",
                model=self._name,
            ) from error
        faces = np.zeros((0, 15), np.float32) if found is None else np.asarray(found, np.float32)
        return (faces[np.argsort(-faces[:, 14], kind="stable")],)

    def _detector(self) -> Any:
        if not hasattr(self._here, "detector"):
            self._here.detector = cv2.FaceDetectorYN.create(
                str(self._path), "", (_TRIAL_SIDE, _TRIAL_SIDE), LEAST_SCORE, _OVERLAP, _MOST
            )
        return self._here.detector
