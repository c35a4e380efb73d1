"""The halo of a local operation is wide enough: a tile with it gives the pixels of the whole image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelmill.images.decode import decode
from pixelmill.images.image import Image
from pixelmill.operations.table import operation_named

LOCAL: list[tuple[str, dict[str, Any]]] = [
    ("box", {"radius": 3}),
    ("box", {"radius": 20}),
    ("median", {"radius": 1}),
    ("median", {"radius": 6}),
    ("bilateral", {"sigma_space": 2.0}),
    ("unsharp", {"sigma": 2.0}),
    ("emboss", {}),
    ("convolve", {"kernel": [0.1, -0.2, 0.3] * 27}),
    ("denoise", {"strength": 5.0, "search": 5}),
    ("threshold", {"method": "adaptive", "radius": 9}),
    ("sobel", {}),
    ("sobel", {"aperture": 7}),
    ("scharr", {}),
    ("laplacian", {}),
    ("laplacian", {"aperture": 7}),
    *[
        (name, {"radius": 3, "iterations": 2, "shape": shape})
        for name in ("erode", "dilate", "opening", "closing", "morph_gradient")
        for shape in ("rect", "ellipse")
    ],
]


@pytest.fixture(scope="module")
def rgb(photo: bytes) -> NDArray[Any]:
    whole: NDArray[Any] = decode(photo).pixels
    return np.ascontiguousarray(whole[40:241, 200:401])


@pytest.mark.parametrize(("name", "arguments"), LOCAL, ids=str)
def test_the_halo_makes_a_tile_exact(name: str, arguments: dict[str, Any], rgb: NDArray[Any]) -> None:
    subject = operation_named(name)(**arguments)
    halo = subject.facts().halo
    whole = subject.apply(Image(rgb)).image.pixels
    top, left, side = 60, 64, 50
    cut = rgb[top - halo : top + side + halo, left - halo : left + side + halo]
    tile = subject.apply(Image(np.ascontiguousarray(cut))).image.pixels[halo : halo + side, halo : halo + side]
    assert np.array_equal(tile, whole[top : top + side, left : left + side])
