"""Operations over tiles, on two threads, against the same of the whole image: ratios of wall time and of CPU time.

    python bench/tiled_operations.py [--side 8192] [--runs 5]

Canny, CLAHE and the Gaussian against one call of OpenCV with two threads; watershed against Pixelmill's own whole
(there is no other that gives the same). Turns are interleaved, medians are told, with the load of the machine. Every
result is compared: no pixel may differ.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import common
from pixelmill.images.image import Image
from pixelmill.images.region_memory import MemoryReader, MemoryWriter
from pixelmill.images.regions import Raster
from pixelmill.operations.edges import Canny
from pixelmill.operations.filters import Gaussian
from pixelmill.operations.operation import Operation
from pixelmill.operations.segmentation import Watershed
from pixelmill.operations.tones import Clahe
from pixelmill.tiling.compiler import Wishes, compiled
from pixelmill.tiling.program import Part
from pixelmill.tiling.threads import run_tiled

Pixels = NDArray[Any]


def picture(side: int) -> Pixels:
    """A photograph over and over, mirrored so that it has no seams, with noise."""
    data = np.frombuffer(common.photographs(None)[4], np.uint8)
    photo: Pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))
    around = np.vstack((np.hstack((photo, photo[:, ::-1])), np.hstack((photo[::-1], photo[::-1, ::-1]))))
    times = [-(-side // length) for length in around.shape]
    noise = np.random.default_rng(0).integers(0, 12, (side, side), np.uint8)
    return np.asarray(cv2.add(np.tile(around, times)[:side, :side], noise))


def tiled(operation: Operation, pixels: Pixels) -> Pixels:
    """By two workers, from memory to memory."""
    reader = MemoryReader(Image(pixels))
    wishes = Wishes(workers=2)
    program = compiled(reader.raster, [Part(1, operation.name, operation.tiled)], wishes)
    written: list[MemoryWriter] = []

    def opened(raster: Raster) -> MemoryWriter:
        written.append(MemoryWriter(raster, wishes.unit))
        return written[-1]

    run_tiled(program, reader, opened)
    return written[-1].image.pixels


def timed(work: Callable[[], Pixels]) -> tuple[float, float, Pixels]:
    """Wall time, CPU time, and what came out."""
    wall, cpu = time.perf_counter(), time.process_time()
    done = work()
    return time.perf_counter() - wall, time.process_time() - cpu, done


def main() -> None:
    """Measure and print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--side", type=int, default=8_192)
    options.add_argument("--runs", type=int, default=5)
    given = options.parse_args()
    pixels, small = picture(given.side), picture(given.side // 4)
    canny, clahe, blur, watershed = Canny(low=60, high=160), Clahe(), Gaussian(sigma=1.5), Watershed(mode="labels")
    cases: list[tuple[str, Operation, Pixels, Callable[[Pixels], Pixels]]] = [
        ("canny", canny, pixels, lambda x: cv2.Canny(x, 60, 160)),
        ("clahe", clahe, pixels, lambda x: cv2.createCLAHE(2.0, (8, 8)).apply(x)),
        ("gaussian", blur, pixels, lambda x: cv2.GaussianBlur(x, (0, 0), 1.5)),
        ("watershed", watershed, small, lambda x: watershed.apply(Image(x)).image.pixels),
    ]
    cv2.setNumThreads(2)
    print(
        f"{given.side} x {given.side} gray (watershed: a quarter of the side), load {os.getloadavg()[0]:.1f} at first"
    )
    print("| operation | whole, s | tiles, s | wall | CPU |\n|---|---|---|---|---|")
    for name, operation, source, whole in cases:
        turns = []
        for _ in range(given.runs):
            first, second = timed(lambda: whole(source)), timed(lambda: tiled(operation, source))  # noqa: B023  called here
            assert np.array_equal(first[2], second[2]), name
            turns.append((first[0], second[0], second[0] / first[0], second[1] / first[1]))
        wall, tiles, ratio, cpu = (statistics.median(column) for column in zip(*turns, strict=True))
        print(f"| {name} | {wall:.3f} | {tiles:.3f} | {ratio:.2f} | {cpu:.2f} |", flush=True)
    print(f"load {os.getloadavg()[0]:.1f} at last")


if __name__ == "__main__":
    main()
