"""The pipeline: a frozen value of operations and an output, with its text, JSON and Python forms and its hash.

The forms are inverse of each other. Nothing is decoded here, and no codec is loaded before :meth:`Pipeline.run`.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelmill.errors import PipelineError, PipelineSyntaxError
from pixelmill.images.image import Image
from pixelmill.images.limits import Limits
from pixelmill.images.metadata import MetadataOptions
from pixelmill.models.model import Model, ModelSource, Wanted
from pixelmill.operations.arguments import build
from pixelmill.operations.operation import Operation
from pixelmill.operations.parameters import Font
from pixelmill.operations.table import TABLE, nearest_names, operation_named
from pixelmill.pipelines import forms
from pixelmill.pipelines.expansion import check_count, overridden
from pixelmill.pipelines.outcome import Outcome
from pixelmill.pipelines.output import SAME_FORMAT, Output, output_named
from pixelmill.pipelines.presets import BUILT_IN, Presets
from pixelmill.pipelines.source_step import WHOLE_SOURCE, SourceStep
from pixelmill.pipelines.text import MAX_TEXT

if TYPE_CHECKING:
    from pixelmill.images.region_places import ResultPlace
    from pixelmill.pipelines.tiled_options import TiledOptions, TiledOutcome, TiledSource

HASH_VERSION = 1
"""Counts up when the same canonical JSON comes to mean other pixels, on purpose."""


@dataclass(frozen=True, repr=False)  # no slots: the hash is computed once, on demand, and kept in __dict__
class Pipeline:
    """Operations in order, the output they end with, and what of the source they take.

    >>> Pipeline().grayscale().resize(256, 256, fit="fill").format("jpeg", quality=90).to_text()
    'grayscale/resize:256,256,fit=fill/format:jpeg,quality=90'

    Every operation of ``operations/table.py`` is a method that takes its parameters, by position or by name, and
    returns a longer pipeline. Equality and hash are those of the values.
    """

    operations: tuple[Operation, ...] = ()
    output: Output = SAME_FORMAT
    source: SourceStep = WHOLE_SOURCE

    def __post_init__(self) -> None:
        check_count(len(self.operations))

    # -- forms ------------------------------------------------------------------------------------

    @classmethod
    def parse(cls, form: str | Mapping[str, Any] | Pipeline, *, presets: Presets = BUILT_IN) -> Pipeline:
        """The pipeline that a text, a JSON text, or plain values as JSON has them describe, presets expanded.

        Raises:
            PipelineSyntaxError: it can't be read.
            UnknownOperation: no such operation or format; names the nearest.
            InvalidParameter: names step, operation, parameter, range, and the nearest known name.
        """
        if isinstance(form, Pipeline):
            return form
        if isinstance(form, str):
            # Without a preset in it a form means the same to everybody, and the cache keeps it once.
            known = presets if "preset" in form or "\\u" in form else BUILT_IN
            return _parse_text(form, known) if len(form) <= MAX_TEXT else _parse_text.__wrapped__(form, known)
        if isinstance(form, Mapping):
            return cls(*forms.read_dict(form, presets))
        raise PipelineSyntaxError(f"A pipeline is text, JSON or an object, not {type(form).__name__}.")

    def to_text(self) -> str:
        """The text form, without defaults; raises :class:`PipelineError` if it were longer than can be read."""
        text = forms.write_text(self.operations, self.output, self.source)
        if len(text) > MAX_TEXT:
            raise PipelineError(
                f"The pipeline's text form would have {len(text):,} characters; at most {MAX_TEXT:,} are read. "
                "Use the JSON form."
            )
        return text

    def to_dict(self) -> dict[str, Any]:
        """The JSON form as plain values, without defaults."""
        return forms.write_dict(self.operations, self.output, self.source)

    def to_json(self) -> str:
        """The canonical JSON form: one for each pipeline."""
        return json.dumps(self.to_dict(), separators=(",", ":"), ensure_ascii=False)

    @cached_property
    def hash(self) -> str:
        """SHA-256, in hex, of the canonical JSON with sorted keys and ``HASH_VERSION``."""
        record = {"version": HASH_VERSION, **self.to_dict()}
        return hashlib.sha256(json.dumps(record, separators=(",", ":"), sort_keys=True).encode()).hexdigest()

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        try:
            return f"Pipeline.parse({self.to_text()!r})"
        except PipelineError:
            return f"Pipeline(operations={self.operations!r}, output={self.output!r}, source={self.source!r})"

    # -- images among the parameters --------------------------------------------------------------

    def images(self) -> tuple[str, ...]:
        """References of all image parameters, each once, in order."""
        return self.image_references

    @cached_property
    def image_references(self) -> tuple[str, ...]:
        """What :meth:`images` gives, computed once."""
        return tuple(dict.fromkeys(reference for item in self.operations for reference in item.images()))

    @cached_property
    def font_references(self) -> tuple[str, ...]:
        """References of all font parameters that are no built-in families, each once, in order."""
        return tuple(dict.fromkeys(reference for item in self.operations for reference in item.fonts()))

    def with_fonts(self, fonts: Mapping[str, Font | str]) -> Pipeline:
        """The same pipeline with references to fonts replaced, by other references or by fonts; others stay."""
        return replace(self, operations=tuple(item.with_fonts(fonts) for item in self.operations))

    @cached_property
    def wanted_models(self) -> tuple[Wanted, ...]:
        """The learned models that its operations want, each once, in order."""
        return tuple(dict.fromkeys(wanted for item in self.operations for wanted in item.models()))

    @cached_property
    def holds_pixels(self) -> bool:
        """Whether a parameter holds pixels, a font or a model instead of a reference: such has no written form."""
        return any(isinstance(value, Image | Font | Model) for item in self.operations for _, value in item)

    def with_images(self, images: Mapping[str, Image | str]) -> Pipeline:
        """The same pipeline with references replaced, by other references or by pixels; others stay."""
        return replace(self, operations=tuple(item.with_images(images) for item in self.operations))

    # -- Python form ------------------------------------------------------------------------------

    def format(self, name: str, /, *arguments: Any, **options: Any) -> Pipeline:
        """With this output format and its options: ``format("jpeg", quality=80)``."""
        fmt = output_named(name, {}, strict=True)
        taken = _taken(type(fmt.options), arguments, options, f"format:{fmt.format}")
        return replace(self, output=output_named(name, taken, strict=True, metadata=self.output.metadata))

    def frame(self, number: int, /) -> Pipeline:
        """Of that frame or page of the source alone, counted from 0."""
        return replace(self, source=build(SourceStep, {"frame": number}, "frame", strict=True))

    def metadata(self, policy: str, /, **options: Any) -> Pipeline:
        """With this metadata kept: ``metadata("keep", gps=True)``; see :class:`MetadataOptions`."""
        chosen = build(MetadataOptions, {"policy": policy, **options}, "metadata", strict=True)
        return replace(self, output=replace(self.output, metadata=chosen))

    def preset(self, name: str, /, *, presets: Presets = BUILT_IN) -> Pipeline:
        """With the steps of that preset behind its own; the preset's format and metadata replace what was set."""
        operations, output, source, says, _ = forms.expansion(name, presets)
        if source != WHOLE_SOURCE and (self.operations or self.source != WHOLE_SOURCE):
            raise PipelineSyntaxError(f"The preset {name} begins with frame, so it must be the first step.")
        return Pipeline(
            (*self.operations, *operations),
            overridden(self.output, output, says),
            self.source if source == WHOLE_SOURCE else source,
        )

    def then(self, name: str, /, *arguments: Any, **parameters: Any) -> Pipeline:
        """With one more operation, by name; what ``pipeline.NAME(...)`` calls."""
        model = operation_named(name)
        taken = _taken(model, arguments, parameters, name)
        return replace(self, operations=(*self.operations, build(model, taken, name, strict=True)))

    def __getattr__(self, name: str) -> Callable[..., Pipeline]:
        if name in TABLE:
            return functools.partial(self.then, name)
        nearest = [] if name.startswith("_") else nearest_names(name)
        hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
        raise AttributeError(f"there is no operation (or attribute) {name!r}.{hint}", name=name, obj=self)

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *TABLE])

    # -- running ----------------------------------------------------------------------------------

    def run(
        self,
        source: bytes | str | Path | Image,
        *,
        limits: Limits | None = None,
        images: Mapping[str, bytes | Path | Image] | None = None,
        models: ModelSource | None = None,
    ) -> Outcome:
        """Run over one source: a path, the bytes of a file, or pixels. See :func:`pixelmill.pipelines.run.run`."""
        from pixelmill.pipelines.run import run

        return run(self, source, limits=limits or Limits(), images=images, models=models)

    def run_tiled(
        self,
        source: TiledSource,
        dest: str | Path | ResultPlace | None = None,
        options: TiledOptions | None = None,
        **more: Any,
    ) -> TiledOutcome:
        """Run in tiles, in bounded memory, to a file; see :func:`pixelmill.pipelines.tiled_run.run_tiled`.

        >>> Pipeline.parse("gaussian:2/canny").run_tiled("slide.tif", "edges.tif")  # doctest: +SKIP
        """
        from pixelmill.pipelines.tiled_run import run_tiled

        return run_tiled(self, source, dest, options, **more)


def _taken(model: Any, arguments: tuple[Any, ...], named: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Arguments of a call by parameter name."""
    taken = {forms.positional_name(model, index, owner): value for index, value in enumerate(arguments)}
    for name, value in named.items():
        forms.add_argument(taken, name, value, owner)
    return taken


@functools.lru_cache(maxsize=256)
def _parse_text(form: str, presets: Presets) -> Pipeline:
    if form.lstrip().startswith("{"):
        return Pipeline(*forms.read_json(form, presets))
    return Pipeline(*forms.read_text(form, presets))
