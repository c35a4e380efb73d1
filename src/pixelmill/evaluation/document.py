"""The report as data: what was measured, where, and how; its JSON form and the schema of that.

``pixelmill_evaluation`` is the version of the form. Members may be added to a version; one that changes its meaning, or
goes, makes a new version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from pixelmill.errors import ConfigError
from pixelmill.evaluation.figures import Figures
from pixelmill.evaluation.series import Distribution

VERSION = 1
Verdict = Literal["better", "worse", "same", "unclear", "once"]
MOST_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Machine:
    """Where something ran; empty and zero where it is not known."""

    cpu: str = ""
    cores: int = 0
    memory_bytes: int = 0
    system: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What was measured. ``place``: ``private``, ``this machine``, or an address; ``settings`` are a private service's.

    ``slots``: tasks that each target runs at once, as the service tells.
    """

    label: str
    target: str
    pipeline: str
    place: str = "private"
    settings: Mapping[str, str] = field(default_factory=dict)
    machine: Machine = field(default_factory=Machine)
    slots: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cell:
    """One batch size at one resolution under one trigger, once a round; ``configuration`` is an index."""

    configuration: int
    trigger: str
    resolution: str
    size: int
    rounds: tuple[Figures, ...]

    @property
    def key(self) -> tuple[str, str, int]:
        """What cells of two configurations have in common."""
        return (self.trigger, self.resolution, self.size)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A metric of one cell before and after. ``low`` and ``high``: the least and greatest ratio that rounds gave.

    ``verdict``: ``better`` or ``worse`` where three rounds or more all say so, ``same`` where none differs, ``unclear``
    where they don't agree, ``once`` where there were fewer.
    """

    trigger: str
    resolution: str
    size: int
    metric: str
    before: float
    after: float
    ratio: float | None
    low: float | None
    high: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """``paired``: round by round, interleaved. ``differences``: what else was not the same, in words."""

    before: str
    after: str
    paired: bool
    differences: tuple[str, ...]
    ratios: tuple[Ratio, ...]


@dataclass(frozen=True, slots=True)
class User:
    """One of several users at once. ``seconds``: from the first byte sent to the last result known."""

    name: str
    images: int
    succeeded: int
    failed: int
    dropped: int
    errors: Mapping[str, int]
    throttles: int
    retries: int
    waited_s: float
    seconds: float
    total: Distribution


@dataclass(frozen=True, slots=True)
class Interactive:
    """Single images sent beside, one after another; milliseconds as the sender sees them."""

    idle: Distribution
    under_load: Distribution
    errors: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Load:
    """Several users at once. ``owners``: each user was an owner of its own to the service."""

    owners: bool
    images_per_user: int
    rate: float | None
    resolution: str
    users: tuple[User, ...]
    all: Figures
    interactive: Interactive | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report. ``made`` is ISO 8601 in UTC; ``partial``: it was ended before its plan was done, and ``why``."""

    kind: Literal["evaluate", "load"]
    made: str
    command: str
    images: str
    configurations: tuple[Configuration, ...]
    sender: Machine
    seconds: float = 0.0
    partial: bool = False
    why: str = ""
    rounds: int = 1
    planned: int = 0
    load_before: tuple[float, ...] = ()
    load_after: tuple[float, ...] = ()
    cells: tuple[Cell, ...] = ()
    load: Load | None = None
    comparison: Comparison | None = None
    pixelmill_evaluation: Literal[1] = 1


def was_busy(document: Document) -> bool:
    """Whether the sender's machine had as much to do as it has cores before it began."""
    cores = document.sender.cores
    return bool(document.load_before) and cores > 0 and document.load_before[0] >= cores


@cache
def _adapter() -> TypeAdapter[Document]:
    return TypeAdapter(Document)


def schema() -> dict[str, Any]:
    """The JSON Schema of the form."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pixelmill evaluation",
        **_adapter().json_schema(mode="serialization"),
    }


def to_json(document: Document) -> str:
    """The JSON form; numbers are cut to six digits, which is more than was measured."""
    plain = _adapter().dump_python(document, mode="json")
    return json.dumps(_shortened(plain), ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def _shortened(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < 1e6 else round(value)
    if isinstance(value, dict):
        return {name: _shortened(part) for name, part in value.items()}
    return [_shortened(part) for part in value] if isinstance(value, list) else value


def read(path: Path) -> Document:
    """An earlier report's JSON; raises :class:`ConfigError` where it is none, or of another version."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path} is larger than {MOST_BYTES:,} bytes: that is no report of an evaluation.")
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({error.strerror or error}). Name a report's JSON file.") from error
    try:
        plain = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON. Name the JSON file beside a report (--json).") from error
    version = plain.get("pixelmill_evaluation") if isinstance(plain, dict) else None
    if version != VERSION:
        what = "is no report of an evaluation" if version is None else f"is a report of form {version}"
        raise ConfigError(f"{path} {what}; this version reads form {VERSION}.")
    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path} is a damaged report: {where}: {first['msg']}.") from error
