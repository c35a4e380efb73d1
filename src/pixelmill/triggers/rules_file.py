"""A rules file as plain values: TOML, or YAML by its ending. Bounded; knows nothing of what stands in it."""

from __future__ import annotations

import tomllib
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from pixelmill.errors import ConfigError

MAX_FILE = 1_000_000
"""Bytes of a rules file."""
YAML_ENDINGS = frozenset({".yaml", ".yml"})


class _Loader(yaml.SafeLoader):
    """Plain values only; a key that stands twice is refused (YAML 1.2, 3.2.1.3), as TOML does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None) if len(keys) < 1_000 else None
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {str(twice)[:80]!r} stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def read_table(path: Path) -> dict[str, Any]:
    """The table that the file holds; raises :class:`ConfigError` that names the file and the place in it."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(
            f"The rules file {path} can't be read: {error.strerror}. Check the setting triggers."
        ) from error
    if len(raw) > MAX_FILE:
        raise ConfigError(f"The rules file {path} has more than {MAX_FILE:,} bytes. Make fewer rules of it.")
    kind = "YAML" if path.suffix.lower() in YAML_ENDINGS else "TOML"
    try:
        text = raw.decode("utf-8-sig")
        table = yaml.load(text, _Loader) if kind == "YAML" else tomllib.loads(text)  # noqa: S506 -- a safe loader
    except RecursionError as error:
        raise ConfigError(f"The rules file {path} is nested too deep.") from error
    except (yaml.YAMLError, tomllib.TOMLDecodeError, ValueError) as error:
        raise ConfigError(f"The rules file {path} is not valid {kind}: {_flat(error)}.") from error
    _check_numbers(table, path)
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise ConfigError(f"The rules file {path} must hold a table with the lists rules and sources.")
    return table


def _check_numbers(table: Any, path: Path) -> None:
    """Raise :class:`ConfigError` for whole numbers of more than 64 bits, which hexadecimal ones may be.

    Python prints none of more than 4,300 digits, so no message could show it. Aliases are looked at once.
    """
    waiting: list[Any] = [table]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ConfigError(f"The rules file {path} has a whole number of more than 64 bits.")
        if isinstance(value, dict | list) and id(value) not in seen:
            seen.add(id(value))
            waiting += [*value, *value.values()] if isinstance(value, dict) else value


def _flat(error: Exception) -> str:
    return " ".join(str(error).split())[:400].rstrip(".")
