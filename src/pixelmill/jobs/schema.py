"""The tables of the job store, with an ``owner`` on every row; the same on SQLite and PostgreSQL.

Columns that hold structures (outcome, error, tags, scopes) are JSON text that only Python reads. Counts
of a job stand on its row, so no list or status ever counts tasks. Changing anything here needs a migration beside it
(``migrations/versions``); a test holds the two equal.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, Table, Text, UniqueConstraint, false, text

from pixelmill.jobs.finding_tables import finding_terms, findings, job_labels
from pixelmill.jobs.metadata import SERIAL, metadata

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("pipeline", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("images", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("sealed", Boolean, nullable=False),
    Column("cancelled", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("queued", Integer, nullable=False),
    Column("running", Integer, nullable=False),
    Column("succeeded", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("cancelled_tasks", Integer, nullable=False),
    Column("next_seq", Integer, nullable=False),  # the next task's place in the job
    Column("next_rank", BigInteger, nullable=False),  # the next task's rank in the queue (see outbox.py)
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("ended", Double),
    Column("expires", Double),
    Column("folded", Text, nullable=False, server_default=""),  # the name as it is searched: case folded by Python
    Column("bounds", Text, nullable=False, server_default=""),  # of its tasks, below the service's own
    Column("trace", Text),  # trace context (tracing.py) of the request that made it
    Index("jobs_by_owner", "owner", "created", "id"),
    Index("jobs_by_owner_and_state", "owner", "state", "created", "id"),
    Index("jobs_by_state", "state", "created", "id"),
    Index("jobs_by_age", "created", "id"),
    Index("jobs_by_expiry", "expires"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("size", BigInteger),
    Column("state", Text, nullable=False),
    Column("run", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("released", Boolean, nullable=False),  # handed by the outbox to a queue that is not in this database
    Column("queued", Double, nullable=False),
    Column("started", Double),
    Column("ended", Double),
    Column("outcome", Text),
    Column("error", Text),
    Column("target", Text),
    Column("worker", Text),
    Column("why", Text),
    Column("cost", Double, nullable=False, server_default="0"),
    Column("dead", Boolean, nullable=False, server_default=false()),  # failed because its attempts were used up
    UniqueConstraint("job", "seq", name="tasks_by_place"),
    Index("tasks_by_state", "job", "state", "seq"),
    Index("tasks_by_source", "source"),  # which inputs other tasks still use, when a job is deleted
    # Holds no more rows than the outbox's window, and none where the queue is in this database.
    Index(
        "tasks_released",
        "job",
        sqlite_where=text("released"),
        postgresql_where=text("released"),
    ),
    Index("tasks_dead", "owner", "ended", "id", sqlite_where=text("dead = 1"), postgresql_where=text("dead")),
)

attempts = Table(
    "attempts",
    metadata,
    Column("task", Text, primary_key=True),
    Column("run", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("job", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("started", Double),
    Column("ended", Double, nullable=False),
    Column("error", Text),
    Column("target", Text),
    Column("worker", Text),
    Index("attempts_by_job", "job"),
)

queue = Table(
    "queue",
    metadata,
    Column("seq", SERIAL, primary_key=True, autoincrement=True),  # grows: the age of a message
    Column("id", Text, nullable=False, unique=True),
    Column("owner", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("rank", BigInteger, nullable=False),
    Column("sent", Double, nullable=False),
    Column("visible", Double, nullable=False),
    Column("deliveries", Integer, nullable=False),
    Column("receipt", Text),
    Column("holder", Text),
    Column("trace", Text),  # that of the job; beside the body, for older workers refuse bodies with more in them
    Index("queue_turns", "priority", "owner", "rank", "seq"),  # owners take turns (see engines/turns.py)
    # Holds the leases of living consumers only, so counting them is quick.
    Index(
        "queue_leased",
        "visible",
        sqlite_where=text("receipt IS NOT NULL"),
        postgresql_where=text("receipt IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("rank", BigInteger, nullable=False),
    Column("deliveries", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Double, nullable=False),
)

images = Table(
    "images",
    metadata,
    Column("job", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Index("images_by_key", "key"),
)

garbage = Table(
    "garbage",
    metadata,
    Column("key", Text, primary_key=True),  # an object that nothing refers to any more, and that must be removed
    Column("owner", Text, nullable=False),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Column("used", Boolean, nullable=False),
    Index("uploads_by_key", "key"),
    Index("uploads_by_expiry", "expires"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("hash", Text, nullable=False, unique=True),
    Column("created", Double, nullable=False),
    Column("expires", Double),
    Column("last_used", Double),
    Column("revoked", Double),
    Index("tokens_by_owner", "owner"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("hash", Text, primary_key=True),  # of the secret in the cookie
    Column("token", Text, nullable=False),  # the id of the token that it was exchanged for
    Column("owner", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("seen", Double, nullable=False),
    Index("sessions_by_token", "token", "created"),
    Index("sessions_by_use", "seen"),
)

pipelines = Table(
    "pipelines",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("form", Text, nullable=False),  # the text form
    Column("steps", Text, nullable=False),  # the canonical JSON
    Column("changed", Double, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", SERIAL, primary_key=True, autoincrement=True),
    Column("owner", Text, nullable=False),
    Column("job", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("at", Double, nullable=False),
    Index("events_by_owner", "owner", "id"),
    Index("events_by_job", "job", "id"),
    sqlite_autoincrement=True,  # ids are never reused, even after the newest events were pruned
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("job", Text, nullable=False),
    Column("created", Double, nullable=False),
    Index("idempotency_by_job", "job"),
    Index("idempotency_by_age", "created"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("job", Text),  # of this job alone; of all jobs of the owner where it is NULL
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),  # signing needs it as it is
    Column("created", Double, nullable=False),
    Index("webhooks_by_owner", "owner", "created", "id"),
    Index("webhooks_by_job", "job"),
)

deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("seq", SERIAL, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("webhook", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("job", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False),  # waiting, delivered, failed
    Column("attempts", Integer, nullable=False),
    Column("due", Double, nullable=False),  # next attempt; while one is made: when it counts as lost
    Column("claim", Text),
    Column("status", Integer),
    Column("error", Text),
    Column("created", Double, nullable=False),
    Column("ended", Double),
    Index("webhook_deliveries_by_webhook", "webhook", "seq"),
    Index(
        "webhook_deliveries_due",
        "due",
        sqlite_where=text("state = 'waiting'"),
        postgresql_where=text("state = 'waiting'"),
    ),
    sqlite_autoincrement=True,
)

meta = Table(
    "meta",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

overflow_spend = Table(
    "overflow_spend",
    metadata,
    Column("period", Text, primary_key=True),  # hour or day
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # of the hour or day, since the epoch
    Column("target", Text, primary_key=True),  # empty: all targets together, the row that budgets are held by
    Column("owner", Text, nullable=False),
    Column("spent", BigInteger, nullable=False),  # billionths of the currency
    Column("reserved", BigInteger, nullable=False),  # for calls that run, and for those of processes that died
    Column("calls", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
)

overflow_calls = Table(
    "overflow_calls",
    metadata,
    Column("id", Text, primary_key=True),  # of a call that is not settled yet
    Column("owner", Text, nullable=False),
    Column("day", BigInteger, nullable=False),
)

trigger_events = Table(
    "trigger_events",
    metadata,
    Column("seq", SERIAL, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),  # a hash of rule, address and version: an event is recorded once
    Column("owner", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("uri", Text, nullable=False),
    Column("object", Text, nullable=False),  # a hash of rule and address, which may be too long for an index
    Column("version", Text, nullable=False),
    Column("ordinal", Text, nullable=False),  # grows with the events of one object
    Column("size", BigInteger),
    Column("at", Double, nullable=False),  # when the object appeared
    Column("received", Double, nullable=False),
    Column("source", Text, nullable=False),
    Column("chain", Text, nullable=False),  # the rules whose results it comes from
    Column("state", Text, nullable=False),  # waiting, submitted, delivered, superseded, failed
    Column("batch", Text),  # those that become one job
    Column("place", Integer),  # of its task in that job
    Column("job", Text),
    Column("task", Text),
    Column("destination", Text),
    Column("name", Text),  # a hash of the destination
    Column("beside", Text),  # the same of the document with its data
    Column("made", Text),  # a hash of the name and version that the result got, whatever address leads to it
    Column("attempts", Integer, nullable=False),  # to deliver it
    Column("due", Double, nullable=False),  # the next one
    Column("error", Text),
    Column("kept", Boolean, nullable=False),  # failed after its result was made: a redrive delivers that
    Column("ended", Double),
    Column("expires", Double, nullable=False),
    Index("trigger_events_by_object", "object"),
    Index("trigger_events_by_rule", "rule", "state", "seq"),
    Index("trigger_events_by_state", "state", "seq"),
    Index("trigger_events_by_expiry", "expires"),
    Index(
        "trigger_events_by_batch",
        "batch",
        sqlite_where=text("state = 'waiting' AND batch IS NOT NULL"),
        postgresql_where=text("state = 'waiting' AND batch IS NOT NULL"),
    ),
    Index(
        "trigger_events_by_name",
        "name",
        sqlite_where=text("name IS NOT NULL"),
        postgresql_where=text("name IS NOT NULL"),
    ),
    Index(
        "trigger_events_by_beside",
        "beside",
        sqlite_where=text("beside IS NOT NULL"),
        postgresql_where=text("beside IS NOT NULL"),
    ),
    Index(
        "trigger_events_by_made",
        "made",
        sqlite_where=text("made IS NOT NULL"),
        postgresql_where=text("made IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)

trigger_rules = Table(
    "trigger_rules",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("changed", Double, nullable=False),
)

trigger_counters = Table(
    "trigger_counters",
    metadata,
    Column("kind", Text, primary_key=True),  # of a rule or of a source
    Column("subject", Text, primary_key=True),  # its name
    Column("counter", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("value", BigInteger, nullable=False),
)

__all__ = ["attempts", "dead_letters", "deliveries", "events", "finding_terms", "findings", "garbage", "idempotency"]
__all__ += [
    "images",
    "job_labels",
    "jobs",
    "meta",
    "metadata",
    "overflow_calls",
    "overflow_spend",
    "pipelines",
    "queue",
]
__all__ += ["sessions", "tasks", "tokens", "trigger_counters", "trigger_events", "trigger_rules", "uploads", "webhooks"]
