"""One rule: when an object appears here, run this, and write the result there. A plain value; no I/O.

How rules are read from a file stands in ``book.py``, matching in ``matching.py``, names in ``naming.py``, loops in
``loops.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pixelmill.jobs.model import Priority


@dataclass(frozen=True, slots=True)
class RuleLimits:
    """Bounds of the runs of a rule; None is the service's own, which is never passed. Bytes, pixels, seconds."""

    max_bytes: int | None = None
    max_pixels: int | None = None
    max_side: int | None = None
    timeout_s: float | None = None
    max_attempts: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """``watch`` is an address that the objects' begin with; ``output`` one with ``{names}`` in it (see ``naming.py``).

    ``pipeline`` is the text form, checked when the rule was read. Empty ``suffixes`` and ``types`` match everything;
    ``min_bytes`` and ``max_bytes`` are both included. ``cache_control`` goes with the result into its store.
    ``origin``: the file, or the API.
    """

    name: str
    watch: str
    pipeline: str
    output: str
    suffixes: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    min_bytes: int = 0
    max_bytes: int | None = None
    priority: Priority = Priority.NORMAL
    tags: Mapping[str, str] = field(default_factory=dict)
    owner: str = "local"
    limits: RuleLimits = field(default_factory=RuleLimits)
    cache_control: str = ""
    enabled: bool = True
    origin: Literal["file", "api"] = "file"


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Where events come from: a queue to be read, a folder to be watched, or a route of our own that is called.

    ``kind`` is ``sqs``, ``azure-queue``, ``folder`` or ``http``; ``options`` are that kind's, as text.
    """

    name: str
    kind: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)  # secrets may be among them


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules and sources by name, in the order of the file; those of the API come last."""

    rules: Mapping[str, Rule] = field(default_factory=dict)
    sources: Mapping[str, SourceSpec] = field(default_factory=dict)
