"""The table of operations. A family's module is loaded when one of its operations is first asked for."""

from __future__ import annotations

import difflib
import functools
import importlib
from collections.abc import Mapping

from pixelmill.errors import UnknownOperation
from pixelmill.operations.operation import Operation

TABLE: Mapping[str, tuple[str, str]] = {
    "resize": ("pixelmill.operations.geometry", "Resize"),
    "crop": ("pixelmill.operations.geometry", "Crop"),
    "rotate": ("pixelmill.operations.geometry", "Rotate"),
    "flip": ("pixelmill.operations.geometry", "Flip"),
    "grayscale": ("pixelmill.operations.color", "Grayscale"),
    "brightness": ("pixelmill.operations.color", "Brightness"),
    "contrast": ("pixelmill.operations.color", "Contrast"),
    "gamma": ("pixelmill.operations.color", "Gamma"),
    "invert": ("pixelmill.operations.color", "Invert"),
    "gaussian": ("pixelmill.operations.filters", "Gaussian"),
    "sharpen": ("pixelmill.operations.filters", "Sharpen"),
    "canny": ("pixelmill.operations.edges", "Canny"),
    "sketch": ("pixelmill.operations.artistic", "Sketch"),
    "watermark": ("pixelmill.operations.composition", "Watermark"),
    "watershed": ("pixelmill.operations.segmentation", "Watershed"),
    "components": ("pixelmill.operations.segmentation", "Components"),
    "grabcut": ("pixelmill.operations.segmentation", "Grabcut"),
    "faces": ("pixelmill.operations.detection", "Faces"),
    "features": ("pixelmill.operations.detection", "Features"),
    "match": ("pixelmill.operations.detection", "MatchImages"),
    "codes": ("pixelmill.operations.detection", "Codes"),
    "info": ("pixelmill.operations.analysis", "Info"),
    "histogram": ("pixelmill.operations.analysis", "Histogram"),
    "colors": ("pixelmill.operations.analysis", "Colors"),
    "phash": ("pixelmill.operations.analysis", "Phash"),
    "blurhash": ("pixelmill.operations.analysis", "Blurhash"),
    "sharpness": ("pixelmill.operations.analysis", "Sharpness"),
}
"""Name to module and class, in the order of help and docs."""


@functools.cache  # bounded by the table
def _load(name: str) -> type[Operation]:
    module, cls = TABLE[name]
    loaded: type[Operation] = getattr(importlib.import_module(module), cls)
    return loaded


def operation_named(name: str) -> type[Operation]:
    """The class of that operation; raises :class:`UnknownOperation` with the nearest names."""
    if name in TABLE:
        return _load(name)
    nearest = nearest_names(name)
    hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
    raise UnknownOperation(
        f"There is no operation {name[:80]!r}.{hint} `pixelmill operations` lists all.",
        operation=name[:80],
        nearest=nearest,
    )


def nearest_names(name: str) -> list[str]:
    """At most three names that look or start alike, the nearest first."""
    key = name[:80].lower()
    if key in TABLE:
        return [key]
    return difflib.get_close_matches(key, TABLE, n=3, cutoff=0.5)


def all_operations() -> tuple[type[Operation], ...]:
    """Every operation, in the table's order; loads all families."""
    return tuple(_load(name) for name in TABLE)
