"""Begins a result that is written by regions: the door to the writers of formats, chosen by the name of the result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixelmill.images.encoders import EncodeOptions
from pixelmill.images.region_options import TileTiffOptions, region_format, region_options
from pixelmill.images.region_tiff_writer import tiff_writer
from pixelmill.images.regions import Raster, RegionWriter


def create_regions(
    dest: Path,
    raster: Raster,
    *,
    fmt: str | None = None,
    options: EncodeOptions | Mapping[str, Any] | None = None,
    if_absent: bool = False,
) -> RegionWriter:
    """A writer of the result ``dest``, beside that name until it is finished.

    Args:
        dest: the file (of Deep Zoom its .dzi, of Zarr its folder); one that is there is replaced at the end.
        raster: what the pixels will be.
        fmt: one of ``region_options.REGION_FORMATS``; by default the name's extension tells.
        options: names and values of that format's model, or one.
        if_absent: raise :class:`ObjectExists` in ``finish`` if there is a result of that name by then.

    Raises:
        UnknownOperation, InvalidParameter, NotApplicable (the format can't hold them), MissingExtra, StorageError.
    """
    chosen = region_options(fmt or region_format(dest.name), options)
    if isinstance(chosen, TileTiffOptions):
        return tiff_writer(dest, raster, chosen, if_absent=if_absent)
    raise NotImplementedError
