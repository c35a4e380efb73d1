"""Reading the fields of a table that a person wrote: types, bounds, sizes and times, and errors that name the field.

Serves rules and sources alike, from TOML, YAML and JSON. Pure; no I/O.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from pixelmill.errors import ConfigError

MAX_TEXT = 10_000
MAX_ITEMS = 100
"""Entries of a list or a table within one rule."""
HELP_PAGE = "docs/triggers.md"

_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_AMOUNT = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]{0,3})\s*")


@dataclass(frozen=True, slots=True)
class Fields:
    """One table, and where it stands (``triggers.toml: rule thumbs``), for messages."""

    where: str
    table: Mapping[str, Any]

    def refuse(self, field: str, problem: str) -> NoReturn:
        """Raise :class:`ConfigError` about a field."""
        raise ConfigError(f"{self.where}: {field} {problem}", field=field)

    def only(self, known: Iterable[str]) -> None:
        """Refuse keys that are not ``known``, and name the nearest that is."""
        names = list(known)
        for key in self.table:
            if key in names:
                continue
            nearest = difflib.get_close_matches(str(key).lower(), names, n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else f" Known are {', '.join(names)}."
            raise ConfigError(
                f"{self.where}: unknown field {str(key)[:80]!r}.{hint} See {HELP_PAGE}.", field=str(key)[:80]
            )

    def text(self, field: str, default: str | None = None) -> str:
        """A text; ``default`` None: it must be there."""
        value = self.table.get(field)
        if value is None:
            if default is None:
                self.refuse(field, f"is missing. See {HELP_PAGE}.")
            return default
        return self._text(field, value)

    def _text(self, field: str, value: Any) -> str:
        if not isinstance(value, str):
            self.refuse(field, f"must be text in quotes, not {shown(value)}.")
        if not value.strip() or len(value) > MAX_TEXT or any(c < " " for c in value):
            self.refuse(field, f"must be 1 to {MAX_TEXT:,} characters on one line.")
        return value.strip()

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of texts, or one text."""
        value = self.table.get(field)
        if value is None:
            return ()
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or len(items) > MAX_ITEMS:
            self.refuse(field, f"must be a list of at most {MAX_ITEMS} texts, not {shown(value)}.")
        return tuple(dict.fromkeys(self._text(field, item) for item in items))

    def size(self, field: str) -> int | None:
        """A size in bytes: a whole number, or text such as 20MB."""
        value = self.table.get(field)
        if value is None:
            return None
        found = _AMOUNT.fullmatch(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None
        if found is None or found[2].upper() not in _SIZES:
            self.refuse(field, f"must be a size such as 1000000, 20MB or 512KiB, not {shown(value)}.")
        return int(float(found[1]) * _SIZES[found[2].upper()])

    def seconds(self, field: str) -> float | None:
        """A time in seconds: a number, or text such as 10s or 5m; more than none."""
        value = self.table.get(field)
        if value is None:
            return None
        plain = isinstance(value, str | int | float) and not isinstance(value, bool)
        found = _AMOUNT.fullmatch(str(value)) if plain else None
        if found is None or found[2] not in _SECONDS or not float(found[1]):
            self.refuse(field, f"must be a time such as 10, 10s or 5m, not {shown(value)}.")
        return float(found[1]) * _SECONDS[found[2]]

    def number(self, field: str, low: int, high: float = math.inf) -> int | None:
        """A whole number within bounds, both included."""
        value = self.table.get(field)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            most = "" if high == math.inf else f" to {high:,}"
            self.refuse(field, f"must be a whole number from {low:,}{most}, not {shown(value)}.")
        return value

    def flag(self, field: str, *, default: bool) -> bool:
        """True or false."""
        value = self.table.get(field, default)
        if not isinstance(value, bool):
            self.refuse(field, f"must be true or false, not {shown(value)}.")
        return value

    def inner(self, field: str) -> Fields:
        """A table within this one; empty where it is absent."""
        value = self.table.get(field)
        if value is None:
            value = {}
        if not isinstance(value, Mapping) or len(value) > MAX_ITEMS:
            self.refuse(field, f"must be a table of at most {MAX_ITEMS} lines, not {shown(value)}.")
        return Fields(f"{self.where}: {field}", value)

    def tables(self, field: str, most: int) -> tuple[Mapping[str, Any], ...]:
        """A list of tables."""
        value = self.table.get(field)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            self.refuse(field, f"must be a list of tables ([[{field}]] in TOML), not {shown(value)}.")
        if len(value) > most:
            self.refuse(field, f"are {len(value):,}; at most {most:,} are taken.")
        return tuple(value)


def shown(value: Any) -> str:
    """A value for a message: short, and never the inside of a table or list."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    return ascii(value)[:60] if isinstance(value, str | int | float | bool) else f"a {type(value).__name__}"
