"""Whatever happens in whatever order, and whoever dies in between, each object ends with its last version's result.

The model plays stores, pool and processes; rows, claims and jobs are the real ones.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pixelmill.jobs.database import Database
from pixelmill.jobs.store import JobStore
from pixelmill.jobs.trigger_events import TriggerEvents
from pixelmill.jobs.trigger_identity import NewTriggerEvent, name_key
from pixelmill.jobs.trigger_names import Claim
from pixelmill.jobs.trigger_work import Batch, Ended, Ending, TriggerWork
from pixelmill.testing.clock import Clock
from pixelmill.testing.job_store import event_of, job_of, tasks_of

OBJECTS = 2
Step = tuple[str, int, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, OBJECTS - 1), st.integers(0, 1)),
        st.tuples(st.just("forward"), st.just(0), st.integers(0, 2)),
        st.tuples(st.just("tell"), st.integers(0, OBJECTS - 1), st.integers(0, 3)),
        st.tuples(st.just("batch"), st.just(0), st.integers(0, 2)),
        st.tuples(st.just("run"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("lose"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("claim"), st.just(0), st.just(0)),
        st.tuples(st.just("put"), st.just(0), st.integers(0, 2)),
        st.tuples(st.just("close"), st.just(0), st.integers(0, 2)),
        st.tuples(st.just("die"), st.just(0), st.just(0)),
        st.tuples(st.just("away"), st.just(0), st.integers(0, 2)),
        st.tuples(st.just("redrive"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


class World:
    """One rule, a few objects, and one process at a time."""

    def __init__(self, db: Database) -> None:
        self.store, self.events = JobStore(db), TriggerEvents(db, clock := Clock())
        batches = itertools.count()
        self.work, self.clock = TriggerWork(db, lambda: f"batch{next(batches)}", clock), clock
        self.written = [0] * OBJECTS
        self.told: set[tuple[int, int]] = set()
        self.open: dict[str, int] = {}  # tasks that have not run, and their objects
        self.made: dict[str, int] = {}  # by task: the version that its run read
        self.placed: dict[str, int] = {}  # what lies at the destinations
        self.held: list[tuple[Ended, bool]] = []  # claimed, and whether it was put

    async def step(self, verb: str, which: int, how: int) -> None:
        await getattr(self, verb)(which, how)

    async def write(self, which: int, how: int) -> None:
        self.written[which] += 1
        if how:
            await self.tell(which, 0)

    async def forward(self, _: int, how: int) -> None:
        """Nothing goes wrong for a while; to the run, to the claim, or to the end."""
        await self.batch(0, 0)
        await self.run(0, 0)
        for verb in (self.claim, self.put, self.close)[: 2 * how - how // 2]:
            await verb(0, 0)

    async def tell(self, which: int, how: int) -> None:
        """An event of any version so far, in any order, as often as the source likes."""
        version = max(0, self.written[which] - how)
        if version:
            event = NewTriggerEvent("ann", "r", f"s3://b/{which}", str(version), f"{version:08}", at=1.0)
            noted = await self.events.record("queue", [event])
            assert len(noted.new) == ((which, version) not in self.told)
            self.told.add((which, version))

    async def batch(self, _: int, how: int) -> None:
        """Submit; the process may die after each transaction (``how``), and what it left is gone on with."""
        waiting: Sequence[Batch] = await self.work.unfinished()
        if not waiting:
            batch, _superseded = await self.work.batch("r", "ann", 2)
            waiting = [batch] if batch is not None else []
        for batch in waiting:
            if how == 1:
                return
            job = f"job{batch.id}"
            ids = tasks_of(job, len(batch.rows))
            _job, fresh = await self.store.create_job(job_of(job), ids, idempotency=(batch.id, ""))
            if fresh:
                for task, row in zip(ids, batch.rows, strict=True):
                    self.open[task.id] = int(row.uri[-1])
            if how == 2:
                return
            await self.work.submitted(batch.id, job, {row.place: ids[row.place].id for row in batch.rows})

    async def run(self, which: int, _: int) -> None:
        """A run reads the object as it is then."""
        if self.open:
            task = list(self.open)[which % len(self.open)]
            self.made[task] = self.written[self.open.pop(task)]
            await self.store.record([event_of("succeeded", task)])

    async def lose(self, which: int, _: int) -> None:
        """Or fails."""
        if self.open:
            task = list(self.open)[which % len(self.open)]
            del self.open[task]
            await self.store.record([event_of("failed", task)])

    async def claim(self, _: int, __: int) -> None:
        held = self.held
        rows: dict[str, Ended] = {}
        for row in await self.work.ended(2, [row.uri for row, _ in held]):
            rows.setdefault(row.object, row)
        claims = [
            Claim(row.seq, row.rule, row.object, *((row.uri, name_key(row.uri)) if row.task in self.made else ()))
            for row in rows.values()
        ]
        claimed = await self.work.claim(claims)
        assert not claimed.taken
        endings = []
        for row in rows.values():
            if row.seq in claimed.superseded:
                endings.append(Ending(row.seq, "r", row.object, "superseded"))
            elif row.task not in self.made:
                endings.append(Ending(row.seq, "r", row.object, "failed", error={"type": "x"}))
            else:
                held.append((row, False))
        if endings:
            await self.work.close(endings)

    async def put(self, _: int, which: int) -> None:
        held = self.held
        if held:
            row, _done = held[which % len(held)]
            self.placed[row.uri] = self.made[row.task or ""]
            held[which % len(held)] = (row, True)

    async def close(self, _: int, which: int) -> None:
        held = self.held
        done = [one for one in held if one[1]]
        if done:
            row, _ = one = done[which % len(done)]
            held.remove(one)
            await self.work.close([Ending(row.seq, "r", row.object, "delivered")])

    async def away(self, _: int, which: int) -> None:
        """The destination does not answer: the attempt is made again in an hour."""
        if self.held:
            row, _done = self.held.pop(which % len(self.held))
            await self.work.close([Ending(row.seq, "r", row.object, "submitted", retry_s=3600.0, kept=True)])

    async def die(self, _: int, __: int) -> None:
        """What a process had in its hands is gone, whether it was put or not."""
        self.held.clear()

    async def redrive(self, _: int, __: int) -> None:
        await self.events.redrive()

    async def settle(self) -> None:
        """Everything goes its way, and nothing goes wrong any more."""
        self.held.clear()
        for _ in range(100):
            self.clock.advance(4_000)
            await self.redrive(0, 0)
            await self.batch(0, 0)
            await self.run(0, 0)
            await self.claim(0, 0)
            await self.put(0, 0)
            await self.close(0, 0)
            states = Counter(row.state for row in (await self.events.list(limit=1_000)).items)
            if states.keys() <= {"delivered", "superseded"}:
                return
        pytest.fail(f"it comes to no end: {states}")


async def follow(url: str, steps: Sequence[Step]) -> None:
    async with Database(url) as db:
        world = World(db)
        for step in steps:
            await world.step(*step)
        await world.settle()
        rows = (await world.events.list(limit=1_000)).items
        assert sorted((int(row.uri[-1]), int(row.version)) for row in rows) == sorted(world.told)
        for which in range(OBJECTS):
            versions = [version for one, version in world.told if one == which]
            if versions:
                last = max(versions)
                mine = {int(row.version): row.state for row in rows if row.uri == f"s3://b/{which}"}
                assert mine[last] == "delivered"
                # The run of the last version that was told of read that one, or a later one.
                assert world.placed[f"s3://b/{which}"] >= last


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that is migrated once, for each history to begin with a copy."""
    path = tmp_path_factory.mktemp("law") / "state.sqlite"

    async def make() -> None:
        async with Database(f"sqlite:///{path}"):
            pass

    asyncio.run(make())
    return path


PUT_OFF: list[Step] = [("write", 0, 1), ("forward", 0, 1), ("away", 0, 0), ("write", 0, 1), ("forward", 0, 2)]
"""The earlier version waits for its destination while the later one is delivered."""
TOLD_LATE: list[Step] = [("write", 0, 0), ("write", 0, 1), ("forward", 0, 2), ("tell", 0, 1), ("forward", 0, 2)]
"""The earlier version is told of after the later one was delivered."""
CUT_OFF: list[Step] = [
    ("write", 0, 1),
    ("batch", 0, 2),
    ("run", 0, 0),
    ("write", 0, 1),
    ("batch", 0, 1),
    ("batch", 0, 0),
]
"""Processes die after each transaction of a submission."""


@settings(deadline=None, max_examples=30)
@example(steps=PUT_OFF)
@example(steps=TOLD_LATE)
@example(steps=CUT_OFF)
@given(steps=STEPS)
def test_any_order_of_steps_ends_with_the_last_version_of_each_object(empty: Path, steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(empty, folder)
        asyncio.run(follow(f"sqlite:///{copy}", steps))
