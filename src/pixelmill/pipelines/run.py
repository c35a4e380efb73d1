"""The executor: probe, plan, decode, apply, encode. Thin; what to do was decided by the plan.

Runs in the thread that calls; OpenCV's own threads are the caller's business.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.encoders import AutoOptions
from pixelmill.images.formats import FORMATS, UNDECIDED, Format
from pixelmill.images.image import Image, ImageInfo, Need, Size
from pixelmill.images.limits import Limits
from pixelmill.images.probe import probe
from pixelmill.models.model import ModelSource
from pixelmill.operations.operation import Operation
from pixelmill.pipelines.outcome import Outcome, Timings
from pixelmill.pipelines.plan import Plan, plan
from pixelmill.pipelines.sources import info_of_pixels, load_fonts, load_images, load_models, read_file
from pixelmill.pipelines.spec import Pipeline
from pixelmill.pipelines.steps import Given, apply

_DEFAULT_LIMITS = Limits()


def run(
    pipeline: Pipeline,
    source: bytes | str | Path | Image,
    *,
    limits: Limits = _DEFAULT_LIMITS,
    images: Mapping[str, bytes | Path | Image] | None = None,
    models: ModelSource | None = None,
) -> Outcome:
    """One source through one pipeline.

    Args:
        pipeline: what to do.
        source: a path, the bytes of a file, or pixels.
        limits: what is accepted as a source, and what may be made of it.
        images: bytes, a file or pixels for each image that the pipeline refers to, bytes or a file for each font; None:
            references are local paths.
        models: where learned models come from; None: sessions in this process, of the models folder of this user.

    Returns:
        the outcome; ``data`` holds what operations found, by operation name (a second one of a name is ``NAME-2``).
        Where every operation only analyzes and no format is asked for, there is data only. An animation goes through
        frame by frame where the result's format can hold one; its data are those of the first frame.

    Raises:
        InputError: the source can't be read or is too large.
        PipelineError: the pipeline does not apply to this source.
        StorageError: a file can't be read.
        ModelError: a learned model is not here or can't be used; MissingExtra: nor can any.
        RunError: out of memory, or a library failed.
    """
    image = source if isinstance(source, Image) else None
    data = b"" if isinstance(source, Image) else source if isinstance(source, bytes) else _bytes(source, limits)
    frame = pipeline.source.frame
    info = info_of_pixels(image, frame) if image is not None else probe(data, limits, frame)
    if image is not None:
        limits.check_info(info)
    chosen = planned(pipeline, info, limits)
    references = pipeline.image_references
    loaded = load_images(references, images, limits) if references else {}
    named_fonts = pipeline.font_references
    fonts = load_fonts(named_fonts, images, limits) if named_fonts else {}
    wanted = pipeline.wanted_models
    given = Given(loaded, fonts, load_models(wanted, models) if wanted else {})
    if chosen.frames > 1:
        return _animated(chosen, info, data, limits, given)
    start = perf_counter()
    if image is None:
        image = decode(data, chosen.need, limits) if frame is None else _frame(data, frame, chosen.need, limits)
    decoded = perf_counter()
    image, found = apply(chosen, image, given)
    applied = perf_counter()
    found = with_metadata(chosen, found, data, info.format)
    target = chosen.target
    body: bytes | None = None
    carried = functools.partial(
        _carried,
        data=data,
        chosen=chosen,
        info=info,
        size=image.size,
        converted=info.has_icc and image.icc is None,
        description=_description(chosen, found),
    )
    if target is UNDECIDED:
        from pixelmill.images.auto import encode_auto

        assert isinstance(pipeline.output.options, AutoOptions)
        name, body = encode_auto(image, pipeline.output.options)
        target = FORMATS[name]
        body = carried(body, target)
    elif target is not None:
        body = encode(image, target.name, pipeline.output.options, functools.partial(carried, target=target))
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
        frames=1 if target else 0,
    )


def _frame(data: bytes, number: int, need: Need, limits: Limits) -> Image:
    from pixelmill.images.decode_frames import decode_frame

    return decode_frame(data, number, need, limits)


def _animated(
    chosen: Plan,
    info: ImageInfo,
    data: bytes,
    limits: Limits,
    given: Given,
) -> Outcome:
    """All frames: decoding, steps and encoding take turns."""
    from pixelmill.images.decode_frames import open_frames
    from pixelmill.images.encode_frames import encode_frames
    from pixelmill.pipelines.animation import Work

    work = Work(chosen, open_frames(data, limits, chosen.need), given)
    target = chosen.target
    assert target is not None  # what gives data only takes one frame
    start = perf_counter()

    def carried(body: bytes) -> bytes:
        assert work.size is not None  # there was a frame
        converted, said = info.has_icc and work.icc is None, _description(chosen, work.data)
        return _carried(body, target, data, chosen, info, work.size, converted=converted, description=said)

    body = encode_frames(work, work.source.count, work.source.plays, target.name, chosen.options, carried)
    assert work.size is not None
    rest = perf_counter() - start - work.decode_s - work.apply_s
    return Outcome(
        bytes=body,
        format=target.name,
        media_type=target.media_type,
        size=work.size,
        source_size=info.size,
        source_format=info.format,
        data=with_metadata(chosen, work.data, data, info.format),
        timings=Timings(work.decode_s * 1e3, work.apply_s * 1e3, rest * 1e3),
        frames=work.source.count,
    )


def _carried(
    body: bytes,
    target: Format,
    data: bytes,
    chosen: Plan,
    info: ImageInfo,
    size: Size,
    *,
    converted: bool,
    description: str,
) -> bytes:
    """The result's file with the metadata of the source's that is to be kept, and with what operations describe."""
    wanted = chosen.pipeline.output.metadata
    if (wanted.policy == "strip" or not data) and not description:
        return body
    from pixelmill.images.metadata_keep import carry

    return carry(body, target.name, data, info.format, wanted, size, converted=converted, description=description)


def _description(chosen: Plan, found: Mapping[str, Any]) -> str:
    """The text that operations want to stand in the result's metadata: that of the last one; empty if none does."""
    said, count = "", dict[str, int]()
    for step in chosen.steps:
        action = step.action
        count[action.name] = number = count.get(action.name, 0) + 1
        key = action.describes() if isinstance(action, Operation) else None
        if key is not None:
            said = str(found[action.name if number == 1 else f"{action.name}-{number}"][key])
    return said


