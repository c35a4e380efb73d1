"""What a pipeline needs that is not here: extras, models, and operations that this version does not have.

An operation says itself what it lacks (:meth:`Operation.lacks`), formats are known by their extras, and whether an
operation exists is told by the table: a preset of one that comes with a later version is there by itself then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pixelmill.errors import PipelineError
from pixelmill.images.extras import is_installed
from pixelmill.images.formats import FORMATS
from pixelmill.models.folder import ModelFolder
from pixelmill.models.model import Missing
from pixelmill.operations.operation import Lack, Operation
from pixelmill.operations.table import STEPS, TABLE
from pixelmill.pipelines import text as grammar
from pixelmill.pipelines.forms import expansion
from pixelmill.pipelines.output import Output
from pixelmill.pipelines.presets import Preset, Presets
from pixelmill.pipelines.spec import Pipeline


@dataclass(frozen=True, slots=True)
class Availability:
    """The pipeline that a preset means, None where that can't be told, and what it lacks here."""

    pipeline: Pipeline | None
    lacks: tuple[Lack, ...]


def lacks_of(pipeline: Pipeline, models: ModelFolder | None = None) -> tuple[Lack, ...]:
    """What is missing on this machine to run it, each once, in the order of its steps.

    ``models``: where weights lie; None: of them nothing is known here.
    """
    found = [lack for item in pipeline.operations for lack in (*item.lacks(), *_lacking_models(item, models))]
    return tuple(dict.fromkeys((*found, *_lacks_of_output(pipeline.output))))


def _lacking_models(item: Operation, models: ModelFolder | None) -> Iterator[Lack]:
    if models is None:
        return
    for wanted in item.models():
        if wanted.optional:
            continue
        try:
            missing = models.missing(wanted)
        except PipelineError as error:
            missing = Missing(error.detail)
        if missing is not None:
            yield Lack(missing.what, missing.command)


def availability(preset: Preset, presets: Presets, models: ModelFolder | None = None) -> Availability:
    """Whether a preset can be used here. One that is wrong lacks what its error says."""
    try:
        unknown = [step.name for step in grammar.read(preset.form) if step.name not in TABLE and step.name not in STEPS]
        if unknown:
            return Availability(None, tuple(Lack(f"this version has no operation {name}") for name in unknown))
        pipeline = Pipeline(*expansion(preset.name, presets).parts)
    except PipelineError as error:
        return Availability(None, (Lack(error.detail),))
    return Availability(pipeline, lacks_of(pipeline, models))


def described(preset: Preset, presets: Presets, models: ModelFolder | None = None) -> dict[str, Any]:
    """A preset for lists: ``form`` as it was written, ``pipeline`` with all steps written out, and what it lacks.

    ``images`` are the references that must be given for it, such as the second picture of ``match``.
    """
    found = availability(preset, presets, models)
    return {
        "name": preset.name,
        "title": preset.title or preset.name,
        "summary": preset.summary,
        "built_in": preset.built_in,
        "form": preset.form,
        "pipeline": preset.form if found.pipeline is None else found.pipeline.to_text(),
        "images": [] if found.pipeline is None else list(found.pipeline.images()),
        "available": not found.lacks,
        "missing": [lack.to_dict() for lack in found.lacks],
    }


def _lacks_of_output(output: Output) -> tuple[Lack, ...]:
    known = FORMATS.get(output.format or "")
    if known is None or known.extra is None or is_installed(known):
        return ()
    return (Lack(f"writing {known.name} needs the extra {known.extra}", f"pip install 'pixelmill[{known.extra}]'"),)
