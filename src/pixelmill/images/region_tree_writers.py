"""Writes results of one file a tile: Deep Zoom, with a page that shows it, and Zarr.

Sources: Microsoft's Deep Zoom file format (2008); Zarr core specification 3.0, with the codecs bytes, gzip and zstd;
Zarr storage specification 2.
"""

from __future__ import annotations

import base64
import html
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from pixelmill.errors import RunError
from pixelmill.images import color, tile_codecs
from pixelmill.images.image import Size
from pixelmill.images.pyramids import Pyramid, level_sizes
from pixelmill.images.region_grid import Grid, check_count, check_whole
from pixelmill.images.region_options import DeepZoomOptions, ZarrOptions
from pixelmill.images.region_trees import Tree
from pixelmill.images.regions import Raster, Region
from pixelmill.images.samples import color_of_hex, flatten, to_uint8


class DeepZoomWriter:
    """A :class:`RegionWriter` of a Deep Zoom image called ``stem``, in sRGB with 8 bits a sample."""

    in_order = False

    def __init__(
        self, tree: Tree, stem: str, raster: Raster, options: DeepZoomOptions, folder: Path | None = None
    ) -> None:
        self._tree, self._stem, self._raster, self._options = tree, stem, raster, options
        self._unit = Size(options.tile, options.tile)
        sizes = level_sizes(raster.size, 1)
        self._grids = [Grid(size, self._unit) for size in sizes]
        check_count(self._grids[0])
        self._written = [np.zeros(len(grid), np.bool_) for grid in self._grids]
        self._pyramid = Pyramid(raster, options.tile, sizes, self._put, folder)
        self._extension = "jpg" if options.tiles == "jpeg" else "png"

    @property
    def unit(self) -> Size:
        """A tile."""
        return self._unit

    def write(self, region: Region, pixels: NDArray[Any]) -> None:
        """Store the tiles of a region, and those of smaller levels that have all their parts."""
        for number, place in self._grids[0].units(region):
            tile = place.of(pixels, region)
            self._put(0, number, tile)
            self._pyramid.feed(0, number, tile)

    def finish(self) -> None:
        """Store the page, and the file that names the size."""
        check_whole(sum(map(int, map(np.count_nonzero, self._written))), sum(map(len, self._grids)))
        self._pyramid.close()
        size, options = self._raster.size, self._options
        if options.viewer:
            self._tree.put(f"{self._stem}.html", viewer_page(self._stem, size, options.tile, self._extension).encode())
        image = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<Image xmlns="http://schemas.microsoft.com/deepzoom/2008"'
            f' Format={quoteattr(self._extension)} Overlap="0" TileSize="{options.tile}">'
            f'<Size Width="{size.width}" Height="{size.height}"/></Image>\n'
        )
        self._tree.finish(f"{self._stem}.dzi", image.encode())

    def abort(self) -> None:
        """Take everything back."""
        self._pyramid.close()
        self._tree.abort()

    def _put(self, level: int, number: int, pixels: NDArray[Any]) -> None:
        if self._written[level][number]:
            raise RunError(f"Tile {number:,} of the result was written twice.")
        row, column = divmod(number, self._grids[level].across)
        below = len(self._grids) - 1 - level
        self._tree.put(f"{self._stem}_files/{below}/{column}_{row}.{self._extension}", self._encoded(pixels))
        self._written[level][number] = True

    def _encoded(self, pixels: NDArray[Any]) -> bytes:
        shown = color.to_srgb(to_uint8(pixels), self._raster.icc, "gray" if pixels.ndim == 2 else "rgb")
        if self._options.tiles == "png":
            if shown.ndim == 3:
                shown = cv2.cvtColor(shown, cv2.COLOR_RGB2BGR if shown.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
            return bytes(cv2.imencode(".png", np.ascontiguousarray(shown))[1])
        if shown.ndim == 3 and shown.shape[2] == 4:
            shown = flatten(shown, color_of_hex(self._options.background))
        shown = np.ascontiguousarray(shown)
        if shown.ndim == 2:
            return bytes(simplejpeg.encode_jpeg(shown[..., np.newaxis], self._options.quality, "GRAY", "Gray"))
        return bytes(simplejpeg.encode_jpeg(shown, self._options.quality, "RGB", self._options.subsampling))


def viewer_page(stem: str, size: Size, tile: int, extension: str) -> str:
    """A page that pans and zooms over the tiles beside it: it needs no server, and asks the network for nothing."""
    facts = {"folder": f"{stem}_files", "width": size.width, "height": size.height, "tile": tile, "format": extension}
    page = resources.files("pixelmill.images").joinpath("deep_zoom.html").read_text("utf-8")
    # "<" can't end the script that holds the facts.
    values = {"title": html.escape(stem), "facts": json.dumps(facts).replace("<", "\\u003c")}
    return re.sub(r"\{\{(title|facts)\}\}", lambda found: values[found[1]], page)


class ZarrWriter:
    """A :class:`RegionWriter` of a Zarr array in the folder ``name``: rows, columns and, of colors, channels."""

    in_order = False

    def __init__(self, tree: Tree, name: str, raster: Raster, options: ZarrOptions) -> None:
        if options.compression == "zstd":
            tile_codecs.pack(b"", tile_codecs.ZSTD, options.level)  # raises where it can't
        self._tree, self._name, self._raster, self._options = tree, name, raster, options
        self._unit = Size(options.tile, options.tile)
        self._grid = Grid(raster.size, self._unit)
        check_count(self._grid)
        self._written = np.zeros(len(self._grid), np.bool_)

    @property
    def unit(self) -> Size:
        """A chunk."""
        return self._unit

    def write(self, region: Region, pixels: NDArray[Any]) -> None:
        """Store the chunks of a region; those at the edges are filled with zeros."""
        tile = self._options.tile
        for number, place in self._grid.units(region):
            if self._written[number]:
                raise RunError(f"Chunk {number:,} of the result was written twice.")
            chunk = np.zeros(self._raster.shape(Region(0, 0, tile, tile)), self._raster.dtype.newbyteorder("<"))
            chunk[: place.height, : place.width] = place.of(pixels, region)
            row, column = divmod(number, self._grid.across)
            places = [row, column] + [0] * (self._raster.channels > 1)
            key = "/".join(map(str, ["c", *places])) if self._options.version == 3 else ".".join(map(str, places))
            self._tree.put(f"{self._name}/{key}", self._packed(chunk.tobytes()))
            self._written[number] = True

    def finish(self) -> None:
        """Store what says what the chunks are."""
        check_whole(int(np.count_nonzero(self._written)), len(self._grid))
        attributes = {"icc": base64.b64encode(self._raster.icc).decode()} if self._raster.icc else {}
        if self._options.version == 3:
            self._tree.finish(f"{self._name}/zarr.json", _json(self._version_3() | {"attributes": attributes}))
            return
        self._tree.put(f"{self._name}/.zattrs", _json(attributes))
        self._tree.finish(f"{self._name}/.zarray", _json(self._version_2()))

    def abort(self) -> None:
        """Take everything back."""
        self._tree.abort()

    def _packed(self, chunk: bytes) -> bytes:
        if self._options.compression == "gzip":
            return tile_codecs.gzipped(chunk, self._options.level)
        return tile_codecs.pack(
            chunk, tile_codecs.ZSTD if self._options.compression == "zstd" else tile_codecs.NONE, self._options.level
        )

    def _shapes(self) -> tuple[list[int], list[int]]:
        tile, whole = self._options.tile, Region(0, 0, *self._raster.size)
        return list(self._raster.shape(whole)), list(self._raster.shape(Region(0, 0, tile, tile)))

    def _version_3(self) -> dict[str, Any]:
        shape, chunk = self._shapes()
        codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
        if self._options.compression == "gzip":
            codecs.append({"name": "gzip", "configuration": {"level": self._options.level}})
        if self._options.compression == "zstd":
            codecs.append({"name": "zstd", "configuration": {"level": self._options.level, "checksum": False}})
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": shape,
            "data_type": self._raster.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": codecs,
            "dimension_names": ["y", "x", "channel"][: len(shape)],
        }

    def _version_2(self) -> dict[str, Any]:
        shape, chunk = self._shapes()
        packing = self._options.compression
        return {
            "zarr_format": 2,
            "shape": shape,
            "chunks": chunk,
            "dtype": self._raster.dtype.newbyteorder("<").str,
            "compressor": None if packing == "none" else {"id": packing, "level": self._options.level},
            "fill_value": 0,
            "order": "C",
            "filters": None,
        }


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=2).encode()
