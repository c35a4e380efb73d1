"""The steps of a plan on pixels. Foreign exceptions of operations end here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2

from pixelmill.errors import NotApplicable, OutOfMemory, RunError
from pixelmill.images.image import Image
from pixelmill.operations.operation import Operation
from pixelmill.operations.parameters import Font
from pixelmill.pipelines.plan import Plan, PlannedStep, check_size


def apply(
    chosen: Plan,
    image: Image,
    images: Mapping[str, Image] | None = None,
    fonts: Mapping[str, Font] | None = None,
) -> tuple[Image, dict[str, Any]]:
    """The plan's steps on decoded pixels; and the data that they found.

    ``images`` are the pixels of references, ``fonts`` the fonts. Raises :class:`NotApplicable`,
    :class:`LimitExceeded` (behind an operation whose result depends on pixels), :class:`OutOfMemory` or
    :class:`RunError`.
    """
    found: dict[str, Any] = {}
    for step in chosen.steps:
        action = step.action
        if images and isinstance(action, Operation):
            action = action.with_images(images)
        if fonts and isinstance(action, Operation):
            action = action.with_fonts(fonts)
        try:
            if step.limits is not None and isinstance(action, Operation):  # the planner could not know the size
                check_size(action.size(image.size), step.limits, step.number, action.name, chosen.frames)
            image, data = action.apply(image)
        except NotApplicable as error:
            raise NotApplicable(
                f"Step {step.number}: {error.detail}", **{**error.context, "step": step.number}
            ) from error
        except MemoryError as error:
            raise _out_of_memory(step) from error
        except cv2.error as error:
            if error.code == cv2.Error.StsNoMem:
                raise _out_of_memory(step) from error
            raise RunError(
                f"Step {step.number}: {action.name} failed: {error.err or error}.", step=step.number
            ) from error
        if data is not None:
            found[_free_key(action.name, found)] = data
    return image, found


def _out_of_memory(step: PlannedStep) -> OutOfMemory:
    return OutOfMemory(
        f"Step {step.number}: there is not enough memory for {step.action.name} at {step.before.width:,}×"
        f"{step.before.height:,} pixels. Use a smaller image, or raise the memory limit of the workers.",
        step=step.number,
    )


def _free_key(name: str, found: Mapping[str, Any]) -> str:
    """``name``, or ``name-2``, ``name-3`` where it is taken."""
    count, key = 1, name
    while key in found:
        count += 1
        key = f"{name}-{count}"
    return key
