"""The values that stand for animations: :class:`Frame`, and :class:`Frames`, an iterator of them.

Operations see one image at a time: a frame is the whole canvas as it is shown, after blending and disposal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pixelmill.images.image import Image

MAX_FRAMES = 65_536
"""Frames of one animation, however small they are."""


class Frame(NamedTuple):
    """What is shown, and for how many milliseconds, as the file says (browsers show 10 ms and less as 100 ms)."""

    image: Image
    duration: float


@dataclass(frozen=True, slots=True)
class Frames:
    """An animation whose frames are decoded one after the other, anew for each iteration.

    ``plays`` is how often it is shown, 0: for ever. All frames have one size, dtype and number of channels. No more
    than the canvas, what disposal brings back, and the frame that was given last are held.
    """

    count: int
    plays: int
    read: Callable[[], Iterator[Frame]]

    def __iter__(self) -> Iterator[Frame]:
        """From the first to the last; raises :class:`CorruptImage` where the file ends or breaks before that."""
        return self.read()
