"""A contact sheet as a source: a document that names its cells, thumbnails that come beside it, one image to write.

A sheet is composed where images are worked on (a process of the pool), from what was decoded there before. Both ends
are here: the document that a service writes, and what a pool process makes of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pixelmill.errors import NotApplicable
from pixelmill.images.decode import decode
from pixelmill.images.image import EVERYTHING
from pixelmill.images.limits import Limits
from pixelmill.operations.arguments import build
from pixelmill.operations.montage import Cell, Montage, grid, paint
from pixelmill.pipelines.outcome import Outcome
from pixelmill.pipelines.output import Output
from pixelmill.pipelines.run import run
from pixelmill.pipelines.spec import Pipeline

FORMAT = "bmp"
"""Of thumbnails on their way to a sheet: exact, at most 3 bytes a pixel, in sRGB, and quick to write and read."""
HEAD_BYTES = 2_048
"""More than a thumbnail has beside its pixels: a header and a palette."""
MAX_LABEL = 300
MAX_PIXELS: Mapping[str, int] = {"webp": 25_000_000, "avif": 16_000_000, "gif": 25_000_000, "auto": 16_000_000}
"""Of a sheet in formats whose libraries hold it several times over (see ``docs/decisions``)."""


@dataclass(frozen=True, slots=True)
class SheetCell:
    """One cell: the source's name, and the thumbnail by its key, or why there is none."""

    name: str
    key: str | None
    note: str = ""


def sheet_limits(output: Output, limits: Limits) -> Limits:
    """What a sheet of that format may have: no more than the format holds, and its library can write."""
    target = output.target(None)
    pixels = MAX_PIXELS.get(target.name, limits.max_pixels)
    return replace(limits, max_side=min(limits.max_side, target.max_side), max_pixels=min(limits.max_pixels, pixels))


def thumbnail_pipeline(montage: Montage) -> Pipeline:
    """What makes the thumbnail of a result; decodes no more than it needs."""
    small = Pipeline().resize(montage.cell_width, montage.cell_height)
    return small.format(FORMAT, background=montage.background)


def thumbnail_bytes(montage: Montage) -> int:
    """More bytes than any thumbnail has; rows are padded to whole groups of four bytes."""
    return 3 * (montage.cell_width + 1) * montage.cell_height + HEAD_BYTES


def write_sheet(montage: Montage, cells: Sequence[SheetCell]) -> bytes:
    """The document that :func:`run_sheet` reads; names are cut to their last :data:`MAX_LABEL` characters."""
    rows = [[cell.name[-MAX_LABEL:], cell.key, cell.note] for cell in cells]
    return json.dumps({"montage": montage.model_dump(), "cells": rows}).encode()


def run_sheet(pipeline: Pipeline, document: bytes, *, limits: Limits, images: Mapping[str, bytes | Path]) -> Outcome:
    """Compose the sheet and run ``pipeline`` (its format, usually) over it. The data say what is in it.

    Raises :class:`LimitExceeded` for a sheet that is too large, and what decoding and ``pipeline`` raise.
    """
    record = json.loads(document)
    montage = build(Montage, record["montage"], "montage", strict=True)
    cells = [SheetCell(*row) for row in record["cells"]]
    places = grid(len(cells), montage, limits=sheet_limits(pipeline.output, limits))
    outcome = run(pipeline, paint(places, montage, _decoded(cells, images, limits)), limits=limits)
    laid = {
        "cells": len(cells),
        "columns": places.columns,
        "rows": places.rows,
        "marked": sum(cell.key is None for cell in cells),
    }
    return replace(outcome, data={**outcome.data, "montage": laid})


def _decoded(cells: Sequence[SheetCell], images: Mapping[str, bytes | Path], limits: Limits) -> Iterator[Cell]:
    for cell in cells:
        body = None if cell.key is None else images[cell.key]
        if isinstance(body, Path):
            raise NotApplicable("The thumbnails of a sheet travel as bytes, not as files.", operation="montage")
        yield Cell(cell.name, None if body is None else decode(body, EVERYTHING, limits), cell.note)
