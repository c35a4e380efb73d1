"""Tiles of RGBA: whether anything shines through is asked of the whole image, for it decides how all of it is filtered.

See :func:`pixelmill.operations.pixels.filtered`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pixelmill.operations.operation import Operation
from pixelmill.operations.passes import Array, Form, Look, Map, Pass, Place, Survey
from pixelmill.operations.pixels import is_opaque


class Filter(Protocol):
    """What an operation does to pixels. ``opaque`` as for :func:`pixelmill.operations.pixels.filtered`."""

    def __call__(self, pixels: Array, opaque: bool | None = None) -> Array:
        """The same size and depth."""
        ...


def by_opacity(form: Form, passes: Callable[[bool | None], tuple[Pass, ...]]) -> tuple[Pass, ...]:
    """``passes(opaque)``, after a look at RGBA; there is nothing to look at in other images."""
    if form.channels != 4:
        return passes(None)

    def look(pixels: Array, place: Place) -> Look:
        return Look(is_opaque(place.core.of(pixels, place.extended)))

    return (
        Survey(
            "opacity",
            look,
            lambda told: told[0][1],
            join=lambda one, other: one and other,
            then=passes,
            expected=passes(False),
            ns_per_pixel=0.1,
            memory_factor=1.0,
        ),
    )


def local_by_opacity(operation: Operation, form: Form, run: Filter) -> tuple[Pass, ...]:
    """A map with the operation's halo."""
    facts = operation.facts()

    def passes(opaque: bool | None) -> tuple[Pass, ...]:
        def apply(pixels: Array, place: Place) -> Array:
            del place
            return run(pixels, opaque)

        weighed = opaque is False
        return (
            Map(
                operation.name,
                apply,
                facts.halo,
                ns_per_pixel=facts.ns_per_pixel,
                memory_factor=max(facts.memory_factor, facts.alpha_memory_factor * weighed),
            ),
        )

    return by_opacity(form, passes)
