"""Where the result of a run in tiles goes: by regions where its format is written so, else from memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixelmill.errors import LimitExceeded, NotApplicable, UnknownOperation
from pixelmill.images.encode import encode
from pixelmill.images.encoders import AutoOptions
from pixelmill.images.formats import FORMATS, UNDECIDED, format_of_name
from pixelmill.images.image import Image, Size
from pixelmill.images.limits import Limits
from pixelmill.images.region_memory import MemoryWriter
from pixelmill.images.region_options import region_format
from pixelmill.images.region_places import ResultPlace
from pixelmill.images.region_writers import create_regions, region_unit
from pixelmill.images.regions import Raster, RegionWriter
from pixelmill.pipelines.output import Output


class Target:
    """Where a result goes, and in which format: by regions where that format is written so, else from memory."""

    def __init__(self, output: Output, place: ResultPlace | None, whole: Limits, *, held: bool) -> None:
        self.place, self._output, self._whole = place, output, whole
        self._held: MemoryWriter | None = None
        self._raster: Raster | None = None
        name = self._by_regions()
        self._name = None if held and name in ("png", "jpeg") else name

    def _by_regions(self) -> str | None:
        """The format of :mod:`pixelmill.images.region_options`, None for one that is encoded from memory."""
        if self.place is None:
            return None
        try:
            name = region_format(self.place.name)
        except UnknownOperation:
            return None
        return name if self._output.format in (None, name) else None

    @property
    def _chosen(self) -> Mapping[str, Any]:
        """Options that were given; defaults are those of the writer of regions."""
        options = self._output.options
        return {} if options is None else options.model_dump(exclude_unset=True)

    def unit_of(self, raster: Raster) -> Size:
        """Of the writer that is going to be made."""
        if self._name is None:
            return Size(1, 1)
        try:
            return region_unit(raster, self._name, self._chosen)
        except NotApplicable:  # of pixels on the way, which need not be what the format can hold
            return Size(1, 1)

    def check(self, raster: Raster) -> None:
        """Before anything runs: whether the format holds the result, or it can be held here.

        Raises :class:`NotApplicable`, :class:`InvalidParameter`, :class:`LimitExceeded`.
        """
        if self._name is not None:
            region_unit(raster, self._name, self._chosen)
            return
        limits = self._whole
        if raster.size.pixels > limits.max_pixels:
            raise LimitExceeded(
                f"The result has {raster.size.width:,}×{raster.size.height:,} pixels, more than is held as a whole "
                f"({limits.max_pixels:,}). Write it in tiles, to a file that ends in .tif for example.",
                limit="pixels",
                value=raster.size.pixels,
                maximum=limits.max_pixels,
            )

    def writer(self, raster: Raster) -> RegionWriter:
        """Begin it."""
        self._raster = raster
        if self._name is not None:
            assert self.place is not None
            return create_regions(self.place, raster, fmt=self._name, options=self._chosen)
        self.check(raster)
        self._held = MemoryWriter(raster, Size(1, 1))
        return self._held

    def end(self) -> tuple[bytes | None, str, Size]:
        """Behind the run: the bytes, where they go to no file; format and size."""
        assert self._raster is not None
        if self._held is None:
            assert self._name is not None
            return None, self._name, self._raster.size
        name, body = self._encoded(self._held.image)
        if self.place is None:
            return body, name, self._raster.size
        result = self.place.file(len(body))
        try:
            result.append(body)
            result.finish()
        except BaseException:
            result.abort()
            raise
        return None, name, self._raster.size

    def _encoded(self, image: Image) -> tuple[str, bytes]:
        target = self._output.target(None)
        if target is UNDECIDED:
            from pixelmill.images.auto import encode_auto

            assert isinstance(self._output.options, AutoOptions)
            return encode_auto(image, self._output.options)
        if self._output.format is None and self.place is not None:
            named = format_of_name(Path(self.place.name))
            target = FORMATS[named.name] if named is not None else target
        return target.name, encode(image, target.name, self._output.options)
