"""Begins a result that is written by regions: the door to the writers of formats, chosen by the name of the result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixelmill.images.encoders import EncodeOptions, JpegOptions, PngOptions
from pixelmill.images.image import Size
from pixelmill.images.region_bands_writer import BandsWriter, JpegBands, PngBands
from pixelmill.images.region_options import DeepZoomOptions, TileTiffOptions, ZarrOptions, region_format, region_options
from pixelmill.images.region_results import FileResult
from pixelmill.images.region_tiff_writer import tiff_writer
from pixelmill.images.region_tree_writers import DeepZoomWriter, ZarrWriter
from pixelmill.images.region_trees import FolderTree
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
    if isinstance(chosen, PngOptions | JpegOptions):
        coder = PngBands(raster, chosen) if isinstance(chosen, PngOptions) else JpegBands(raster, chosen)
        return BandsWriter(FileResult(dest, if_absent=if_absent), raster, coder)
    if isinstance(chosen, DeepZoomOptions):
        tree = FolderTree(dest.parent, dest.name, if_absent=if_absent)
        return DeepZoomWriter(tree, dest.stem, raster, chosen, dest.parent)
    assert isinstance(chosen, ZarrOptions)
    return ZarrWriter(FolderTree(dest.parent, dest.name, if_absent=if_absent), dest.name, raster, chosen)


def region_unit(raster: Raster, fmt: str, options: EncodeOptions | Mapping[str, Any] | None = None) -> Size:
    """The ``unit`` of the writer that :func:`create_regions` would give, without beginning anything."""
    chosen = region_options(fmt, options)
    if isinstance(chosen, PngOptions | JpegOptions):
        coder = PngBands(raster, chosen) if isinstance(chosen, PngOptions) else JpegBands(raster, chosen)
        return Size(raster.size.width, coder.rows)
    assert isinstance(chosen, TileTiffOptions | DeepZoomOptions | ZarrOptions)
    return Size(chosen.tile, chosen.tile)
