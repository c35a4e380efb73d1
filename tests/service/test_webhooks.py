"""Webhooks: signed, sent to an address that was checked, tried again, never by two services at once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pixelmill.errors import IllegalTransition, NotFound, RequestError
from pixelmill.events.webhooks import (
    RETRIES_S,
    WebhookSender,
    check_webhook_url,
    is_public,
    new_secret,
    retry_s,
    sign,
)
from pixelmill.jobs.database import Database
from pixelmill.jobs.notices import NewWebhook
from pixelmill.jobs.store import JobStore
from pixelmill.jobs.webhooks import Webhooks
from pixelmill.service.webhooks import Courier
from pixelmill.testing.clock import Clock
from pixelmill.testing.job_store import event_of, job_of, tasks_of

pytestmark = pytest.mark.anyio


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Receiver:
    """An endpoint that answers with the statuses it is told, the last one for ever."""

    def __init__(self, *statuses: int) -> None:
        self.statuses, self.got = list(statuses), list[tuple[dict[str, str], bytes]]()
        self.url, self.body = "", b"{}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in head[1:] if ":" in line}
        self.got.append((headers, await reader.readexactly(int(headers["content-length"]))))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        place = f"location: {self.url}\r\n" if status == 302 else ""
        writer.write(f"HTTP/1.1 {status} x\r\n{place}content-length: {len(self.body)}\r\n\r\n".encode() + self.body)
        try:
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except ConnectionError:
            pass  # the sender has seen enough


@asynccontextmanager
async def receiving(*statuses: int) -> AsyncIterator[Receiver]:
    receiver = Receiver(*statuses)
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0)
    receiver.url = f"http://localhost:{server.sockets[0].getsockname()[1]}/hook?x=1"
    async with server:
        yield receiver


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(f"sqlite:///{tmp_path}/state.sqlite") as db:
        yield db


@pytest.fixture
def clock() -> Clock:
    return Clock()


def hook(url: str, job: str | None = None, owner: str = "ann") -> NewWebhook:
    return NewWebhook(f"wh_{job}", owner, url, new_secret(), 1.0, job)


async def ended(store: JobStore, name: str, owner: str = "ann", webhook: NewWebhook | None = None) -> None:
    """A job of one task that ends."""
    job, tasks = replace(job_of(name, owner=owner), trace=f"00-{TRACE}-00f067aa0ba902b7-01"), tasks_of(name, 1)
    await store.create_job(job, tasks, webhook=webhook)
    await store.record([event_of("succeeded", tasks[0].id, owner=owner)])


def courier(webhooks: Webhooks) -> Courier:
    return Courier(webhooks, WebhookSender(allow_private=True))


async def test_a_job_that_ends_is_told_signed_to_the_owners_and_to_its_own_endpoint(db: Database, clock: Clock) -> None:
    store, webhooks = JobStore(db, now=clock), Webhooks(db, clock)
    async with receiving(204) as receiver:
        every, own = hook(receiver.url), hook(receiver.url, "job1")
        await webhooks.add(every)
        await webhooks.add(hook(receiver.url, "other", owner="bob"))
        await ended(store, "job1", webhook=own)
        await courier(webhooks).round()
        await courier(webhooks).round()
    assert len(receiver.got) == 2, "once to each"
    for headers, body in receiver.got:
        message = json.loads(body)
        assert (message["type"], message["data"]["id"], message["data"]["state"]) == ("job.ended", "job1", "succeeded")
        assert message["data"]["counts"]["succeeded"] == 1
        assert headers["host"] == receiver.url.split("/")[2]
        assert headers["traceparent"].split("-")[1] == TRACE, "it belongs to the request that made the job"
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = {
            "v1,"
            + base64.b64encode(hmac.new(base64.b64decode(one.secret[6:]), signed, hashlib.sha256).digest()).decode()
            for one in (every, own)
        }
        assert headers["webhook-signature"] in expected
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 300
    assert len({headers["webhook-signature"] for headers, _ in receiver.got}) == 2
    log = await webhooks.deliveries("ann", every.id)
    assert [(one.state, one.status, one.attempts) for one in log.items] == [("delivered", 204, 1)]


async def test_failures_are_tried_again_later_with_the_same_id(db: Database, clock: Clock) -> None:
    store, webhooks = JobStore(db, now=clock), Webhooks(db, clock)
    async with receiving(500, 302, 200) as receiver:
        await webhooks.add(hook(receiver.url))
        await ended(store, "job1")
        for attempt in range(3):
            await courier(webhooks).round()
            assert len(receiver.got) == attempt + 1, "redirects are not followed"
            await courier(webhooks).round()
            assert len(receiver.got) == attempt + 1, "not before its time"
            clock.advance(2 * RETRIES_S[attempt])
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
        (one,) = (await webhooks.deliveries("ann", "wh_None")).items
        assert (one.state, one.attempts) == ("delivered", 3)
        await webhooks.redeliver("ann", "wh_None", one.id)
        with pytest.raises(IllegalTransition):
            await webhooks.redeliver("ann", "wh_None", one.id)
        with pytest.raises(NotFound):
            await webhooks.redeliver("bob", "wh_None", one.id)
        await courier(webhooks).round()
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
        assert len(receiver.got) == 4


async def test_an_endpoint_that_is_gone_is_given_up(db: Database, clock: Clock) -> None:
    store, webhooks = JobStore(db, now=clock), Webhooks(db, clock)
    async with receiving(410) as receiver:
        await webhooks.add(hook(receiver.url))
        await ended(store, "job1")
        await courier(webhooks).round()
    (one,) = (await webhooks.deliveries("ann", "wh_None")).items
    assert (one.state, one.status, one.attempts) == ("failed", 410, 1)


async def test_no_two_services_send_the_same_and_a_dead_ones_are_sent_later(db: Database, clock: Clock) -> None:
    store, webhooks = JobStore(db, now=clock), Webhooks(db, clock)
    async with receiving(200) as receiver:
        await webhooks.add(hook(receiver.url))
        for number in range(40):
            await ended(store, f"job{number}")
        dead = await webhooks.claim(5, 60)
        await asyncio.gather(*(courier(webhooks).round() for _ in range(6)))
        assert len(receiver.got) == 35
        clock.advance(61)
        await courier(webhooks).round()
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == len(receiver.got) == 40
        await webhooks.failed(dead[0], 500, "late", None)  # its claim has ended: nothing changes
    log = await webhooks.deliveries("ann", "wh_None", limit=100)
    assert {one.state for one in log.items} == {"delivered"}


async def test_private_addresses_are_refused_whatever_name_leads_there() -> None:
    async with receiving(200) as receiver:
        for url in (receiver.url, receiver.url.replace("localhost", "127.0.0.1"), "http://[::ffff:127.0.0.1]:1/"):
            sent = await WebhookSender().send(url, new_secret(), "id", 1, "{}")
            assert not sent.ok
            assert "webhook_allow_private" in sent.error
        assert receiver.got == []


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
        ),
        *("::127.0.0.1", "::ffff:0:127.0.0.1", "fec0::1", "240.0.0.1"),
        *("::1", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "::"),
    ],
)
def test_what_is_not_of_the_internet_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1"])
def test_what_is_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("url", ["", "ftp://h", "http://", "http://a b/", "http://u:p@h/", "http://h:0/", "x" * 3000])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(RequestError, match="http"):
        check_webhook_url(url)


async def test_a_long_answer_is_not_read_to_its_end() -> None:
    async with receiving(200) as receiver:
        receiver.body = b"x" * 50_000_000
        sent = await WebhookSender(allow_private=True).send(receiver.url, new_secret(), "id", 1, "{}")
        assert sent.ok


def test_the_signature_is_that_of_the_standards_example() -> None:
    """From the specification's own test vector."""
    signature = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_attempts_end_after_about_a_day() -> None:
    pauses = [retry_s(attempt, lambda: 0.5) for attempt in range(1, len(RETRIES_S) + 1)]
    assert pauses == list(RETRIES_S)
    assert 20 * 3600 < sum(RETRIES_S) < 30 * 3600
    assert retry_s(len(RETRIES_S) + 1) is None
    assert retry_s(1, lambda: 0.0) != retry_s(1, lambda: 0.99)


