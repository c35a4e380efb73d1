"""Sessions: what a cookie stands for, when it ends, and how many there are."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from pixelmill.errors import Busy, Unauthenticated
from pixelmill.jobs.database import Database
from pixelmill.jobs.schema import sessions
from pixelmill.jobs.sessions import IDLE_S, LONGEST_S, MAX_A_MINUTE, MAX_PER_TOKEN, SEEN_EVERY_S, Sessions
from pixelmill.jobs.tokens import Token, Tokens
from pixelmill.testing.clock import Clock

pytestmark = pytest.mark.anyio


async def token_of(db: Database, clock: Clock, expires: float | None = None) -> Token:
    return (await Tokens(db, now=clock).create("ann", "laptop", ["jobs:read"], expires))[0]


async def count(db: Database) -> int:
    return await db.read(lambda c: c.execute(select(func.count()).select_from(sessions)).scalar() or 0)


async def ends(store: Sessions, secret: str) -> bool:
    try:
        await store.look(secret)
    except Unauthenticated:
        return True
    return False


async def test_a_session_stands_for_its_token(db: Database, clock: Clock) -> None:
    store = Sessions(db, now=clock)
    token = await token_of(db, clock)
    begun, secret = await store.create(token)
    found = await store.look(secret)
    assert (found.token.id, found.token.owner, found.token.scopes) == (token.id, "ann", frozenset({"jobs:read"}))
    assert found.expires == begun.expires == clock() + IDLE_S


async def test_no_secret_is_stored(db: Database, clock: Clock) -> None:
    _, secret = await Sessions(db, now=clock).create(await token_of(db, clock))
    assert secret not in str(await db.read(lambda c: c.execute(select(sessions)).all()))


@pytest.mark.parametrize("secret", ["", "a" * 43, "é\udcff"])
async def test_an_unknown_session_is_none(db: Database, secret: str) -> None:
    assert await ends(Sessions(db), secret)


async def test_a_session_ends_with_its_token(db: Database, clock: Clock) -> None:
    store = Sessions(db, now=clock)
    short, long = await token_of(db, clock, expires=clock() + 60), await token_of(db, clock)
    (session, of_short), (_, of_long) = await store.create(short), await store.create(long)
    assert session.expires == clock() + 60
    clock.advance(60)
    assert await ends(store, of_short)
    assert not await ends(store, of_long)
    await Tokens(db, now=clock).revoke(long.id)
    assert await ends(store, of_long)
    assert await store.prune() == 2
    assert await count(db) == 0


async def test_a_session_ends_when_it_is_idle_and_use_keeps_it(db: Database, clock: Clock) -> None:
    store = Sessions(db, now=clock)
    token = await token_of(db, clock)
    (_, used), (_, idle) = await store.create(token), await store.create(token)
    clock.advance(IDLE_S / 2)
    assert (await store.look(used)).expires == clock() + IDLE_S
    clock.advance(IDLE_S / 2)
    assert not await ends(store, used)
    assert await ends(store, idle)
    assert await store.prune() == 1
    assert not await ends(store, used)


async def test_no_use_keeps_a_session_longer_than_a_week(db: Database, clock: Clock) -> None:
    store = Sessions(db, now=clock)
    _, secret = await store.create(await token_of(db, clock))
    began = clock()
    while clock() < began + LONGEST_S - IDLE_S / 2:
        clock.advance(IDLE_S / 2)
        if clock() < began + LONGEST_S:
            assert (await store.look(secret)).expires <= began + LONGEST_S
    clock.advance(began + LONGEST_S - clock())
    assert await ends(store, secret)
    assert await store.prune() == 1


async def test_use_is_noted_once_a_minute(db: Database, clock: Clock) -> None:
    store = Sessions(db, now=clock)
    _, secret = await store.create(await token_of(db, clock))
    began = clock()
    clock.advance(SEEN_EVERY_S - 1)
    assert (await store.look(secret)).expires == began + IDLE_S
    clock.advance(1)
    assert (await store.look(secret)).expires == clock() + IDLE_S


async def test_a_session_that_was_ended_is_gone_and_ending_it_twice_is_no_error(db: Database, clock: Clock) -> None:
    store = Sessions(db, now=clock)
    token = await token_of(db, clock)
    (_, secret), (_, other) = await store.create(token), await store.create(token)
    await store.end(secret)
    await store.end(secret)
    assert await ends(store, secret)
    assert not await ends(store, other)


async def test_the_oldest_sessions_of_a_token_make_room(db: Database, clock: Clock) -> None:
    store = Sessions(db, now=clock)
    other = (await store.create(await token_of(db, clock)))[1]
    token = await token_of(db, clock)
    secrets = []
    for _ in range(MAX_PER_TOKEN + 2):
        clock.advance(60 / MAX_A_MINUTE + 1)
        secrets.append((await store.create(token))[1])
    assert [await ends(store, secret) for secret in secrets[:4]] == [True, True, False, False]
    assert await count(db) == MAX_PER_TOKEN + 1
    assert not await ends(store, other)


async def test_a_token_begins_only_so_many_sessions_a_minute(db: Database, clock: Clock) -> None:
    store = Sessions(db, now=clock)
    token = await token_of(db, clock)
    for _ in range(MAX_A_MINUTE):
        await store.create(token)
    with pytest.raises(Busy) as refused:
        await store.create(token)
    assert refused.value.context["retry_after"] == 60
    await store.create(await token_of(db, clock))
    clock.advance(60)
    await store.create(token)
