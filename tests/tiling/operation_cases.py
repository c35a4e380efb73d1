"""Operations that run over tiles, with parameters to try; those that don't, and why; pictures to try them on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelmill.images.image import Image

Arguments = st.SearchStrategy[dict[str, Any]]


def choose(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def given(**fields: st.SearchStrategy[Any]) -> Arguments:
    return st.fixed_dictionaries(fields)


def part(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


def whole(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


def mark() -> Image:
    pixels = np.random.default_rng(3).integers(0, 256, (30, 44, 4), np.uint8)
    return Image(pixels)


YES = st.booleans()
COLOR = choose("000000", "ff8000", "80808080")
MAYBE = choose(None, "ff8000", "80808080")
DIRECTION = choose("both", "x", "y")
FOREGROUND = choose("auto", "bright", "dark")
MORPHOLOGY = given(radius=whole(1, 5), shape=choose("rect", "cross", "ellipse"), iterations=whole(1, 3))
CORNERS = {"x1": 3.5, "y1": 2, "x2": 60, "y2": 5, "x3": 55, "y3": 38, "x4": 1, "y4": 41.25}

CASES: Mapping[str, Arguments] = {
    "resize": given(
        width=whole(1, 220),
        height=whole(1, 220),
        fit=choose("contain", "cover", "fill"),
        enlarge=YES,
        interpolation=choose("lanczos", "lanczos", "nearest"),
    ),
    "crop": given(x=whole(0, 30), y=whole(0, 30), width=whole(1, 60), height=whole(1, 60)),
    "rotate": given(angle=choose(0, 90, 180, 270, -90, 12.5, 201.3), expand=YES, background=MAYBE),
    "flip": given(direction=choose("horizontal", "vertical", "both")),
    "pad": given(left=whole(0, 40), top=whole(0, 40), right=whole(0, 40), bottom=whole(1, 40), background=MAYBE),
    "trim": given(tolerance=choose(0.0, 0.04, 0.5), color=choose(None, "ffffff")),
    "perspective": st.just({**CORNERS, "width": 90, "height": 70}),
    "grayscale": given(),
    "brightness": given(amount=part(-1, 1)),
    "contrast": given(factor=part(0, 5)),
    "gamma": given(gamma=part(0.05, 20)),
    "invert": given(),
    "saturation": given(factor=part(0, 5)),
    "hue": given(angle=part(-360, 360)),
    "sepia": given(amount=part(0, 1)),
    "tint": given(color=COLOR, amount=part(0, 1)),
    "autocontrast": given(cutoff=part(0, 49), per_channel=YES),
    "equalize": given(),
    "clahe": given(clip=choose(0.0, 1.0, 2.0, 40.0), tiles=choose(1, 2, 5)),
    "white_balance": given(method=choose("gray-world", "white-patch"), amount=part(0, 1)),
    "posterize": given(levels=whole(2, 256)),
    "threshold": given(
        method=choose("fixed", "otsu", "adaptive"),
        value=part(0, 1),
        radius=whole(1, 20),
        offset=part(-0.1, 0.1),
        invert=YES,
    ),
    "colormap": given(map=choose("viridis", "jet")),
    "gaussian": given(sigma=part(0.1, 5)),
    "sharpen": given(amount=part(0, 4)),
    "box": given(radius=whole(1, 30)),
    "median": given(radius=whole(1, 3)),
    "bilateral": given(sigma_color=part(0.01, 0.5), sigma_space=part(0.5, 3)),
    "unsharp": given(sigma=part(0.1, 4), amount=part(0, 3), threshold=choose(0.0, 0.05)),
    "emboss": given(strength=part(0, 3), light=choose("left", "top-right")),
    "denoise": given(strength=part(1, 20), patch=whole(1, 2), search=whole(1, 3)),
    "convolve": given(kernel=choose(9, 25, 49, 81).map(lambda n: [round(np.sin(7 * i), 3) for i in range(n)])),
    "canny": st.tuples(part(0, 300), choose(0.0, 1.0, 40.0, 300.0), choose((3, 1), (5, 8), (7, 64)), YES).map(
        lambda drawn: {
            "low": drawn[0] * drawn[2][1],
            "high": (drawn[0] + drawn[1]) * drawn[2][1],
            "aperture": drawn[2][0],
            "l2": drawn[3],
        }
    ),
    "sobel": given(direction=DIRECTION, aperture=choose(3, 5, 7), scale=choose(0.25, 1.0)),
    "scharr": given(direction=DIRECTION),
    "laplacian": given(aperture=choose(1, 3, 5, 7)),
    **dict.fromkeys(("erode", "dilate", "opening", "closing", "morph_gradient"), MORPHOLOGY),
    "sketch": given(denoise=choose("none", "none", "fast", "full")),
    "cartoon": given(passes=whole(0, 2), lines=whole(0, 6)),
    "pixelate": given(block=whole(1, 60)),
    "vignette": given(strength=part(0, 1), radius=part(0, 0.9)),
    "watermark": given(
        image=st.just(mark()),
        tile=YES,
        blend=choose("normal", "overlay"),
        position=choose("center", "top-left"),
        scale=part(0.1, 1),
    ),
    "text": given(
        text=st.just("Hello there"),
        font_size=whole(5, 50),
        color=COLOR,
        outline=MAYBE,
        position=choose("center", "top-left"),
    ),
    "border": given(thickness=whole(1, 60), color=COLOR, inside=YES),
    "round_corners": given(radius=whole(1, 120), background=choose(None, "ff8000")),
    "watershed": given(
        mode=choose("overlay", "labels", "count"), foreground=FOREGROUND, opening=whole(0, 3), core=part(0.1, 0.9)
    ),
    "components": given(
        mode=choose("overlay", "labels", "data"),
        foreground=FOREGROUND,
        min_area=choose(1, 1, 5, 50),
        connectivity=choose(4, 8),
    ),
    "info": given(),
    "histogram": given(bins=whole(2, 256)),
    "colors": given(k=whole(1, 5)),
    "sharpness": given(),
}
"""By name."""

UNTILED: Mapping[str, str] = {
    "smart_crop": "attention is found in a picture of the whole",
    "quantize": "a palette from the whole, and an error that runs through it",
    "grabcut": "a minimum cut through all pixels",
    "remove_background": "a model sees the whole",
    "faces": "found in a reduced picture of the whole",
    "features": "the strongest of a reduced picture of the whole",
    "match": "keypoints of two whole images",
    "codes": "OpenCV's detectors see the whole",
    "classify": "a model sees the whole",
    "auto_tag": "a model sees the whole",
    "caption": "a model sees the whole",
    "phash": "a reduced picture of the whole",
    "blurhash": "a reduced picture of the whole",
}
"""By name, and why."""


@st.composite
def pictures(draw: st.DrawFn, side: int = 190) -> NDArray[Any]:
    """Noise, clouds, discs and steps, of any depth, with or without transparency."""
    width, height, channels = draw(whole(1, side)), draw(whole(1, side)), draw(choose(1, 1, 3, 3, 4))
    rng = np.random.default_rng(draw(whole(0, 2**32 - 1)))
    shape = (height, width) if channels == 1 else (height, width, channels)
    kind = draw(choose("noise", "clouds", "discs", "steps"))
    samples = rng.random(shape)
    if kind == "clouds":
        samples = np.asarray(cv2.GaussianBlur(samples, (0, 0), float(rng.uniform(0.6, 5)))).reshape(shape)
        samples = (samples - samples.min()) / max(1e-9, float(np.ptp(samples)))
    elif kind == "discs":
        samples = np.full(shape, rng.random())
        for _ in range(int(rng.integers(1, 30))):
            center = (int(rng.integers(0, width)), int(rng.integers(0, height)))
            cv2.circle(samples, center, int(rng.integers(1, 25)), rng.random(4).tolist(), -1)
    elif kind == "steps":
        samples = np.round(samples * 3) / 3
    if channels == 4:
        cover = draw(choose("opaque", "part", "own"))
        if cover != "own":
            samples[..., 3] = 1.0
        if cover == "part":
            samples[height // 2 :, width // 2 :, 3] = rng.random()
    dtype = draw(choose(np.uint8, np.uint8, np.uint16, np.float32))
    if dtype is np.float32:
        return samples.astype(np.float32)
    return np.rint(np.clip(samples, 0, 1) * np.iinfo(dtype).max).astype(dtype)
