"""The bar of a run in tiles: how far it is, how fast, in how much memory, and how long it will take."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from pixelmill.cli.progress import REFRESH_PER_SECOND, Drawn
from pixelmill.tiling.progress import Progress

if TYPE_CHECKING:
    from rich.progress import TaskID


class TileBar(Drawn):
    """A bar of tiles, with megapixels a second, memory and time left. Nothing is drawn unless it is shown."""

    def __init__(self, name: str, *, shown: bool) -> None:
        self._task: TaskID
        self._process, self._started = psutil.Process(), time.perf_counter()
        if shown:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[told]}"),
                console=Console(stderr=True),
                refresh_per_second=REFRESH_PER_SECOND,
            )
            self._task = self._progress.add_task(Path(name).name, total=1.0, told="")

    def update(self, progress: Progress) -> None:
        """Show how far it is."""
        if self._progress is None:
            return
        told = line_of(progress, time.perf_counter() - self._started, self._process.memory_info().rss)
        self.show(progress.share, told)

    def show(self, share: float, told: str) -> None:
        """Draw that much of it, with some words."""
        if self._progress is not None:
            self._progress.update(self._task, completed=share, told=told)


def line_of(progress: Progress, seconds: float, memory: int) -> str:
    """What stands behind the bar; ``memory`` is resident bytes."""
    swept = progress.share * progress.all_pixels
    rate = f"{swept / seconds / 1e6:,.0f} MP/s" if seconds > 0 else ""
    left = seconds * (1 - progress.share) / progress.share if progress.share > 0 else 0.0
    sweep = f"sweep {progress.stage}/{progress.stages}, " if progress.stages > 1 else ""
    clock = f"{int(left) // 3600}:{int(left) // 60 % 60:02}:{int(left) % 60:02} left"
    return f"{sweep}{progress.tiles:,}/{progress.of_tiles:,} tiles  {rate}  {memory / 1e6:,.0f} MB  {clock}"
