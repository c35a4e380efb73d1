"""What is said between who starts a run over tiles and its processes: one order in, lines of JSON out. Pure.

The order goes through the standard input of the first rank, never by a file or a command line: it may hold the
credentials of a store. The lines that come back say how far it is, and at last what came of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pixelmill.errors import PixelmillError, error_from_dict, error_to_dict
from pixelmill.images.limits import TiledLimits
from pixelmill.pipelines.outcome import Outcome
from pixelmill.targets.target import Progress

MARK = "pixelmill "
"""Begins our lines: libraries of MPI write into standard output as they like."""
MAX_LINE = 32_000_000
"""Bytes of a line. The last one has all data that a pipeline found: a list of components alone has 200 kB."""


@dataclass(frozen=True, slots=True)
class TiledOrder:
    """One image over tiles. ``source``: a file, or the key of an object in the store of ``store`` and ``options``.

    ``folder`` holds what is written on the way and may hold what an attempt before has written; ``target`` is the file
    (or folder) of the result. ``images``: files by the reference that the pipeline uses. ``threads``: of each process.
    ``memory_bytes``, ``scratch_bytes``: of all of them. ``tile``: their side; 0: as planned. ``ranks`` 0: one process.
    ``identity``: what the source is, so that a run is only taken up where it is the same.
    """

    pipeline: str
    source: str
    folder: str
    target: str
    limits: TiledLimits
    memory_bytes: int
    ranks: int = 0
    threads: int = 1
    tile: int = 0
    images: Mapping[str, str] = field(default_factory=dict)
    store: str = ""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    identity: str = ""
    scratch_bytes: int = 100_000_000_000

    def to_line(self) -> bytes:
        """One line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes | str) -> TiledOrder:
        """The inverse; raises :class:`ValueError` for anything else."""
        try:
            record = json.loads(line)
            return cls(**{**record, "limits": TiledLimits(**record["limits"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"an order of the wrong form: {error}") from error

    def digest(self) -> str:
        """Equal where the same pixels would be written in the same way: then what was written before is of use."""
        told = [self.pipeline, self.source, self.store, self.identity, self.tile, self.ranks, sorted(self.images)]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Report:
    """A line of a run: how far it is, or its end."""

    progress: Progress | None = None
    outcome: Outcome | None = None
    error: PixelmillError | None = None

    def to_line(self) -> bytes:
        """One line, with a line end before it: what a library has written without one must not swallow it."""
        record: dict[str, Any] = {}
        if self.progress is not None:
            record["progress"] = asdict(self.progress)
        if self.outcome is not None:
            record["outcome"] = self.outcome.to_dict()
        if self.error is not None:
            record["error"] = error_to_dict(self.error)
        return f"\n{MARK}{json.dumps(record)}\n".encode()

    @classmethod
    def from_line(cls, line: bytes) -> Report | None:
        """The inverse; None for a line that is not ours."""
        text = line.decode("utf-8", "replace").strip()
        if not text.startswith(MARK):
            return None
        try:
            record = json.loads(text.removeprefix(MARK))
            if "progress" in record:
                return cls(progress=Progress(**record["progress"]))
            if "error" in record:
                return cls(error=error_from_dict(record["error"]))
            return cls(outcome=Outcome.from_dict(record["outcome"], None))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def file_identity(path: Path) -> str:
    """What tells a file from the one that was there before."""
    facts = path.stat()
    return f"{facts.st_size}-{facts.st_mtime_ns}"
