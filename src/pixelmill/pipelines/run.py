"""Runs a pipeline over one source: probe, plan, decode, apply, encode. The only place where an outcome is made."""

from __future__ import annotations

import hashlib
import stat
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any

import cv2

from pixelmill.errors import (
    InputError,
    InvalidParameter,
    NotApplicable,
    ObjectNotFound,
    OutOfMemory,
    StorageDenied,
    StorageError,
)
from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.formats import format_named
from pixelmill.images.image import Image, ImageInfo
from pixelmill.images.limits import Limits
from pixelmill.images.probe import probe
from pixelmill.operations.operation import Operation
from pixelmill.pipelines.outcome import Outcome, Timings
from pixelmill.pipelines.plan import Plan, plan
from pixelmill.pipelines.spec import Pipeline

DEFAULT_LIMITS = Limits()
PLANS = 512
KEPT_IMAGES = 8
KEPT_BYTES = 64_000_000

_plan = lru_cache(maxsize=PLANS)(plan)


def run(
    pipeline: Pipeline,
    source: bytes | bytearray | memoryview | str | Path | Image,
    *,
    limits: Limits | None = None,
    images: Mapping[str, bytes | Path | Image] | None = None,
) -> Outcome:
    """The outcome of ``pipeline`` over ``source``: a path, encoded bytes, or an :class:`Image`.

    ``images`` gives the pixels of image parameters by reference; references that are not in it are read as paths.
    ``decode_ms`` counts reading and probing too. Raises :class:`PixelmillError`.
    """
    limits = limits or DEFAULT_LIMITS
    start = perf_counter()
    if isinstance(source, Image):
        info, data = _info_of(source), b""
    else:
        data = read_file(Path(source), limits) if isinstance(source, str | Path) else bytes(source)
        info = probe(data, limits)
    planner = plan if pipeline.loaded else _plan  # a cache must not hold pixels
    planned = planner(pipeline, replace(info, bytes=0), limits)
    image = source if isinstance(source, Image) else decode(data, planned.need, limits)
    decoded = perf_counter()
    steps = planned.steps
    if any(step.images() for step in steps):
        found = _load(pipeline.images(), images or {}, limits)
        steps = tuple(step.with_images(found) for step in steps)
    image, gathered = _apply(steps, image)
    applied = perf_counter()
    body = encode(image, planned.format, planned.options)  # type: ignore[arg-type]  # the options of that format
    return _outcome(planned, info, image, body, gathered, Timings(*_milliseconds(start, decoded, applied)))


def _milliseconds(start: float, decoded: float, applied: float) -> tuple[float, float, float]:
    return (
        round((decoded - start) * 1e3, 3),
        round((applied - decoded) * 1e3, 3),
        round((perf_counter() - applied) * 1e3, 3),
    )


def _apply(steps: tuple[Operation, ...], image: Image) -> tuple[Image, dict[str, Any]]:
    gathered: dict[str, Any] = {}
    for step in steps:
        try:
            image, data = step.apply(image)
        except MemoryError as error:
            raise _out_of_memory(step) from error
        except cv2.error as error:
            if error.code == cv2.Error.StsNoMem:
                raise _out_of_memory(step) from error
            raise NotApplicable(
                f"{step.name} can't be applied to this image: {error.err}.", operation=step.name
            ) from error
        if data is not None:
            gathered[step.name] = data
    return image, gathered


def _out_of_memory(step: Operation) -> OutOfMemory:
    return OutOfMemory(
        f"There is not enough memory for {step.name}. Use a smaller image, or raise the memory limit of the workers.",
        operation=step.name,
    )


def _outcome(
    planned: Plan, info: ImageInfo, image: Image, body: bytes, gathered: Mapping[str, Any], timings: Timings
) -> Outcome:
    return Outcome(
        bytes=body,
        format=planned.format,
        media_type=format_named(planned.format).media_type,
        size=image.size,
        source_size=info.size,
        source_format=info.format,
        data=gathered,
        timings=timings,
    )


def _info_of(image: Image) -> ImageInfo:
    return ImageInfo(
        format="pixels",
        media_type="application/octet-stream",
        size=image.size,
        stored_size=image.size,
        mode={1: "gray", 3: "rgb", 4: "rgba"}[image.channels],
        depth=image.pixels.dtype.itemsize * 8,
        has_alpha=image.has_alpha,
    )


def read_file(path: Path, limits: Limits) -> bytes:
    """A file's bytes, its size checked first; errors of the tree, never ``OSError``."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise StorageError(f"{path} is no regular file; a pipe or a device has no size that could be checked.")
        limits.check_bytes(found.st_size)
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)
    except FileNotFoundError as error:
        raise ObjectNotFound(f"There is no file {path}. Check the path.") from error
    except IsADirectoryError as error:
        raise ObjectNotFound(f"{path} is a folder, not a file.") from error
    except PermissionError as error:
        raise StorageDenied(f"The file {path} can't be read: permission denied.") from error
    except (OSError, ValueError) as error:
        raise StorageError(f"The file {path} can't be read: {error}.") from error
    limits.check_bytes(len(data))
    return data


class _Kept:
    """Decoded image parameters by content, the last few: every task of a job has the same watermark."""

    def __init__(self) -> None:
        self._images: OrderedDict[bytes, Image] = OrderedDict()
        self._lock = Lock()

    def get(self, data: bytes, limits: Limits) -> Image:
        """The image of these bytes, opaque or not, decoded at most once while it is kept."""
        key = hashlib.sha256(data).digest()
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
                return self._images[key]
        image = decode(data, limits=limits)
        with self._lock:
            self._images[key] = image
            while len(self._images) > KEPT_IMAGES or self._bytes() > KEPT_BYTES:
                self._images.popitem(last=False)
        return image

    def _bytes(self) -> int:
        return sum(image.pixels.nbytes for image in self._images.values())


_kept = _Kept()


def _load(
    references: tuple[str, ...], given: Mapping[str, bytes | Path | Image], limits: Limits
) -> dict[str, Image | str]:
    """The pixels of every reference; an error says which one is wrong."""
    found: dict[str, Image | str] = {}
    for reference in references:
        value = given.get(reference)
        if isinstance(value, Image):
            found[reference] = value
            continue
        if value is None and reference.startswith(("sha256:", "upload:")):
            raise InvalidParameter(f"The image {reference} is not at hand here.", parameter="image")
        data = value if isinstance(value, bytes) else read_file(Path(reference if value is None else value), limits)
        try:
            found[reference] = _kept.get(data, limits)
        except InputError as error:
            raise type(error)(f"The image parameter {reference}: {error.detail}", **error.context) from error
    return found
