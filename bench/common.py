"""What the benchmarks share: photographs, the bare kernel, CPU seconds of a process tree, tables.

The bare kernel is the least code that does the work of `grayscale/resize:256,256,fit=fill/format:jpeg`: a luma-only,
scaled JPEG decode, one `cv2.resize`, one JPEG encode. Everything above it is what a service costs.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("VIPS_CONCURRENCY", "1")

import cv2
import numpy as np
import psutil
import simplejpeg

cv2.setNumThreads(1)

PIPELINE = "grayscale/resize:256,256,fit=fill/format:jpeg,quality=80"
SIZES = ((1200, 800), (1500, 997), (2040, 1536))
DEFAULT_PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "rocket.jpg", "retina.jpg")


def photographs(folder: str | None) -> list[bytes]:
    """JPEG photographs of the three sizes: those of `folder`, else scikit-image's, resized.

    Photographs in `folder` that have other sizes are left out, so that everybody measures the same thing.
    """
    if folder:
        files = sorted(Path(folder).glob("*.jp*g"))
        chosen = [data for data in (file.read_bytes() for file in files) if _size(data) in SIZES]
        if not chosen:
            sizes = ", ".join(f"{w}x{h}" for w, h in SIZES)
            raise SystemExit(f"no JPEG of {sizes} in {folder}")
        return chosen
    import skimage

    data = Path(skimage.__file__).parent / "data"
    made = []
    for index, name in enumerate(DEFAULT_PHOTOS):
        pixels = cv2.cvtColor(cv2.imread(str(data / name)), cv2.COLOR_BGR2RGB)
        resized = cv2.resize(pixels, SIZES[index % len(SIZES)], interpolation=cv2.INTER_CUBIC)
        made.append(simplejpeg.encode_jpeg(np.ascontiguousarray(resized), quality=88, colorsubsampling="420"))
    return made


def _size(data: bytes) -> tuple[int, int]:
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    return width, height


def variants(images: Sequence[bytes], count: int) -> list[bytes]:
    """`count` files with distinct bytes (a comment segment differs), so that no cache can help."""
    made = []
    for index in range(count):
        body = images[index % len(images)]
        comment = f"variant {index}".encode()
        made.append(body[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + body[2:])
    return made


def kernel(data: bytes, width: int = 256, height: int = 256, quality: int = 80) -> bytes:
    """The bare kernel."""
    gray = simplejpeg.decode_jpeg(data, colorspace="GRAY", min_width=width, min_height=height, min_factor=1)
    small = cv2.resize(gray[..., 0], (width, height), interpolation=cv2.INTER_AREA)
    return bytes(simplejpeg.encode_jpeg(small[..., None], quality=quality, colorspace="GRAY"))


def tree_cpu(pid: int) -> float:
    """User and system CPU seconds of a process and its descendants, ended and waited-for children included."""
    total = 0.0
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return total
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def tree_rss(pid: int) -> int:
    """Proportional resident bytes (PSS: shared pages are counted once) of a process and its descendants."""
    root = psutil.Process(pid)
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total


def cpu_of(work: Callable[[], object]) -> float:
    """CPU seconds of this process, all threads, while `work` runs."""
    start = time.process_time()
    work()
    return time.process_time() - start


def median(values: Iterable[float]) -> float:
    """The median."""
    return statistics.median(values)


def machine(*packages: str) -> str:
    """One line on where this was measured."""
    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown CPU"
    )
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{os.cpu_count()} cores ({cpu}), {platform.system()}, Python {platform.python_version()}, {versions}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def say(text: str) -> None:
    """Progress, to stderr."""
    print(text, file=sys.stderr, flush=True)
