"""The planner: what to decode, which steps to run, how large results get, what it costs. Pure: no pixels, no I/O.

It pushes the need of the last step back to the decoder, resolves geometry on the nominal sizes (so that a reduced
decode gives the same size as a whole one), fuses runs of pointwise operations, and checks every size against the limits
before anything is allocated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypeAlias

import numpy as np

from pixelmill.errors import LimitExceeded, NotApplicable
from pixelmill.images.encoders import AutoOptions, EncodeOptions
from pixelmill.images.formats import FORMATS, UNDECIDED, Format, is_animation
from pixelmill.images.image import EVERYTHING, Image, ImageInfo, Need, Size
from pixelmill.images.limits import Limits
from pixelmill.images.metadata import HOLDS
from pixelmill.images.scales import pick_eighths, scaled
from pixelmill.operations.curves import map_samples
from pixelmill.operations.operation import Facts, Operation, Pointwise, Step
from pixelmill.pipelines import costs
from pixelmill.pipelines.spec import Pipeline

MIRRORED_X = frozenset({2, 3, 7, 8})
"""EXIF orientations whose upright picture starts, on the left, with what is stored at an end."""
MIRRORED_Y = frozenset({3, 4, 6, 7})
"""The same for the top."""


@dataclass(frozen=True, slots=True)
class Fused:
    """A run of pointwise operations as one: the same result to the bit, in one pass."""

    operations: tuple[Pointwise, ...]

    @property
    def name(self) -> str:
        """The names, joined."""
        return "+".join(item.name for item in self.operations)

    def facts(self) -> Facts:
        """Those of one look-up."""
        return self.operations[0].facts()

    def apply(self, image: Image) -> Step:
        """Map all color samples through all curves."""
        return Step(image.with_pixels(map_samples(image.pixels, self.operations)))


@dataclass(frozen=True, slots=True)
class Cut:
    """A rectangle that was found for all frames of an animation, by the operation of that name."""

    name: str
    x: int
    y: int
    width: int
    height: int
    found: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> Facts:
        """A copy."""
        return Facts("geometric", "self-exact", ns_per_pixel=0.1)

    def apply(self, image: Image) -> Step:
        """Cut it out, into memory of its own."""
        part = np.ascontiguousarray(image.pixels[self.y : self.y + self.height, self.x : self.x + self.width])
        data = {"x": self.x, "y": self.y, "width": self.width, "height": self.height}
        return Step(image.with_pixels(part), {**self.found, **data})


Action: TypeAlias = Operation | Fused | Cut


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One action. ``number`` is the step of the pipeline (from 1) that it belongs to, the first of a fused run.

    ``before`` and ``after`` are sizes as they will really be, but for ``unsure``: from the first operation on whose
    result depends on pixels they are estimates, and the executor holds what is made to ``limits``. ``seconds`` is CPU
    time, ``memory`` bytes at the peak, of which ``fixed`` are needed whatever the size: those of a learned model.
    """

    action: Action
    number: int
    before: Size
    after: Size
    channels: int
    seconds: float
    memory: int
    unsure: bool = False
    limits: Limits | None = None
    fixed: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """How a pipeline runs over a source of this kind. Estimates are of pixels alone: see ``costs.py``.

    ``decoded`` is the size that comes from the decoder, ``size`` that of the result. ``target`` None: the pipeline
    gives data only, nothing is encoded.
    """

    pipeline: Pipeline
    source: ImageInfo
    need: Need
    decoded: Size
    decode_seconds: float
    steps: tuple[PlannedStep, ...]
    size: Size
    target: Format | None
    encode_seconds: float
    memory: int
    pixel_memory: int
    """``memory`` without models: what grows with the image, and a smaller part of it would save."""

    frames: int = 1
    """How many frames are run through the steps; what ``steps``, decoding and encoding cost is of one of them."""

    before: int = 0
    """Frames of the source that are decoded to get at the one that is taken."""

    options: EncodeOptions | Mapping[str, Any] | None = None
    """How ``target`` is written."""

    @property
    def seconds(self) -> float:
        """Estimated CPU seconds of the whole run."""
        parts = self.decode_seconds + sum(step.seconds for step in self.steps) + self.encode_seconds
        return parts * self.frames + self.decode_seconds * self.before + costs.OVERHEAD_S

    def explain(self) -> str:
        """The plan for people, a line a step."""
        info = self.source
        rows: list[tuple[str, str, float | None]] = []
        rows.append(("source", f"{info.format}, {_size(info.size)}, {info.mode}, {info.depth} bits a sample", None))
        if self.frames > 1:
            rows.append(("frames", f"{self.frames:,}, each through the steps below", None))
        if self.before:
            rows.append(("frames", f"{self.before:,} decoded before the one that is taken", None))
        part = "whole" if self.decoded == info.size else f"reduced to {_size(self.decoded)}"
        rows.append(("decode", f"{part}, {'color' if self.need.color else 'luma is enough'}", self.decode_seconds))
        for step in self.steps:
            change = (
                f"{'about ' * step.unsure}{_size(step.after)}"
                if step.before == step.after
                else (f"{'about ' * step.unsure}{_size(step.before)} → {_size(step.after)}")
            )
            rows.append((f"step {step.number}", f"{step.action.name}, {change}", step.seconds))
        if self.target is not None:
            rows.append(("encode", f"{self.target.name}, {_size(self.size)}", self.encode_seconds))
        rows.append(("all", f"about {self.memory / 1e6:,.1f} MB of memory at the peak", self.seconds))
        return "\n".join(
            f"{head:<8} {text}" if seconds is None else f"{head:<8} {text:<60} {_duration(seconds):>10}"
            for head, text, seconds in rows
        )


