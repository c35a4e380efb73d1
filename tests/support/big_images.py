"""Images that are too large for the limits that a test sets, and orders to run them in tiles."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from pixelmill.images.limits import Limits, TiledLimits
from pixelmill.pipelines.run import run
from pixelmill.pipelines.spec import Pipeline
from pixelmill.targets.tiled_order import TiledOrder, file_identity

ENDLESS = Limits(10**10, 10**10, 10**6)


def scene(width: int, height: int, seed: int = 1) -> NDArray[np.uint8]:
    """Blobs with noise: edges everywhere, and none of them alike."""
    rng = np.random.default_rng(seed)
    blobs = rng.integers(0, 256, (max(2, height // 50), max(2, width // 50)), np.uint8)
    smooth = cv2.resize(blobs, (width, height), interpolation=cv2.INTER_CUBIC)
    mixed: NDArray[np.uint8] = (smooth // 2 + rng.integers(0, 128, smooth.shape, np.uint8)).astype(np.uint8)
    return mixed


def write_tiff(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """In tiles, as slides are."""
    tifffile.imwrite(path, pixels, tile=(256, 256), compression="deflate")
    return path


@functools.cache
def whole(text: str, source: Path) -> NDArray[np.uint8]:
    """What a run of the whole image gives."""
    return run(Pipeline.parse(text), source, limits=ENDLESS).image.pixels.astype(np.uint8, copy=False)


def order_of(
    text: str, source: Path, folder: Path, *, ranks: int = 0, tile: int = 0, timeout_s: float = 60.0
) -> TiledOrder:
    """An order that a worker would give."""
    folder.mkdir(exist_ok=True)
    return TiledOrder(
        pipeline=Pipeline.parse(text).to_json(),
        source=str(source),
        folder=str(folder),
        target=str(folder / "result"),
        limits=TiledLimits(10**10, 10**10, 10**6, timeout_s),
        memory_bytes=2 * 10**9,
        ranks=ranks,
        threads=2 if ranks == 0 else 1,
        tile=tile,
        identity=file_identity(source),
    )
