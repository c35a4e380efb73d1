"""Files that a pipeline names: second images and fonts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pixelmill.errors import PipelineError

if TYPE_CHECKING:
    from pixelmill.pipelines.spec import Pipeline


def files_of(pipeline: Pipeline) -> dict[str, Path]:
    """The files of images and fonts that a pipeline names."""
    images = {reference: _image_file(reference) for reference in pipeline.images()}
    return images | {reference: _font_file(reference) for reference in pipeline.font_references}


def _image_file(reference: str) -> Path:
    path = Path(reference.removeprefix("file://"))
    if not path.is_file():
        raise PipelineError(f"The pipeline names the image {reference}, but there is no such file here.")
    return path


def _font_file(reference: str) -> Path:
    path = Path(reference.removeprefix("file://"))
    if not path.is_file():
        raise PipelineError(f"The pipeline names the font {reference}, which is no built-in family, and no file here.")
    return path
