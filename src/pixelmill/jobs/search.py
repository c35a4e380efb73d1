"""Searches over what operations found in tasks: what is asked for, and the queries that answer it.

A page is a walk along the numbers of one term, the latest first, from the cursor on; every other condition is one look
into an index a step. The walk follows the rarest of the terms, and ends after so many steps (:data:`WINDOWS`) whatever
it has found, so that no search takes long, however many tasks there are; the next page goes on from there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import BigInteger, Connection, Select, Text, bindparam, exists, func, literal, select, text

from pixelmill.errors import RequestError
from pixelmill.jobs.bulk import get_job
from pixelmill.jobs.database import Database
from pixelmill.jobs.findings import FACES, caption_term, label_term, words_of
from pixelmill.jobs.findings_store import labels_of
from pixelmill.jobs.model import Page, Task
from pixelmill.jobs.records import check_limit, cursor_of, position_of, task_from
from pixelmill.jobs.rows import encode, table_of
from pixelmill.jobs.schema import finding_terms, findings, jobs, tasks

MAX_TERMS = 12
"""Labels and words of one search."""
MAX_ASKED = 200
"""Characters of one label, or of the words for captions."""
WINDOWS = (1_000, 10_000)
"""Tasks of its rarest term that a page looks at: at first, which fills most pages, and at most."""
_COUNTED = 5_000
"""Tasks of a term that are counted to find the rarest; terms with more are taken for equally frequent."""

_RANGE = re.compile(r"(?P<exact>\d{1,7})|(?P<low>\d{0,7})\.\.(?P<high>\d{0,7})", re.ASCII)
_FACES_HELP = "Write a number of faces (3), or a range: 1.., 2..5, ..4."


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: the task has this term with a score in the range (ends included)."""

    text: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched for: tasks that fulfil all of at least one condition."""

    terms: Sequence[Term]

    @classmethod
    def of(
        cls,
        *,
        labels: Sequence[str] = (),
        min_score: str | None = None,
        caption: str | None = None,
        faces: str | None = None,
    ) -> Self | None:
        """From what a request says, None where it asks for nothing; raises :class:`RequestError`.

        A label is found as a whole or by one of its words, with at least ``min_score``; commas part labels, of which a
        task must have all. A caption is found by all of the words, wherever they stand; ``faces`` is a number or a
        range.
        """
        least = None if min_score is None else _score(min_score)
        parts = [part for label in labels for part in _parts(label)]
        wanted = [Term(label_term(words), least) for words in parts]
        if least is not None and not wanted:
            raise RequestError("min_score says how sure a label must be: name a label too.", parameter="min_score")
        if caption is not None:
            wanted += [Term(caption_term(word)) for word in dict.fromkeys(_words("caption", caption))]
        if faces is not None:
            wanted.append(Term(FACES, *_range(faces)))
        if len(wanted) > MAX_TERMS:
            raise RequestError(
                f"{len(wanted)} labels and words are asked for; at most {MAX_TERMS} can be.", parameter="caption"
            )
        return cls(tuple(wanted)) if wanted else None


def _parts(label: str) -> list[list[str]]:
    """The words of each label that commas part."""
    _words("label", label)
    return [words for part in label.split(",") if (words := words_of(part))]


def _words(parameter: str, asked: str) -> list[str]:
    if len(asked) > MAX_ASKED:
        raise RequestError(
            f"{parameter} has {len(asked):,} characters; at most {MAX_ASKED} are searched for.", parameter=parameter
        )
    found = words_of(asked)
    if not found:
        raise RequestError(f"{parameter}={asked!r} has no word: letters or digits.", parameter=parameter)
    return found


def _score(asked: str) -> float:
    try:
        score = float(asked)
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise RequestError(f"min_score={asked[:40]!r} must be a number from 0 to 1.", parameter="min_score")
    return score


def _range(asked: str) -> tuple[float | None, float | None]:
    found = _RANGE.fullmatch(asked)
    if found is None or asked == "..":
        raise RequestError(f"faces={asked[:40]!r} can't be read. {_FACES_HELP}", parameter="faces")
    if found["exact"]:
        return float(found["exact"]), float(found["exact"])
    low, high = (float(end) if end else None for end in (found["low"], found["high"]))
    if low is not None and high is not None and low > high:
        raise RequestError(f"faces={asked!r} is no range: it begins behind its end. {_FACES_HELP}", parameter="faces")
    return low, high


_numbers = table_of("rows", number=BigInteger).subquery("numbers")
_TASKS = (
    select(tasks, jobs.c.trace, findings.c.number)
    .select_from(
        _numbers.join(findings, findings.c.number == _numbers.c.number)
        .join(tasks, tasks.c.id == findings.c.task)
        .join(jobs, jobs.c.id == tasks.c.job)
    )
    .where(tasks.c.owner == bindparam("owner", type_=Text))
)


def _found(
    connection: Connection, owner: str, search: Search, *, job: str | None, before: int | None, limit: int
) -> tuple[list[int], int | None]:
    """Numbers of up to ``limit`` tasks that fulfil the search, the latest first, and where to go on."""
    terms = list(search.terms)
    if len(terms) > 1:
        terms.sort(key=lambda term: _frequency(connection, owner, term))
    low, high = 0, before
    if job is not None:
        span = _span(connection, job)
        if span is None:
            return [], None
        low, high = span[0], span[1] + 1 if before is None else min(before, span[1] + 1)
    if connection.dialect.name == "postgresql":
        # It knows nothing of tables that have just grown, and would read and sort all tasks of a term for each page.
        connection.execute(text("SET LOCAL enable_sort = off"))
    numbers: list[int] = []
    end: int | None = None
    for window in WINDOWS:
        end = connection.execute(steps(owner, terms[0], low, high).offset(window - 1).limit(1)).scalar()
        query = walk(owner, terms, job, low if end is None else end, high)
        numbers = list(connection.execute(query.limit(limit + 1)).scalars())
        if len(numbers) > limit:
            return numbers[:limit], numbers[limit - 1]
        if end is None:
            break
    return numbers, end


def steps(owner: str, term: Term, low: int, high: int | None) -> Select[Any]:
    """The numbers of a term, whatever its score, from the one below ``high`` down to ``low``."""
    query = select(finding_terms.c.number).where(finding_terms.c.owner == owner, finding_terms.c.term == term.text)
    query = query.where(finding_terms.c.number >= low)
    query = query if high is None else query.where(finding_terms.c.number < high)
    return query.order_by(finding_terms.c.number.desc())


def walk(owner: str, terms: Sequence[Term], job: str | None, low: int, high: int | None) -> Select[Any]:
    """Those steps of the first term that fulfil all terms, of one job or of all."""
    first, *others = terms
    query = steps(owner, first, low, high).where(*_scores(finding_terms, first))
    if job is not None:
        query = query.where(exists().where(findings.c.number == finding_terms.c.number, findings.c.job == job))
    for place, term in enumerate(others):
        other = finding_terms.alias(f"other_{place}")
        same = (other.c.owner == owner, other.c.term == term.text, other.c.number == finding_terms.c.number)
        query = query.where(exists().where(*same, *_scores(other, term)))
    return query


def _scores(entry: Any, term: Term) -> list[Any]:
    least = [] if term.low is None else [entry.c.score >= term.low]
    return least if term.high is None else [*least, entry.c.score <= term.high]


def _frequency(connection: Connection, owner: str, term: Term) -> int:
    some = select(literal(1)).where(finding_terms.c.owner == owner, finding_terms.c.term == term.text).limit(_COUNTED)
    return int(connection.execute(select(func.count()).select_from(some.subquery())).scalar_one())


def _span(connection: Connection, job: str) -> tuple[int, int] | None:
    """The first and the last number that tasks of a job have."""
    mine = select(findings.c.number).where(findings.c.job == job).limit(1)
    low = connection.execute(mine.order_by(findings.c.number)).scalar()
    high = connection.execute(mine.order_by(findings.c.number.desc())).scalar()
    return None if low is None or high is None else (low, high)


def _tasks(connection: Connection, owner: str, numbers: Sequence[int]) -> list[Task]:
    """The tasks of these numbers, in this order."""
    if not numbers:
        return []
    rows = connection.execute(_TASKS, {"rows": encode((number,) for number in numbers), "owner": owner}).mappings()
    by_number = {row["number"]: task_from(row, row["trace"] or "") for row in rows}
    return [by_number[number] for number in numbers if number in by_number]


class TaskSearch:
    """Looks for tasks of one owner by what was found in them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def tasks(
        self, owner: str, search: Search, *, job: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page:
        """Tasks that fulfil the search, of one job or of all; the last that ended first.

        A page may have fewer than ``limit`` tasks, even none, where there is a next one. Pages are stable: a task that
        ends meanwhile appears on no later page. Raises :class:`NotFound` for a job that is not there.
        """
        before = None if cursor is None else position_of(cursor, int)[0]
        most = check_limit(limit)

        def run(connection: Connection) -> Page:
            if job is not None:
                get_job(connection, owner, job)
            numbers, after = _found(connection, owner, search, job=job, before=before, limit=most)
            return Page(_tasks(connection, owner, numbers), None if after is None else cursor_of(after))

        return await self._db.read(run)

    async def labels(self, owner: str, job: str) -> Mapping[str, int]:
        """What ``auto_tag`` said of most tasks of a job, with their number, the most frequent first; 20 at most."""
        return await self._db.read(lambda connection: labels_of(connection, owner, job))
