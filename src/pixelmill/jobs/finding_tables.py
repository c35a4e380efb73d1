"""Tables of what operations found in tasks, an inverted index, and of what auto_tag says of jobs; part of ``schema``.

A task that has something to be searched for gets a number, which grows; a term leads to numbers. So an entry is small,
and a page of a search is a walk along one index, without sorting. All of it goes with the job,
whoever deletes that: programs that don't know these tables do it by the foreign keys.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Index, Integer, Table, Text

from pixelmill.jobs.metadata import metadata

findings = Table(
    "findings",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # given by the recorder (see findings_store)
    Column("owner", Text, nullable=False),
    Column("job", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("task", Text, nullable=False),
    Index("findings_by_job", "job", "number"),
)

finding_terms = Table(
    "finding_terms",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("term", Text, primary_key=True),
    Column("number", BigInteger, ForeignKey("findings.number", ondelete="CASCADE"), primary_key=True),
    Column("score", Double, nullable=False),
    Index("finding_terms_by_number", "number"),
    sqlite_with_rowid=False,  # the key is the table: half the size
)

job_labels = Table(
    "job_labels",
    metadata,
    Column("job", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("label", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("tasks", Integer, nullable=False),  # that have it
)
