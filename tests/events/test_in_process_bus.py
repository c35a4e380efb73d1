from __future__ import annotations

import asyncio

import pytest

from pixelmill.errors import Busy
from pixelmill.events.bus import EventBus, InProcessBus
from pixelmill.testing.event_bus import SOON, EventBusConformance


class TestInProcessBus(EventBusConformance):
    @pytest.fixture
    def bus(self) -> EventBus:
        return InProcessBus()


@pytest.mark.anyio
async def test_the_number_of_readers_is_bounded_and_leaving_gives_room() -> None:
    bus = InProcessBus(max_subscribers=2)
    async with bus.subscribe("ann"):
        async with bus.subscribe("bob", "job"):
            with pytest.raises(Busy, match="2 readers"):
                async with bus.subscribe("eve"):
                    pass
        async with bus.subscribe("eve"):
            pass


@pytest.mark.anyio
async def test_nothing_is_kept_of_readers_that_left() -> None:
    bus = InProcessBus()
    for number in range(100):
        async with bus.subscribe("ann", f"job-{number}"):
            bus.publish("ann", f"job-{number}")
    assert bus._subscribers == {}
    assert bus._count == 0


@pytest.mark.anyio
async def test_a_reader_whose_loop_has_ended_does_not_stop_the_others() -> None:
    bus = InProcessBus()

    kept = []  # or the generator's end would leave properly

    def subscribe_and_vanish() -> None:
        async def main() -> None:
            kept.append(bus.subscribe("ann", "job"))
            await kept[0].__aenter__()

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()

    await asyncio.to_thread(subscribe_and_vanish)
    async with bus.subscribe("ann", "job") as news:
        bus.publish("ann", "job")
        assert await news.wait(SOON)