def planned(pipeline: Pipeline, info: ImageInfo, limits: Limits = _DEFAULT_LIMITS) -> Plan:
    """The plan for this kind of source, from a bounded cache of the last ones.

    The plan's ``source`` may lack what plans don't depend on: bytes, media type.
    """
    kind = _Kind(
        info.format, info.size, info.mode, info.depth, info.has_alpha, info.orientation, info.has_icc, info.frames
    )
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
    frames: int


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
        frames=kind.frames,
    )
    return plan(pipeline, info, limits)


_cached_plan = functools.lru_cache(maxsize=512)(_plan)


def with_metadata(chosen: Plan, found: dict[str, Any], data: bytes, fmt: str) -> dict[str, Any]:
    """What was found; beside it, where an operation tells of the source's file, the metadata in that."""
    names = {step.action.name for step in chosen.steps if isinstance(step.action, Operation) and step.action.of_file}
    if not names or not data:
        return found
    from pixelmill.images.metadata_look import describe

    told = describe(data, fmt)
    of_file = {key: {**value, "metadata": told} for key, value in found.items() if key.partition("-")[0] in names}
    return {**found, **of_file}


def _bytes(source: Any, limits: Limits) -> bytes:
    if isinstance(source, str | Path):
        return read_file(source, limits)
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    raise TypeError(f"a source is a path, bytes or an Image, not {type(source).__name__}")
