"""What a pipeline ends with: the format that is written, with its options, and the metadata that is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pixelmill.images.encoders import AUTO, ENDS, EncodeOptions
from pixelmill.images.formats import UNDECIDED, WRITTEN, Format, written_format
from pixelmill.images.metadata import STRIPPED, MetadataOptions
from pixelmill.operations.arguments import build


@dataclass(frozen=True, slots=True)
class Output:
    """``format`` is a name from ``images/formats.py``, or ``auto``, with the options it is written with.

    Without one, the result has the source's format, or PNG where that can't be written.
    """

    format: str | None = None
    options: EncodeOptions | None = None
    metadata: MetadataOptions = STRIPPED

    def target(self, source_format: str | None) -> Format:
        """The format to write for a source of that format (None: it was pixels); ``UNDECIDED`` for ``auto``."""
        if self.format == AUTO:
            return UNDECIDED
        return WRITTEN.get(self.format or source_format or "png", WRITTEN["png"])


SAME_FORMAT = Output()
"""The source's format, with its default options."""


def output_named(
    name: str, arguments: Mapping[str, Any], *, strict: bool, metadata: MetadataOptions = STRIPPED
) -> Output:
    """An output by format name or alias, and options; raises :class:`PipelineError`."""
    fmt = end_named(name)
    return Output(fmt, build(ENDS[fmt], arguments, f"format:{fmt}", strict=strict), metadata)


def end_named(name: str) -> str:
    """The name of what ``format:`` takes, for a name or alias; raises :class:`UnknownOperation` with the nearest."""
    return AUTO if name.strip().lower() == AUTO else written_format(name).name
