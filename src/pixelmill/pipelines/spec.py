"""A pipeline as a value: operations in order, then an output. Its text, JSON and Python forms are inverses.

>>> p = Pipeline.parse("grayscale/resize:256,256,fit=fill/format:jpeg,quality=80")
>>> p == Pipeline().grayscale().resize(256, 256, fit="fill").format("jpeg", quality=80)
True
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from pixelmill.errors import PipelineError, PipelineSyntaxError, UnknownOperation
from pixelmill.images.encoders import OPTIONS
from pixelmill.images.formats import format_named
from pixelmill.operations.build import build
from pixelmill.operations.operation import Operation
from pixelmill.operations.table import OPERATIONS, operation_named, unknown
from pixelmill.pipelines.text import MAX_STEPS, MAX_TEXT, RawStep, Value, parse_text, print_steps, to_raw

if TYPE_CHECKING:
    from pixelmill.images.image import Image
    from pixelmill.images.limits import Limits
    from pixelmill.pipelines.outcome import Outcome

HASH_VERSION = "pixelmill pipeline 1\n"
NOT_YET = {"frame", "metadata", "preset"}
PARSED = 1_024
"""Parsed text and JSON forms that are remembered: services see the same few again and again."""


@dataclass(frozen=True, slots=True)
class Output:
    """How the result is encoded. ``format`` None: as the source, or PNG where that can't be written."""

    format: str | None = None
    options: BaseModel | None = None


@dataclass(frozen=True)
class Pipeline:
    """Operations in order, and an output. Frozen; every method that adds a step returns a new pipeline."""

    operations: tuple[Operation, ...] = ()
    output: Output = Output()

    # -- reading ---------------------------------------------------------------------------------

    @classmethod
    def parse(cls, form: str | Mapping[str, Any]) -> Pipeline:
        """A pipeline from its text form, its JSON form (text that starts with ``{``), or the JSON as a mapping.

        Raises :class:`PipelineError`: what is wrong, where, and what would be right.
        """
        if isinstance(form, str):
            return _parse(form)
        return _from_dict(form)

    # -- writing ---------------------------------------------------------------------------------

    def to_text(self) -> str:
        """The text form, with defaults left out."""
        steps = [_raw(operation) for operation in self.operations]
        if self.output.format is not None:
            options = _changed(self.output.options)
            named = {key: to_raw(value) for key, value in options.items()}
            steps.append(RawStep("format", (self.output.format,), named))
        return print_steps(steps)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form as plain values, with defaults left out."""
        record: dict[str, Any] = {
            "operations": [{"name": operation.name, **_changed(operation)} for operation in self.operations]
        }
        if self.output.format is not None:
            record["output"] = {"format": self.output.format, **_changed(self.output.options)}
        return record

    def to_json(self) -> str:
        """The canonical JSON form: sorted keys, no spaces, defaults left out."""
        text = self.__dict__.get("_json")
        if text is None:
            text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            self.__dict__["_json"] = text  # a frozen value: what is computed once stays true
        return str(text)

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON form, in hex: equal pipelines have equal hashes, in every version."""
        return hashlib.sha256((HASH_VERSION + self.to_json()).encode()).hexdigest()

    def __str__(self) -> str:
        return self.to_text()

    # -- building --------------------------------------------------------------------------------

    def then(self, name: str, /, *positional: Any, **named: Any) -> Pipeline:
        """With one operation more."""
        if self.output.format is not None:
            raise PipelineSyntaxError(f"format comes last; {name} stands after it.")
        if len(self.operations) >= MAX_STEPS:
            raise PipelineSyntaxError(f"A pipeline has at most {MAX_STEPS} steps.")
        operation = build(operation_named(name), name, [_plain(v) for v in positional], _plain_values(named))
        return replace(self, operations=(*self.operations, operation))

    def format(self, name: str, /, *positional: Any, **named: Any) -> Pipeline:
        """With an output format and its options."""
        if self.output.format is not None:
            raise PipelineSyntaxError(f"The pipeline has a format already: {self.output.format}.")
        found = format_named(name).name
        if found not in OPTIONS:
            raise UnknownOperation(
                f"{found} can't be written. Formats that can: {', '.join(sorted(OPTIONS))}.",
                operation=name,
                nearest=[],
            )
        options = build(OPTIONS[found], f"format:{found}", positional, named)
        return replace(self, output=Output(found, options))

    def __getattr__(self, name: str) -> Any:
        if name in OPERATIONS:
            return lambda *positional, **named: self.then(name, *positional, **named)
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(str(unknown(name, OPERATIONS)))

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *OPERATIONS])

    # -- images that operations refer to ---------------------------------------------------------

    @property
    def loaded(self) -> bool:
        """Whether pixels of image parameters are in it."""
        return any(operation.loaded for operation in self.operations)

    def images(self) -> tuple[str, ...]:
        """References of all image parameters that are not loaded, each once, in order."""
        return tuple(dict.fromkeys(ref for operation in self.operations for ref in operation.images()))

    def with_images(self, images: Mapping[str, Image | str]) -> Pipeline:
        """The same pipeline with references replaced by others, or by pixels."""
        return replace(self, operations=tuple(operation.with_images(images) for operation in self.operations))

    # -- running ---------------------------------------------------------------------------------

    def run(
        self,
        source: bytes | bytearray | memoryview | str | Path | Image,
        *,
        limits: Limits | None = None,
        images: Mapping[str, bytes | Path | Image] | None = None,
    ) -> Outcome:
        """Run it here, in this process: over a path, encoded bytes, or an :class:`Image`."""
        from pixelmill.pipelines.run import run

        return run(self, source, limits=limits, images=images)


