from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pixelmill.jobs.database import Database
from pixelmill.jobs.store import JobStore
from pixelmill.testing.clock import Clock
from pixelmill.testing.job_store import RETENTION_S


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def db(sql_url: str) -> AsyncIterator[Database]:
    async with Database(sql_url) as db:
        yield db


@pytest.fixture
def store(db: Database, clock: Clock) -> JobStore:
    return JobStore(db, retention_s=RETENTION_S, now=clock)
