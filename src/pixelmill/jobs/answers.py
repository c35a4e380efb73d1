"""Connections to PostgreSQL that wait for an answer so long and no longer.

The limits of the server itself (``statement_timeout``) can't end the wait for a backend that was stopped, and those of
TCP can't either: the kernel of a stopped process still acknowledges. So the wait is bounded on our side, and the
connection is closed.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar

from sqlalchemy import Engine, event

T = TypeVar("T")


def bound_answers(engine: Engine, limit_s: float) -> None:
    """Close connections of ``engine`` on which a statement has no answer after ``limit_s``: they count as lost."""
    import psycopg  # an extra

    def bounded(connection: psycopg.Connection, work: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        """What psycopg drives: it yields what it waits for, and is resumed at least ten times a second."""
        until = time.monotonic() + limit_s
        try:
            waits_for = next(work)
            while True:
                ready = yield waits_for
                if not ready and time.monotonic() > until:
                    connection.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer came within {limit_s:g} s")
                waits_for = work.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result

    class Patient(psycopg.Connection):
        def wait(self, gen: Any, *arguments: Any, **more: Any) -> Any:
            return super().wait(bounded(self, gen), *arguments, **more)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, arguments: Any, parameters: Any) -> Any:
        return Patient.connect(*arguments, **parameters)
