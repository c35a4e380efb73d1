"""One sweep at work: computes tiles from pixels, without reading or writing any. What every runner does is here.

Exceptions of operations come out as errors of the tree, with the step's number, as they do from a whole run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pixelmill.errors import RunError
from pixelmill.images.regions import Region
from pixelmill.operations.failing import translated
from pixelmill.operations.passes import Array, Form, Look, Map, Move, Place, Survey
from pixelmill.tiling.program import Program
from pixelmill.tiling.stage import Link, Run, Stage, Step


class Done(NamedTuple):
    """What a tile has come to: its pixels at the end of the sweep, and what was seen, by the survey's number."""

    core: Region
    pixels: Array
    looks: tuple[tuple[int, Place, Look], ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """A stage of a program, with what earlier ones have concluded, by the survey's number. Threads may share it."""

    program: Program
    stage: Stage
    conclusions: Mapping[int, Any]

    def wanted(self, number: int) -> Region:
        """The part of the image at the start that this tile needs."""
        return self.stage.trace(self.stage.grid.core(number))[1]

    def tile(self, number: int, pixels: Array) -> Done:
        """The tile, from the pixels of :meth:`wanted`.

        Raises :class:`NotApplicable`, :class:`OutOfMemory`, :class:`RunError`.
        """
        core = self.stage.grid.core(number)
        looks: list[tuple[int, Place, Look]] = []
        for step in self.stage.trace(core)[0]:
            if isinstance(step.work, Run):
                place = Place(step.work.size, step.core, step.given, number, self.stage.grid.columns)
                for link in step.work.links:
                    pixels = self._link(link, pixels, place, looks)
                pixels = step.core.of(pixels, step.given)
            else:
                pixels = self._between(step.work, pixels, step, number)
        return Done(core, pixels, tuple(looks))

    def _between(self, link: Link, pixels: Array, step: Step, number: int) -> Array:
        """A move, or a finish of the tile that was looked at."""
        action = link.action
        with translated(link.step, link.operation, link.before.size):
            if isinstance(action, Move):
                pixels = action.apply(pixels, step.given, step.core)
            else:
                assert isinstance(action, Survey)
                assert action.finish is not None
                grid = self.stage.grid
                place = Place(grid.size, step.core, step.core, number, grid.columns)
                pixels = action.finish(np.ascontiguousarray(pixels), place, self.conclusions[link.survey])
        _check(link, pixels, step.core)
        return pixels

    def _link(self, link: Link, pixels: Array, place: Place, looks: list[tuple[int, Place, Look]]) -> Array:
        """One pass over an extended tile."""
        action = link.action
        with translated(link.step, link.operation, link.before.size):
            if isinstance(action, Map):
                pixels = action.apply(pixels, place)
            elif link.role == "look":
                assert isinstance(action, Survey)
                look = action.look(pixels, place)
                _check_kept(link, look, place.core)
                looks.append((link.survey, place, look))
                return pixels
            else:
                assert isinstance(action, Survey)
                assert action.finish is not None
                pixels = action.finish(pixels, place._replace(core=place.extended), self.conclusions[link.survey])
        _check(link, pixels, place.extended)
        return pixels


def _shape(form: Form, region: Region) -> tuple[int, ...]:
    plane = (region.height, region.width)
    return plane if form.channels == 1 else (*plane, form.channels)


def _check(link: Link, pixels: Array, region: Region) -> None:
    """A pass that gives something else than it declares would spoil a file of gigabytes."""
    wanted = _shape(link.after, region)
    if pixels.shape != wanted or pixels.dtype != link.after.dtype:
        raise RunError(
            f"Step {link.step}: {link.operation} ({link.name}) gave {pixels.dtype} of {pixels.shape} for a tile, where "
            f"{link.after.dtype} of {wanted} was due. That is a mistake in the operation; please report it.",
            step=link.step,
        )


def _check_kept(link: Link, look: Look, core: Region) -> None:
    survey = link.action
    assert isinstance(survey, Survey)
    found = None if look.kept is None else (look.kept.shape, look.kept.dtype)
    due = None if survey.keeps is None else ((core.height, core.width), np.dtype(survey.keeps))
    if found != due:
        raise RunError(
            f"Step {link.step}: {link.operation} ({link.name}) kept {found} of a tile, where {due} was due. That is a "
            "mistake in the operation; please report it.",
            step=link.step,
        )
