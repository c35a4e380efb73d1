"""The one quality scale of ``format:auto``: which quality of WebP and of AVIF equals each quality of JPEG.

For every photograph (shrunk to at most 0.5 megapixels, so that noise of the camera is averaged out): SSIM of Y, Cb and
Cr, weighted 6:1:1, over a grid of qualities of each encoder with the options that ``format:auto`` uses; the quality of
WebP and AVIF that reaches JPEG's SSIM, interpolated; the median over all photographs is printed, with quartiles, and
the bytes beside JPEG's at that quality. Source of SSIM: Wang et al. 2004, Gaussian window of sigma 1.5.

``PIXELMILL_TEST_ASSETS=/path/to/assets python bench/auto_quality.py``
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill import Pipeline
from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.image import Image

JPEG = (30, 40, 50, 60, 70, 75, 80, 85, 90, 95, 98)
GRID = {
    "webp": (5, 15, 25, 35, 45, 55, 65, 72, 78, 84, 89, 93, 96, 98, 100),
    "avif": (15, 25, 35, 43, 50, 56, 62, 67, 72, 77, 82, 87, 92, 96, 100),
}


def ssim(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Mean structural similarity of two RGB pictures, channels of YCbCr weighted 6:1:1."""
    x, y = (cv2.cvtColor(p, cv2.COLOR_RGB2YCrCb).astype(np.float32) for p in (a, b))

    def blur(p: NDArray[Any]) -> NDArray[Any]:
        done: NDArray[Any] = cv2.GaussianBlur(p, (11, 11), 1.5)
        return done

    mx, my = blur(x), blur(y)
    vx, vy, cxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = ((2 * mx * my + c1) * (2 * cxy + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(np.average(found.mean(axis=(0, 1)), weights=(6, 1, 1)))


def curve(image: Image, fmt: str, qualities: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """SSIM and bytes at each quality."""
    bodies = [encode(image, fmt, {"quality": quality}) for quality in qualities]
    return np.array([ssim(image.pixels, decode(body).pixels[..., :3]) for body in bodies]), np.array(
        [len(body) for body in bodies]
    )


def main(folder: Path) -> None:
    """Print the table."""
    shrink = Pipeline.parse("resize:800,640/format:png")
    rows: dict[str, list[NDArray[Any]]] = {name: [] for name in GRID}
    sizes: dict[str, list[np.ndarray]] = {name: [] for name in GRID}
    for path in sorted(folder.glob("*.jpg")):
        image = decode(shrink.run(path).bytes or b"")
        if image.channels != 3:
            continue
        want, jpeg_bytes = curve(image, "jpeg", JPEG)
        for name, grid in GRID.items():
            have, lengths = curve(image, name, grid)
            order = np.maximum.accumulate(have)
            quality = np.interp(want, order, grid, left=np.nan, right=100)
            rows[name].append(quality)
            sizes[name].append(np.interp(quality, grid, lengths) / jpeg_bytes)
        print(path.name, file=sys.stderr)
    for name in GRID:
        table, share = np.array(rows[name]), np.array(sizes[name])
        for at, quality in enumerate(JPEG):
            low, mid, high = np.nanpercentile(table[:, at], (25, 50, 75))
            part = np.nanmedian(share[:, at])
            print(f"jpeg {quality:3}  {name} {mid:5.1f} ({low:5.1f} to {high:5.1f})  bytes x{part:.2f}")


if __name__ == "__main__":
    main(Path(os.environ["PIXELMILL_TEST_ASSETS"]) / "photos")
