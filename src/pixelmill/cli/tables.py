"""Tables and texts on standard output: wide when piped, safe with names of others."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel

PIPED_WIDTH = 200


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """A table with a line a row; cells are shown as they are, without markup or control characters."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    table = Table(
        *header, title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for row in rows:
        table.add_row(*(plain(cell) for cell in row))
    console.print(table)


def print_parameters(model: type[BaseModel]) -> None:
    """The parameters of an operation, or the options of a format; nothing where there are none."""
    from pixelmill.operations.arguments import allowed

    rows = [
        (
            key,
            allowed(model, key),
            "must be given" if field.is_required() else _default(field.get_default(call_default_factory=True)),
            field.description or "",
        )
        for key, field in model.model_fields.items()
    ]
    if rows:
        print_table(("parameter", "values", "default", "meaning"), rows)


def _default(value: object) -> str:
    """As the text form writes it."""
    if value is None:
        return "not set"
    return str(value).lower() if isinstance(value, bool) else str(value)


def plain(value: object) -> str:
    """Text without control characters, and not taken as Rich markup."""
    from rich.markup import escape

    return escape("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(value)))


def size_text(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