def _size(size: Size) -> str:
    return f"{size.width:,}×{size.height:,}"


def _duration(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds * 1e3:,.1f} ms"


def plan(pipeline: Pipeline, info: ImageInfo, limits: Limits | None = None) -> Plan:
    """The plan for a source with that header.

    Raises:
        NotApplicable: an operation can't be applied at the size that arrives there (a crop outside the image).
        LimitExceeded: a step would make an image larger than the limits.
    """
    limits = limits or Limits()
    target = None if gives_data_only(pipeline) else pipeline.output.target(info.format)
    options: EncodeOptions | Mapping[str, Any] | None = pipeline.output.options
    if target is UNDECIDED and pipeline.source.frame is None and is_animation(info.format, info.frames):
        target, options = _moving(pipeline, info)
    _check_description(pipeline, target)
    frames = frames_run(pipeline, info, target)
    nominal, resolved = _resolved(pipeline, info.size, limits, frames)
    need = _need(pipeline, nominal, info)
    decoded = _decoded_size(info, need)
    channels, sample_bytes = _channels(info, need), 2 if info.depth > 8 else 1
    converts = info.has_icc or info.orientation != 1 or info.mode == "cmyk"
    decode_channels = 4 if info.mode == "cmyk" else channels
    decode_memory = costs.decode_bytes(info.format, decoded, decode_channels, sample_bytes, converts=converts)
    steps = _planned(_fused(resolved), decoded, channels, sample_bytes, limits)
    need = replace(need, icc=keeps_profile(pipeline, info, need, [channels, *(step.channels for step in steps)]))
    size = steps[-1].after if steps else decoded
    channels = steps[-1].channels if steps else channels
    held = costs.HELD_CANVASES * max(decoded.pixels, size.pixels) * 4 * sample_bytes if frames > 1 else 0
    encode_memory = costs.encode_bytes(target.name, size, channels, sample_bytes) if target else 0
    around = max(decode_memory, encode_memory)
    return Plan(
        pipeline=pipeline,
        source=info,
        need=need,
        decoded=decoded,
        decode_seconds=costs.decode_seconds(info.format, info.size, decoded, decode_channels, sample_bytes),
        steps=steps,
        size=size,
        target=target,
        options=options,
        encode_seconds=costs.encode_seconds(target.name, size, channels, sample_bytes) if target else 0.0,
        frames=frames,
        before=(pipeline.source.frame or 0) if is_animation(info.format, info.frames) else 0,
        memory=held + max((around, *(step.memory for step in steps))),
        pixel_memory=held + max((around, *(step.memory - step.fixed for step in steps))),
    )


