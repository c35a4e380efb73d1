"""Reading and writing giant TIFFs by regions, against pyvips and tifffile on the same files, in one run.

    python bench/regions.py [--side 8192] [--rounds 3]

Every cell is the median over rounds in which all take turns: megabytes of pixels a second of wall time on two threads
(one for who can't use two), and CPU seconds. Only our writer waits until its file is on the disk. The picture is gray,
with light, noise and disks (see giant.py).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
import tifffile
from numpy.typing import NDArray

import common
import giant
from pixelmill.images.image import Size
from pixelmill.images.region_grid import Grid
from pixelmill.images.region_readers import open_regions
from pixelmill.images.region_writers import create_regions
from pixelmill.images.regions import Raster, Region

TILE, HALO = 512, 16
PACKINGS = ("none", "deflate", "lzw", "jpeg")
pyvips.cache_set_max(0)


def own_read(path: Path, grid: Grid, halo: int) -> None:
    """Our reader, on two threads."""
    reader = open_regions(path)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda number: len(reader.read(grid.place(number).grown(halo, grid.size))), range(len(grid))))
    reader.close()


def vips_read(path: Path, grid: Grid, halo: int) -> None:
    """Regions of pyvips, one a thread."""

    def rows(share: int) -> None:
        region = pyvips.Region.new(pyvips.Image.new_from_file(str(path)))
        for number in range(share, len(grid), 2):
            place = grid.place(number).grown(halo, grid.size)
            np.frombuffer(region.fetch(*place), np.uint8).reshape(place.height, place.width).copy()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(rows, range(2)))


def tifffile_read(path: Path) -> None:
    """All of it at once by tifffile, which has no regions without Zarr."""
    tifffile.imread(path, maxworkers=2)


def own_write(path: Path, pixels: NDArray[Any], packing: str) -> None:
    """Our writer, on two threads."""
    height, width = pixels.shape
    raster = Raster(Size(width, height), 1, pixels.dtype)
    writer = create_regions(path, raster, options={"compression": packing, "tile": TILE, "quality": 85})
    grid, whole = Grid(raster.size, writer.unit), Region(0, 0, width, height)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda number: _write(writer, grid.place(number), pixels, whole), range(len(grid))))
    writer.finish()


def _write(writer: Any, place: Region, pixels: NDArray[Any], whole: Region) -> None:
    writer.write(place, place.of(pixels, whole))


def vips_write(path: Path, pixels: NDArray[Any], packing: str) -> None:
    """Tiffsave of pyvips."""
    predictor = {"predictor": "horizontal"} if packing in ("deflate", "lzw") else {}
    pyvips.Image.new_from_array(pixels).tiffsave(
        str(path), tile=True, tile_width=TILE, tile_height=TILE, compression=packing, Q=85, **predictor
    )


def tifffile_write(path: Path, pixels: NDArray[Any], packing: str) -> None:
    """The tile generator of tifffile, which packs tiles on two threads where it is given arrays."""
    options: dict[str, Any] = {"none": {}, "deflate": {"compression": "zlib", "predictor": True}}.get(
        packing, {"compression": packing, **({"predictor": True} if packing == "lzw" else {})}
    )
    if packing == "jpeg":
        options["compressionargs"] = {"level": 85}
    tifffile.imwrite(path, pixels, tile=(TILE, TILE), maxworkers=2, **options)


def measured(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of wall time and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def rounds(works: dict[str, Callable[[], None]], count: int) -> Iterator[tuple[str, float, float]]:
    """The median wall and CPU seconds of each, all taking turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(count):
        for name, work in works.items():
            found[name].append(measured(work))
    for name, pairs in found.items():
        yield name, common.median(wall for wall, _ in pairs), common.median(cpu for _, cpu in pairs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=8_192)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    pixels = giant.pixels_of(Region(0, 0, args.side, args.side))
    grid = Grid(Size(args.side, args.side), Size(TILE, TILE))
    folder = Path(tempfile.mkdtemp(prefix="regions-"))
    rows: list[tuple[str, ...]] = []
    try:
        for packing in PACKINGS:
            path = folder / f"{packing}.tif"
            own_write(path, pixels, packing)
            works: dict[str, dict[str, Callable[[], None]]] = {
                "read": {
                    "ours": lambda path=path: own_read(path, grid, 0),  # type: ignore[misc]
                    "pyvips": lambda path=path: vips_read(path, grid, 0),  # type: ignore[misc]
                    "tifffile": lambda path=path: tifffile_read(path),  # type: ignore[misc]
                },
                f"read, halo {HALO}": {
                    "ours": lambda path=path: own_read(path, grid, HALO),  # type: ignore[misc]
                    "pyvips": lambda path=path: vips_read(path, grid, HALO),  # type: ignore[misc]
                },
                "write": {
                    "ours": lambda packing=packing: own_write(folder / "a.tif", pixels, packing),  # type: ignore[misc]
                    "pyvips": lambda packing=packing: vips_write(folder / "b.tif", pixels, packing),  # type: ignore[misc]
                    "tifffile": lambda packing=packing: tifffile_write(folder / "c.tif", pixels, packing),  # type: ignore[misc]
                },
            }
            for what, group in works.items():
                ours = 0.0
                for name, wall, cpu in rounds(group, args.rounds):
                    ours = wall if name == "ours" else ours
                    rows.append(
                        (packing, what, name, f"{pixels.nbytes / 1e6 / wall:.0f}", f"{cpu:.2f}", f"{ours / wall:.2f}")
                    )
                    common.say(" ".join(rows[-1]))
            sizes = {name: (folder / f"{name}.tif").stat().st_size for name in "abc"}
            rows.append(
                (packing, "file", "ours, pyvips, tifffile", *(f"{size / 1e6:.1f} MB" for size in sizes.values()))
            )
    finally:
        shutil.rmtree(folder)
    print(common.machine("numpy", "pyvips", "tifffile", "imagecodecs", "simplejpeg"), "\n")
    print(common.table(("packing", "what", "library", "MB/s", "CPU s", "our wall time / theirs"), rows))


if __name__ == "__main__":
    main()
