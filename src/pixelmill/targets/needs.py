"""What a task needs that not every machine has: extras for the formats in it, learned models and what runs them.

Told from the first bytes and the pipeline, without decoding anything, so that a task is not sent where it must fail.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from pixelmill.errors import MissingExtra, ModelMissing, PixelmillError, UnsupportedFormat
from pixelmill.images.formats import FORMATS, sniff
from pixelmill.models.registry import EXTRA_OF, REGISTRY
from pixelmill.pipelines.spec import Pipeline
from pixelmill.targets.target import FarSource, RunRequest

MODEL = "model:"
"""Stands before the name of a model among extras."""
TILES = "tiles"
"""What no joined node and no serverless target has: images that are too large to be sent are run in tiles at home."""
EXTRAS = frozenset(
    (
        *(fmt.extra for fmt in FORMATS.values() if fmt.extra is not None),
        *EXTRA_OF.values(),
        *(f"{MODEL}{name}" for name in REGISTRY),
        TILES,
    )
)
"""The extras that formats and learned operations need, the models of the registry, and runs over tiles."""
_HEAD = 4_096


def needs(request: RunRequest) -> frozenset[str]:
    """The extras that the formats of source, images and result need. Reads the head of what is a file."""
    parts = (request.source, *request.images.values()) if request.kind == "image" else ()
    found = {_extra_of(part) for part in parts} | {_written(request.pipeline)} | _learned(request.pipeline)
    found |= {TILES} if request.ranks or isinstance(request.source, FarSource) else set()
    return frozenset(extra for extra in found if extra is not None)


def lacking(error: PixelmillError) -> str | None:
    """The extra (or model) that a machine lacks by that error of a task; None for any other error."""
    if isinstance(error, ModelMissing):
        name = f"{MODEL}{error.context.get('model')}"
        return name if name in EXTRAS else None
    extra = error.context.get("extra") if isinstance(error, MissingExtra | UnsupportedFormat) else None
    return extra if extra in EXTRAS else None


def _extra_of(part: bytes | Path | FarSource) -> str | None:
    if isinstance(part, FarSource):
        return None  # runs where all is that this machine has
    try:
        fmt = sniff(part[:_HEAD] if isinstance(part, bytes) else _head(part))
    except OSError:
        return None  # who runs it says so
    return None if fmt is None else fmt.extra


@lru_cache(maxsize=64)
def _learned(pipeline: str) -> frozenset[str]:
    """The models that it must have, and the extras that run them; own checkpoints are known to nobody else."""
    try:
        wanted = [item for item in Pipeline.parse(pipeline).wanted_models if not item.optional]
    except PixelmillError:
        return frozenset()  # who runs it says so
    names = {f"{MODEL}{item.name}" for item in wanted} & EXTRAS
    return frozenset(names | {EXTRA_OF[item.task] for item in wanted if item.task in EXTRA_OF})


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


@lru_cache(maxsize=64)
def _written(pipeline: str) -> str | None:
    try:
        output: Any = json.loads(pipeline)["output"]["format"]
        return FORMATS[output].extra
    except (ValueError, LookupError, TypeError):
        return None  # the source's format, one that every machine writes, or nonsense
