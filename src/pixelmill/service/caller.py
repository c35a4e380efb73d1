"""Who asks: what every edge finds out first, and every verb is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the owner whose things are seen, and the scopes that were granted."""

    owner: str
    scopes: frozenset[str]