@lru_cache(maxsize=PARSED)
def _parse(text: str) -> Pipeline:
    if text.lstrip()[:1] == "{":
        if len(text) > MAX_TEXT:
            raise PipelineSyntaxError(f"The pipeline has {len(text):,} characters; the limit is {MAX_TEXT:,}.")
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PipelineSyntaxError(f"The pipeline is not JSON: {error}.") from error
        return _from_dict(record)
    pipeline = Pipeline()
    for step in parse_text(text):
        try:
            pipeline = _add(pipeline, step)
        except PipelineError as error:
            error.context.setdefault("position", step.position)
            raise
    return pipeline


def _add(pipeline: Pipeline, step: RawStep) -> Pipeline:
    named = {} if step.named is None else dict(step.named)
    if step.name == "format":
        if not step.positional or not isinstance(step.positional[0], str):
            raise PipelineSyntaxError("format needs a name, for example format:webp.")
        return pipeline.format(step.positional[0], *step.positional[1:], **named)
    if step.name in NOT_YET:
        raise UnknownOperation(f"The step {step.name} is not supported yet.", operation=step.name, nearest=[])
    return pipeline.then(step.name, *step.positional, **named)


def _from_dict(record: Any) -> Pipeline:
    """The JSON form; raises :class:`PipelineSyntaxError` where its shape is wrong."""
    if not isinstance(record, Mapping) or not set(record) <= {"operations", "output"}:
        raise PipelineSyntaxError('A pipeline is a JSON object {"operations": […], "output": {…}}.')
    operations = record.get("operations", [])
    if not isinstance(operations, list):
        raise PipelineSyntaxError('"operations" is a list of objects {"name": …, parameter: value, …}.')
    pipeline = Pipeline()
    for index, item in enumerate(operations):
        if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
            raise PipelineSyntaxError(f'Operation {index + 1} is not an object with a "name".')
        named = {str(key): value for key, value in item.items() if key != "name"}
        try:
            pipeline = pipeline.then(item["name"], **_without_nulls(named))
        except PipelineError as error:
            error.context.setdefault("step", index + 1)
            raise
    output = record.get("output")
    if output is None:
        return pipeline
    if not isinstance(output, Mapping) or not isinstance(output.get("format"), str):
        raise PipelineSyntaxError('"output" is an object {"format": …, option: value, …}.')
    options = {str(key): value for key, value in output.items() if key != "format"}
    return pipeline.format(output["format"], **_without_nulls(options))


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's null means: not given."""
    return {key: value for key, value in values.items() if value is not None}


def _changed(model: BaseModel | None) -> dict[str, Any]:
    """Parameters that differ from their defaults, as plain JSON values; -0.0 equals 0.0 and is written so."""
    values = {} if model is None else model.model_dump(mode="json", exclude_defaults=True)
    return {key: 0.0 if isinstance(value, float) and value == 0 else value for key, value in values.items()}


def _raw(operation: Operation) -> RawStep:
    changed = _changed(operation)
    positional: list[Value] = []
    for key in list(type(operation).model_fields)[: operation.positional]:
        if key not in changed:
            break
        positional.append(to_raw(changed.pop(key)))
    return RawStep(operation.name, tuple(positional), {key: to_raw(value) for key, value in changed.items()})


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) for key, value in values.items()}
