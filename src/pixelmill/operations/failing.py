"""Foreign exceptions of operations end here, on the way out of the step that raised them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2

from pixelmill.errors import NotApplicable, OutOfMemory, RunError
from pixelmill.images.image import Size


@contextmanager
def translated(number: int, name: str, size: Size) -> Iterator[None]:
    """Around the work of step ``number`` of a pipeline, the operation ``name``, on pixels of ``size``.

    Raises :class:`NotApplicable` with the step in it, :class:`OutOfMemory`, and :class:`RunError` for what OpenCV says.
    """
    try:
        yield
    except NotApplicable as error:
        raise NotApplicable(f"Step {number}: {error.detail}", **{**error.context, "step": number}) from error
    except MemoryError as error:
        raise _out_of_memory(number, name, size) from error
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise _out_of_memory(number, name, size) from error
        raise RunError(f"Step {number}: {name} failed: {error.err or error}.", step=number) from error


def _out_of_memory(number: int, name: str, size: Size) -> OutOfMemory:
    return OutOfMemory(
        f"Step {number}: there is not enough memory for {name} at {size.width:,}×{size.height:,} pixels. Use a smaller "
        "image, or raise the memory limit of the workers.",
        step=number,
    )
