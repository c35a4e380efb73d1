"""The blows of a siege (see ``siege.py``), by their names: what they end is started again, or put right later."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psutil
from redis import Redis as RedisClient
from siege import LEASE_S, STALL_S, Siege

from servers import Postgres, RabbitMQ, Redis, Server

CUT_S = 10.0


def kill_a_pool_process(siege: Siege) -> None:
    """Of the hub, a worker or a node."""
    parents = [siege.hub.pid, *(w.pid for w in siege.workers), *(n.process.pid for n in siege.nodes.values())]
    with suppress(psutil.NoSuchProcess):
        family = psutil.Process(siege.chance.choice(parents)).children(recursive=True)
        leaves = [child for child in family if not child.children()]
        if leaves:
            siege.chance.choice(leaves).kill()


def kill_a_worker(siege: Siege) -> None:
    victim = siege.workers.pop(siege.chance.randrange(len(siege.workers)))
    assert victim.poll() is None, f"a worker ended by itself: {siege.folder / 'workers.log'}"
    victim.kill()
    victim.wait(20)
    siege.start_worker()


def stall_a_worker(siege: Siege) -> None:
    """Its leases end meanwhile, so that others run its tasks; then it goes on with them."""
    victim = siege.chance.choice(siege.workers)
    victim.send_signal(signal.SIGSTOP)
    siege.later("a worker stalls", 2 * LEASE_S, lambda: victim.send_signal(signal.SIGCONT))


def kill_a_node(siege: Siege) -> None:
    name = siege.chance.choice(sorted(siege.nodes))
    siege.nodes[name].kill()
    siege.start_node(name)


def kill_the_hub(siege: Siege) -> None:
    """While a job is on its way to it, which is sent again until it answers: it must not be there twice."""
    begun = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        sending = None
        if siege.sent < len(siege.files):
            sending = threads.submit(siege.submit, siege.size.page, begun)
            assert begun.wait(STALL_S), "a job is on its way"
        siege.hub.kill()
        siege.hub.start()
        if sending is not None:
            sending.result()


def kill_redis(siege: Siege) -> None:
    redis = siege.server(Redis)
    redis.kill()
    siege.later("redis dies", siege.chance.random() * 3, redis.start)


def wipe_redis(siege: Siege) -> None:
    """Events that were not recorded yet are gone, and the list of nodes."""
    siege.until(lambda: "redis dies" not in siege.pending, "Redis is there", keep_open=siege.size.page)
    with RedisClient.from_url(siege.server(Redis).url) as client:
        client.flushall()


def cut_the_network(siege: Siege) -> None:
    assert siege.cable is not None
    siege.cable.cut()
    siege.later("the network is cut", CUT_S, siege.cable.mend)


def deliver_twice(siege: Siege) -> None:
    """Messages are taken, sent once more, and not settled: as if their worker had died."""

    async def some() -> int:
        async with siege.queue() as queue:
            leases = await queue.receive(4, LEASE_S)
            await queue.send([lease.message for lease in leases])
            return len(leases)

    siege.until(lambda: asyncio.run(some()) > 0, "a message is taken", keep_open=siege.size.page)


def restart(kind: type[Server]) -> Callable[[Siege], None]:
    return lambda siege: siege.server(kind).restart()


def die(kind: type[Server]) -> Callable[[Siege], None]:
    def strike(siege: Siege) -> None:
        siege.server(kind).kill()
        siege.server(kind).start()

    return strike


BLOWS: Mapping[str, Callable[[Siege], None]] = {
    "a pool process dies": kill_a_pool_process,
    "a worker dies": kill_a_worker,
    "a worker stalls": stall_a_worker,
    "a node dies": kill_a_node,
    "the hub dies": kill_the_hub,
    "redis dies": kill_redis,
    "redis is wiped": wipe_redis,
    "the network is cut": cut_the_network,
    "delivered twice": deliver_twice,
    "postgresql restarts": restart(Postgres),
    "postgresql dies": die(Postgres),
    "rabbitmq restarts": restart(RabbitMQ),
}
