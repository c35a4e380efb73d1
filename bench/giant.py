"""A picture larger than memory through a pipeline: made, run, and checked.

    python bench/giant.py make  --side 100000 --file giant.tif       a gray BigTIFF of 10 GB, the same on every machine
    python bench/giant.py run   --file giant.tif --out out.tif       peak memory of all processes, time against a copy
    python bench/giant.py check --file giant.tif --out out.tif       50 windows against the pipeline on what is around

The picture has smooth light, noise, and a disk of some gray in most squares of 256 pixels: every pixel follows from its
place alone, so that a window of it can be computed without the file. All edges end within a few squares, so the
surroundings (--margin) decide what a window holds, for Canny's hysteresis too.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

import common
from pixelmill import Pipeline
from pixelmill.images.image import Image, Size
from pixelmill.images.region_grid import Grid
from pixelmill.images.region_readers import open_regions
from pixelmill.images.region_writers import create_regions
from pixelmill.images.regions import Raster, Region

PIPELINE = "gaussian:2/canny:60,140"
CELL = 256
WINDOW = 256


def pixels_of(place: Region) -> NDArray[np.uint8]:
    """The picture's pixels in a region."""
    x = np.arange(place.left, place.right, dtype=np.uint32)[None, :]
    y = np.arange(place.top, place.bottom, dtype=np.uint32)[:, None]
    light = 60 + 30 * np.sin(x / 911.0) + 30 * np.cos(y / 1_373.0)
    noise = (_mixed(x, y) >> 28).astype(np.float64)
    out = light + noise
    for row in range(place.top // CELL, -(-place.bottom // CELL)):
        for column in range(place.left // CELL, -(-place.right // CELL)):
            _disk(out, place, column, row)
    return np.asarray(out, np.uint8)


def _disk(out: NDArray[np.float64], place: Region, column: int, row: int) -> None:
    """The disk of a square, where it lies in the region; one square of four has none."""
    dice = int(_mixed(np.uint32(column), np.uint32(row)))
    if dice & 3 == 0:
        return
    radius = 16 + (dice >> 2) % 100
    room = CELL - 2 * radius
    middle_x = column * CELL + radius + (dice >> 9) % max(1, room)
    middle_y = row * CELL + radius + (dice >> 17) % max(1, room)
    left, right = max(place.left, middle_x - radius), min(place.right, middle_x + radius + 1)
    top, bottom = max(place.top, middle_y - radius), min(place.bottom, middle_y + radius + 1)
    if left >= right or top >= bottom:
        return
    inside = (np.arange(left, right) - middle_x) ** 2 + (np.arange(top, bottom)[:, None] - middle_y) ** 2 < radius**2
    part = out[top - place.top : bottom - place.top, left - place.left : right - place.left]
    part[inside] += 20 + (dice >> 24) % 90


def _mixed(x: NDArray[np.uint32] | np.uint32, y: NDArray[np.uint32] | np.uint32) -> NDArray[np.uint32]:
    """32 bits that look like chance, of two numbers."""
    with np.errstate(over="ignore"):
        bits = np.asarray(x * np.uint32(0x9E3779B1) ^ y * np.uint32(0x85EBCA77))
        bits = (bits ^ bits >> np.uint32(15)) * np.uint32(0x2C1B3C6D)
        return np.asarray((bits ^ bits >> np.uint32(12)) * np.uint32(0x297A2D39))


def make(file: Path, side: int, compression: str) -> None:
    """Write the picture tile by tile, with two threads."""
    raster = Raster(Size(side, side), 1, np.dtype(np.uint8))
    options = {"compression": compression, "level": 1, "big": "always"}
    writer = create_regions(file, raster, options=options)
    grid, begun = Grid(raster.size, writer.unit), time.monotonic()

    def one(row: int) -> None:
        for number in range(row * grid.across, (row + 1) * grid.across):
            writer.write(grid.place(number), pixels_of(grid.place(number)))

    try:
        with ThreadPoolExecutor(2) as pool:
            for row, _ in enumerate(pool.map(one, range(grid.down)), 1):
                if row % max(1, grid.down // 20) == 0:
                    common.say(f"{row * 100 // grid.down} %")
        writer.finish()
    except BaseException:
        writer.abort()
        raise
    common.say(f"{file}: {file.stat().st_size / 1e9:.2f} GB in {time.monotonic() - begun:.0f} s")


class Peak:
    """The largest proportional size of a process and its descendants, looked at all the time."""

    def __init__(self, pid: int, every_s: float) -> None:
        self._pid, self._every_s, self._ended = pid, every_s, threading.Event()
        self.bytes = 0.0
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(self._every_s):
            with suppress(psutil.NoSuchProcess):  # it has ended
                self.bytes = max(self.bytes, common.tree_rss(self._pid))

    def end(self) -> float:
        """The peak."""
        self._ended.set()
        self._thread.join()
        return self.bytes


def run(file: Path, out: Path, pipeline: str, command: str) -> None:
    """Run and copy, each once, and print what it took."""
    words = [word.format(pipeline=pipeline, file=file, out=out) for word in shlex.split(command)]
    if words[0] == "pixelmill":
        words[:1] = [sys.executable, "-m", "pixelmill"]
    copied = _copy_time(file)
    begun = time.monotonic()
    running = subprocess.Popen(words)
    peak = Peak(running.pid, 0.1)
    code = running.wait()
    took, most = time.monotonic() - begun, peak.end()
    if code:
        raise SystemExit(f"{shlex.join(words)} ended with {code}")
    raster = open_regions(file).raster
    rows = [
        ("picture", f"{raster.size.width:,}×{raster.size.height:,}, {raster.bytes / 1e9:.2f} GB of pixels"),
        ("pipeline", pipeline),
        ("peak memory of all processes (PSS)", f"{most / 1e6:,.0f} MB"),
        ("time", f"{took:.1f} s"),
        ("a plain copy of the file", f"{copied:.1f} s"),
        ("ratio", f"{took / copied:.2f}"),
        ("megapixels a second", f"{raster.size.pixels / 1e6 / took:.0f}"),
    ]
    print(common.machine("opencv-python-headless", "numpy"), "\n")
    print(common.table(("what", "measured"), rows))


def _copy_time(file: Path) -> float:
    """Seconds that a copy takes which is read and written for real, synced at the end, beside the file."""
    with tempfile.NamedTemporaryFile(dir=file.parent) as target, file.open("rb") as source:
        begun = time.monotonic()
        shutil.copyfileobj(source, target, 8 << 20)
        target.flush()
        subprocess.run(["sync", "-d", target.name], check=True)
        return time.monotonic() - begun


def check(file: Path, out: Path, pipeline: str, windows: int, margin: int) -> None:
    """Compare windows, some at corners and edges, with the pipeline over them and their surroundings."""
    source, result = open_regions(file), open_regions(out)
    size = source.raster.size
    if result.raster.size != size:
        raise SystemExit(f"the result has {result.raster.size} pixels, the source {size}")
    steps = Pipeline.parse(pipeline)
    rng = np.random.default_rng(2026)
    wrong = 0
    for number in range(windows):
        left, top = (int(rng.integers(0, max(1, side - WINDOW))) for side in size)
        left, top = (0 if number % 10 == 1 else left), (size.height - WINDOW if number % 10 == 2 else top)
        window = Region(max(0, left), max(0, top), min(WINDOW, size.width), min(WINDOW, size.height))
        around = window.grown(margin, size)
        pixels = pixels_of(around)
        if not np.array_equal(source.read(window), window.of(pixels, around)):
            raise SystemExit(f"the source is another picture at {window}")
        done = steps.run(Image(pixels)).image
        assert done is not None
        differing = int(np.count_nonzero(result.read(window) != window.of(done.pixels, around)))
        if differing:
            wrong += 1
            common.say(f"{window}: {differing} pixels differ")
    source.close()
    result.close()
    if wrong:
        raise SystemExit(f"{wrong} of {windows} windows differ")
    print(f"{windows} of {windows} windows are exact, with {margin} pixels around each")


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("make", "run", "check"))
    parser.add_argument("--side", type=int, default=100_000)
    parser.add_argument("--file", type=Path, default=Path("giant.tif"))
    parser.add_argument("--out", type=Path, default=Path("giant-out.tif"))
    parser.add_argument("--compression", choices=("none", "deflate"), default="none")
    parser.add_argument("--pipeline", default=PIPELINE)
    parser.add_argument("--command", default="pixelmill run {pipeline} {file} -o {out}")
    parser.add_argument("--windows", type=int, default=50)
    parser.add_argument("--margin", type=int, default=1_024)
    args = parser.parse_args()
    if args.verb == "make":
        make(args.file, args.side, args.compression)
    elif args.verb == "run":
        run(args.file, args.out, args.pipeline, args.command)
    else:
        check(args.file, args.out, args.pipeline, args.windows, args.margin)


if __name__ == "__main__":
    main()
