"""Giant images: tiles against whole-image libraries, and the planner's memory against what a run takes.

    python bench/tiles.py filters [--size 8192]     Gaussian + Sobel, and Canny, against cv2 with as many threads
    python bench/tiles.py vips [--size 10000]       libvips' own benchmark: crop 100, shrink 10 %, sharpen; TIFF to TIFF
    python bench/tiles.py memory [--size 8000]      predicted and measured peak memory of 20 pipelines

Rounds are interleaved and medians are compared, so that ratios hold on a machine that does other things too. CPU is
seconds of all threads. Peak memory is the kernel's (ru_maxrss) of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import cv2
import numpy as np

from common import machine, median, say, table  # sets one thread a library: each subject sets its own
from pixelmill.images.image import Image, Size
from pixelmill.images.region_memory import MemoryReader, MemoryWriter
from pixelmill.images.region_writers import create_regions
from pixelmill.images.regions import Raster, Region
from pixelmill.operations.edges import Canny
from pixelmill.operations.passes import Array, Form, Map, Pass, Place
from pixelmill.tiling.compiler import Wishes, compiled
from pixelmill.tiling.program import Part
from pixelmill.tiling.threads import run_tiled

THREADS = 2

PIPELINES = (
    "invert", "grayscale", "hue:40", "gaussian:2", "gaussian:12", "median:5", "unsharp", "dilate:9", "bilateral:0.2",
    "denoise", "sobel", "equalize", "autocontrast", "threshold", "clahe", "canny", "gaussian:2/canny",
    "gaussian:4/sobel/median:7/gaussian:9", "equalize/gaussian:3/threshold", "sketch",
)  # fmt: skip


def picture(size: int, channels: int, seed: int = 1) -> Array:
    """Noise of several scales: as much detail as a photograph has, and edges everywhere."""
    rng = np.random.default_rng(seed)
    shape = (1024, 1024) if channels == 1 else (1024, 1024, channels)
    block = cv2.GaussianBlur(rng.integers(0, 256, shape, np.uint8), (0, 0), 2)
    block = cv2.normalize(block, block, 0, 255, cv2.NORM_MINMAX)
    times = -(-size // 1024)
    whole: Array = np.tile(block, (times, times) if channels == 1 else (times, times, 1))[:size, :size]
    return np.ascontiguousarray(whole)


def write_tiff(path: Path, pixels: Array) -> None:
    """Not compressed, in tiles of 512: reading and writing shall not hide the work."""
    height, width = pixels.shape[:2]
    raster = Raster(Size(width, height), 1 if pixels.ndim == 2 else pixels.shape[2], pixels.dtype)
    writer = create_regions(path, raster, options={"compression": "none"})
    writer.write(Region(0, 0, width, height), pixels)
    writer.finish()


# -- filters ------------------------------------------------------------------------------------------------------


def tiled(pixels: Array, passes: Sequence[Pass]) -> Array:
    """Our runner, from an array to an array."""
    reader = MemoryReader(Image(pixels))
    program = compiled(reader.raster, [Part(1, "bench", lambda _: passes)], Wishes(workers=THREADS))
    assert program.result is not None
    writer = MemoryWriter(program.result, Size(1, 1))
    run_tiled(program, reader, writer)
    return writer.image.pixels


def filters(size: int, rounds: int) -> None:
    """Gaussian + Sobel, and Canny."""
    pixels = picture(size, 1)

    def gaussian(part: Array, place: Place) -> Array:
        del place
        return np.asarray(cv2.GaussianBlur(part, (7, 7), 1.0))

    def sobel(part: Array, place: Place) -> Array:
        del place
        return np.asarray(cv2.Sobel(part, cv2.CV_8U, 1, 0))

    maps = (Map("gaussian", gaussian, halo=3, ns_per_pixel=0.7), Map("sobel", sobel, halo=1, ns_per_pixel=0.5))
    canny = Canny()
    canny_passes = canny.tiled(Form(Size(size, size), 1, pixels.dtype))

    def whole(work: Callable[[], Array]) -> Callable[[], Array]:
        def run() -> Array:
            cv2.setNumThreads(THREADS)
            return work()

        return run

    subjects: dict[str, tuple[Callable[[], Array], Callable[[], Array]]] = {
        "Gaussian + Sobel": (
            lambda: tiled(pixels, maps),
            whole(lambda: cv2.Sobel(cv2.GaussianBlur(pixels, (7, 7), 1.0), cv2.CV_8U, 1, 0)),
        ),
        "Canny": (lambda: tiled(pixels, canny_passes), whole(lambda: cv2.Canny(pixels, canny.low, canny.high))),
    }
    rows = []
    for name, (ours, theirs) in subjects.items():
        assert np.array_equal(ours(), theirs()), name
        times: dict[str, list[tuple[float, float]]] = {"ours": [], "cv2": []}
        for _ in range(rounds):
            times["ours"].append(timed(ours))
            times["cv2"].append(timed(theirs))
        wall = {key: median(item[0] for item in found) for key, found in times.items()}
        cpu = {key: median(item[1] for item in found) for key, found in times.items()}
        rows.append(
            (
                name,
                f"{wall['ours']:.3f} s",
                f"{wall['cv2']:.3f} s",
                f"{wall['ours'] / wall['cv2']:.2f}",
                f"{cpu['ours']:.2f} s",
                f"{cpu['cv2']:.2f} s",
                f"{cpu['ours'] / cpu['cv2']:.2f}",
            )
        )
    print(f"\n{size} x {size} gray, {THREADS} threads, median of {rounds} rounds; the same pixels\n")
    print(table(("work", "tiles", "cv2", "ratio", "CPU, tiles", "CPU, cv2", "ratio"), rows))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


# -- processes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """What a process took. ``peak``: resident bytes."""

    wall: float
    cpu: float
    peak: int


LAUNCHER = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
wall = time.perf_counter() - started
print(json.dumps([status, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024]))
"""
"""The kernel counts in ``ru_maxrss`` what the parent had when it forked, so a small process starts each subject."""


