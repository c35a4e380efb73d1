"""Resampling alone: quality and CPU time of `interpolation=auto` against OpenCV's modes and Pillow, over reductions.

    python bench/resample.py [--images DIR] [--rounds N]

Gray `uint8`. Quality: PSNR against antialiased Lanczos-3 in float (Pillow on a float plane), mean and worst of the
photographs, in dB. Time: CPU microseconds for all of them, a photograph.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

import common
from pixelmill.images.image import Size
from pixelmill.operations.resample import resample

RATIOS = (1.3, 1.6, 2.0, 2.4, 2.7, 3.0, 4.0, 6.0, 8.0, 16.0)
Sampler = Callable[[NDArray[Any], Size], NDArray[Any]]


def ours(pixels: NDArray[Any], size: Size) -> NDArray[Any]:
    """`interpolation=auto`."""
    return resample(pixels, size, "auto")


def opencv(code: int, pixels: NDArray[Any], size: Size) -> NDArray[Any]:
    """A mode of `cv2.resize`."""
    return np.asarray(cv2.resize(pixels, size, interpolation=code))


def pillow(filter_: Pillow.Resampling, pixels: NDArray[Any], size: Size) -> NDArray[Any]:
    """Pillow's resize, conversion included."""
    return np.asarray(Pillow.fromarray(pixels).resize(size, filter_))


SAMPLERS: dict[str, Sampler] = {
    "auto": ours,
    "cv2 INTER_AREA": partial(opencv, cv2.INTER_AREA),
    "cv2 INTER_CUBIC": partial(opencv, cv2.INTER_CUBIC),
    "Pillow BICUBIC": partial(pillow, Pillow.Resampling.BICUBIC),
    "Pillow LANCZOS": partial(pillow, Pillow.Resampling.LANCZOS),
}


def psnr(result: NDArray[Any], truth: NDArray[Any]) -> float:
    """In dB."""
    return float(10 * np.log10(255**2 / np.mean((result.astype(np.float64) - truth) ** 2)))


def row(ratio: float, photographs: Sequence[NDArray[Any]], rounds: int) -> list[str]:
    """One line of the table: each sampler's quality and time at a reduction."""
    sizes = [Size(round(pixels.shape[1] / ratio), round(pixels.shape[0] / ratio)) for pixels in photographs]
    pairs = list(zip(photographs, sizes, strict=True))
    truths = [np.clip(pillow(Pillow.Resampling.LANCZOS, p.astype(np.float32), s), 0, 255) for p, s in pairs]
    cells = [f"{ratio:g}"]
    for sampler in SAMPLERS.values():
        quality = [psnr(sampler(*pair), truth) for pair, truth in zip(pairs, truths, strict=True)]
        times = []
        for _ in range(rounds):
            start = time.process_time()
            for pair in pairs:
                sampler(*pair)
            times.append((time.process_time() - start) / len(pairs) * 1e6)
        cells.append(f"{np.mean(quality):.1f} ({min(quality):.1f}), {common.median(times):.0f}")
    return cells


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="folder of JPEG photographs of 1200x800, 1500x997, 2040x1536")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    images = common.photographs(args.images)
    photographs = [np.array(Pillow.open(io.BytesIO(data)).convert("L"), np.uint8) for data in images]
    print(common.machine("opencv-python-headless", "pillow"), f"{len(images)} photographs\n")
    header = ("reduction", *(f"{name}: dB (worst), µs" for name in SAMPLERS))
    print(common.table(header, [row(ratio, photographs, args.rounds) for ratio in RATIOS]))


if __name__ == "__main__":
    main()
