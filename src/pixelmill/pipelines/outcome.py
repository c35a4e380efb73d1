"""What a pipeline gives: :class:`Outcome`, with its :class:`Timings`."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pixelmill.images.image import Image, Size


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall milliseconds of each part of a run."""

    decode_ms: float = 0.0
    apply_ms: float = 0.0
    encode_ms: float = 0.0

    @property
    def total_ms(self) -> float:
        """Their sum."""
        return self.decode_ms + self.apply_ms + self.encode_ms


@dataclass(frozen=True, slots=True)
class Outcome:
    """Encoded image bytes, data, or both.

    ``bytes`` is None where the pipeline gives data only. ``format`` is a name from ``images/formats.py``.
    ``size`` is of the result, ``source_size`` of the source, orientation applied. ``frames`` is how many the result
    has, 0 where there is data only; ``data`` of an animation is that of its first frame.
    """

    bytes: bytes | None
    format: str | None
    media_type: str | None
    size: Size | None
    source_size: Size
    source_format: str
    data: Mapping[str, Any] = field(default_factory=dict)
    timings: Timings = field(default_factory=Timings)
    frames: int = 1

    @property
    def image(self) -> Image:
        """The result decoded again to pixels, of an animation the first frame.

        Raises :class:`ValueError` if there is no image.
        """
        from pixelmill.images.decode import decode

        if self.bytes is None:
            raise ValueError("this outcome holds data only")
        return decode(self.bytes)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the bytes, as plain JSON values (see :func:`from_dict`)."""
        return {
            "format": self.format,
            "media_type": self.media_type,
            "size": list(self.size) if self.size else None,
            "source_size": list(self.source_size),
            "source_format": self.source_format,
            "frames": self.frames,
            "data": dict(self.data),
            "timings": {
                "decode_ms": self.timings.decode_ms,
                "apply_ms": self.timings.apply_ms,
                "encode_ms": self.timings.encode_ms,
            },
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], body: builtins.bytes | None) -> Outcome:
        """The inverse of :meth:`to_dict`, with the bytes that travelled beside it."""
        size = record["size"]
        return cls(
            bytes=body,
            format=record["format"],
            media_type=record["media_type"],
            size=Size(*size) if size else None,
            source_size=Size(*record["source_size"]),
            source_format=record["source_format"],
            data=record["data"],
            timings=Timings(**record["timings"]),
            frames=record.get("frames", 1 if size else 0),  # documents from before there were animations lack it
        )
