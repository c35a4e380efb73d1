"""Writes what operations found beside the state of tasks, in the recorder's transaction, and removes it with a job.

A task is recorded as succeeded once, so what was found in it is written once, however often its events come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sqlalchemy import (
    BigInteger,
    Connection,
    Double,
    Integer,
    Text,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from pixelmill.jobs.findings import Findings
from pixelmill.jobs.rows import encode, table_of
from pixelmill.jobs.schema import finding_terms, findings, job_labels, jobs

MAX_JOB_LABELS = 1_000
"""Once a job has so many different labels, those that are new are not counted any more."""
SHOWN_LABELS = 20

Found = tuple[str, str, str, Findings]
"""Owner, job, task, and what was found in it."""

_LAST = select(func.coalesce(func.max(findings.c.number), 0))
_INSERT = insert(findings).from_select(
    ["number", "owner", "job", "task"], table_of("rows", number=BigInteger, owner=Text, job=Text, task=Text)
)
_INSERT_TERMS = insert(finding_terms).from_select(
    ["owner", "term", "number", "score"], table_of("rows", owner=Text, term=Text, number=BigInteger, score=Double)
)
_LABEL_COLUMNS = {"job": Text, "label": Text, "owner": Text, "tasks": Integer}
_counted = table_of("rows", **_LABEL_COLUMNS).subquery("counted")
_ADD_LABELS = (
    update(job_labels)
    .values(tasks=job_labels.c.tasks + _counted.c.tasks)
    .where(job_labels.c.job == _counted.c.job, job_labels.c.label == _counted.c.label)
)
_mine = job_labels.alias("mine")
_INSERT_LABELS = insert(job_labels).from_select(
    list(_LABEL_COLUMNS),
    select(_counted).where(
        ~exists().where(_mine.c.job == _counted.c.job, _mine.c.label == _counted.c.label),
        select(func.count()).where(_mine.c.job == _counted.c.job).scalar_subquery() < literal(MAX_JOB_LABELS),
    ),
)


def write(connection: Connection, found: Iterable[Found]) -> None:
    """Write what was found in tasks that have just succeeded; the caller has the turn among all writers."""
    told = [one for one in found if one[3].terms or one[3].labels]
    if not told:
        return
    # Numbers grow in the order of commits, as only one process writes at a time.
    first = int(connection.execute(_LAST).scalar_one()) + 1
    numbered = list(enumerate(told, first))
    rows = [(number, owner, job, task) for number, (owner, job, task, _) in numbered]
    connection.execute(_INSERT, {"rows": encode(rows)})
    terms = (
        (owner, term, number, score)
        for number, (owner, _, _, found_in) in numbered
        for term, score in found_in.terms.items()
    )
    connection.execute(_INSERT_TERMS, {"rows": encode(terms)})
    counts = Counter((job, label, owner) for owner, job, _, found_in in told for label in found_in.labels)
    if counts:
        labels = encode((*key, number) for key, number in counts.items())
        connection.execute(_ADD_LABELS, {"rows": labels})
        # Those that were there have just been counted, and are not inserted.
        connection.execute(_INSERT_LABELS, {"rows": labels})


def remove(connection: Connection, job_id: str) -> None:
    """Forget what was found in the tasks of a job, in few statements: the foreign keys would do it row by row."""
    numbers = select(findings.c.number).where(findings.c.job == job_id)
    connection.execute(delete(finding_terms).where(finding_terms.c.number.in_(numbers)))
    connection.execute(delete(findings).where(findings.c.job == job_id))
    connection.execute(delete(job_labels).where(job_labels.c.job == job_id))


def labels_of(connection: Connection, owner: str, job_id: str) -> dict[str, int]:
    """The labels of most of a job's tasks, with their number, the most frequent first."""
    query = (
        select(job_labels.c.label, job_labels.c.tasks)
        .select_from(jobs.join(job_labels, job_labels.c.job == jobs.c.id))
        .where(jobs.c.id == job_id, jobs.c.owner == owner)
        .order_by(job_labels.c.tasks.desc(), job_labels.c.label)
        .limit(SHOWN_LABELS)
    )
    return {row.label: row.tasks for row in connection.execute(query)}