async def test_a_name_server_that_never_answers_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are given by requests: the threads that the rest of the process shares must not wait for them."""
    answer, asked = threading.Event(), threading.Semaphore(0)

    def silent(*_: object, **__: object) -> list[object]:
        asked.release()
        answer.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    sender = WebhookSender(timeout_s=20)
    sending = [asyncio.create_task(sender.send(f"http://h{i}.example/", new_secret(), "m", 1, "{}")) for i in range(16)]
    try:
        async with asyncio.timeout(10):
            while not asked.acquire(blocking=False):  # noqa: ASYNC110 -- another thread does it
                await asyncio.sleep(0)
            # As many as the shared threads are, and more.
            assert await asyncio.gather(*(asyncio.to_thread(int, "1") for _ in range(64))) == [1] * 64
    finally:
        answer.set()
        await asyncio.gather(*sending)


@pytest.mark.parametrize("skew_s", [-300.0, 300.0])
async def test_two_services_on_postgresql_whose_clocks_differ_send_once(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, skew_s: float
) -> None:
    """What one has claimed is not due for the other, and what was tried again in vain is due in time for both."""
    real = time.time
    async with Database(postgres_url) as first, Database(postgres_url) as second:
        mine, theirs = Webhooks(first), Webhooks(second)
        await mine.add(hook("http://localhost:1/"))
        await ended(JobStore(first), "job1")
        (one,) = await mine.claim(16, 60.0)
        monkeypatch.setattr(time, "time", lambda: real() + skew_s)
        assert await theirs.claim(16, 60.0) == []
        monkeypatch.setattr(time, "time", real)
        await mine.failed(one, 500, "no", 0.0)
        monkeypatch.setattr(time, "time", lambda: real() + skew_s)
        (again,) = await theirs.claim(16, 60.0)
        assert (again.id, again.attempts) == (one.id, 1)


async def test_replicas_on_postgresql_claim_each_delivery_once(postgres_url: str) -> None:
    """Four couriers on two databases, each claiming at the same moment, over and over."""
    async with Database(postgres_url) as first, Database(postgres_url) as second, receiving(204) as receiver:
        await Webhooks(first).add(hook(receiver.url))
        store = JobStore(first)
        for i in range(60):
            await ended(store, f"job{i}")
        couriers = [courier(Webhooks(db)) for db in (first, second, first, second)]

        async def until_nothing_is_due(one: Courier) -> None:
            while await one.round():
                pass

        await asyncio.gather(*map(until_nothing_is_due, couriers))
        ids = [headers["webhook-id"] for headers, _ in receiver.got]
        assert len(ids) == len(set(ids)) == 60
        log = await Webhooks(second).deliveries("ann", "wh_None", limit=100)
        assert {(one.state, one.attempts) for one in log.items} == {("delivered", 1)}


CLAIMER = """
import asyncio, sys
from pixelmill.jobs.database import Database
from pixelmill.jobs.webhooks import Webhooks

