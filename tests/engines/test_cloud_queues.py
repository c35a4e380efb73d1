"""The queues of clouds keep the contract of lease queues, against Azurite and moto."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

from pixelmill.engines.azure import AzureTransport
from pixelmill.engines.cloud import CloudLeaseQueue, Transport
from pixelmill.engines.envelope import PREFIX
from pixelmill.engines.queue import Message
from pixelmill.engines.sqs import SqsTransport
from pixelmill.errors import ConfigError, LimitExceeded, StorageDenied, StorageUnavailable
from pixelmill.storage.memory import MemoryStore
from pixelmill.testing.clock import Clock, RealClock
from pixelmill.testing.lease_queue import LeaseQueueConformance, message
from servers import Azurite, Moto, free_port

AWS = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}


@pytest.fixture(params=["azure", "sqs"])
def transport(request: pytest.FixtureRequest) -> Transport:
    if request.param == "azure":
        azurite: Azurite = request.getfixturevalue("azurite_server")
        return AzureTransport(azurite.connection_string)
    moto: Moto = request.getfixturevalue("moto_server")
    return SqsTransport(endpoint_url=moto.url, **AWS)


@pytest.fixture
async def queue(transport: Transport) -> AsyncIterator[CloudLeaseQueue]:
    async with CloudLeaseQueue(transport, f"t{secrets.token_hex(4)}", store=MemoryStore()) as queue:
        yield queue


class TestCloudQueues(LeaseQueueConformance):
    visibility_s = 2.0

    @pytest.fixture
    def clock(self) -> Clock:
        return RealClock()


pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("size", [50_000, 1_000_000])
async def test_a_large_body_travels_through_the_object_store(transport: Transport, size: int) -> None:
    store = MemoryStore()
    body = '"' * (size // 2)
    async with CloudLeaseQueue(transport, f"t{secrets.token_hex(4)}", store=store) as queue:
        await queue.send([Message("large/0", body)])
        (lease,) = await queue.receive(1, 30)
        assert lease.message.body == body
        await queue.dead_letter(lease, "why")
        (letter,) = await queue.dead(1)
        assert letter.message.body == body
        assert [found.key async for found in store.list(PREFIX)] == ([f"{PREFIX}large/0"] if size > 50_000 else [])


async def test_a_large_body_is_refused_where_there_is_no_store(transport: Transport) -> None:
    async with CloudLeaseQueue(transport, f"t{secrets.token_hex(4)}") as queue:
        with pytest.raises(LimitExceeded, match="shorter pipeline"):
            await queue.send([Message("large/0", "x" * 300_000)])


async def test_what_is_not_ours_is_set_aside_with_its_reason(transport: Transport, queue: CloudLeaseQueue) -> None:
    transport.send(queue._queues[1], ["hello", '{"id": 1}'])
    await queue.send([message("ours")])
    assert [lease.message.id for lease in await queue.receive(10, 30)] == ["ours/0"]
    letters = await queue.dead(10)
    assert sorted(letter.message.body for letter in letters) == ["hello", '{"id": 1}']
    assert all("another program" in letter.reason for letter in letters)


async def test_two_processes_may_make_the_same_queues(transport: Transport, queue: CloudLeaseQueue) -> None:
    await queue.open()
    await queue.send([message("a")])
    other = CloudLeaseQueue(transport, queue._dead.removesuffix("-dead"))
    await other.open()
    assert len(await other.receive(1, 30)) == 1


async def test_a_service_that_is_away_is_unavailable() -> None:
    port = free_port()
    for transport in (
        SqsTransport(endpoint_url=f"http://127.0.0.1:{port}", **AWS),
        AzureTransport(azure_string(port)),
    ):
        with pytest.raises(StorageUnavailable, match="can't be reached"):
            transport.open(["tasks"])


def azure_string(port: int, key: str = Azurite.key) -> str:
    return (
        f"DefaultEndpointsProtocol=http;AccountName={Azurite.account};AccountKey={key};"
        f"QueueEndpoint=http://127.0.0.1:{port}/{Azurite.account};"
    )


async def test_a_wrong_key_is_denied_and_not_shown(azurite_server: Azurite) -> None:
    wrong = "A" * 86 + "=="
    with pytest.raises(StorageDenied) as caught:
        AzureTransport(azure_string(azurite_server.queue_port, wrong)).open(["tasks"])
    assert wrong not in str(caught.value)


async def test_a_connection_string_of_the_wrong_form_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        AzureTransport("AccountKey=secret")
    assert "secret" not in str(caught.value)


async def test_what_is_settled_while_its_lease_is_extended_does_not_come_back(queue: CloudLeaseQueue) -> None:
    """Azure gives a new receipt for each extension, and takes only the last one."""
    await queue.send([message(f"t{number}") for number in range(24)])
    leases = await queue.receive(24, 30.0)
    assert len(leases) == 24
    await asyncio.gather(
        queue.extend(leases, 30.0),
        queue.delete(leases[:8]),
        queue.release(leases[8:16]),
        *(queue.dead_letter(lease, "why") for lease in leases[16:]),
    )
    again = await queue.receive(24, 30.0)
    assert {lease.message.id for lease in again} == {lease.message.id for lease in leases[8:16]}
    await queue.delete(again)
    depth = await queue.depth()
    assert (depth.waiting + depth.leased, depth.dead) == (0, 8)
