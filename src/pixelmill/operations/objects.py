"""What is an object and what is background: one side of Otsu's threshold of luma at 8 bits. Whole, or over tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.operations.levels import counted, otsu
from pixelmill.operations.passes import Array, Look, Pass, Place, Survey, summed
from pixelmill.operations.pixels import gray8_of

Foreground: TypeAlias = Literal["auto", "bright", "dark"]


class Side(NamedTuple):
    """Objects are brighter than ``level``, or no brighter."""

    level: int
    bright: bool

    def of(self, pixels: Array) -> NDArray[np.uint8]:
        """255 where an object is, ``H×W``."""
        code = cv2.THRESH_BINARY if self.bright else cv2.THRESH_BINARY_INV
        return np.asarray(cv2.threshold(gray8_of(pixels), self.level, 255, code)[1], np.uint8)


def side_of(pixels: Array, foreground: Foreground) -> Side:
    """Of a whole image. auto: the side that has less of the image's outermost row and columns."""
    gray = gray8_of(pixels)
    rim = (gray[0], gray[-1], gray[:, 0], gray[:, -1])
    return _side(np.stack((counted(gray), counted(np.concatenate(rim)))), foreground)


def _side(counts: NDArray[np.int64], foreground: Foreground) -> Side:
    """By the counts of all levels, and of those of the outermost rows and columns."""
    level = otsu(counts[0])
    bright = int(counts[1, level + 1 :].sum())
    return Side(level, foreground == "bright" or (foreground == "auto" and 2 * bright <= int(counts[1].sum())))


def by_side(
    foreground: Foreground, passes: Callable[[Side], Sequence[Pass]], expected: Sequence[Pass] = ()
) -> tuple[Pass, ...]:
    """``passes(side)``, once every tile was counted."""

    def look(pixels: Array, place: Place) -> Look:
        core, size = place.core, place.size
        gray = gray8_of(core.of(pixels, place.extended))
        sides = (
            (gray[0], core.top == 0),
            (gray[-1], core.bottom == size.height),
            (gray[:, 0], core.left == 0),
            (gray[:, -1], core.right == size.width),
        )
        rim = [line for line, outermost in sides if outermost]
        return Look(np.stack((counted(gray), counted(np.concatenate(rim) if rim else gray[:0]))))

    def conclude(told: Any) -> Side:
        return _side(told[0][1], foreground)

    survey = Survey(
        "otsu", look, conclude, join=summed, then=passes, expected=expected, ns_per_pixel=0.4, memory_factor=1.5
    )
    return (survey,)
