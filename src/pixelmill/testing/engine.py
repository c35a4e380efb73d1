"""What every engine must do: subclass :class:`EngineConformance`, and say how to build one in its ``rig``.

Needs pytest and anyio. :class:`Script` is the execution it drives: each task does what the test says.
"""

# A test's name is its sentence, and acts of a script take what they don't all need:
# ruff: noqa: D102, ARG001

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

import pytest

from pixelmill.engines.engine import Engine
from pixelmill.engines.executor import Slot
from pixelmill.errors import CorruptImage, PixelmillError, WorkerCrashed, error_to_dict
from pixelmill.jobs.messages import TaskMessage
from pixelmill.jobs.model import TaskEvent
from pixelmill.targets.target import Progress
from pixelmill.testing.slots import Slots

BOUND_S = 30.0
"""How long a test waits for what must happen."""

Act = Callable[[TaskMessage, int], Awaitable[None]]


def message_of(name: str, max_attempts: int = 3) -> TaskMessage:
    """A message of a task that needs nothing."""
    return TaskMessage(name, 0, "job", "ann", f"{name}.jpg", "{}", f"key:{name}", max_attempts=max_attempts)


@dataclass
class Script:
    """An execution whose tasks succeed, unless ``acts`` says what a task does first (it may raise or wait)."""

    acts: dict[str, Act] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    most: int = 0
    begun: list[tuple[str, int]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def execute(
        self, message: TaskMessage, attempt: int, slot: Slot, tell: Callable[[Progress], None] = lambda _: None
    ) -> TaskEvent:
        """Act, then succeed."""
        del tell
        self.begun.append((message.task, attempt))
        self.running.add(message.task)
        self.most = max(self.most, len(self.running))
        await self._tell()
        try:
            if act := self.acts.get(message.task):
                await act(message, attempt)
            else:
                await asyncio.sleep(0)
            return self._event("succeeded", message, attempt, slot.target)
        except PixelmillError as error:
            if error.retryable:
                raise
            return self._event("failed", message, attempt, slot.target, error)
        finally:
            self.running.discard(message.task)

    async def give_up(self, message: TaskMessage, attempt: int, error: PixelmillError) -> TaskEvent:
        """The failure."""
        return self._event("failed", message, attempt, None, error)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds; it is looked at whenever a task begins."""
        async with asyncio.timeout(BOUND_S), self.changed:
            await self.changed.wait_for(condition)

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    @staticmethod
    def _event(
        kind: str, message: TaskMessage, attempt: int, target: str | None, error: PixelmillError | None = None
    ) -> TaskEvent:
        return TaskEvent(
            kind,
            message.task,
            message.job,
            message.owner,
            message.run,
            attempt,
            1.0,
            target=target,
            error=None if error is None else error_to_dict(error),
        )


class Ledger:
    """A recorder that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[TaskEvent] = []
        self._changed = asyncio.Condition()

    async def emit(self, events: Sequence[TaskEvent]) -> None:
        """Keep them."""
        self.events += events
        async with self._changed:
            self._changed.notify_all()

    def of(self, task: str) -> list[str]:
        """Kinds of the events of a task."""
        return [event.kind for event in self.events if event.task == task]

    def ended(self) -> list[str]:
        """Tasks whose end was told, as often as it was told."""
        return [event.task for event in self.events if event.kind in {"succeeded", "failed"}]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds; it is looked at whenever something is told."""
        async with asyncio.timeout(BOUND_S), self._changed:
            await self._changed.wait_for(condition)


class Rig(Protocol):
    """An engine that is not started, a way to queue tasks for it, and what it told."""

    @property
    def engine(self) -> Engine:
        """What is tested."""
        ...

    @property
    def ledger(self) -> Ledger:
        """What it told."""
        ...

    async def submit(self, messages: Sequence[TaskMessage]) -> None:
        """Queue, and wake the engine."""
        ...


@pytest.mark.anyio
class EngineConformance:
    """The contract of :class:`pixelmill.engines.engine.Engine`, as tests."""

    @abstractmethod
    def rig(self, script: Script, slots: Slots) -> AbstractAsyncContextManager[Rig]:
        """An engine over an empty queue; what is left of it is ended on exit."""

    async def test_every_task_ends_once_and_leaves_the_queue(self) -> None:
        script = Script()
        async with self.rig(script, Slots(3)) as rig:
            names = [f"t{i}" for i in range(100)]
            await rig.engine.start()
            await rig.submit([message_of(name) for name in names])
            await rig.ledger.until(lambda: len(rig.ledger.ended()) >= 100)
            await rig.engine.stop(BOUND_S)
            assert sorted(rig.ledger.ended()) == sorted(names)
            assert all(rig.ledger.of(name) == ["started", "succeeded"] for name in names)
            depth = await rig.engine.depth()
            assert (depth.waiting, depth.leased, depth.dead) == (0, 0, 0)

    async def test_no_more_tasks_run_than_there_are_slots(self) -> None:
        async def meet(message: TaskMessage, attempt: int) -> None:
            await script.until(lambda: script.most == 2)

        script, slots = Script({"t0": meet, "t1": meet}), Slots(2)
        async with self.rig(script, slots) as rig:
            await rig.engine.start()
            await rig.submit([message_of(f"t{i}") for i in range(40)])
            await rig.ledger.until(lambda: len(rig.ledger.ended()) >= 40)
            await rig.engine.stop(BOUND_S)
            assert script.most == 2
            assert slots.most == 2
            assert slots.out == 0

    async def test_a_failure_is_an_end(self) -> None:
        async def fail(message: TaskMessage, attempt: int) -> None:
            raise CorruptImage("not an image")

        script = Script({"bad": fail})
        async with self.rig(script, Slots(1)) as rig:
            await rig.engine.start()
            await rig.submit([message_of("bad"), message_of("good")])
            await rig.ledger.until(lambda: len(rig.ledger.ended()) >= 2)
            assert rig.ledger.of("bad") == ["started", "failed"]
            assert rig.ledger.of("good") == ["started", "succeeded"]

    async def test_a_crash_costs_one_attempt(self) -> None:
        async def crash_once(message: TaskMessage, attempt: int) -> None:
            if attempt == 1:
                raise WorkerCrashed("signal 9")

        script = Script({"t": crash_once})
        async with self.rig(script, Slots(1)) as rig:
            await rig.engine.start()
            await rig.submit([message_of("t")])
            await rig.ledger.until(lambda: bool(rig.ledger.ended()))
            assert rig.ledger.of("t") == ["started", "requeued", "started", "succeeded"]
            assert [event.attempt for event in rig.ledger.events] == [1, 1, 2, 2]
            (lost,) = (event for event in rig.ledger.events if event.kind == "requeued")
            assert lost.error is not None
            assert lost.error["detail"] == "signal 9"

    async def test_attempts_are_used_up_and_the_message_set_aside(self) -> None:
        async def crash(message: TaskMessage, attempt: int) -> None:
            raise WorkerCrashed("signal 9")

        script = Script({"t": crash})
        async with self.rig(script, Slots(1)) as rig:
            await rig.engine.start()
            await rig.submit([message_of("t", max_attempts=2)])
            await rig.ledger.until(lambda: bool(rig.ledger.ended()))
            await rig.engine.stop(BOUND_S)
            assert rig.ledger.of("t") == ["started", "requeued", "started", "failed"]
            assert (await rig.engine.depth()).dead == 1

    async def test_cancel_stops_what_runs_and_what_waits_without_a_word(self) -> None:
        async def forever(message: TaskMessage, attempt: int) -> None:
            await asyncio.Event().wait()

        script, slots = Script({"running": forever}), Slots(1)
        async with self.rig(script, slots) as rig:
            await rig.engine.start()
            await rig.submit([message_of("running"), message_of("waiting"), message_of("last")])
            await script.until(lambda: "running" in script.running)
            await rig.engine.cancel(["waiting/0", "running/0", "last/1", "nobody's/0"])
            assert "running" not in script.running
            await rig.ledger.until(lambda: "last" in rig.ledger.ended())
            assert "running" not in rig.ledger.ended()
            assert "requeued" not in rig.ledger.of("running")

    async def test_stop_lets_what_runs_end_and_leaves_the_rest(self) -> None:
        go = asyncio.Event()

        async def wait(message: TaskMessage, attempt: int) -> None:
            await go.wait()

        script = Script({"first": wait})
        async with self.rig(script, Slots(1)) as rig:
            await rig.engine.start()
            await rig.submit([message_of(name) for name in ("first", "second", "third")])
            await script.until(lambda: "first" in script.running)
            stopping = asyncio.create_task(rig.engine.stop(BOUND_S))
            asyncio.get_running_loop().call_soon(go.set)
            await stopping
            assert rig.ledger.of("first") == ["started", "succeeded"]
            assert [task for task, _ in script.begun] == ["first"]
            depth = await rig.engine.depth()
            assert (depth.waiting, depth.leased) == (2, 0)

    async def test_stop_puts_back_what_does_not_end_in_time(self) -> None:
        async def forever(message: TaskMessage, attempt: int) -> None:
            await asyncio.Event().wait()

        script, slots = Script({"t": forever}), Slots(1)
        async with self.rig(script, slots) as rig:
            await rig.engine.start()
            await rig.submit([message_of("t")])
            await script.until(lambda: "t" in script.running)
            await rig.engine.stop(0.0)
            assert rig.ledger.of("t") == ["started", "requeued"]
            assert (await rig.engine.depth()).waiting == 1
            assert slots.out == 0
