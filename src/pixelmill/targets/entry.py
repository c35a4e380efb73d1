"""What a pool process runs for each request: the pipeline over the source, or over the contact sheet it describes.

Any function that takes the request can stand in its place (``LocalPool(entry="module:function")``, configuration only).
"""

from __future__ import annotations

from functools import lru_cache

from pixelmill.images.late import LATE
from pixelmill.models.model import ModelSource
from pixelmill.operations.table import TABLE
from pixelmill.pipelines.outcome import Outcome
from pixelmill.pipelines.run import run
from pixelmill.pipelines.sheet import run_sheet
from pixelmill.pipelines.spec import Pipeline
from pixelmill.targets.target import RunRequest, near

PRELOAD = (
    "numpy",
    "cv2",
    "simplejpeg",
    "pydantic",
    "PIL.AvifImagePlugin",
    *LATE,
    "pixelmill.pipelines.animation",
    *sorted({module for module, _ in TABLE.values()}),
)
"""Modules the zygote imports once for all its workers; every family, else each worker imports it at its first use."""


@lru_cache(maxsize=64)
def _parse(text: str) -> Pipeline:
    return Pipeline.parse(text)


def run_request(request: RunRequest, *, models: ModelSource | None = None) -> Outcome:
    """Run one request here and now; raises :class:`PixelmillError`."""
    if request.kind == "sheet":
        assert isinstance(request.source, bytes), "a sheet's document travels as bytes"
        return run_sheet(_parse(request.pipeline), request.source, limits=request.limits, images=request.images)
    pipeline = _parse(request.pipeline)
    source = near(request.source, "A pool process")
    return run(pipeline, source, limits=request.limits, images=request.images, models=models)
