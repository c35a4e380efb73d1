"""How presets become steps: what they mean, and how their ends meet those of the pipeline they stand in. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from pixelmill.errors import PipelineError, PipelineSyntaxError
from pixelmill.operations.operation import Operation
from pixelmill.pipelines.output import SAME_FORMAT, Output
from pixelmill.pipelines.presets import MAX_DEPTH, Presets
from pixelmill.pipelines.source_step import WHOLE_SOURCE, SourceStep

MAX_STEPS = 64
"""Operations of one pipeline."""

Parts = tuple[tuple[Operation, ...], Output, SourceStep]


class Expansion(NamedTuple):
    """What a text means.

    ``says``: which of format and metadata it gives, be it as the default is. ``depth``: of presets within presets.
    """

    operations: tuple[Operation, ...]
    output: Output
    source: SourceStep
    says: frozenset[str]
    depth: int = 0

    @property
    def parts(self) -> Parts:
        """Without what it says."""
        return self.operations, self.output, self.source


def check_count(count: int) -> None:
    """Raise :class:`PipelineError` for too many operations."""
    if count > MAX_STEPS:
        raise PipelineError(f"The pipeline has {count:,} operations; at most {MAX_STEPS} are taken.", maximum=MAX_STEPS)


class Collected:
    """What the steps of a form give, one after the other. A preset's format and metadata count for the whole."""

    def __init__(self, source: SourceStep) -> None:
        self.operations: list[Operation] = []
        self._source, self._output = source, SAME_FORMAT
        self._says: frozenset[str] = frozenset()
        self._depth = 0

    def add(self, expansion: Expansion) -> None:
        """Behind what is there; raises :class:`PipelineError` for a frame that is not first, and for too many."""
        operations, output, source, says, depth = expansion
        if source != WHOLE_SOURCE:
            if self.operations or self._source != WHOLE_SOURCE:
                raise PipelineSyntaxError("The preset begins with frame, so it must be the first step.")
            self._source = source
        check_count(len(self.operations) + len(operations))
        self.operations.extend(operations)
        self._depth = max(self._depth, depth)
        self._output, self._says = overridden(self._output, output, says), self._says | says

    def all(self, output: Output, says: frozenset[str]) -> Expansion:
        """Everything, with the output that stands at the end, which says so much."""
        check_count(len(self.operations))
        ends = overridden(self._output, output, says)
        return Expansion(tuple(self.operations), ends, self._source, self._says | says, self._depth)


def overridden(first: Output, later: Output, says: frozenset[str]) -> Output:
    """``later`` in what it says, else ``first``; format with its options, and metadata, each as a whole."""
    if "format" not in says:
        later = replace(later, format=first.format, options=first.options)
    return later if "metadata" in says else replace(later, metadata=first.metadata)


def expanded(
    name: str, presets: Presets, within: tuple[str, ...], read: Callable[[str, Presets, tuple[str, ...]], Expansion]
) -> Expansion:
    """What a preset means; ``read`` is what reads text forms, ``within`` the presets around, the outermost first.

    Raises :class:`UnknownOperation` where there is none of that name, another :class:`PipelineError` for one that holds
    itself, or is wrong.
    """
    found: Expansion | None = presets.expansions.get(name)
    if found is not None:
        return found
    preset = presets.named(name)
    if name in within:
        circle = " → ".join((*within[within.index(name) :], name))
        raise PipelineSyntaxError(f"The preset {name} holds itself ({circle}). Take it out of one of them.")
    if len(within) >= MAX_DEPTH:
        raise _too_deep(within[0])
    try:
        expansion = read(preset.form, presets, (*within, name))
    except PipelineError as error:
        if "preset" in error.context:  # told by the innermost one
            raise
        raise type(error)(f"In the preset {name}: {error.detail}", **{**error.context, "preset": name}) from error
    if expansion.depth >= MAX_DEPTH:
        raise _too_deep(name)
    expansion = expansion._replace(depth=expansion.depth + 1)
    presets.expansions[name] = expansion
    return expansion


def _too_deep(name: str) -> PipelineSyntaxError:
    return PipelineSyntaxError(
        f"The preset {name} holds presets more than {MAX_DEPTH} deep, itself counted. Write some of their steps out."
    )
