"""What a run in tiles takes and gives, beside the pipeline: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pixelmill.images.byte_sources import ByteSource
from pixelmill.images.image import Image, Size
from pixelmill.images.limits import Limits, RegionLimits
from pixelmill.images.regions import RegionReader
from pixelmill.tiling.stage import Stage

TiledSource: TypeAlias = str | Path | bytes | Image | ByteSource | RegionReader
"""A path, the bytes of a file, pixels, an object that is read by ranges, or any reader of regions."""


@dataclass(frozen=True, slots=True)
class TiledOptions:
    """How a run in tiles is done.

    ``tile``: side of the tiles in pixels (about; None: as planned). ``workers``: tiles computed at a time. ``memory``:
    resident bytes that the process may have at the peak; what is planned keeps to it where it can. ``scratch``: folder
    of intermediate pixels (None: that of the result's file, else that for temporary files); ``scratch_bytes``: the most
    there. ``limits`` are of images in tiles; ``whole`` and ``whole_memory`` of what is held as a whole.
    """

    tile: int | None = None
    workers: int = 1
    memory: int = 1_000_000_000
    scratch: Path | None = None
    scratch_bytes: int = 100_000_000_000
    limits: RegionLimits = field(default_factory=RegionLimits)
    whole: Limits = field(default_factory=Limits)
    whole_memory: int = 1_000_000_000
    overwrite: bool = True


@dataclass(frozen=True, slots=True)
class TiledOutcome:
    """What a run in tiles gave: a file at ``path``, an object, or ``bytes`` where none was named; and what was found.

    ``format`` and ``size`` are None where the pipeline gives data only. ``seconds`` is wall time of the run.
    """

    path: Path | None
    bytes: bytes | None
    format: str | None
    size: Size | None
    source_size: Size
    data: Mapping[str, Any]
    seconds: float
    stages: tuple[Stage, ...] = field(repr=False)
    """The sweeps that were planned."""
