"""The planner: from a pipeline and what a file's header says to what exactly is decoded and done. Pure, no I/O.

It asks every operation backwards what it needs, so that a decoder may hand over less than the file holds; fixes
geometry in pixels of the full picture; fuses runs of pointwise operations; and estimates time and memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from pydantic import BaseModel

from pixelmill.errors import LimitExceeded
from pixelmill.images.encoders import OPTIONS
from pixelmill.images.image import Image, ImageInfo, Need, Size
from pixelmill.images.limits import Limits
from pixelmill.images.scales import pick_eighths, scaled
from pixelmill.operations.color import apply_pointwise
from pixelmill.operations.geometry import Flip, Rotate
from pixelmill.operations.operation import Facts, Operation, Pointwise, Step
from pixelmill.operations.resize import Scale
from pixelmill.pipelines.spec import Pipeline

FALLBACK_FORMAT = "png"

# CPU nanoseconds on one current core, by `bench/costs.py`; they serve estimates only. Reading: per decoded sample. A
# JPEG's entropy coding is read whole whatever the scale, and costs by the byte.
_READ_NS = {"jpeg": 0.4, "png": 7.6, "webp": 2.6, "pixels": 0.0}
_JPEG_BYTE_NS = 8.0
_JPEG_BYTES_PER_PIXEL = 0.2  # where the file's size is not known
_WRITE_NS = {"jpeg": 0.8, "png": 24.0, "webp": 24.0}  # per sample
_FIXED_S = 0.0002
_BASE_BYTES = 2_000_000


class Curves(Operation):
    """A fused run of pointwise operations. Only planners make it."""

    name: ClassVar[str] = "curves"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Several curves as one table"
    run: tuple[Operation, ...]

    def facts(self) -> Facts:
        """As one of them."""
        return self.run[0].facts()

    def apply(self, image: Image) -> Step:
        """One table for all."""
        return Step(apply_pointwise(tuple(op for op in self.run if isinstance(op, Pointwise)), image))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does.

    ``need`` goes to the decoder; ``decoded`` is the size that is expected from it. ``steps`` are applied in order, and
    ``sizes`` are the sizes after each. ``seconds`` of CPU and ``peak_bytes`` are estimates.
    """

    need: Need
    decoded: Size
    steps: tuple[Operation, ...]
    sizes: tuple[Size, ...]
    size: Size
    format: str
    options: BaseModel | None
    seconds: float
    peak_bytes: int

    def explain(self) -> str:
        """The plan for people, a line a step."""
        what = "color" if self.need.color else "luma only"
        least = f", at least {_text(self.need.least)}" if self.need.least else ", every pixel"
        lines = [f"decode   {what}{least}: gives {_text(self.decoded)}"]
        for step, size in zip(self.steps, self.sizes, strict=True):
            facts = step.facts()
            lines.append(f"apply    {_describe(step)}: {facts.kind}, {facts.tier}, gives {_text(size)}")
        lines.append(f"encode   {self.format} {_text(self.size)}")
        lines.append(f"estimate {self.seconds * 1e3:.1f} ms of CPU, {self.peak_bytes / 1e6:.0f} MB at the peak")
        return "\n".join(lines)


def plan(pipeline: Pipeline, info: ImageInfo, limits: Limits | None = None) -> Plan:
    """The plan for a file with that header.

    Raises :class:`NotApplicable` where an operation does not fit the image, and :class:`LimitExceeded` where a step
    would make more pixels than ``limits`` allow.
    """
    limits = limits or Limits()
    sizes = [info.size]
    for operation in pipeline.operations:
        after = operation.size(sizes[-1])
        if after != sizes[-1]:
            _check_size(operation.name, after, limits)
        sizes.append(after)
    need = _needed(pipeline.operations, sizes)
    resolved = [step for op, size in zip(pipeline.operations, sizes, strict=False) for step in op.resolve(size)]
    steps = fuse(_placed(resolved, info))
    decoded = scaled(info.size, pick_eighths(info.size, need.least)) if info.format == "jpeg" else info.size
    step_sizes = _sizes_after(steps, decoded)
    chosen = pipeline.output.format or (info.format if info.format in OPTIONS else FALLBACK_FORMAT)
    seconds, peak = _estimate(info, need, decoded, steps, step_sizes, chosen)
    return Plan(need, decoded, steps, step_sizes, sizes[-1], chosen, pipeline.output.options, seconds, peak)


