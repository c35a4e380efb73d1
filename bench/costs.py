"""What decoding, each operation and encoding cost: CPU nanoseconds a pixel and channel, and what the planner estimates.

    python bench/costs.py [--photo FILE] [--rounds N]

The constants in `Operation.facts()` and `pipelines/costs.py` come from this table; they only serve estimates. Single
thread, `uint8` RGB; a photograph, since entropy coding and edges depend on what is in the picture.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

import common
from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.image import Image, Need, Size
from pixelmill.images.probe import probe
from pixelmill.pipelines.plan import plan
from pixelmill.pipelines.spec import Pipeline

OPERATIONS = (
    "grayscale", "brightness:0.1", "contrast:1.2", "gamma:1.8", "invert",
    "gaussian:0.5", "gaussian:2", "gaussian:10", "gaussian:50", "sharpen",
    "canny", "canny:aperture=7", "sketch:denoise=none", "sketch:denoise=fast", "sketch",
    "crop:10,10,800,600", "flip:horizontal", "rotate:90", "rotate:180", "rotate:12.5",
    "resize:256,256,fit=fill", "resize:700", "resize:1024", "resize:2000,enlarge=true", "resize:256,interpolation=area",
    "watermark:mark",
)  # fmt: skip
PIPELINES = (
    "grayscale/resize:256,256,fit=fill/format:jpeg", "resize:512,512/format:jpeg", "resize:512/format:webp",
    "gaussian:3/format:png", "canny/format:png", "gamma:2/invert/format:jpeg", "rotate:10/format:webp",
    "sketch:denoise=fast/format:jpeg", "resize:256/sketch/format:jpeg",
)  # fmt: skip


def seconds(work: Callable[[], object], rounds: int) -> float:
    """CPU seconds of one call: the median of some rounds, each long enough for the clock."""
    work()
    start = time.process_time()
    work()
    repeats = max(1, min(50, int(0.02 / max(time.process_time() - start, 1e-6))))
    times = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(repeats):
            work()
        times.append((time.process_time() - start) / repeats)
    return common.median(times)


def operations(image: Image, rounds: int) -> str:
    """The table of operations."""
    mark = Image(np.full((60, 120, 4), 128, np.uint8))
    samples = image.size.pixels * image.channels
    rows = []
    for text in OPERATIONS:
        operation = Pipeline.parse(text).operations[0].with_images({"mark": mark})
        cost = seconds(partial(operation.apply, image), rounds) / samples * 1e9
        rows.append((text, f"{cost:.2f}", f"{operation.facts().ns_per_pixel:.2f}"))
    return common.table(("operation", "ns a sample, measured", "in facts()"), rows)


def codecs(image: Image, rounds: int) -> str:
    """The table of formats, per pixel of RGB; JPEG also reduced and as luma, per pixel of the file."""
    rows = []
    pixels = image.size.pixels
    for name in ("jpeg", "png", "webp"):
        body = encode(image, name)
        cost = seconds(partial(encode, image, name), rounds)
        rows.append((f"encode {name}", f"{cost / pixels * 1e9:.1f}"))
        needs = {"": Need()}
        if name == "jpeg":
            for eighths in (4, 2, 1):
                least = Size(image.size.width * eighths // 8, image.size.height * eighths // 8)
                needs[f" {eighths}/8"] = Need(least=least)
                needs[f" {eighths}/8 luma"] = Need(color=False, least=least)
            needs[" luma"] = Need(color=False)
        for what, need in needs.items():
            cost = seconds(partial(decode, body, need), rounds)
            rows.append((f"decode {name}{what}", f"{cost / pixels * 1e9:.1f}"))
    return common.table(("codec", "ns a pixel of the full picture"), rows)


def estimates(image: Image, rounds: int) -> str:
    """The table of whole pipelines: estimated beside measured."""
    rows = []
    for name in ("jpeg", "png"):
        body = encode(image, name)
        for text in PIPELINES:
            pipeline = Pipeline.parse(text)
            guess = plan(pipeline, probe(body)).seconds
            cost = seconds(partial(pipeline.run, body), rounds)
            rows.append((f"{name} → {text}", f"{cost * 1e3:.1f}", f"{guess * 1e3:.1f}", f"{guess / cost:.2f}"))
    return common.table(("pipeline", "ms, measured", "ms, estimated", "ratio"), rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", help="a photograph; else one of scikit-image's, enlarged to 1500x997")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    image = decode(Path(args.photo).read_bytes() if args.photo else common.photographs(None)[1])
    print(common.machine("opencv-python-headless", "simplejpeg", "pillow"), f"{image.size.width}×{image.size.height}\n")
    print(operations(image, args.rounds), "\n")
    print(codecs(image, args.rounds), "\n")
    print(estimates(image, args.rounds))


if __name__ == "__main__":
    main()
