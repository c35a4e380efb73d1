"""Keypoints of one image and of a pair: finding, comparing, and the homography between. Arrays in, values out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Image
from pixelmill.operations.pixels import gray8_of

Method: TypeAlias = Literal["orb", "sift", "akaze"]

LOOK_SIDE = 2_048
"""Larger images are looked at in this size; coordinates are always those of the image."""
_AS_GOOD = 0.75
"""Part of the homography's close inliers that a simpler motion must explain to be preferred."""
_LEAST_SIDE = 32
"""The patch that ORB describes; smaller images have no keypoints."""


@dataclass(frozen=True, slots=True)
class Keypoints:
    """The strongest first. ``points``: ``N×2`` x and y, ``sizes``: diameters, in pixels; ``angles`` in degrees."""

    points: NDArray[np.float64]
    sizes: NDArray[np.float64]
    angles: NDArray[np.float64]
    responses: NDArray[np.float64]
    descriptors: NDArray[Any] | None

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, slots=True)
class Match:
    """``first[i]`` and ``second[i]`` belong together (``N×2``); ``inlier[i]``: the homography says so too."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    inlier: NDArray[np.bool_]
    homography: NDArray[np.float64] | None


def find_keypoints(image: Image, method: Method, count: int) -> Keypoints:
    """At most ``count`` keypoints of luma at 8 bits, in pixels of ``image`` (the center of the first is 0, 0)."""
    gray, scale = shrunk(gray8_of(image.pixels), LOOK_SIDE)
    if min(gray.shape) < _LEAST_SIDE:
        nothing = np.zeros(0)
        return Keypoints(np.zeros((0, 2)), nothing, nothing, nothing, None)
    found, descriptors = _detector(method, count).detectAndCompute(gray, None)
    order = sorted(range(len(found)), key=lambda i: (-found[i].response, found[i].pt))[:count]
    kept = [found[index] for index in order]
    points = np.array([item.pt for item in kept], np.float64).reshape(-1, 2)
    return Keypoints(
        points=(points + 0.5) / scale - 0.5,
        sizes=np.array([item.size for item in kept]) / scale.mean(),
        angles=np.array([item.angle for item in kept]),
        responses=np.array([item.response for item in kept]),
        descriptors=None if descriptors is None else descriptors[order],
    )


def shrunk(gray: NDArray[np.uint8], side: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Luma of at most ``side`` pixels a side, and its scale in x and y (1 where it is unchanged)."""
    height, width = gray.shape
    ratio = side / max(width, height)
    if ratio >= 1:
        return gray, np.ones(2)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.array([size[0] / width, size[1] / height])


def match_keypoints(first: Keypoints, second: Keypoints, *, ratio: float, threshold: float) -> Match:
    """Nearest descriptors by Lowe's ratio test (2004), and the homography from ``first`` to ``second`` by RANSAC.

    ``ratio``: the nearest must be nearer than this part of the second nearest. ``threshold``: pixels of ``second`` that
    an inlier may be off. Where turning, scaling and moving explain the inliers about as well, that is the homography:
    it holds far from them too, where eight numbers from few points run wild (35 points on a watch's face: 1 pixel off
    at the corners of the picture, not 47).
    """
    pairs = _pairs(first.descriptors, second.descriptors, ratio)
    a = first.points[[pair[0] for pair in pairs]] if pairs else np.zeros((0, 2))
    b = second.points[[pair[1] for pair in pairs]] if pairs else np.zeros((0, 2))
    nobody = np.zeros(len(pairs), np.bool_)
    if len(pairs) < 4:
        return Match(a, b, nobody, None)
    homography, mask = cv2.findHomography(a, b, cv2.RANSAC, threshold, maxIters=5_000, confidence=0.999)
    if homography is None or not np.isfinite(homography).all():
        return Match(a, b, nobody, None)
    similarity, _ = cv2.estimateAffinePartial2D(
        a, b, method=cv2.RANSAC, ransacReprojThreshold=threshold / 2, maxIters=5_000, confidence=0.999
    )
    if similarity is not None:
        simple = np.vstack((similarity, (0.0, 0.0, 1.0)))
        near = _errors(simple, a, b) < threshold / 2
        if near.sum() >= _AS_GOOD * np.count_nonzero(_errors(homography, a, b) < threshold / 2):
            return Match(a, b, _errors(simple, a, b) < threshold, simple)
    return Match(a, b, mask.ravel() != 0, homography)


def _errors(homography: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[Any]:
    """How far ``second`` lies from where the homography takes ``first``, in pixels."""
    moved = cv2.perspectiveTransform(first[:, np.newaxis], homography)[:, 0]
    distances: NDArray[Any] = np.linalg.norm(moved - second, axis=1)
    return distances


def _detector(method: Method, count: int) -> Any:
    if method == "sift":
        return cv2.SIFT.create(nfeatures=count, enable_precise_upscale=True)
    return cv2.ORB.create(nfeatures=count) if method == "orb" else cv2.AKAZE.create()


def _pairs(first: NDArray[Any] | None, second: NDArray[Any] | None, ratio: float) -> list[tuple[int, int]]:
    if first is None or second is None or len(first) == 0 or len(second) < 2:
        return []
    norm = cv2.NORM_L2 if first.dtype == np.float32 else cv2.NORM_HAMMING
    nearest = cv2.BFMatcher(norm).knnMatch(first, second, k=2)
    best: dict[int, Any] = {}  # one for each of the second: repeated patterns would all go to the same point
    for m, n in nearest:
        if m.distance < ratio * n.distance and (m.trainIdx not in best or m.distance < best[m.trainIdx].distance):
            best[m.trainIdx] = m
    return sorted((m.queryIdx, m.trainIdx) for m in best.values())