async def main():
    async with Database(sys.argv[1]) as db:
        print(len(await Webhooks(db).claim(16, 1.0)), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_what_a_killed_service_had_claimed_is_sent_by_another(postgres_url: str) -> None:
    async with Database(postgres_url) as db, receiving(204) as receiver:
        webhooks = Webhooks(db)
        await webhooks.add(hook(receiver.url))
        await ended(JobStore(db), "job1")
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLAIMER, postgres_url, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert other.stdout is not None
            assert await asyncio.wait_for(other.stdout.readline(), 60) == b"1\n"
        finally:
            other.kill()
            await other.wait()
        async with asyncio.timeout(30):
            while not receiver.got:
                await courier(webhooks).round()
                await asyncio.sleep(0.05)
        (delivery,) = (await webhooks.deliveries("ann", "wh_None")).items
        assert (delivery.state, delivery.attempts, len(receiver.got)) == ("delivered", 1, 1)


async def test_an_owner_whose_endpoint_never_answers_holds_up_no_other(db: Database) -> None:
    hanging, connected = asyncio.Event(), 0

    async def never(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected
        connected += 1
        await hanging.wait()
        writer.close()

    store, webhooks = JobStore(db), Webhooks(db)
    silent = await asyncio.start_server(never, "127.0.0.1", 0)
    async with silent, receiving(204) as receiver:
        bad = NewWebhook("wh_bad", "bob", f"http://localhost:{silent.sockets[0].getsockname()[1]}/", new_secret(), 1.0)
        await webhooks.add(bad)
        await webhooks.add(hook(receiver.url))
        for i in range(60):
            await ended(store, f"bob{i}", owner="bob")
        await ended(store, "job1")
        sender = WebhookSender(allow_private=True, timeout_s=120)
        running = asyncio.create_task(Courier(webhooks, sender).run())
        try:
            async with asyncio.timeout(30):
                while not receiver.got:  # noqa: ASYNC110 -- a server counts
                    await asyncio.sleep(0.01)
            assert 0 < connected <= 15, "an owner has its share of attempts, and no more"
        finally:
            hanging.set()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