def run(arguments: Sequence[str]) -> Ran:
    """Run a process to its end; stops the benchmark where it fails."""
    told = subprocess.run([sys.executable, "-S", "-c", LAUNCHER, *arguments], stdout=subprocess.PIPE, check=True)
    status, wall, cpu, peak = json.loads(told.stdout)
    if status:
        raise SystemExit(f"{' '.join(arguments)} ended with status {status}")
    return Ran(wall, cpu, peak)


# -- libvips' own benchmark ---------------------------------------------------------------------------------------

SYNCED = "\nfd = os.open(sys.argv[2], os.O_RDWR); os.fsync(fd)"
PYVIPS = """
import sys, os
os.environ["VIPS_CONCURRENCY"] = "2"
import pyvips
im = pyvips.Image.new_from_file(sys.argv[1], access="sequential")
im = im.crop(100, 100, im.width - 200, im.height - 200).reduce(1 / 0.9, 1 / 0.9, kernel="linear")
im = im.conv(pyvips.Image.new_from_array([[-1, -1, -1], [-1, 16, -1], [-1, -1, -1]], scale=8), precision="integer")
im.tiffsave(sys.argv[2], tile=True, tile_width=512, tile_height=512)
"""
SUBJECTS = {
    "pyvips": PYVIPS,
    "pyvips, and fsync": PYVIPS + SYNCED,
    "OpenCV, whole": """
import sys, cv2, numpy as np
cv2.setNumThreads(2)
im = cv2.imread(sys.argv[1])[100:-100, 100:-100]
im = cv2.resize(im, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_LINEAR)
kernel = np.array([[-1, -1, -1], [-1, 16, -1], [-1, -1, -1]], np.float32) / 8
cv2.imwrite(sys.argv[2], cv2.filter2D(im, -1, kernel), [cv2.IMWRITE_TIFF_COMPRESSION, 1])
""",
    "Pillow": """
import sys
from PIL import Image, ImageFilter
Image.MAX_IMAGE_PIXELS = None
im = Image.open(sys.argv[1])
im = im.crop((100, 100, im.width - 100, im.height - 100))
im = im.resize((round(im.width * 0.9), round(im.height * 0.9)), Image.Resampling.BILINEAR)
im.filter(ImageFilter.Kernel((3, 3), [-1, -1, -1, -1, 16, -1, -1, -1, -1], scale=8)).save(sys.argv[2])
""",
    "scikit-image": """
import sys, numpy as np, tifffile
from scipy import ndimage
from skimage.transform import rescale
im = tifffile.imread(sys.argv[1])[100:-100, 100:-100]
im = rescale(im, 0.9, channel_axis=2, order=1, anti_aliasing=False)
kernel = np.array([[-1, -1, -1], [-1, 16, -1], [-1, -1, -1]]) / 8
im = np.dstack([ndimage.convolve(im[..., c], kernel) for c in range(3)])
tifffile.imwrite(sys.argv[2], (np.clip(im, 0, 1) * 255).astype(np.uint8), tile=(512, 512))
""",
    "dask-image": """
import sys, numpy as np, tifffile, dask, dask.array as da
import dask_image.ndfilters, dask_image.ndinterp
dask.config.set(scheduler="threads", num_workers=2)
im = da.from_zarr(tifffile.imread(sys.argv[1], aszarr=True)).rechunk((1024, 1024, 3))[100:-100, 100:-100]
h, w = (round(side * 0.9) for side in im.shape[:2])
kernel = np.array([[-1, -1, -1], [-1, 16, -1], [-1, -1, -1]], np.float32) / 8
planes = []
for c in range(3):
    plane = dask_image.ndinterp.affine_transform(
        im[..., c].astype(np.float32), np.diag([1 / 0.9, 1 / 0.9]), output_shape=(h, w), order=1,
        output_chunks=(1024, 1024))
    planes.append(dask_image.ndfilters.convolve(plane, kernel).clip(0, 255).astype(np.uint8))
tifffile.imwrite(sys.argv[2], np.asarray(da.stack(planes, axis=-1)), tile=(512, 512))
""",
}


