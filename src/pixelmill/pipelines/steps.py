"""The steps of a plan on pixels."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from pixelmill.images.image import Image
from pixelmill.models.model import Model
from pixelmill.operations.failing import translated
from pixelmill.operations.operation import Operation
from pixelmill.operations.parameters import Font
from pixelmill.operations.plain_opencv import without_ipp
from pixelmill.pipelines.plan import Plan, check_size


@dataclass(frozen=True, slots=True)
class Given:
    """What stands for the references of a pipeline: pixels, fonts, and models (None: an optional one is not here)."""

    images: Mapping[str, Image] = field(default_factory=dict)
    fonts: Mapping[str, Font] = field(default_factory=dict)
    models: Mapping[str, Model | None] = field(default_factory=dict)

    def to(self, action: Operation) -> Operation:
        """The operation with them in place."""
        if self.images:
            action = action.with_images(self.images)
        if self.fonts:
            action = action.with_fonts(self.fonts)
        return action.with_models(self.models) if self.models else action


_NOTHING = Given()


def apply(chosen: Plan, image: Image, given: Given = _NOTHING) -> tuple[Image, dict[str, Any]]:
    """The plan's steps on decoded pixels; and the data that they found.

    Raises :class:`NotApplicable`, :class:`LimitExceeded` (behind an operation whose result depends on pixels),
    :class:`OutOfMemory`, :class:`ModelError` or :class:`RunError`.
    """
    found: dict[str, Any] = {}
    for step in chosen.steps:
        action = step.action
        if isinstance(action, Operation):
            action = given.to(action)
        # What also runs in tiles gives the same there; resizing is not, and twice as fast with IPP.
        plain = nullcontext() if action.facts().kind == "geometric" else without_ipp()
        with translated(step.number, action.name, step.before), plain:
            if step.limits is not None and isinstance(action, Operation):  # the planner could not know the size
                check_size(action.size(image.size), step.limits, step.number, action.name, chosen.frames)
            image, data = action.apply(image)
        if data is not None:
            found[free_key(action.name, found)] = data
    return image, found


def free_key(name: str, found: Mapping[str, Any]) -> str:
    """``name``, or ``name-2``, ``name-3`` where it is taken."""
    count, key = 1, name
    while key in found:
        count += 1
        key = f"{name}-{count}"
    return key