def _check_description(pipeline: Pipeline, target: Format | None) -> None:
    """Raise :class:`NotApplicable` where a description is to be written into a format that has no place for it."""
    if target is None or target is UNDECIDED or "xmp" in HOLDS.get(target.name, ()):
        return
    for number, operation in enumerate(pipeline.operations, 1):
        if operation.describes() is not None:
            raise NotApplicable(
                f"Step {number}: {operation.name} is to be embedded, and {target.name} is written without metadata. "
                f"Write one of {', '.join(HOLDS)}, or leave embed away.",
                operation=operation.name,
                parameter="embed",
                step=number,
            )


def _moving(pipeline: Pipeline, info: ImageInfo) -> tuple[Format, EncodeOptions | Mapping[str, Any] | None]:
    """What ``format:auto`` writes an animation in; still undecided where no accepted format can hold one."""
    from pixelmill.images.auto import Look, choose

    assert isinstance(pipeline.output.options, AutoOptions)
    candidate = choose(Look(info.size, frames=info.frames), pipeline.output.options)[0]
    if not FORMATS[candidate.format].animated:
        return UNDECIDED, pipeline.output.options
    return FORMATS[candidate.format], candidate.options


def frames_run(pipeline: Pipeline, info: ImageInfo, target: Format | None) -> int:
    """How many frames go through the pipeline: all of them where source and result are animations, else one."""
    whole = pipeline.source.frame is None and is_animation(info.format, info.frames)
    return info.frames if whole and target is not None and target.animated else 1


def gives_data_only(pipeline: Pipeline) -> bool:
    """Whether its outcome is data without an image: operations that only analyze, and no format that was asked for."""
    if not pipeline.operations or pipeline.output.format is not None:
        return False
    return all(operation.facts().kind == "analysis" for operation in pipeline.operations)


def _resolved(
    pipeline: Pipeline, size: Size, limits: Limits, frames: int
) -> tuple[list[Size], list[tuple[int, Operation]]]:
    """The size before each operation, as if everything were decoded; and what it resolves to, with its number.

    Behind an operation whose result depends on pixels sizes are not known: nothing is resolved there, and the executor
    checks the limits.
    """
    known = True
    sizes: list[Size] = []
    resolved: list[tuple[int, Operation]] = []
    for number, operation in enumerate(pipeline.operations, 1):
        sizes.append(size)
        try:
            for action in operation.resolve(size) if known else operation.parts():
                size = action.size(size)
                if known:
                    check_size(size, limits, number, operation.name, frames)
                resolved.append((number, action))
                known = known and not action.sized_by_pixels
        except NotApplicable as error:
            raise NotApplicable(f"Step {number}: {error.detail}", **{**error.context, "step": number}) from error
    return sizes, resolved


def check_size(size: Size, limits: Limits, number: int, name: str, frames: int = 1) -> None:
    """Raise :class:`LimitExceeded` where a step would make images larger than the limits; pixels count all frames."""
    if max(size) > limits.max_side:
        _exceeded(number, name, size, "pixels a side", max(size), limits.max_side, "PIXELMILL_MAX_SIDE")
    pixels, what = size.pixels * frames, "pixels" if frames == 1 else f"pixels in all {frames:,} frames"
    if pixels > limits.max_pixels:
        _exceeded(number, name, size, what, pixels, limits.max_pixels, "PIXELMILL_MAX_PIXELS")