INSIDE = {
    "pixelmill": """
from pixelmill import Pipeline, TiledOptions
from pixelmill.tiling.heap import keep_freed_memory
keep_freed_memory()
pipeline = Pipeline.parse(sys.argv[3])
def work():
    pipeline.run_tiled(sys.argv[1], sys.argv[2], TiledOptions(workers=2))
""",
    "pyvips": "import os\nos.environ['VIPS_CONCURRENCY'] = '2'\nimport pyvips\ndef work():"
    + (PYVIPS + SYNCED).split("import pyvips")[1].replace("\n", "\n    "),
}
"""The same in a process that is warm; both wait for the disk."""
WATCHED = """
import json, sys, time
{}
work()
wall, cpu = time.perf_counter(), time.process_time()
work()
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""


def inside(rounds: int, arguments: Sequence[str]) -> None:
    """Start excluded: the second run of a process."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in INSIDE}
    for _ in range(rounds):
        for name, script in INSIDE.items():
            command = [sys.executable, "-c", WATCHED.format(script), *arguments]
            told = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            times[name].append(tuple(json.loads(told.stdout)))
    wall, cpu = ({name: median(item[at] for item in found) for name, found in times.items()} for at in (0, 1))
    rows = [
        (
            name,
            f"{wall[name]:.2f} s",
            f"{wall[name] / wall['pyvips']:.2f}",
            f"{cpu[name]:.2f} s",
            f"{cpu[name] / cpu['pyvips']:.2f}",
        )
        for name in INSIDE
    ]
    print("\nThe second run of a process, up to `fsync` of the result\n")
    print(table(("", "wall", "to pyvips", "CPU", "to pyvips"), rows))


