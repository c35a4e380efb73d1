"""What decoding, each operation and encoding cost: CPU time, memory at the peak, and what the planner estimates.

    python bench/costs.py [--photo FILE] [--rounds N] [--only TEXT]

The constants in `Operation.facts()` and `pipelines/costs.py` come from this table; they only serve estimates. Single
thread, `uint8` RGB (memory for RGBA too); a photograph, since entropy coding and edges depend on what is in it. Memory
is what the resident size of a fork grows by, in sizes of the input: Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import os
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
from pixelmill.operations.operation import Operation
from pixelmill.pipelines.plan import plan
from pixelmill.pipelines.spec import Pipeline

OPERATIONS = (
    "grayscale", "brightness:0.1", "contrast:1.2", "gamma:1.8", "invert",
    "gaussian:0.5", "gaussian:2", "gaussian:10", "gaussian:50", "sharpen",
    "canny", "canny:aperture=7", "sketch:denoise=none", "sketch:denoise=fast", "sketch",
    "crop:10,10,800,600", "flip:horizontal", "rotate:90", "rotate:180", "rotate:12.5",
    "resize:256,256,fit=fill", "resize:700", "resize:1024", "resize:2000,enlarge=true", "resize:256,interpolation=area",
    "resize:700,kernel=box", "resize:700,kernel=bilinear", "resize:700,kernel=bicubic", "resize:700,kernel=lanczos3",
    "watermark:mark", "watermark:mark,tile=true", "text:Sunday~20morning", "border", "round_corners",
    "smart_crop:400,300", "smart_crop:400,300,edges", "smart_crop:400,300,faces", "pad:3100,3100", "trim",
    "perspective:0,0,1490,5,1480,990,10,980", "box:3", "box:20", "pixelate:12", "quantize", "quantize:256,dither=false",
    "watershed", "watershed:count", "components", "components:data", "grabcut",
    "faces", "faces:blur", "faces:min_size=0.02", "features", "features:sift", "features:akaze", "features:draw=false",
    "match:other", "match:other,draw=false", "match:other,orb", "match:other,akaze", "codes", "codes:true",
    "info", "histogram", "colors", "colors:12", "phash", "blurhash", "sharpness",
)  # fmt: skip
_M_MMAP_THRESHOLD = -3  # of <malloc.h>: larger blocks go back to the system at once
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


def peak(operation: Operation, image: Image) -> float:
    """Bytes by which the resident size of a fork grows at most, in sizes of the image."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        # What is loaded on first use is no part of it, nor is memory that was freed before and lies ready.
        operation.apply(image.with_pixels(np.ascontiguousarray(image.pixels[:1100, :1500])))
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 16)
        libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        operation.apply(image)
        os.write(writer, str(_status("VmHWM") - before).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        grown = answer.read()
    os.waitpid(child, 0)
    return int(grown) / image.pixels.nbytes if grown else float("nan")


def _status(field: str) -> int:
    """Bytes that the kernel tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def operations(image: Image, rounds: int, only: str) -> str:
    """The table of operations; ``+`` marks what is off by more than half."""
    other = image.with_pixels(cv2.warpAffine(image.pixels, cv2.getRotationMatrix2D((500, 300), 15, 0.8), image.size))
    images = {"mark": Image(np.full((60, 120, 4), 128, np.uint8)), "other": other}
    fade = np.linspace(0, 255, image.size.width).astype(np.uint8)
    clear = image.with_pixels(np.dstack((image.pixels, np.tile(fade, (image.size.height, 1)))))
    samples = image.size.pixels * image.channels
    rows = []
    for text in OPERATIONS:
        if not text.startswith(only):
            continue
        operation = Pipeline.parse(text).operations[0].with_images(images)
        cost, facts = seconds(partial(operation.apply, image), rounds) / samples * 1e9, operation.facts()
        alpha = max(facts.memory_factor, facts.alpha_memory_factor)
        memory, of_alpha = peak(operation, image), peak(operation, clear)
        rows.append((text, f"{cost:.2f}", _beside(facts.ns_per_pixel, cost), f"{memory:.1f}",
                     _beside(facts.memory_factor, memory), f"{of_alpha:.1f}", _beside(alpha, of_alpha)))  # fmt: skip
    heads = ("operation", "ns a sample, measured", "in facts()", "memory, measured", "in facts()", "RGBA", "in facts()")
    return common.table(heads, rows)


def _beside(told: float, measured: float) -> str:
    off = max(told / max(measured, 1e-9), measured / max(told, 1e-9)) > 1.5
    return f"{told:.2f}{' +' if off else ''}"


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
    parser.add_argument("--only", default="", help="only operations whose text starts so, and nothing else")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    image = decode(Path(args.photo).read_bytes() if args.photo else common.photographs(None)[1])
    print(common.machine("opencv-python-headless", "simplejpeg", "pillow"), f"{image.size.width}×{image.size.height}\n")
    print(operations(image, args.rounds, args.only), "\n")
    if args.only:
        return
    print(codecs(image, args.rounds), "\n")
    print(estimates(image, args.rounds))


if __name__ == "__main__":
    main()
