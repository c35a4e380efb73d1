"""Webhooks inside a transaction of the caller: that a job has ended is true, and to be told, at the same moment."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, insert, or_, select

from pixelmill.jobs.model import Counts, State
from pixelmill.jobs.records import counts_dict
from pixelmill.jobs.rows import dumps
from pixelmill.jobs.schema import deliveries, jobs, webhooks

JOB_ENDED = "job.ended"
WAITING = "waiting"

Ended = tuple[str, str, State, Counts, float]
"""Owner, job, final state, counts, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """An endpoint of all jobs of an owner, or of one job. ``secret`` is ``whsec_`` and Base64."""

    id: str
    owner: str
    url: str
    secret: str
    created: float
    job: str | None = None


def add_webhook(connection: Connection, webhook: NewWebhook) -> None:
    """Its row."""
    connection.execute(insert(webhooks), asdict(webhook))


def announce(connection: Connection, ended: Sequence[Ended]) -> None:
    """A delivery for each endpoint of each job that has just ended; nothing where nobody asked."""
    if not ended:
        return
    owners = sorted({owner for owner, *_ in ended})
    wanted = select(webhooks.c.id, webhooks.c.owner, webhooks.c.job).where(webhooks.c.owner.in_(owners))
    found = connection.execute(
        wanted.where(or_(webhooks.c.job.is_(None), webhooks.c.job.in_([job for _, job, *_ in ended])))
    ).all()
    if not found:
        return
    named = select(jobs.c.id, jobs.c.name).where(jobs.c.id.in_([job for _, job, *_ in ended]))
    names = {row.id: row.name for row in connection.execute(named)}
    rows = [
        {
            "id": f"msg_{secrets.token_hex(16)}",
            "webhook": hook.id,
            "owner": owner,
            "job": job,
            "type": JOB_ENDED,
            "body": dumps(_payload(job, names.get(job, ""), state, counts, at)),
            "state": WAITING,
            "attempts": 0,
            "due": 0.0,  # now, by whatever clock: events carry that of their worker
            "created": at,
        }
        for owner, job, state, counts, at in ended
        for hook in found
        if hook.owner == owner and hook.job in {None, job}
    ]
    if rows:
        connection.execute(insert(deliveries), rows)


def _payload(job: str, name: str, state: State, counts: Counts, at: float) -> dict[str, object]:
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    data = {"id": job, "name": name, "state": state.value, "counts": counts_dict(counts)}
    return {"type": JOB_ENDED, "timestamp": moment, "data": data}
