"""Queues of clouds as sources of events, against moto and Azurite."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
from takers import RecordingTaker, running

from pixelmill.engines.azure import AzureTransport
from pixelmill.errors import ConfigError, MissingExtra, StorageUnavailable
from pixelmill.triggers import inbox as inbox_module
from pixelmill.triggers.inbox import QueueSource
from pixelmill.triggers.rule import SourceSpec
from pixelmill.triggers.source import EventSource, open_source
from pixelmill.triggers.sqs import SqsInbox
from servers import Azurite, Moto, free_port, wait_until

pytestmark = pytest.mark.anyio
EVENTS = Path(__file__).parent / "events"
REGION = "us-east-1"


def document(name: str) -> str:
    return json.dumps(json.loads((EVENTS / f"{name}.json").read_text()))


def s3_event(key: str) -> str:
    return document("s3-put").replace("uploads/harbor.jpg", key)


class Queue:
    """One queue of moto, and a bucket that tells it of its objects where that is asked for."""

    def __init__(self, moto: Moto, **attributes: str) -> None:
        given: dict[str, Any] = {"region_name": REGION, "endpoint_url": moto.url}
        given |= {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        self.sqs, self.s3 = boto3.client("sqs", **given), boto3.client("s3", **given)
        self.moto = moto
        self.name = f"events-{secrets.token_hex(4)}"
        self.url = str(self.sqs.create_queue(QueueName=self.name, Attributes=attributes)["QueueUrl"])
        self.arn = str(self.attributes("QueueArn")["QueueArn"])

    def attributes(self, *names: str) -> dict[str, str]:
        found: dict[str, str] = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=list(names))[
            "Attributes"
        ]
        return found

    def left(self) -> int:
        """Messages, seen or hidden."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        return sum(int(value) for value in self.attributes(*names).values())

    def send(self, *texts: str) -> None:
        for text in texts:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=text)

    def bucket(self, prefix: str, suffix: str) -> str:
        name = f"photos-{secrets.token_hex(4)}"
        self.s3.create_bucket(Bucket=name)
        rules = [{"Name": "prefix", "Value": prefix}, {"Name": "suffix", "Value": suffix}]
        told = {"QueueArn": self.arn, "Events": ["s3:ObjectCreated:*"], "Filter": {"Key": {"FilterRules": rules}}}
        self.s3.put_bucket_notification_configuration(
            Bucket=name, NotificationConfiguration={"QueueConfigurations": [told]}
        )
        return name

    def source(self, **options: str) -> EventSource:
        given = {"queue": self.url, "endpoint": self.moto.url, "region": REGION, "wait": "1", **options}
        return open_source(SourceSpec("uploads", "sqs", given))


@pytest.fixture
def make_queue(moto_server: Moto, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Queue]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return lambda **attributes: Queue(moto_server, **attributes)


@pytest.fixture
def queue(make_queue: Callable[..., Queue]) -> Queue:
    return make_queue()


async def until(condition: Callable[[], bool]) -> None:
    """Ask again until it holds."""
    await asyncio.to_thread(wait_until, condition, "what the test waits for did not come")


class CountedExtensions:
    """An inbox whose extensions are counted; messages are hidden for two seconds, which tests have time for."""

    def __init__(self, source: EventSource) -> None:
        assert isinstance(source, QueueSource)
        self.count = 0
        self._inbox = source._inbox
        source._visibility_s = 2
        self._inbox._visibility_s = 2  # type: ignore[attr-defined]  # both kinds have it
        source._inbox = self

        self.receive, self.delete = self._inbox.receive, self._inbox.delete
        self.set_aside, self.close = self._inbox.set_aside, self._inbox.close

    def extend(self, handles: Sequence[str], seconds: int) -> dict[str, str]:
        """The inbox's own, counted."""
        after = self._inbox.extend(handles, seconds)
        self.count += 1
        return after


# -- SQS -------------------------------------------------------------------------------------------------------------