def _exceeded(number: int, name: str, size: Size, what: str, value: int, maximum: int, setting: str) -> NoReturn:
    raise LimitExceeded(
        f"Step {number}: {name} would make an image of {_size(size)} pixels; the limit is {maximum:,} {what}. "
        f"Ask for a smaller result, or raise the limit with {setting}.",
        limit=what,
        value=value,
        maximum=maximum,
        operation=name,
        step=number,
    )


def _need(pipeline: Pipeline, nominal: list[Size], info: ImageInfo) -> Need:
    """The need of the whole pipeline, as far as the decoder can follow it and the picture stays aligned."""
    need = EVERYTHING
    for operation, size in zip(reversed(pipeline.operations), reversed(nominal), strict=True):
        need = operation.need(need, size)
    # The partly real pixel of a reduced decode must be the last one of its row or column (see scales.extent).
    off_x = info.orientation in MIRRORED_X and info.size.width % 8
    off_y = info.orientation in MIRRORED_Y and info.size.height % 8
    if need.least is not None and (off_x or off_y or pick_eighths(info.size, need.least) == 8):
        return replace(need, least=None)
    return need


def keeps_profile(pipeline: Pipeline, info: ImageInfo, need: Need, channels: Sequence[int]) -> bool:
    """Whether samples stay in the numbers of the source's profile, which is embedded in the result.

    They don't where gray becomes color or color gray (``channels`` before and behind each step): no profile is one of
    both, so the way from one to the other leads through sRGB.
    """
    if not pipeline.output.metadata.icc or not info.has_icc or info.mode == "cmyk":
        return False
    return all((count == 1) == (info.mode == "gray") for count in channels) and (need.color or info.mode == "gray")


def _decoded_size(info: ImageInfo, need: Need) -> Size:
    if info.format != "jpeg":
        return info.size
    return scaled(info.size, pick_eighths(info.size, need.least))


def _channels(info: ImageInfo, need: Need) -> int:
    if info.has_alpha:
        return 4
    if info.mode == "gray":
        return 1
    # A profile other than sRGB needs color for its conversion; whether it is one is not known here.
    return 1 if info.format == "jpeg" and not need.color and not info.has_icc else 3


def _fused(steps: list[tuple[int, Operation]]) -> list[tuple[int, Action]]:
    """Runs of two and more pointwise operations as one action."""
    actions: list[tuple[int, Action]] = []
    for number, operation in steps:
        if isinstance(operation, Pointwise) and actions:
            first, last = actions[-1]
            if isinstance(last, Fused):
                actions[-1] = (first, Fused((*last.operations, operation)))
                continue
            if isinstance(last, Pointwise):
                actions[-1] = (first, Fused((last, operation)))
                continue
        actions.append((number, operation))
    return actions


def _planned(
    actions: list[tuple[int, Action]], size: Size, channels: int, sample_bytes: int, limits: Limits
) -> tuple[PlannedStep, ...]:
    steps: list[PlannedStep] = []
    sure = True
    for number, action in actions:
        facts = action.facts()
        single = action if isinstance(action, Operation) else None
        after = single.size(size) if single else size
        samples = size.pixels * channels
        factor = max(facts.memory_factor, facts.alpha_memory_factor / sample_bytes if channels == 4 else 0.0)
        memory = samples * sample_bytes * (1 + factor)
        channels_after = single.channels(channels) if single else channels
        # Where a result is larger than its input, it counts beside the input.
        grown = (samples + after.pixels * channels_after) * sample_bytes
        seconds = max(samples, after.pixels * channels_after) * facts.ns_per_pixel * 1e-9 + facts.fixed_seconds
        peak, checked = int(max(memory + facts.fixed_bytes, grown)), None if sure else limits
        sure = sure and not (single and single.sized_by_pixels)
        fixed = peak - int(max(memory, grown))
        steps.append(PlannedStep(action, number, size, after, channels_after, seconds, peak, not sure, checked, fixed))
        size, channels = after, channels_after
    return tuple(steps)
