"""The executor: probe, plan, decode, apply, encode. Thin; what to do was decided by the plan.

Runs in the thread that calls; OpenCV's own threads are the caller's business. Foreign exceptions of operations end
here.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2

from pixelmill.errors import NotApplicable, OutOfMemory, RunError
from pixelmill.images.auto import encode_auto
from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.encoders import AutoOptions
from pixelmill.images.formats import FORMATS, UNDECIDED
from pixelmill.images.image import Image, ImageInfo, Size
from pixelmill.images.limits import Limits
from pixelmill.images.metadata_keep import carry
from pixelmill.images.metadata_look import describe
from pixelmill.images.probe import probe
from pixelmill.operations.operation import Operation
from pixelmill.operations.parameters import Font
from pixelmill.pipelines.outcome import Outcome, Timings
from pixelmill.pipelines.plan import Plan, PlannedStep, check_size, plan
from pixelmill.pipelines.sources import info_of_pixels, load_fonts, load_images, read_file
from pixelmill.pipelines.spec import Pipeline

_DEFAULT_LIMITS = Limits()


def run(
    pipeline: Pipeline,
    source: bytes | str | Path | Image,
    *,
    limits: Limits = _DEFAULT_LIMITS,
    images: Mapping[str, bytes | Path | Image] | None = None,
) -> Outcome:
    """One source through one pipeline.

    Args:
        pipeline: what to do.
        source: a path, the bytes of a file, or pixels.
        limits: what is accepted as a source, and what may be made of it.
        images: bytes, a file or pixels for each image that the pipeline refers to, bytes or a file for each font; None:
            references are local paths.

    Returns:
        the outcome; ``data`` holds what operations found, by operation name (a second one of a name is ``NAME-2``).
        Where every operation only analyzes and no format is asked for, there is data only.

    Raises:
        InputError: the source can't be read or is too large.
        PipelineError: the pipeline does not apply to this source.
        StorageError: a file can't be read.
        RunError: out of memory, or a library failed.
    """
    image = source if isinstance(source, Image) else None
    data = b"" if isinstance(source, Image) else source if isinstance(source, bytes) else _bytes(source, limits)
    info = info_of_pixels(image) if image is not None else probe(data, limits)
    if image is not None:
        limits.check_info(info)
    chosen = planned(pipeline, info, limits)
    references = pipeline.image_references
    loaded = load_images(references, images, limits) if references else {}
    named_fonts = pipeline.font_references
    fonts = load_fonts(named_fonts, images, limits) if named_fonts else {}
    start = perf_counter()
    if image is None:
        image = decode(data, chosen.need, limits)
    decoded = perf_counter()
    image, found = apply(chosen, image, loaded, fonts)
    applied = perf_counter()
    found = with_metadata(chosen, found, data, info.format)
    target = chosen.target
    body: bytes | None = None
    if target is UNDECIDED:
        assert isinstance(pipeline.output.options, AutoOptions)
        name, body = encode_auto(image, pipeline.output.options)
        target = FORMATS[name]
    elif target is not None:
        body = encode(image, target.name, pipeline.output.options)
    if body and target and data and pipeline.output.metadata.policy != "strip":
        converted = info.has_icc and image.icc is None
        body = carry(body, target.name, data, info.format, pipeline.output.metadata, image.size, converted=converted)
    encoded = perf_counter()
    return Outcome(
        bytes=body,
        format=target.name if target else None,
        media_type=target.media_type if target else None,
        size=image.size if target else None,
        source_size=info.size,
        source_format=info.format,
        data=found,
        timings=Timings((decoded - start) * 1e3, (applied - decoded) * 1e3, (encoded - applied) * 1e3),
    )


def planned(pipeline: Pipeline, info: ImageInfo, limits: Limits = _DEFAULT_LIMITS) -> Plan:
    """The plan for this kind of source, from a bounded cache of the last ones.

    The plan's ``source`` may lack what plans don't depend on: bytes, frames, media type.
    """
    kind = _Kind(info.format, info.size, info.mode, info.depth, info.has_alpha, info.orientation, info.has_icc)
    if pipeline.holds_pixels:
        return _plan(pipeline, kind, limits)  # a cache would keep the pixels alive
    return _cached_plan(pipeline, kind, limits)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a plan depends on."""

    format: str
    size: Size
    mode: str
    depth: int
    has_alpha: bool
    orientation: int
    has_icc: bool


def _plan(pipeline: Pipeline, kind: _Kind, limits: Limits) -> Plan:
    swapped = Size(kind.size.height, kind.size.width) if kind.orientation >= 5 else kind.size
    info = ImageInfo(
        format=kind.format,
        media_type="",
        size=kind.size,
        stored_size=swapped,
        mode=kind.mode,
        depth=kind.depth,
        has_alpha=kind.has_alpha,
        orientation=kind.orientation,
        has_icc=kind.has_icc,
    )
    return plan(pipeline, info, limits)


_cached_plan = functools.lru_cache(maxsize=512)(_plan)


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
                check_size(action.size(image.size), step.limits, step.number, action.name)
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


def with_metadata(chosen: Plan, found: dict[str, Any], data: bytes, fmt: str) -> dict[str, Any]:
    """What was found; beside it, where an operation tells of the source's file, the metadata in that."""
    names = {step.action.name for step in chosen.steps if isinstance(step.action, Operation) and step.action.of_file}
    if not names or not data:
        return found
    told = describe(data, fmt)
    of_file = {key: {**value, "metadata": told} for key, value in found.items() if key.partition("-")[0] in names}
    return {**found, **of_file}


def _free_key(name: str, found: Mapping[str, Any]) -> str:
    """``name``, or ``name-2``, ``name-3`` where it is taken."""
    count, key = 1, name
    while key in found:
        count += 1
        key = f"{name}-{count}"
    return key


def _bytes(source: Any, limits: Limits) -> bytes:
    if isinstance(source, str | Path):
        return read_file(source, limits)
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    raise TypeError(f"a source is a path, bytes or an Image, not {type(source).__name__}")
