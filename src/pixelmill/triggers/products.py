"""What a rule's pipeline can give: formats of images, and data. Known before anything runs.

The extension that a template fixes decides, as the name of an output file does in `pixelmill run`: ``{stem}.webp``
makes the pipeline end in ``format:webp``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from pixelmill.errors import ConfigError
from pixelmill.images.encoders import AUTO, Acceptable, AutoOptions
from pixelmill.images.formats import FORMATS, WRITTEN, Format
from pixelmill.pipelines.plan import gives_data_only
from pixelmill.pipelines.spec import Pipeline
from pixelmill.storage.keys import split_name
from pixelmill.triggers.template import Template


@dataclass(frozen=True, slots=True)
class Products:
    """The formats that images may get (without a format of its own a pipeline keeps the source's), and data."""

    formats: tuple[Format, ...]
    data: bool


def products_of(pipeline: Pipeline) -> Products:
    """What the outcomes of a pipeline may be."""
    if gives_data_only(pipeline):
        return Products((), data=True)
    data = any(operation.output != "image" for operation in pipeline.operations)
    options, name = pipeline.output.options, pipeline.output.format
    if isinstance(options, AutoOptions):
        return Products(tuple(FORMATS[accepted] for accepted in options.accepted), data)
    return Products((FORMATS[name],) if name is not None else tuple(WRITTEN.values()), data)


def with_format_of(template: Template, pipeline: Pipeline, output: str) -> Pipeline:
    """The pipeline with the format that the template's own extension asks for.

    Raises :class:`ConfigError` where the two contradict each other.
    """
    wanted, given = _asked_for(template), pipeline.output.format
    if wanted is None or wanted.name == given or gives_data_only(pipeline):
        return pipeline
    if not wanted.written:
        raise ConfigError(f"{output!r} has the extension of {wanted.name}, which is read, not written.")
    options = pipeline.output.options
    if isinstance(options, AutoOptions) and wanted.name in (options.accept or get_args(Acceptable)):
        return pipeline.format(AUTO, accept=[wanted.name], quality=options.quality, background=options.background)
    if given is None:
        return pipeline.format(wanted.name)
    raise ConfigError(
        f"The pipeline ends in format:{given}, but {output!r} has the extension of {wanted.name}. Change one of them, "
        "or write .{ext}, which is the extension of the result."
    )


def _asked_for(template: Template) -> Format | None:
    last = template.path[-1]
    if last.is_name:
        return None
    name = last.text.rpartition("/")[2]
    extension = split_name(f"x{name}")[1].lower()
    return next((fmt for fmt in FORMATS.values() if extension in fmt.extensions), None)
