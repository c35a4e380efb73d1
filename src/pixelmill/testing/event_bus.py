"""What every event bus must do: subclass :class:`EventBusConformance` in your tests and give it a ``bus``.

Needs pytest and anyio. ``settle`` is for buses whose news travel: it returns when what was published has arrived.
"""

# A test's name is its sentence:
# ruff: noqa: D102

from __future__ import annotations

import asyncio
import threading

import pytest

from pixelmill.events.bus import EventBus

SOON = 30.0  # a bound for what must happen; never reached when it does


@pytest.mark.anyio
class EventBusConformance:
    """The contract of :class:`pixelmill.events.bus.EventBus`, as tests."""

    async def settle(self, bus: EventBus) -> None:  # noqa: ARG002 other buses need it
        """Wait until everything published so far has reached its subscribers."""
        await asyncio.sleep(0)

    async def test_a_publish_wakes_who_waits_for_the_job_and_for_the_owner(self, bus: EventBus) -> None:
        async with bus.subscribe("ann", "job") as one, bus.subscribe("ann") as every:
            waiting = asyncio.gather(one.wait(SOON), every.wait(SOON))
            await self.settle(bus)
            bus.publish("ann", "job")
            assert all(await waiting)

    async def test_a_publish_wakes_who_waits_for_everything(self, bus: EventBus) -> None:
        async with bus.subscribe(None) as everything:
            for owner in ("ann", "bob"):
                bus.publish(owner, "job")
                await self.settle(bus)
                assert await everything.wait(SOON)
            assert not await everything.wait(0.01)

    async def test_others_are_left_asleep(self, bus: EventBus) -> None:
        async with (
            bus.subscribe("ann", "other") as other_job,
            bus.subscribe("bob", "job") as other_owner,
            bus.subscribe("bob") as other_owners_all,
            bus.subscribe("ann") as awake,
        ):
            bus.publish("ann", "job")
            assert await awake.wait(SOON)
            for news in (other_job, other_owner, other_owners_all):
                assert not await news.wait(0)

    async def test_what_was_published_before_the_wait_is_not_missed(self, bus: EventBus) -> None:
        async with bus.subscribe("ann", "job") as news:
            bus.publish("ann", "job")
            assert await news.wait(SOON)

    async def test_many_publishes_are_one_waking(self, bus: EventBus) -> None:
        async with bus.subscribe("ann") as news:
            for number in range(10_000):
                bus.publish("ann", f"job-{number % 7}")
            await self.settle(bus)
            assert await news.wait(SOON)
            assert not await news.wait(0.01)

    async def test_without_news_the_wait_ends_at_its_timeout(self, bus: EventBus) -> None:
        async with bus.subscribe("ann", "job") as news:
            assert not await news.wait(0.01)
            assert not await news.wait(0)
            assert not news.closed
            bus.publish("ann", "job")
            assert await news.wait(SOON)

    async def test_publishing_without_subscribers_is_nothing(self, bus: EventBus) -> None:
        bus.publish("ann", "job")
        await self.settle(bus)
        async with bus.subscribe("ann", "job") as news:
            assert not await news.wait(0.01), "what happened before is in the log, not in the bus"

    async def test_a_reader_sees_all_of_a_log_that_grows_in_another_thread(self, bus: EventBus) -> None:
        log: list[int] = []

        def write() -> None:
            for number in range(2_000):
                log.append(number)
                bus.publish("ann", "job")

        seen = 0
        async with bus.subscribe("ann", "job") as news:
            writer = threading.Thread(target=write)
            writer.start()
            while seen < 2_000:
                assert await news.wait(SOON)
                seen = len(log)
            writer.join()

    async def test_closing_wakes_and_ends_everybody(self, bus: EventBus) -> None:
        async with bus.subscribe("ann", "job") as one, bus.subscribe("bob") as other:
            waiting = asyncio.gather(one.wait(SOON), other.wait(SOON))
            await self.settle(bus)
            bus.close()
            assert not any(await waiting)
            assert one.closed
            assert other.closed
            bus.publish("ann", "job")
            assert not await one.wait(SOON), "a closed subscription never waits"

    async def test_a_closed_bus_gives_closed_subscriptions_and_closes_again(self, bus: EventBus) -> None:
        bus.close()
        bus.close()
        async with bus.subscribe("ann") as news:
            assert news.closed
            assert not await news.wait(SOON)

    async def test_a_cancelled_wait_loses_nothing(self, bus: EventBus) -> None:
        async with bus.subscribe("ann", "job") as news:
            waiting = asyncio.create_task(news.wait(SOON))
            await self.settle(bus)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            bus.publish("ann", "job")
            assert await news.wait(SOON)
