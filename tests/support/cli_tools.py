"""What the tests of the command line share beside fixtures."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

Cli = Callable[..., "subprocess.CompletedProcess[bytes]"]


def clean_environment() -> dict[str, str]:
    """Without settings of the developer's own; the tests' Pixelmill must be found from any folder."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PIXELMILL_")}
    path = [str(Path(entry).absolute()) for entry in sys.path if entry]
    return {**ours, "PYTHONPATH": os.pathsep.join(path), "NO_COLOR": "1", "COLUMNS": "100"}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "pixelmill", *map(str, arguments)]


def picture(index: int, width: int = 160, height: int = 120, suffix: str = ".jpg") -> bytes:
    """A small picture, different for every index."""
    random = np.random.default_rng(index)
    pixels = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (width, height))
    return bytes(cv2.imencode(suffix, pixels)[1])