async def test_uploads_to_a_bucket_are_told_whatever_their_names(queue: Queue) -> None:
    """The bucket first tells that it was set up; filters leave out what isn't wanted; parts make one object."""
    bucket = queue.bucket("in/", ".jpg")
    keys = ["in/harbor.jpg", "in/am See/a+b %20.jpg", "in/Zürich ☃.jpg", "in/ .jpg"]
    for key in keys:
        queue.s3.put_object(Bucket=bucket, Key=key, Body=b"12345")
    queue.s3.put_object(Bucket=bucket, Key="elsewhere/x.jpg", Body=b"no")
    queue.s3.put_object(Bucket=bucket, Key="in/x.png", Body=b"no")
    upload = queue.s3.create_multipart_upload(Bucket=bucket, Key="in/large.jpg")["UploadId"]
    where = {"Bucket": bucket, "Key": "in/large.jpg", "UploadId": upload}
    parts = [
        {"PartNumber": number, "ETag": queue.s3.upload_part(**where, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate((b"x" * 5_242_880, b"end"), 1)
    ]
    queue.s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    expected = [f"s3://{bucket}/in/{name}" for name in ("harbor.jpg", "am%20See/a+b%20%2520.jpg", "large.jpg")]
    expected += [f"s3://{bucket}/in/Z%C3%BCrich%20%E2%98%83.jpg", f"s3://{bucket}/in/%20.jpg"]
    taker = RecordingTaker()
    async with running(queue.source(), taker):
        await taker.until(*expected)
        await until(lambda: queue.left() == 0)
    assert {event.uri for event in taker.events if event.kind == "created"} == set(expected)
    assert [event.uri for event in taker.events if event.kind == "test"] == [f"s3://{bucket}/"]
    assert not taker.unread
    heads = {
        f"s3://{bucket}/in/large.jpg": queue.s3.head_object(Bucket=bucket, Key="in/large.jpg"),
        f"s3://{bucket}/in/harbor.jpg": queue.s3.head_object(Bucket=bucket, Key="in/harbor.jpg"),
    }
    for uri, head in heads.items():
        assert (head["ETag"].strip('"'), head["ContentLength"]) in {
            (event.version, event.size) for event in taker.events if event.uri == uri
        }


async def test_many_messages_reach_the_taker_through_several_receivers(queue: Queue) -> None:
    keys = [f"uploads/{number}.jpg" for number in range(60)]
    queue.send(*(s3_event(key) for key in keys))
    taker = RecordingTaker()
    async with running(queue.source(receivers="4"), taker):
        await taker.until(*(f"s3://photos-in/{key}" for key in keys))
        await until(lambda: queue.left() == 0)
    assert set(taker.uris.values()) == {1}


async def test_a_message_is_kept_until_it_was_taken_and_is_not_delivered_twice_meanwhile(queue: Queue) -> None:
    """The taker needs longer than the message is hidden; a second receiver looks all the time."""
    queue.send(s3_event("slow.jpg"))
    taker = RecordingTaker()
    taker.gate.clear()
    source = queue.source(receivers="2")
    extensions = CountedExtensions(source)
    async with running(source, taker):
        await taker.until_called()
        # Each extension comes after a third of the time that a message is hidden.
        await until(lambda: extensions.count >= 6)
        assert taker.calls == 1
        queue.send(s3_event("other.jpg"))
        await taker.until_called(2)
        assert queue.left() == 2
        taker.gate.set()
        await taker.until("s3://photos-in/slow.jpg", "s3://photos-in/other.jpg")
        await until(lambda: queue.left() == 0)
    assert set(taker.uris.values()) == {1}


async def test_a_message_of_a_taker_that_failed_is_handed_over_again_without_a_new_delivery(queue: Queue) -> None:
    queue.send(s3_event("again.jpg"))
    taker = RecordingTaker(failures=2)
    async with running(queue.source(), taker):
        await taker.until("s3://photos-in/again.jpg")
        await until(lambda: queue.left() == 0)
    assert taker.calls == 3


async def test_a_message_whose_receiver_ends_comes_to_the_next(queue: Queue) -> None:
    queue.send(s3_event("kept.jpg"))
    first, second = RecordingTaker(), RecordingTaker()
    first.gate.clear()
    source = queue.source()
    source._inbox._visibility_s = 1  # type: ignore[attr-defined]  # as above
    async with running(source, first):
        await first.until_called()
    assert queue.left() == 1
    async with running(queue.source(), second):
        await second.until("s3://photos-in/kept.jpg")
        await until(lambda: queue.left() == 0)


async def test_what_can_not_be_read_is_told_and_deleted_where_nobody_redrives_it(queue: Queue) -> None:
    queue.send("hello", document("s3-tagging"), s3_event("good.jpg"))
    taker = RecordingTaker()
    async with running(queue.source(), taker):
        await taker.until("s3://photos-in/good.jpg")
        await taker.until_unread(2)
        await until(lambda: queue.left() == 0)
    assert sorted(part.reason for part in taker.unread) == ["not-json", "other-event"]


async def test_what_can_not_be_read_goes_to_the_dead_letters_of_the_queue(make_queue: Callable[..., Queue]) -> None:
    dead = make_queue()
    policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": "2"})
    queue = make_queue(RedrivePolicy=policy)
    queue.send("hello", s3_event("good.jpg"))
    taker = RecordingTaker()
    source = queue.source()
    source._inbox._visibility_s = 1  # type: ignore[attr-defined]  # as above
    async with running(source, taker):
        await taker.until("s3://photos-in/good.jpg")
        await until(lambda: dead.left() == 1 and queue.left() == 0)
    assert dead.sqs.receive_message(QueueUrl=dead.url)["Messages"][0]["Body"] == "hello"
    assert [part.reason for part in taker.unread] == ["not-json"]  # counted once, though delivered twice


def test_nothing_is_deleted_while_it_is_not_known_whether_the_queue_redrives(queue: Queue) -> None:
    queue.send("hello")
    given: dict[str, Any] = {"region_name": REGION, "wait_s": 1, "visibility_s": 30}
    here = SqsInbox(queue.url, endpoint_url=queue.moto.url, **given)
    [message] = here.receive()
    nobody = f"http://127.0.0.1:{free_port()}"
    away = SqsInbox(f"{nobody}/queue", endpoint_url=nobody, **given)
    away._transport.find(f"{nobody}/queue")
    with pytest.raises(StorageUnavailable):
        away.set_aside([message])
    assert here.set_aside([message]) == [message.handle], "it is known that there is no policy"
    here.close()
    away.close()


async def test_a_queue_is_found_by_its_name_and_never_made(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "FIRST_PAUSE_S", 0.05)
    name = f"later-{secrets.token_hex(4)}"
    taker = RecordingTaker()
    async with running(queue.source(queue=name), taker):
        with pytest.raises(queue.sqs.exceptions.QueueDoesNotExist):
            queue.sqs.get_queue_url(QueueName=name)
        url = queue.sqs.create_queue(QueueName=name)["QueueUrl"]
        queue.sqs.send_message(QueueUrl=url, MessageBody=s3_event("named.jpg"))
        await taker.until("s3://photos-in/named.jpg")


async def test_a_queue_service_that_comes_back_is_read_again(
    make_queue: Callable[..., Queue], moto_server: Moto, caplog: pytest.LogCaptureFixture
) -> None:
    away = SourceSpec("uploads", "sqs", {"queue": "q", "endpoint": f"http://127.0.0.1:{free_port()}", "region": REGION})
    source, taker = open_source(away), RecordingTaker()
    async with running(source, taker):
        await until(lambda: any(getattr(record, "event", "") == "source.failed" for record in caplog.records))
        queue = make_queue()
        source._inbox, old = queue.source()._inbox, source._inbox  # type: ignore[attr-defined]  # the service is back
        old.close()
        queue.send(s3_event("back.jpg"))
        await taker.until("s3://photos-in/back.jpg")


def test_the_region_of_a_queue_is_in_its_url(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    url = "https://sqs.eu-central-1.amazonaws.com/111122223333/uploads"
    source = open_source(SourceSpec("uploads", "sqs", {"queue": url}))
    assert source._inbox._transport._client.meta.region_name == "eu-central-1"  # type: ignore[attr-defined]  # of boto3
    with pytest.raises(ConfigError, match="region"):
        open_source(SourceSpec("uploads", "sqs", {"queue": "uploads"}))


def test_a_missing_sdk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    monkeypatch.setitem(__import__("sys").modules, "azure.storage.queue", None)
    with pytest.raises(MissingExtra, match=r"pixelmill\[fleet\]"):
        open_source(SourceSpec("a", "sqs", {"queue": "q"}))
    with pytest.raises(MissingExtra, match=r"pixelmill\[fleet\]"):
        open_source(SourceSpec("a", "azure-queue", {"queue": "q", "account": "https://x.queue.core.windows.net"}))


# -- Azure -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def transport(azurite_server: Azurite) -> Iterator[AzureTransport]:
    transport = AzureTransport(azurite_server.connection_string)
    yield transport
    transport.close()


@pytest.fixture
def azure_name(transport: AzureTransport) -> str:
    name = f"events-{secrets.token_hex(4)}"
    transport.open([name])
    return name


def azure_source(azurite: Azurite, name: str, **options: str) -> EventSource:
    given = {"queue": name, "connection": azurite.connection_string, "wait": "0.2", **options}
    return open_source(SourceSpec("blobs", "azure-queue", given))


def left(transport: AzureTransport, name: str) -> int:
    count = transport.count(name)
    return count.visible + count.hidden


def grid_event(blob: str) -> str:
    return document("azure-grid-single").replace("uploads/harbor.jpg", blob)


async def test_events_of_event_grid_are_taken_from_a_storage_queue(
    azurite_server: Azurite, transport: AzureTransport, azure_name: str
) -> None:
    names = [f"uploads/{number} ü+.jpg" for number in range(40)]
    texts = [grid_event(name) for name in names]
    transport.send(azure_name, [base64.b64encode(text.encode()).decode() for text in texts[:20]] + texts[20:])
    taker = RecordingTaker()
    async with running(azure_source(azurite_server, azure_name, receivers="3"), taker):
        await taker.until(*(f"az://photos-in/uploads/{number}%20%C3%BC+.jpg" for number in range(40)))
        await until(lambda: left(transport, azure_name) == 0)
    assert set(taker.uris.values()) == {1}


async def test_poison_goes_to_a_queue_of_its_own(
    azurite_server: Azurite, transport: AzureTransport, azure_name: str
) -> None:
    transport.send(azure_name, ["hello", grid_event("good.jpg"), document("azure-tier")])
    taker = RecordingTaker()
    async with running(azure_source(azurite_server, azure_name), taker):
        await taker.until("az://photos-in/good.jpg")
        await taker.until_unread(2)
        await until(lambda: left(transport, azure_name) == 0)
    (poison,) = transport.receive(f"{azure_name}-poison", 10, 30)
    assert poison.text == "hello"


async def test_a_slow_taker_keeps_its_azure_messages(
    azurite_server: Azurite, transport: AzureTransport, azure_name: str
) -> None:
    """Each extension gives a new receipt; the last one deletes."""
    transport.send(azure_name, [grid_event("slow.jpg")])
    taker = RecordingTaker()
    taker.gate.clear()
    source = azure_source(azurite_server, azure_name, receivers="2")
    extensions = CountedExtensions(source)
    async with running(source, taker):
        await taker.until_called()
        await until(lambda: extensions.count >= 6)
        assert taker.calls == 1
        taker.gate.set()
        await taker.until("az://photos-in/slow.jpg")
        await until(lambda: left(transport, azure_name) == 0)
    assert taker.uris == {"az://photos-in/slow.jpg": 1}
