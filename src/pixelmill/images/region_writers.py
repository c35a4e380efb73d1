"""Begins a result that is written by regions: the door to the writers of formats, chosen by the name of the result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixelmill.images.encoders import EncodeOptions, JpegOptions, PngOptions
from pixelmill.images.image import Size
from pixelmill.images.region_bands_writer import BandsWriter, JpegBands, PngBands
from pixelmill.images.region_options import (
    DeepZoomOptions,
    TileTiffOptions,
    ZarrOptions,
    region_format,
    region_options,
)
from pixelmill.images.region_places import FolderPlace, ResultPlace
from pixelmill.images.region_tiff_writer import tiff_writer
from pixelmill.images.region_tree_writers import DeepZoomWriter, ZarrWriter
from pixelmill.images.regions import Raster, RegionWriter


def create_regions(
    dest: Path | ResultPlace,
    raster: Raster,
    *,
    fmt: str | None = None,
    options: EncodeOptions | Mapping[str, Any] | None = None,
    if_absent: bool = False,
) -> RegionWriter:
    """A writer of the result ``dest``, beside that name until it is finished.

    Args:
        dest: the file (of Deep Zoom its .dzi, of Zarr its folder); one that is there is replaced at the end. Or any
            :class:`ResultPlace`, which knows ``if_absent`` itself.
        raster: what the pixels will be.
        fmt: one of ``region_options.REGION_FORMATS``; by default the name's extension tells.
        options: names and values of that format's model, or one.
        if_absent: raise :class:`ObjectExists` in ``finish`` if there is a result of that name by then.

    Raises:
        UnknownOperation, InvalidParameter, NotApplicable (the format can't hold them), MissingExtra, StorageError.
    """
    place = FolderPlace(dest, if_absent=if_absent) if isinstance(dest, Path) else dest
    chosen = region_options(fmt or region_format(place.name), options)
    if isinstance(chosen, TileTiffOptions):
        return tiff_writer(place, raster, chosen)
    if isinstance(chosen, PngOptions | JpegOptions):
        coder = PngBands(raster, chosen) if isinstance(chosen, PngOptions) else JpegBands(raster, chosen)
        return BandsWriter(place.file(raster.bytes), raster, coder)
    assert isinstance(chosen, DeepZoomOptions | ZarrOptions)
    return _tree(place, raster, chosen)


def _tree(place: ResultPlace, raster: Raster, options: DeepZoomOptions | ZarrOptions) -> RegionWriter:
    stem = Path(place.name).stem
    if isinstance(options, DeepZoomOptions):
        last = f"{stem}.dzi"
    else:
        last = f"{place.name}/{'zarr.json' if options.version == 3 else '.zarray'}"
    tree = place.tree(last)
    try:
        if isinstance(options, DeepZoomOptions):
            return DeepZoomWriter(tree, stem, raster, options, place.scratch)
        return ZarrWriter(tree, place.name, raster, options)
    except BaseException:
        tree.abort()
        raise


def region_unit(raster: Raster, fmt: str, options: EncodeOptions | Mapping[str, Any] | None = None) -> Size:
    """The ``unit`` of the writer that :func:`create_regions` would give, without beginning anything."""
    chosen = region_options(fmt, options)
    if isinstance(chosen, PngOptions | JpegOptions):
        coder = PngBands(raster, chosen) if isinstance(chosen, PngOptions) else JpegBands(raster, chosen)
        return Size(raster.size.width, coder.rows)
    assert isinstance(chosen, TileTiffOptions | DeepZoomOptions | ZarrOptions)
    return Size(chosen.tile, chosen.tile)
