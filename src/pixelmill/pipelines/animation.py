"""All frames of an animation through one plan: decoded, worked on and encoded one after the other.

Every frame gets what the plan would make of it alone. Three things are decided for all of them: the rectangles of
operations that look for one (``Operation.frames_agree``), the data, which are those of the first frame, and hence
operations that only find data, which later frames skip.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from time import perf_counter
from typing import Any

from pixelmill.images.frames import Frame, Frames
from pixelmill.images.image import Image, Size
from pixelmill.operations.operation import Operation
from pixelmill.pipelines.plan import Cut, Plan
from pixelmill.pipelines.steps import Given, apply


@dataclass(slots=True)
class Work:
    """One run over an animation. Iterating gives the worked frames, anew each time; the rest is there afterwards.

    ``decode_s`` and ``apply_s`` are wall seconds of all frames.
    """

    chosen: Plan
    source: Frames
    given: Given
    data: dict[str, Any] = field(default_factory=dict)
    size: Size | None = None
    icc: bytes | None = None
    decode_s: float = 0.0
    apply_s: float = 0.0

    def __iter__(self) -> Iterator[Frame]:
        """The frames as the steps leave them; raises what decoding and :func:`apply` raise."""
        chosen = self.chosen = self._settled()
        later = replace(chosen, steps=tuple(step for step in chosen.steps if step.action.facts().kind != "analysis"))
        for number, frame in enumerate(self._decoded(self.source)):
            start = perf_counter()
            image, data = apply(later if number else chosen, frame.image, self.given)
            self.apply_s += perf_counter() - start
            if not number:
                self.size, self.icc, self.data = image.size, image.icc, data
            yield Frame(image, frame.duration)

    def _decoded(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        start = perf_counter()
        for frame in frames:
            self.decode_s += perf_counter() - start
            yield frame
            start = perf_counter()

    def _settled(self) -> Plan:
        """The plan with one rectangle, or one finding, for all frames in place of every search for one.

        A search over all frames decodes them once more, and runs the steps before it.
        """
        chosen = self.chosen
        for place, step in enumerate(chosen.steps):
            action = step.action
            if isinstance(action, Operation) and action.frames_agree is not None:
                before = replace(chosen, steps=chosen.steps[:place])
                agreed = self._agreed(self.given.to(action), before)
                steps = (*chosen.steps[:place], replace(step, action=agreed), *chosen.steps[place + 1 :])
                chosen = replace(chosen, steps=steps)
        return chosen

    def _agreed(self, action: Operation, before: Plan) -> Operation | Cut:
        if action.frames_agree == "settled":
            (image,) = self._before(before, islice(self.source, 1))
            return action.settled(image)
        return self._first(action, before) if action.frames_agree == "first" else self._union(action, before)

    def _first(self, action: Operation, before: Plan) -> Cut:
        """The rectangle of the first frame, with the data that go with it."""
        (image,) = self._before(before, islice(self.source, 1))
        x, y, width, height = action.box(image) or (0, 0, *image.size)
        return Cut(action.name, x, y, width, height, action.apply(image).data or {})

    def _union(self, action: Operation, before: Plan) -> Cut:
        """The smallest rectangle that holds those of all frames; everything where none has one."""
        boxes: list[tuple[int, int, int, int]] = []
        size = Size(0, 0)
        for image in self._before(before, self.source):
            size, box = image.size, action.box(image)
            boxes += [box] if box else []
        if not boxes:
            return Cut(action.name, 0, 0, *size)
        x, y = min(box[0] for box in boxes), min(box[1] for box in boxes)
        right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
        return Cut(action.name, x, y, right - x, bottom - y)

    def _before(self, before: Plan, frames: Iterable[Frame]) -> Iterator[Image]:
        """Frames as the steps of ``before`` leave them."""
        for frame in self._decoded(frames):
            start = perf_counter()
            image, _ = apply(before, frame.image, self.given)
            yield image
            self.apply_s += perf_counter() - start  # with what is looked for meanwhile
