"""Palettes: how close pictures of few colors come, what that costs, and what is left of a small red dot.

    python bench/palettes.py --images DIR

PSNR without dither, and dithered after a Gaussian of 2 pixels on both; CPU time of one undithered picture a sample.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image as Pil

import common
from pixelmill.images.decode import decode
from pixelmill.images.palettes import quantized

METHODS = ("MEDIANCUT", "MAXCOVERAGE", "FASTOCTREE", "now")


def few(rgb: Any, method: str, count: int, *, dither: bool) -> Any:
    """The picture in at most ``count`` colors."""
    if method == "now":
        return np.asarray(quantized(rgb, count, dither=dither).convert("RGB"))
    picture = Pil.fromarray(rgb)
    done = picture.quantize(count, Pil.Quantize[method], dither=Pil.Dither.NONE)
    return np.asarray((picture.quantize(palette=done) if dither else done).convert("RGB"))


def psnr(left: Any, right: Any) -> float:
    """Decibels; 99 for equal pictures."""
    error = np.mean((left.astype(float) - right.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else 99.0


def dot_error(method: str, count: int) -> int:
    """How far the worst channel of a red dot of 16 pixels on a gray ramp is off."""
    picture = np.tile(np.linspace(60, 200, 600).astype(np.uint8)[np.newaxis, :, np.newaxis], (400, 1, 3))
    cv2.circle(picture, (450, 300), 8, (255, 0, 0), -1)
    seen = few(picture, method, count, dither=False)[295:305, 445:455].reshape(-1, 3).mean(axis=0)
    return round(float(np.abs(seen - (255, 0, 0)).max()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="a folder of photographs (JPEG); each second one at half size")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    files = sorted(Path(args.images).glob("*.jpg"))[::2]
    whole: list[Any] = [decode(path.read_bytes()).pixels for path in files]
    pictures = [cv2.resize(one, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for one in whole if one.ndim == 3]
    rows = []
    for count in (16, 64, 256):
        for method in METHODS:
            plain, soft, spent = [], [], 0.0
            for rgb in pictures:
                start = time.process_time()
                done = few(rgb, method, count, dither=False)
                spent += time.process_time() - start
                plain.append(psnr(rgb, done))
                mixed = few(rgb, method, count, dither=True)
                soft.append(psnr(cv2.GaussianBlur(rgb, (0, 0), 2), cv2.GaussianBlur(mixed, (0, 0), 2)))
            cost = spent / sum(rgb.size for rgb in pictures) * 1e9
            means = (f"{np.mean(values):.1f} ({min(values):.1f})" for values in (plain, soft))
            rows.append((count, method, *means, f"{cost:.0f}", dot_error(method, count)))
    print(common.machine("opencv-python-headless", "pillow"), "\n")
    print(common.table(("colors", "method", "dB (worst)", "dithered dB (worst)", "ns a sample", "dot off by"), rows))


if __name__ == "__main__":
    main()