def vips(size: int, rounds: int, folder: Path, only: Sequence[str] | None) -> None:
    """TIFF to TIFF in a process each, start included; and without the start."""
    # An installed package has its bytecode: the first run compiles, and isn't counted.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    source, out = folder / "source.tif", folder / "out.tif"
    write_tiff(source, picture(size, 3))
    inner = round((size - 200) * 0.9)
    pipeline = (
        f"crop:100,100,{size - 200},{size - 200}/resize:{inner},{inner},fit=fill,interpolation=linear"
        "/convolve:-1:-1:-1:-1:16:-1:-1:-1:-1,normalize=true/format:tiff,compression=none"
    )
    ours = [sys.executable, "-m", "pixelmill", "run", pipeline, str(source), "-o", str(out), "--overwrite"]
    forced = ["--set", "max_pixels=1", "--workers", str(THREADS)]
    commands = {"pixelmill": [*ours, *forced]}
    for name, script in SUBJECTS.items():
        commands[name] = [sys.executable, "-c", script, str(source), str(out)]
    if only is not None:
        commands = {name: command for name, command in commands.items() if name in {"pixelmill", "pyvips", *only}}
    found: dict[str, list[Ran]] = {name: [] for name in commands}
    run(commands["pixelmill"])
    for _ in range(rounds):
        for name, command in commands.items():
            if name == "dask-image" and not _has("dask_image"):
                continue
            say(name)
            found[name].append(run(command))
    base, base_cpu = (median(getattr(item, what) for item in found["pyvips"]) for what in ("wall", "cpu"))
    rows = [
        (
            name,
            f"{median(item.wall for item in ran):.2f} s",
            f"{median(item.wall for item in ran) / base:.2f}",
            f"{median(item.cpu for item in ran):.2f} s",
            f"{median(item.cpu for item in ran) / base_cpu:.2f}",
            f"{median(item.peak for item in ran) / 1e6:,.0f} MB",
        )
        for name, ran in found.items()
        if ran
    ]
    print(f"\n{size} x {size} RGB, crop 100, shrink 10 %, sharpen; {THREADS} threads, median of {rounds} rounds\n")
    print(table(("", "wall", "to pyvips", "CPU", "to pyvips", "peak memory"), rows))
    inside(rounds, (str(source), str(out), pipeline))


def _has(module: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


# -- memory -------------------------------------------------------------------------------------------------------


def memory(size: int, folder: Path, pipelines: Sequence[str]) -> None:
    """Predicted by the planner, and taken, a process each."""
    sources = {}
    for channels in (1, 3):
        sources[channels] = folder / f"source-{channels}.tif"
        write_tiff(sources[channels], picture(size, channels))
    rows, off = [], []
    for index, pipeline in enumerate(pipelines):
        source = sources[3 if index % 2 else 1]
        command = [
            sys.executable, "-m", "pixelmill", "run", pipeline, str(source), "-o", str(folder / "out.tif"),
            "--overwrite", "--set", "max_pixels=1", "--workers", str(THREADS),
        ]  # fmt: skip
        plan = json.loads(subprocess.run([*command, "--explain", "--json"], capture_output=True, check=True).stdout)
        ran = run(command)
        predicted = plan["tiles"]["peak_bytes"]
        off.append(predicted / ran.peak - 1)
        mode = "RGB" if index % 2 else "gray"
        rows.append((pipeline, mode, f"{predicted / 1e6:,.0f} MB", f"{ran.peak / 1e6:,.0f} MB", f"{off[-1]:+.0%}"))
        say(" ".join(rows[-1]))
    print(f"\n{size} x {size}, {THREADS} workers\n")
    print(table(("pipeline", "", "predicted", "measured", "off by"), rows))
    within = sum(abs(item) <= 0.25 for item in off)
    print(f"\n{within} of {len(off)} within 25 %, the worst {max(off, key=abs):+.0%}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("filters", "vips", "memory"))
    parser.add_argument("--size", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", help="of `vips`: subjects beside pixelmill and pyvips")
    parser.add_argument("--pipeline", action="append", help="of `memory`, in place of the twenty")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{machine('opencv-python-headless', 'pyvips')}; load {load:.1f} at the start")
    folder = Path(tempfile.mkdtemp())
    try:
        if given.what == "filters":
            filters(given.size or 8192, given.rounds)
        elif given.what == "vips":
            vips(given.size or 10_000, given.rounds, folder, given.only)
        else:
            memory(given.size or 8000, folder, given.pipeline or PIPELINES)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