def fuse(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """Runs of two or more pointwise operations become one :class:`Curves`: the same result to the bit."""
    steps: list[Operation] = []
    for pointwise, group in groupby(operations, key=lambda operation: isinstance(operation, Pointwise)):
        run = tuple(group)
        steps += [Curves(run=run)] if pointwise and len(run) > 1 else run
    return tuple(steps)


# Of an upright picture: whether what was its last column, its last row when stored is now its first one.
_MIRRORED = {2: (True, False), 3: (True, True), 4: (False, True), 6: (True, False), 7: (True, True), 8: (False, True)}


def _placed(steps: Sequence[Operation], info: ImageInfo) -> list[Operation]:
    """``steps`` whose first scaling knows at which sides a reduced decode is covered in part only.

    Such a decode rounds its size up, at the right and at the bottom as stored; orientation, flips and turns move that.
    """
    left, top = _MIRRORED.get(info.orientation, (False, False))
    placed: list[Operation] = []
    for index, step in enumerate(steps):
        if isinstance(step, Scale):
            return [*placed, step.model_copy(update={"mirrored": (left, top)}), *steps[index + 1 :]]
        if isinstance(step, Flip):
            left ^= step.direction != "vertical"
            top ^= step.direction != "horizontal"
        elif isinstance(step, Rotate):
            for _ in range(step.quarters or 0):
                left, top = not top, left
        placed.append(step)
    return placed


def _needed(operations: Sequence[Operation], sizes: Sequence[Size]) -> Need:
    need = Need()
    for operation, size in zip(reversed(operations), reversed(sizes[:-1]), strict=True):
        need = operation.need(need, size)
    return need


def _sizes_after(steps: Sequence[Operation], size: Size) -> tuple[Size, ...]:
    found = []
    for step in steps:
        size = step.size(size)
        found.append(size)
    return tuple(found)


def _check_size(name: str, size: Size, limits: Limits) -> None:
    if max(size) > limits.max_side or size.pixels > limits.max_pixels:
        raise LimitExceeded(
            f"{name} would make an image of {size.width:,}×{size.height:,} pixels; the limits are {limits.max_side:,} "
            f"a side and {limits.max_pixels:,} in all. Ask for a smaller size.",
            limit="result pixels",
            value=size.pixels,
            maximum=limits.max_pixels,
        )


def _estimate(
    info: ImageInfo, need: Need, decoded: Size, steps: Sequence[Operation], sizes: Sequence[Size], written: str
) -> tuple[float, int]:
    """CPU seconds and peak bytes."""
    sample = 2 if info.depth > 8 else 1
    luma = info.mode == "gray" or (not need.color and info.format == "jpeg")
    channels = 1 if luma else 4 if info.has_alpha else 3
    nanoseconds = decoded.pixels * channels * _READ_NS.get(info.format, 10.0)
    if info.format == "jpeg":
        nanoseconds += (info.bytes or info.size.pixels * _JPEG_BYTES_PER_PIXEL) * _JPEG_BYTE_NS
    before, peak = decoded, decoded.pixels * channels * sample
    for step, after in zip(steps, sizes, strict=True):
        facts = step.facts()
        held = before.pixels * channels * sample
        nanoseconds += before.pixels * channels * facts.ns_per_pixel
        peak = max(peak, held + round(held * facts.memory_factor), held + after.pixels * channels * sample)
        if step.name in {"grayscale", "canny", "sketch"}:
            channels = 4 if info.has_alpha and step.name == "grayscale" else 1
        before = after
    nanoseconds += before.pixels * channels * _WRITE_NS.get(written, 24.0)
    peak = max(peak, 2 * before.pixels * channels * sample)
    return _FIXED_S + nanoseconds / 1e9, _BASE_BYTES + info.bytes + peak


def _text(size: Size) -> str:
    return f"{size.width}×{size.height}"


def _describe(step: Operation) -> str:
    if isinstance(step, Curves):
        return " + ".join(operation.name for operation in step.run) + " as one table"
    inner = {"nominal_width", "nominal_height", "mirrored"}
    values = step.model_dump(exclude_defaults=True, exclude=inner)
    return " ".join([step.name, *(f"{key}={value}" for key, value in values.items())])
