"""A batch of rows as one JSON parameter, readable as a table in SQL: the one place where dialects differ.

Python's ``sqlite3`` gives up the interpreter lock at every step of a statement, and beside a busy event loop each
step then waits for it to come back (up to 5 ms). ``executemany`` over 1,000 rows is 1,000 steps;
``INSERT ... SELECT`` from one JSON array is a single one, and is parsed in C. PostgreSQL reads the same array.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Select, Text, bindparam, cast, literal_column, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine


class _Elements(FunctionElement[Any]):
    """The elements of a JSON array, one a row, in its column ``value``."""

    inherit_cache = True


class _Item(FunctionElement[Any]):
    """The item of a JSON array (first argument) at a position (second, a literal)."""

    inherit_cache = True


@compiles(_Elements, "sqlite")
def _elements_sqlite(element: _Elements, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_Elements, "postgresql")
def _elements_postgresql(element: _Elements, compiler: SQLCompiler, **options: Any) -> str:
    # The condition holds for every row. PostgreSQL takes any such function for 100 rows, and on a table without
    # statistics then reads all of it for each batch; with the condition it expects one row, and uses the index.
    array = f"CAST({compiler.process(element.clauses, **options)} AS jsonb)"
    return f"(SELECT value FROM jsonb_array_elements({array}) WHERE jsonb_typeof(value) = 'array')"  # noqa: S608 -- of compiled parts only


@compiles(_Item, "sqlite")
def _item_sqlite(element: _Item, compiler: SQLCompiler, **options: Any) -> str:
    array, position = (compiler.process(clause, **options) for clause in element.clauses)
    return f"json_extract({array}, '$[{position}]')"


@compiles(_Item, "postgresql")
def _item_postgresql(element: _Item, compiler: SQLCompiler, **options: Any) -> str:
    array, position = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({array} ->> {position})"


def table_of(parameter: str, **columns: type[TypeEngine[Any]]) -> Select[Any]:
    """A ``SELECT`` over the rows in JSON parameter ``parameter``; ``columns`` name the items of each row, in order."""
    source = _Elements(bindparam(parameter, type_=Text)).table_valued("value", name="elements")
    items = [
        cast(_Item(source.c.value, literal_column(str(position))), kind).label(name)
        for position, (name, kind) in enumerate(columns.items())
    ]
    return select(*items)


def encode(rows: Iterable[Sequence[Any]]) -> str:
    """The parameter for :func:`table_of`."""
    return json.dumps(list(rows), separators=(",", ":"), ensure_ascii=False)


def clean(text: str) -> str:
    """Text that every database stores: NUL and lone surrogates (from undecodable file names) become U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def dumps(value: Any) -> str:
    """Compact JSON text of a column."""
    return json.dumps(value, separators=(",", ":"))
