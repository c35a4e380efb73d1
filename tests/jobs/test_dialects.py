"""The statements are those of both databases; on PostgreSQL this shows only that they can be written."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest
from sqlalchemy import ClauseElement, Dialect
from sqlalchemy.engine import URL
from sqlalchemy.schema import CreateTable

from pixelmill.engines import sql_queue, turns
from pixelmill.jobs import (
    eventlog,
    findings_store,
    intake,
    recorder,
    release,
    rows,
    schema,
    search,
    store,
    upkeep,
    uploads,
)

# Dialects without their drivers, which need not be installed.
SQLITE: Dialect = URL.create("sqlite").get_dialect()()
POSTGRESQL: Dialect = URL.create("postgresql").get_dialect()()
MODULES = (eventlog, findings_store, intake, recorder, release, search, store, upkeep, uploads, sql_queue)


def statements(module: ModuleType) -> list[ClauseElement]:
    found = [value for name, value in vars(module).items() if name.isupper() and isinstance(value, ClauseElement)]
    assert found, f"{inspect.getfile(module)} has none"
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_prepared_statement_can_be_written_in_both_dialects(module: ModuleType) -> None:
    for statement in statements(module):
        assert str(statement.compile(dialect=SQLITE))
        text = str(statement.compile(dialect=POSTGRESQL))
        assert "json_each" not in text
        assert "json_extract" not in text


def test_tables_can_be_written_for_postgresql() -> None:
    for table in schema.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=POSTGRESQL))


def test_receivers_on_postgresql_skip_each_others_rows() -> None:
    for owners in (1, 3):
        statement = turns.receive(owners)
        assert str(statement.compile(dialect=POSTGRESQL)).count("FOR UPDATE SKIP LOCKED") == owners
        assert "FOR UPDATE" not in str(statement.compile(dialect=SQLITE))


@pytest.mark.parametrize("text", ["plain", "ümlaut", "日本", "a\0b", "\ud800x", "\udcff", "😀", "\n\t\"'\\"])
def test_clean_text_can_be_stored_anywhere(text: str) -> None:
    cleaned = rows.clean(text)
    cleaned.encode("utf-8")
    assert "\0" not in cleaned
    assert rows.clean(cleaned) == cleaned
    assert len(cleaned) == len(text)
