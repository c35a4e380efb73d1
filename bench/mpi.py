"""Ranks against threads, and what the exchange of rows costs: python bench/mpi.py [--side 8192] [--repeats 5].

A gray picture, Gaussian and Sobel, from an uncompressed TIFF of tiles to another. All variants take turns, so that
ratios hold on a machine that others use too; medians are shown. "start" is what is spent before the first tile.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from pixelmill.images.image import Size
from pixelmill.images.limits import TiledLimits
from pixelmill.images.regions import Raster, Region
from pixelmill.pipelines.spec import Pipeline
from pixelmill.targets.launch import command
from pixelmill.targets.tiled_order import TiledOrder
from pixelmill.targets.tiled_runs import run_order
from pixelmill.targets.tiled_settings import MpiConfig
from pixelmill.tiling.mpi import BandStore, Team, fetch, started_mpi
from pixelmill.tiling.scratch import Scratch

MPI = MpiConfig(8, oversubscribe=True)
PIPELINE = "gaussian:2/sobel/format:tiff,compression=none"


def picture(path: Path, side: int) -> Path:
    """Noise over light."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 64, (side, side), np.uint8) + np.linspace(0, 190, side).astype(np.uint8)
    tifffile.imwrite(path, pixels, tile=(512, 512))
    return path


def one(source: Path, folder: Path, ranks: int, threads: int) -> tuple[float, float]:
    """Seconds of everything, and of them those from the first byte of the order to the result."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    order = TiledOrder(
        pipeline=Pipeline.parse(PIPELINE).to_json(),
        source=str(source),
        folder=str(folder),
        target=str(folder / "result"),
        limits=TiledLimits(10**11, 10**11, 10**6, 600.0),
        memory_bytes=4 * 10**9,
        ranks=ranks,
        threads=threads,
    )
    began = time.perf_counter()
    outcome = asyncio.run(run_order(order, MPI, lambda _: None))
    return time.perf_counter() - began, outcome.timings.apply_ms / 1e3


def compare(side: int, repeats: int) -> None:
    """The table."""
    ways = {"2 threads": (0, 2), "1 thread": (0, 1), "1 rank": (1, 1), "2 ranks": (2, 1)}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as place:
        source = picture(Path(place) / "source.tif", side)
        for _ in range(repeats):
            for name, (ranks, threads) in ways.items():
                found[name].append(one(source, Path(place) / "scratch", ranks, threads))
    base = statistics.median(run for _, run in found["2 threads"])
    print(f"{PIPELINE}, {side:,} × {side:,} gray, {repeats} times each")
    for name, seconds in found.items():
        total, run = (statistics.median(column) for column in zip(*seconds, strict=True))
        share = f"{run / base:5.2f} of 2 threads"
        print(f"{name:10} {total:6.2f} s in all, start {total - run:5.2f} s, run {run:6.2f} s, {share}")


def exchange() -> None:
    """On two ranks: the halos of an intermediate, with the talk about who needs what."""
    team = Team(started_mpi().COMM_WORLD)
    width, height, halo = 8_192, 8_192, 16
    raster = Raster(Size(width, height), 1, np.dtype(np.uint8))
    half = height // 2
    own = ((0, half), (half, height))[team.rank]
    needed = ((0, half + halo), (half - halo, height))[team.rank]
    spent = {"talk": [], "rows": []}  # type: dict[str, list[float]]
    with Scratch() as scratch:
        store = BandStore(scratch, raster, Size(512, 512), own)
        store.write(Region(0, own[0], width, half), np.full((half, width), team.rank, np.uint8))
        for _ in range(200):
            began = time.perf_counter()
            facts = team.all((own, needed))
            talked = time.perf_counter()
            fetch(store, facts, team)
            spent["talk"].append(talked - began)
            spent["rows"].append(time.perf_counter() - talked)
            store.forget()
        store.close()
    if team.rank == 0:
        for name, seconds in spent.items():
            print(f"exchange, {name}: {1e6 * statistics.median(seconds):,.0f} µs ({halo} rows of {width:,} pixels)")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=8_192)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--exchange", action="store_true", help="(what the ranks run)")
    given = parser.parse_args()
    if given.exchange:
        exchange()
        return
    compare(given.side, given.repeats)
    line = command(2, MPI)
    at = line.index("-m")
    subprocess.run([*line[:at], "-m", "mpi4py", __file__, "--exchange"], check=True)


if __name__ == "__main__":
    main()
