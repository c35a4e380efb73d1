"""The table of operations, by name: where each lives. A family's module loads when one of them is first used."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from functools import cache

from pixelmill.errors import UnknownOperation
from pixelmill.operations.operation import Operation

OPERATIONS: Mapping[str, str] = {
    "brightness": "color.Brightness",
    "canny": "edges.Canny",
    "contrast": "color.Contrast",
    "crop": "geometry.Crop",
    "flip": "geometry.Flip",
    "gamma": "color.Gamma",
    "gaussian": "filters.Gaussian",
    "grayscale": "color.Grayscale",
    "invert": "color.Invert",
    "resize": "resize.Resize",
    "rotate": "geometry.Rotate",
    "sharpen": "filters.Sharpen",
    "sketch": "artistic.Sketch",
    "watermark": "composition.Watermark",
}


@cache
def operation_named(name: str) -> type[Operation]:
    """The class of an operation; raises :class:`UnknownOperation` that lists the nearest known names."""
    place = OPERATIONS.get(name)
    if place is None:
        raise unknown(name, OPERATIONS)
    module, _, attribute = place.partition(".")
    found: type[Operation] = getattr(importlib.import_module(f"pixelmill.operations.{module}"), attribute)
    assert found.name == name, f"the table calls {found.__name__} {name!r}, the class {found.name!r}"
    return found


def example_of(operation: type[Operation]) -> Operation:
    """The operation with the examples of its parameters: what pages show first, and docs draw."""
    fields = operation.model_fields.items()
    return operation(**{key: field.examples[0] for key, field in fields if field.examples})


def all_operations() -> tuple[type[Operation], ...]:
    """All operations, by name."""
    return tuple(operation_named(name) for name in sorted(OPERATIONS))


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that somebody who wrote ``name`` may have meant."""
    return difflib.get_close_matches(name.lower(), list(known), n=3, cutoff=0.5)


def unknown(name: str, known: Iterable[str]) -> UnknownOperation:
    """The error for an operation that is not there."""
    close = nearest(name, known)
    hint = f"Did you mean {' or '.join(close)}?" if close else "`pixelmill operations` lists all."
    return UnknownOperation(f"There is no operation {name!r}. {hint}", operation=name, nearest=close)
