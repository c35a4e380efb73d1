"""Lists of jobs: of one owner or of all, filtered and searched, page by page. Builds queries; runs none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, or_, select, tuple_

from pixelmill.jobs.model import State
from pixelmill.jobs.records import check_limit, position_of
from pixelmill.jobs.rows import clean
from pixelmill.jobs.schema import jobs

MAX_SEARCH = 200
"""Characters that are searched for, as many as a name has."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs: ``owner`` None is every owner's. ``search``: part of a name, or a whole id, in either case."""

    owner: str | None
    state: State | None = None
    search: str = ""


def jobs_query(wanted: Wanted, *, limit: int, cursor: str | None) -> Select[Any]:
    """Rows of jobs, newest first, one more than ``limit``; raises :class:`RequestError` for a bad limit or cursor.

    Each combination of filters walks an index that is in the order of the list, so a page costs no sorting; a search
    looks at each row on that way.
    """
    query = select(jobs)
    if wanted.owner is not None:
        query = query.where(jobs.c.owner == wanted.owner)
    if wanted.state is not None:
        query = query.where(jobs.c.state == wanted.state.value)
    if wanted.search:
        text = clean(wanted.search)
        query = query.where(or_(jobs.c.folded.contains(text.casefold(), autoescape=True), jobs.c.id == text.lower()))
    if cursor is not None:
        created, job_id = position_of(cursor, float, str)
        query = query.where(tuple_(jobs.c.created, jobs.c.id) < tuple_(created, job_id))
    return query.order_by(jobs.c.created.desc(), jobs.c.id.desc()).limit(check_limit(limit) + 1)
