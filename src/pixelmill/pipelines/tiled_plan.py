"""Whether a pipeline runs whole or in tiles, and how it runs in tiles. Pure, but for the tables that passes bring.

Whole wherever that fits: the source within the limits of whole images, and the estimate within the memory. Else in
tiles; a step that needs the whole image is refused then, with the size at which it would fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from pixelmill.errors import LimitExceeded, NotApplicable, NotTileable
from pixelmill.images.image import Image, ImageInfo, Size
from pixelmill.images.limits import Limits, RegionLimits
from pixelmill.images.regions import Raster
from pixelmill.operations.curves import map_samples
from pixelmill.operations.operation import Operation, Pointwise
from pixelmill.operations.passes import Array, Form, Map, Move, Pass, Place
from pixelmill.pipelines.plan import gives_data_only, plan
from pixelmill.pipelines.sources import info_of
from pixelmill.pipelines.spec import Pipeline
from pixelmill.pipelines.steps import Given
from pixelmill.tiling.compiler import Wishes, compiled, likely
from pixelmill.tiling.program import Part, Program, after
from pixelmill.tiling.stage import Stage

MEGA = 1_000_000
NOTHING, REGION_LIMITS, LIMITS = Given(), RegionLimits(), Limits()
ENDLESS = Limits(1 << 62, 1 << 62, 1 << 31)


@dataclass(frozen=True, slots=True)
class TiledStep:
    """A step of the pipeline as people are told of it."""

    number: int
    name: str
    kind: str
    tier: str
    halo: int
    size: Size


@dataclass(frozen=True, slots=True)
class TiledPlan:
    """How a pipeline runs in tiles over a source of that form.

    ``why``: what is too large to be run whole, or that tiles were asked for. ``result`` None: data alone.
    """

    pipeline: Pipeline
    source: Raster
    program: Program
    wishes: Wishes
    steps: tuple[TiledStep, ...]
    why: str
    result: Raster | None

    @property
    def memory(self) -> int:
        """Predicted resident bytes at the peak."""
        return self.wishes.peak(likely(self.program))

    @property
    def seconds(self) -> float:
        """Predicted seconds, on idle cores."""
        return likely(self.program).seconds

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The sweeps; of what is decided on the way, those that are likely."""
        return likely(self.program).stages


def too_large(pipeline: Pipeline, info: ImageInfo, limits: Limits, memory: int) -> str | None:
    """Why a source can't be run whole, None where it can. Other errors of planning are those of a whole run."""
    try:
        limits.check_info(info)
        estimate = plan(pipeline, info, limits).pixel_memory  # tiles would make no model smaller
    except LimitExceeded as error:
        return error.detail.partition(". ")[0]
    except NotApplicable:
        return None
    if estimate > memory:
        return f"the whole image would take about {estimate / MEGA:,.0f} MB; the limit is {memory / MEGA:,.0f} MB"
    return None


def plan_tiled(
    pipeline: Pipeline,
    source: Raster,
    wishes: Wishes,
    *,
    why: str,
    given: Given = NOTHING,
    limits: RegionLimits = REGION_LIMITS,
    whole: Limits = LIMITS,
    whole_memory: int = 1_000_000_000,
) -> TiledPlan:
    """The plan of a run in tiles.

    Raises:
        NotTileable: a step needs the whole image; says at which size it would fit.
        NotApplicable: a step can't be applied at the size that arrives there.
        LimitExceeded: a step would make an image larger than the limits.
    """
    wishes = replace(wishes, image=not gives_data_only(pipeline))
    steps: list[TiledStep] = []
    parts: list[Part] = []
    for number, group in _groups(pipeline.operations):
        parts.append(Part(number, group[0].name, _passes(number, group, given)))
    try:
        program = compiled(source, parts, wishes)
    except NotTileable as error:
        raise _refusal(error, pipeline, source, whole_memory, whole) from error
    form = Form(source.size, source.channels, source.dtype)
    for part, (number, group) in zip(parts, _groups(pipeline.operations), strict=True):
        passes = part.passes(form)
        for item in passes:
            form = after(form, item)
        limits.check_size(form.size)
        for index, operation in enumerate(group):
            facts = operation.facts()
            halo = sum(item.halo for item in passes if not isinstance(item, Move))
            steps.append(TiledStep(number + index, operation.name, facts.kind, facts.tier, halo, form.size))
    return TiledPlan(pipeline, source, program, wishes, tuple(steps), why, likely(program).result)


def _groups(operations: Sequence[Operation]) -> Iterator[tuple[int, tuple[Operation, ...]]]:
    """Runs of pointwise operations with a curve together, others alone; with the number of the first step."""
    group: list[Operation] = []
    for number, operation in enumerate(operations, 1):
        curve = isinstance(operation, Pointwise) and type(operation).tiled is Operation.tiled
        if group and not curve:
            yield number - len(group), tuple(group)
            group = []
        if curve:
            group.append(operation)
        else:
            yield number, (operation,)
    if group:
        yield len(operations) + 1 - len(group), tuple(group)


def _passes(number: int, group: tuple[Operation, ...], given: Given) -> Callable[[Form], Sequence[Pass]]:
    """The tiled form of a step; of pointwise ones in a row one look-up, which gives the same to the bit."""
    curves = tuple(item for item in group if isinstance(item, Pointwise))
    if len(curves) == len(group) and type(group[0]).tiled is Operation.tiled:

        def mapped(pixels: Array, place: Place) -> Array:
            del place
            return map_samples(Image(pixels).pixels, curves)

        name, facts = "+".join(item.name for item in group), group[0].facts()
        look_up = Map(name, mapped, ns_per_pixel=facts.ns_per_pixel, memory_factor=facts.memory_factor)
        return lambda _: (look_up,)
    (operation,) = group

    def passes(form: Form) -> Sequence[Pass]:
        found: list[Pass] = []
        try:
            for action in given.to(operation).resolve(form.size):
                for item in action.tiled(form):
                    found.append(item)
                    form = after(form, item)
        except (NotApplicable, NotTileable) as error:
            raise type(error)(f"Step {number}: {error.detail}", **{**error.context, "step": number}) from error
        return found

    return passes


def _refusal(error: NotTileable, pipeline: Pipeline, source: Raster, memory: int, whole: Limits) -> NotTileable:
    """The same, with the size at which the image would fit whole."""
    size = source.size
    try:
        a_pixel = plan(pipeline, info_of(source), ENDLESS).pixel_memory / size.pixels
    except (NotApplicable, LimitExceeded):
        return error
    pixels = min(whole.max_pixels, memory / a_pixel)
    scale = min(1.0, math.sqrt(pixels / size.pixels), whole.max_side / max(size))
    fits = Size(max(1, int(size.width * scale)), max(1, int(size.height * scale)))
    return NotTileable(
        f"{error.detail.removesuffix('.')}. It would fit up to about {fits.width:,}×{fits.height:,} pixels with "
        f"{memory / MEGA:,.0f} MB of memory: shrink the image before that step, or raise PIXELMILL_MEMORY, "
        "PIXELMILL_MAX_PIXELS and PIXELMILL_MAX_SIDE.",
        **{**error.context, "fits": list(fits)},
    )
