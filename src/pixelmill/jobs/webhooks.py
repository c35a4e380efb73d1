"""Webhook endpoints and their deliveries: rows that survive restarts, claimed so that no two services send one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, Select, delete, exists, func, null, select, update

from pixelmill.errors import IllegalTransition, LimitExceeded, NotFound
from pixelmill.jobs.connections import time_of
from pixelmill.jobs.database import Database
from pixelmill.jobs.model import Page
from pixelmill.jobs.notices import WAITING, NewWebhook, add_webhook
from pixelmill.jobs.records import check_limit, cursor_of, page_of, position_of
from pixelmill.jobs.schema import deliveries, jobs, webhooks

MAX_WEBHOOKS = 100
"""Endpoints of one owner; those of single jobs not counted."""
KEPT_S = 7 * 24 * 3600.0
KEPT = 100_000
DELIVERED, FAILED = "delivered", "failed"


@dataclass(frozen=True, slots=True)
class Webhook:
    """An endpoint, without its secret."""

    id: str
    owner: str
    url: str
    job: str | None
    created: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one endpoint: what has become of it. ``due``: the next attempt, where it still waits."""

    id: str
    webhook: str
    job: str
    type: str
    state: str
    attempts: int
    due: float
    status: int | None
    error: str | None
    created: float
    ended: float | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this process makes now; ``claim`` proves it."""

    id: str
    owner: str
    claim: str
    url: str
    secret: str
    body: str
    attempts: int
    trace: str = ""


class Webhooks:
    """Endpoints and deliveries of all owners, one owner at a time; claims are the service's own.

    Times are the database's (see ``time_of``), or those of ``now``: clocks of several services may differ.
    """

    def __init__(self, db: Database, now: Callable[[], float] | None = None) -> None:
        self._db, self._clock = db, now

    # -- endpoints -------------------------------------------------------------------------------

    async def add(self, webhook: NewWebhook) -> None:
        """Record an endpoint; :class:`LimitExceeded` beyond :data:`MAX_WEBHOOKS`."""
        mine = (webhooks.c.owner == webhook.owner, webhooks.c.job.is_(None))

        def run(connection: Connection) -> None:
            count = connection.execute(select(func.count()).select_from(webhooks).where(*mine)).scalar_one()
            if count >= MAX_WEBHOOKS:
                raise LimitExceeded(
                    f"{MAX_WEBHOOKS} webhooks are registered, which is the limit. Delete one.",
                    limit="webhooks",
                    value=count + 1,
                    maximum=MAX_WEBHOOKS,
                )
            add_webhook(connection, webhook)

        await self._db.write(run)

    async def list(self, owner: str) -> list[Webhook]:
        """The owner's endpoints, oldest first; those of single jobs are not listed."""
        query = select(webhooks).where(webhooks.c.owner == owner, webhooks.c.job.is_(None))
        query = query.order_by(webhooks.c.created, webhooks.c.id)
        return await self._db.read(lambda c: [_webhook(row) for row in c.execute(query).mappings()])

    async def get(self, owner: str, webhook_id: str) -> Webhook:
        """One endpoint, that of a job included."""
        query = select(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.owner == owner)
        row = await self._db.read(lambda c: c.execute(query).mappings().one_or_none())
        if row is None:
            raise NotFound(f"There is no webhook {webhook_id!r}.", webhook=webhook_id)
        return _webhook(row)

    async def remove(self, owner: str, webhook_id: str) -> None:
        """The endpoint with its deliveries; nothing more is sent."""
        await self.get(owner, webhook_id)

        def run(connection: Connection) -> None:
            connection.execute(delete(deliveries).where(deliveries.c.webhook == webhook_id))
            connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))

        await self._db.write(run)

    # -- the log ---------------------------------------------------------------------------------

    async def deliveries(self, owner: str, webhook_id: str, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Deliveries (:class:`Delivery`) of an endpoint, newest first."""
        await self.get(owner, webhook_id)
        query = select(deliveries).where(deliveries.c.webhook == webhook_id)
        if cursor is not None:
            query = query.where(deliveries.c.seq < position_of(cursor, int)[0])
        query = query.order_by(deliveries.c.seq.desc()).limit(check_limit(limit) + 1)
        rows = await self._db.read(lambda c: list(c.execute(query).mappings()))
        page = page_of(rows, limit, lambda last: cursor_of(last["seq"]))
        return Page([_delivery(row) for row in page.items], page.next)

    async def redeliver(self, owner: str, webhook_id: str, delivery_id: str) -> Delivery:
        """Send it again, with the same id, from the first attempt; :class:`IllegalTransition` while it waits."""
        await self.get(owner, webhook_id)
        mine = (deliveries.c.id == delivery_id, deliveries.c.webhook == webhook_id, deliveries.c.owner == owner)
        again = {"state": WAITING, "attempts": 0, "due": 0.0, "claim": null(), "ended": null()}

        def run(connection: Connection) -> RowMapping:
            row = connection.execute(select(deliveries).where(*mine)).mappings().one_or_none()
            if row is None:
                raise NotFound(f"There is no delivery {delivery_id!r} of this webhook.", delivery=delivery_id)
            if row["state"] == WAITING:
                raise IllegalTransition("It still waits to be delivered, and will be tried by itself.")
            connection.execute(update(deliveries).where(*mine).values(again))
            return connection.execute(select(deliveries).where(*mine)).mappings().one()

        return _delivery(await self._db.write(run))

    # -- sending ---------------------------------------------------------------------------------

    async def claim(self, limit: int, claim_s: float, without: Sequence[str] = ()) -> Sequence[Claimed]:
        """Up to ``limit`` deliveries that are due, for ``claim_s``: then they are due again, for anybody.

        ``without``: owners whose turn it is not.
        """
        token = secrets.token_hex(8)
        mine = (
            select(
                *(deliveries.c[name] for name in ("id", "owner", "body", "attempts")),
                webhooks.c.url,
                webhooks.c.secret,
                func.coalesce(jobs.c.trace, "").label("trace"),
            )
            .select_from(
                deliveries.join(webhooks, webhooks.c.id == deliveries.c.webhook).outerjoin(
                    jobs, jobs.c.id == deliveries.c.job
                )
            )
            .where(deliveries.c.claim == token, deliveries.c.state == WAITING)
            .order_by(deliveries.c.seq)
        )
        if await self._db.read(lambda c: c.execute(_due(time_of(c, self._clock), without).limit(1)).first()) is None:
            return []  # the usual case costs no write

        def run(connection: Connection) -> Sequence[RowMapping]:
            now = time_of(connection, self._clock)
            due = _due(now, without).order_by(deliveries.c.due).limit(limit).with_for_update(skip_locked=True)
            take = update(deliveries).where(deliveries.c.seq.in_(due))
            connection.execute(take.values(due=now + claim_s, claim=token))
            return connection.execute(mine).mappings().all()

        return [Claimed(claim=token, **row) for row in await self._db.write(run)]

    async def delivered(self, one: Claimed, status: int) -> None:
        """The endpoint has taken it."""
        await self._close(one, lambda now: {"state": DELIVERED, "status": status, "error": null(), "ended": now})

    async def failed(self, one: Claimed, status: int | None, error: str, retry_s: float | None) -> None:
        """It has not; tried again in ``retry_s``, never where that is None."""

        def values(now: float) -> dict[str, object]:
            ending = {"state": FAILED, "ended": now} if retry_s is None else {"due": now + retry_s}
            return {"status": status, "error": error[:500], **ending}

        await self._close(one, values)

    async def _close(self, one: Claimed, values: Callable[[float], dict[str, object]]) -> None:
        mine = (deliveries.c.id == one.id, deliveries.c.claim == one.claim)

        def run(connection: Connection) -> None:
            closed = {"attempts": one.attempts + 1, "claim": null(), **values(time_of(connection, self._clock))}
            connection.execute(update(deliveries).where(*mine).values(closed))

        await self._db.write(run)

    async def prune(self) -> int:
        """Forget old deliveries, and endpoints of jobs that are gone; returns how many."""

        def run(connection: Connection) -> int:
            before = time_of(connection, self._clock) - KEPT_S
            last = connection.execute(select(func.max(deliveries.c.seq))).scalar() or 0
            ended = deliveries.c.state != WAITING
            old = delete(deliveries).where(ended, (deliveries.c.ended <= before) | (deliveries.c.seq <= last - KEPT))
            gone = delete(webhooks).where(
                webhooks.c.job.is_not(None),
                ~exists().where(jobs.c.id == webhooks.c.job),
                ~exists().where(deliveries.c.webhook == webhooks.c.id, deliveries.c.state == WAITING),
            )
            return connection.execute(old).rowcount + connection.execute(gone).rowcount

        return await self._db.write(run)


def _due(now: float, without: Sequence[str]) -> Select[tuple[int]]:
    due = select(deliveries.c.seq).where(deliveries.c.state == WAITING, deliveries.c.due <= now)
    return due.where(deliveries.c.owner.not_in(without)) if without else due


def _webhook(row: RowMapping) -> Webhook:
    return Webhook(**{name: row[name] for name in ("id", "owner", "url", "job", "created")})


def _delivery(row: RowMapping) -> Delivery:
    return Delivery(**{name: row[name] for name in Delivery.__dataclass_fields__})
