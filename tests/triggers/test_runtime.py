"""The runtime over a real service, real buckets and folders: what becomes of events, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from buckets import Bucket, s3_bucket, s3_client, service_account
from trigger_rig import created, rig, rule_text, store_of

from pixelmill.errors import ConfigError, NotFound
from pixelmill.jobs.trigger_events import KEPT_S
from pixelmill.jobs.trigger_identity import NewTriggerEvent
from pixelmill.jobs.trigger_work import Ended
from pixelmill.triggers import current, deliverer, runtime
from pixelmill.triggers.book import combine, rule_from_dict
from pixelmill.triggers.carrying import Carrier, destination_of
from pixelmill.triggers.event import ObjectEvent, Unread
from pixelmill.triggers.matching import matches
from pixelmill.triggers.rule import Rule, RuleSet
from pixelmill.triggers.verbs import Taken
from servers import Moto, free_port

pytestmark = pytest.mark.anyio


def size_of(body: bytes) -> tuple[int, int]:
    pixels = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels.shape[1], pixels.shape[0]


class Gate:
    """A door on loopback before a real server: while it is shut, connections are refused."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._server: asyncio.Server | None = None
        self.port = free_port()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_connection("127.0.0.1", self._behind)
        await asyncio.gather(_pour(reader, out), _pour(there, writer))


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
    finally:
        writer.close()


async def test_an_object_becomes_a_result_with_its_name_and_headers(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes]
) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    await store_of(source).put("2026/a photo.jpg", pictures[0])
    uri = f"{source.uri}/2026/a%20photo.jpg"
    rules = rule_text(
        "thumbs", f"{source.uri}/", f"{target.uri}/{{dir}}/{{stem}}-{{width}}.{{ext}}",
        cache_control='"public, max-age=60"', owner='"ann"', priority='"batch"', tags='{ album = "one" }',
        limits='{ timeout = "9s", max_attempts = 2, max_side = 5000 }',
    )  # fmt: skip
    async with rig(tmp_path / "data", rules, source, target) as it:
        assert await it.triggers.take("test", [created(uri, "v1")]) == Taken(accepted=1)
        [row] = await it.settled()
        assert (row.state, row.error, row.owner, row.rule) == ("delivered", None, "ann", "thumbs")
        assert row.destination == f"{target.uri}/2026/a%20photo-32.png"
        assert size_of(await store_of(target).get("2026/a photo-32.png")) == (32, 32)
        name, _, prefix = target.uri.removeprefix("s3://").partition("/")
        head = s3_client(moto_server).head_object(Bucket=name, Key=f"{prefix}/2026/a photo-32.png")
        assert (head["ContentType"], head["CacheControl"]) == ("image/png", "public, max-age=60")
        job = await it.service.job("ann", row.job or "")
        assert (job.tags, job.priority, job.name) == ({"album": "one", "trigger": "thumbs"}, "batch", "thumbs")
        assert (job.bounds.timeout_s, job.bounds.max_attempts, job.bounds.max_side) == (9.0, 2, 5000)
        # The same again is a duplicate, also under another source's name.
        assert await it.triggers.take("again", [created(uri, "v1")] * 2) == Taken(duplicate=2)
        state = await it.triggers.state()
        assert state["rules"]["thumbs"] == {
            "accepted": 1, "delivered": 1, "superseded": 0, "failed": 0, "waiting": 0, "submitted": 0, "dead": 0,
        }  # fmt: skip
        assert state["sources"]["again"]["duplicate"] == 2


async def test_what_no_rule_is_for_is_counted_and_nothing_runs(tmp_path: Path, moto_server: Moto) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    rules = rule_text("r", f"{source.uri}/", f"{target.uri}/", suffixes='[".jpg"]')
    events = [
        created(f"{source.uri}/a.txt"),
        created("s3://elsewhere/a.jpg"),
        ObjectEvent(f"{source.uri}/a.jpg", "removed", "2", 1.0),
        ObjectEvent(f"{source.uri}/a.jpg", "test", "", 1.0),
    ]
    async with rig(tmp_path / "data", rules, source, target) as it:
        taken = await it.triggers.take("test", events, [Unread("not-json", "x")])
        assert taken == Taken(unmatched=2, ignored=2)
        assert await it.rows() == []
        counted = (await it.triggers.state())["sources"]["test"]
        assert (counted["unmatched"], counted["ignored"], counted["unread"]) == (2, 2, 1)
        text = it.service.metrics.render().decode()
        assert 'pixelmill_trigger_events_total{result="unread",source="test"} 1.0' in text


async def test_one_object_may_have_several_rules_and_each_writes_its_own(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes]
) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    await store_of(source).put("a.jpg", pictures[0])
    rules = rule_text("small", f"{source.uri}/", f"{target.uri}/{{rule}}/", "resize:16,16,fit=fill/format:png")
    rules += rule_text("large", f"{source.uri}/", f"{target.uri}/{{rule}}/", "resize:64,64,fit=fill/format:webp")
    async with rig(tmp_path / "data", rules, source, target) as it:
        assert (await it.triggers.take("test", [created(f"{source.uri}/a.jpg")])).accepted == 2
        assert {row.state for row in await it.settled()} == {"delivered"}
    assert size_of(await store_of(target).get("small/a.png")) == (16, 16)
    assert size_of(await store_of(target).get("large/a.webp")) == (64, 64)


async def test_a_later_version_stands_whatever_order_they_come_in(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes]
) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    await store_of(source).put("a.jpg", pictures[0])
    uri = f"{source.uri}/a.jpg"
    rules = rule_text("r", f"{source.uri}/", f"{target.uri}/")
    async with rig(tmp_path / "data", rules, source, target) as it:
        late, early = created(uri, "b", sequencer="0055AED6DCD9"), created(uri, "a", sequencer="55AED6DCD8")
        await it.triggers.take("test", [late])
        await it.settled()
        await it.triggers.take("test", [early])
        rows = await it.settled()
        assert {row.version: row.state for row in rows} == {"b": "delivered", "a": "superseded"}
        assert [row.job for row in rows if row.version == "a"] == [None], "what is superseded already does not run"
        await it.triggers.take("test", [created(uri, "c", sequencer="55AED6DCDA0")])
        assert {row.version: row.state for row in await it.settled()}["c"] == "delivered"


async def test_an_object_that_gets_back_what_it_held_has_the_result_of_that(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes]
) -> None:
    """Buckets without versions tell the etag, which is that of the content: the same again after another."""
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    uri = f"{source.uri}/a.jpg"
    rules = rule_text("r", f"{source.uri}/", f"{target.uri}/{{stem}}.png", pipeline="format:png")
    async with rig(tmp_path / "data", rules, source, target) as it:
        results: list[bytes] = []
        for number, picture in enumerate([pictures[0], pictures[1], pictures[0]]):
            await store_of(source).put("a.jpg", picture)
            event = created(uri, f"etag-{number % 2}", sequencer=f"55AED6DCD{number}")
            assert await it.triggers.take("test", [event]) == Taken(accepted=1)
            assert await it.triggers.take("test", [event]) == Taken(duplicate=1)
            await it.settled()
            results.append(await store_of(target).get("a.png"))
        assert results[0] != results[1], "the pictures differ"
        assert results[2] == results[0]
        # What only tells the same content anew (a multipart upload has two events) is no other state.
        again = created(uri, "etag-0", sequencer="55AED6DCD9")
        assert await it.triggers.take("test", [again]) == Taken(duplicate=1)
        early = created(uri, "etag-0", sequencer="55AED6DCD0")
        assert await it.triggers.take("test", [early, again]) == Taken(duplicate=2)
        assert [row.state for row in await it.rows()] == ["delivered"] * 3


async def test_a_name_that_another_object_has_is_not_overwritten(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes]
) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    for key in ("one/a.jpg", "two/a.jpg"):
        await store_of(source).put(key, pictures[0])
    rules = rule_text("flat", f"{source.uri}/", f"{target.uri}/{{stem}}.{{ext}}")
    async with rig(tmp_path / "data", rules, source, target) as it:
        await it.triggers.take("test", [created(f"{source.uri}/one/a.jpg"), created(f"{source.uri}/two/a.jpg")])
        rows = {row.uri.removeprefix(source.uri): row for row in await it.settled()}
        states = sorted(row.state for row in rows.values())
        assert states == ["delivered", "failed"]
        [failed] = [row for row in rows.values() if row.state == "failed"]
        assert failed.error is not None
        assert failed.error["type"] == "object-exists"
        assert failed.error["context"]["reason"] == "name-taken"
        # The one that has it may be delivered again.
        [good] = [row for row in rows.values() if row.state == "delivered"]
        await it.triggers.take("test", [created(good.uri, "2", at=1_800_000_000.0)])
        assert sorted(row.state for row in await it.settled()) == ["delivered", "delivered", "failed"]


async def test_a_later_result_of_another_rule_is_not_overwritten(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes]
) -> None:
    """Rules may divide objects by their size, and an object may grow from one to the other."""
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    await store_of(source).put("a.jpg", pictures[0])
    uri = f"{source.uri}/a.jpg"
    name = f"{target.uri}/{{stem}}.png"
    rules = rule_text("small", f"{source.uri}/", name, max_bytes="10")
    rules += rule_text("large", f"{source.uri}/", name, "resize:64,64,fit=fill/format:png", min_bytes="11")
    async with rig(tmp_path / "data", rules, source, target) as it:
        await it.triggers.take("test", [created(uri, "2", sequencer="2", size=20)])
        await it.settled()
        await it.triggers.take("test", [created(uri, "1", sequencer="1", size=5)])
        assert {row.rule: row.state for row in await it.settled()} == {"large": "delivered", "small": "superseded"}
        assert size_of(await store_of(target).get("a.png")) == (64, 64)
        await it.triggers.take("test", [created(uri, "3", sequencer="3", size=5)])
        await it.settled()
        assert size_of(await store_of(target).get("a.png")) == (32, 32)


async def test_a_name_that_another_object_has_by_another_rule_is_not_overwritten(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes]
) -> None:
    one, two = s3_bucket(moto_server, prefix="one"), s3_bucket(moto_server, prefix="two")
    target = s3_bucket(moto_server, prefix="out")
    for bucket in (one, two):
        await store_of(bucket).put("a.jpg", pictures[0])
    first, second = (rule_text(f"r{n}", f"{bucket.uri}/", f"{target.uri}/") for n, bucket in enumerate((one, two)))
    # It may write what another rule wrote of the same object.
    third = rule_text("r2", f"{one.uri}/", f"{target.uri}/")
    async with rig(tmp_path / "data", first + second + third, one, two, target) as it:
        await it.triggers.take("test", [created(f"{one.uri}/a.jpg")])
        assert {row.state for row in await it.settled()} == {"delivered"}
        await it.triggers.take("test", [created(f"{two.uri}/a.jpg")])
        rows = {row.rule: row for row in await it.settled()}
        assert rows["r1"].state == "failed"
        assert (rows["r1"].error or {})["context"]["reason"] == "name-taken"
        assert (rows["r1"].error or {})["context"]["other"] == f"{one.uri}/a.jpg"
    # Where those rules are gone, their names are free.
    async with rig(tmp_path / "data", second, one, two, target) as it:
        await it.triggers.redrive("r1")
        assert {row.rule: row.state for row in await it.settled()}["r1"] == "delivered"


async def test_data_comes_as_json_beside_the_image_or_alone(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes]
) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    await store_of(source).put("a.jpg", pictures[0])
    rules = rule_text("faces", f"{source.uri}/", f"{target.uri}/{{rule}}/", "faces/format:png")
    rules += rule_text("figures", f"{source.uri}/", f"{target.uri}/{{rule}}/", "histogram")
    async with rig(tmp_path / "data", rules, source, target) as it:
        await it.triggers.take("test", [created(f"{source.uri}/a.jpg")])
        rows = {row.rule: row for row in await it.settled()}
        assert {row.state for row in rows.values()} == {"delivered"}, rows
        assert rows["figures"].destination == f"{target.uri}/figures/a.json"
    keys = sorted([info.key async for info in store_of(target).list()])
    assert keys == ["faces/a.json", "faces/a.png", "figures/a.json"]
    for key in ("faces/a.json", "figures/a.json"):
        assert json.loads(await store_of(target).get(key))


async def test_a_failure_is_a_dead_letter_and_a_redrive_runs_it_again(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes]
) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    await store_of(source).put("a.jpg", b"no image at all")
    rules = rule_text("r", f"{source.uri}/", f"{target.uri}/")
    async with rig(tmp_path / "data", rules, source, target) as it:
        await it.triggers.take("test", [created(f"{source.uri}/a.jpg"), created(f"{source.uri}/gone.jpg")])
        rows = {row.uri.rpartition("/")[2]: row for row in await it.settled()}
        errors = {name: (row.state, (row.error or {})["type"]) for name, row in rows.items()}
        assert errors == {"a.jpg": ("failed", "unsupported-format"), "gone.jpg": ("failed", "object-not-found")}
        assert (await it.triggers.state())["rules"]["r"]["dead"] == 2
        await store_of(source).put("a.jpg", pictures[0])
        assert await it.triggers.redrive(ids=[rows["a.jpg"].id]) == 1
        again = {row.uri.rpartition("/")[2]: row for row in await it.settled()}
        assert {name: row.state for name, row in again.items()} == {"a.jpg": "delivered", "gone.jpg": "failed"}
        assert await it.triggers.redrive("r") == 1
        with pytest.raises(NotFound):
            await it.triggers.redrive("nobody")


async def test_a_job_that_is_deleted_or_cancelled_leaves_no_event_hanging(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes]
) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    for name in ("deleted", "cancelled"):
        await store_of(source).put(f"{name}/a.jpg", pictures[0])
    rules = "".join(
        rule_text(name, f"{source.uri}/{name}/", f"{target.uri}/{name}/") for name in ("deleted", "cancelled")
    )
    # Nobody runs what is queued.
    async with rig(tmp_path / "data", rules, source, target, local_work=False) as it:
        events = [created(f"{source.uri}/{name}/a.jpg") for name in ("deleted", "cancelled")]
        await it.triggers.take("test", events)
        rows = {row.rule: row for row in await it.until(lambda rows: all(row.state == "submitted" for row in rows))}
        await it.service.delete("local", rows["deleted"].job or "")
        await it.service.cancel("local", rows["cancelled"].job or "")
        ended = {row.rule: row for row in await it.settled()}
        assert {rule: (row.state, (row.error or {})["type"]) for rule, row in ended.items()} == {
            "deleted": ("failed", "not-found"),
            "cancelled": ("failed", "cancelled"),
        }


async def test_a_destination_that_is_away_is_tried_again_until_it_is_back(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixelmill.triggers.deliverer.RETRIES_S", (0.1,) * 20)
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    await store_of(source).put("a.jpg", pictures[0])
    gate = Gate(moto_server.port)
    away = Bucket(target.uri, {**target.options, "endpoint": f"http://127.0.0.1:{gate.port}"})
    async with rig(tmp_path / "data", rule_text("r", f"{source.uri}/", f"{target.uri}/"), source, away) as it:
        await it.triggers.take("test", [created(f"{source.uri}/a.jpg")])
        [row] = await it.until(lambda rows: rows[0].attempts > 0)
        assert (row.state, (row.error or {})["type"]) == ("submitted", "storage-unavailable")
        await gate.open()
        try:
            [row] = await it.settled()
        finally:
            await gate.close()
        assert (row.state, row.error) == ("delivered", None)
    assert size_of(await store_of(target).get("a.png")) == (32, 32)


async def test_a_destination_that_refuses_makes_a_dead_letter_whose_result_is_kept(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes]
) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), tmp_path / "out"
    await store_of(source).put("a.jpg", pictures[0])
    target.write_text("a file where the folder should be")
    rules = rule_text("r", f"{source.uri}/", f"file://{target}/")
    async with rig(tmp_path / "data", rules, source) as it:
        await it.triggers.take("test", [created(f"{source.uri}/a.jpg")])
        [row] = await it.settled()
        assert (row.state, row.destination) == ("failed", f"file://{target}/a.png")
        job = row.job
        target.unlink()
        assert await it.triggers.redrive() == 1
        [row] = await it.settled()
        assert (row.state, row.job) == ("delivered", job), "its result was there: nothing ran again"
    assert size_of((target / "a.png").read_bytes()) == (32, 32)


async def test_a_result_that_can_not_be_put_for_a_defect_holds_up_no_other(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    for name in ("bad.jpg", "format.jpg", "good.jpg"):
        await store_of(source).put(name, pictures[0])
    put, planned = Carrier.put, destination_of

    async def broken(carrier: Carrier, row: Ended, rule: Rule, address: str) -> str:
        if row.uri.endswith("/bad.jpg"):
            raise RuntimeError("a defect")
        return await put(carrier, row, rule, address)

    def newer(row: Ended, rule: Rule) -> str:
        """As of a worker of a later version, which writes what this one doesn't know."""
        other = row.uri.endswith("/format.jpg")
        return planned(replace(row, outcome={**row.outcome, "format": "jpeg9"}) if other else row, rule)

    monkeypatch.setattr(Carrier, "put", broken)
    monkeypatch.setattr(deliverer, "destination_of", newer)
    async with rig(tmp_path / "data", rule_text("r", f"{source.uri}/", f"{target.uri}/"), source, target) as it:
        await it.triggers.take("test", [created(f"{source.uri}/{name}.jpg") for name in ("bad", "format", "good")])
        rows = await it.until(lambda rows: sorted(row.state for row in rows) == ["delivered", "failed", "submitted"])
        found = {row.uri.rpartition("/")[2]: row for row in rows}
        assert (found["good.jpg"].state, found["format.jpg"].state) == ("delivered", "failed")
        await it.until(lambda rows: any(row.attempts and "defect" in str(row.error) for row in rows))
        monkeypatch.setattr(Carrier, "put", put)
        await it.until(lambda rows: [row.state for row in rows].count("delivered") == 2)


async def test_many_events_for_many_rules_are_matched_beside_the_service(
    tmp_path: Path, moto_server: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    threads: set[str] = set()
    own = matches

    def seen(rule: Rule, event: ObjectEvent) -> bool:
        threads.add(threading.current_thread().name)
        return own(rule, event)

    monkeypatch.setattr(runtime, "matches", seen)
    monkeypatch.setattr(runtime, "MATCHED_AT_ONCE", 8)
    rules = "".join(rule_text(f"r{n}", f"{source.uri}/{n}/", f"{target.uri}/{n}/") for n in range(3))
    async with rig(tmp_path / "data", rules, source, target) as it:
        await it.triggers.take("test", [created(f"{source.uri}/x/{n}.jpg") for n in range(2)])
        assert threads == {threading.main_thread().name}
        threads.clear()
        await it.triggers.take("test", [created(f"{source.uri}/x/{n}.jpg") for n in range(3)])
        assert threading.main_thread().name not in threads


async def test_a_result_that_has_vanished_is_made_again_by_a_redrive(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes]
) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), tmp_path / "out"
    await store_of(source).put("a.jpg", pictures[0])
    target.write_text("a file where the folder should be")
    async with rig(tmp_path / "data", rule_text("r", f"{source.uri}/", f"file://{target}/"), source) as it:
        await it.triggers.take("test", [created(f"{source.uri}/a.jpg")])
        await it.settled()
        target.unlink()
        for result in (tmp_path / "data" / "objects" / "results").rglob("task_*"):
            result.unlink()
        assert await it.triggers.redrive() == 1
        [row] = await it.settled()
        assert (row.state, (row.error or {})["context"]["lost"]) == ("failed", True)
        assert await it.triggers.redrive() == 1
        assert [row.state for row in await it.settled()] == ["delivered"]


async def test_the_upkeep_keeps_what_a_folder_tells_again_and_ends_what_no_rule_is_for(
    tmp_path: Path, pictures: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (inbox := tmp_path / "in").mkdir()
    rules = rule_text("r", f"{inbox}/", f"{tmp_path}/out/{{path}}")
    async with rig(tmp_path / "data", rules, source_roots=(tmp_path,)) as it:
        for name in ("stays.png", "goes.png"):
            (inbox / name).write_bytes(pictures[0])
        await it.until(lambda rows: [row.state for row in rows] == ["delivered"] * 2)
        gone = NewTriggerEvent("local", "gone", f"{inbox.as_uri()}/stays.png", "1", "1", at=1.0)
        await it.service.triggering.events.record("test", [gone])
        (inbox / "goes.png").unlink()
        later = time.time() + KEPT_S + 60
        monkeypatch.setattr(it.service.triggering.events, "_clock", lambda: later)
        monkeypatch.setattr(it.service.triggering.work, "_clock", lambda: later)
        await it.triggers._upkeep.clean()
        assert {row.uri.rpartition("/")[2] for row in await it.rows("r")} == {"stays.png"}
        [orphan] = await it.rows(state="failed")
        assert (orphan.rule, (orphan.error or {})["context"]["reason"]) == ("gone", "no-rule")


async def test_a_folder_may_be_watched_and_written_through_a_link(tmp_path: Path, pictures: list[bytes]) -> None:
    (tmp_path / "real" / "in").mkdir(parents=True)
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path / "real")
    rules = rule_text("r", f"{linked}/in/", f"{linked}/out/{{path}}")
    async with rig(tmp_path / "data", rules, source_roots=(linked,)) as it:
        (tmp_path / "real" / "in" / "a.png").write_bytes(pictures[0])
        [row] = await it.until(lambda rows: [row.state for row in rows] == ["delivered"])
        assert (row.uri, row.destination) == (f"file://{linked}/in/a.png", f"file://{linked}/out/a.png")
    assert size_of((tmp_path / "real" / "out" / "a.png").read_bytes()) == (32, 32)


async def test_a_result_that_comes_back_through_a_link_is_ignored(tmp_path: Path, pictures: list[bytes]) -> None:
    watched, out = tmp_path / "in", tmp_path / "out"
    watched.mkdir()
    out.mkdir()
    (watched / "back").symlink_to(out)
    (watched / "a.jpg").write_bytes(pictures[0])
    rules = rule_text("r", f"file://{watched}/", f"file://{out}/")
    async with rig(tmp_path / "data", rules, source_roots=(tmp_path,)) as it:
        await it.triggers.take("test", [created(f"file://{watched}/a.jpg")])
        await it.settled()
        assert (await it.triggers.take("test", [created(f"file://{watched}/back/a.png")])).ignored == 1


@pytest.mark.parametrize("told", ["after", "before"], ids=["told after it was closed", "told before"])
async def test_a_result_that_comes_back_under_another_name_of_its_bucket_is_noticed(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes], told: str
) -> None:
    """moto's bucket is also one of Google, by whose address the rule watches what it writes."""
    target = s3_bucket(moto_server, prefix="out")
    name, _, prefix = target.uri.removeprefix("s3://").partition("/")
    account = {"service_account_key": json.dumps(service_account(moto_server.url))}
    alias = Bucket(f"gs://{name}/{prefix}", account)
    await store_of(target).put("a.jpg", pictures[0])
    rules = rule_text("r", f"{alias.uri}/", f"{target.uri}/{{stem}}.{{ext}}", "grayscale/format:png")
    async with rig(tmp_path / "data", rules, target, alias) as it:
        await it.triggers.take("test", [created(f"{alias.uri}/a.jpg", "one")])
        await it.settled()
        etag = s3_client(moto_server).head_object(Bucket=name, Key=f"{prefix}/a.png")["ETag"].strip('"')
        again = created(f"{alias.uri}/a.png", etag)
        if told == "after":
            assert (await it.triggers.take("test", [again])).ignored == 1
            return
        # As if its row had not been closed when the event came.
        noted = await it.service.triggering.events.record(
            "test", [NewTriggerEvent("local", "r", again.uri, again.version, "1", again.at)]
        )
        assert len(noted.new) == 1
        rows = {row.uri: row for row in await it.settled()}
        assert rows[again.uri].state == "failed"
        assert (rows[again.uri].error or {})["context"]["reason"] == "loop"


async def test_a_chain_of_rules_ends_where_it_would_begin_again(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes]
) -> None:
    places = [s3_bucket(moto_server, prefix=name) for name in ("one", "two", "three")]
    await store_of(places[0]).put("a.jpg", pictures[0])
    rules = rule_text("first", f"{places[0].uri}/", f"{places[1].uri}/")
    rules += rule_text("second", f"{places[1].uri}/", f"{places[2].uri}/")
    async with rig(tmp_path / "data", rules, *places) as it:
        await it.triggers.take("test", [created(f"{places[0].uri}/a.jpg")])
        await it.settled()
        await it.triggers.take("test", [created(f"{places[1].uri}/a.png")])
        rows = {row.rule: row for row in await it.settled()}
        assert rows["second"].chain == ("first",)
        assert {row.state for row in rows.values()} == {"delivered"}


async def test_rules_of_the_api_are_kept_and_checked(tmp_path: Path, moto_server: Moto, pictures: list[bytes]) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    await store_of(source).put("a.jpg", pictures[0])

    def rule(name: str, output: str, watch: str = f"{source.uri}/") -> object:
        record = {"name": name, "watch": watch, "output": output, "pipeline": "resize:32,32,fit=fill/format:png"}
        return rule_from_dict(record)

    async with rig(tmp_path / "data", None, source, target) as it:
        await it.triggers.put_rule(rule("api", f"{target.uri}/"))  # type: ignore[arg-type] # a rule, see above
        for wrong in (
            rule("back", f"{source.uri}/", f"{target.uri}/"),
            rule("self", f"{source.uri}/"),
            rule("folder", "file:///srv/out/"),
            rule("nowhere", "s3://not-configured/"),
        ):
            with pytest.raises(ConfigError):
                await it.triggers.put_rule(wrong)  # type: ignore[arg-type] # a rule, see above
        assert list(it.triggers.rule_set().rules) == ["api"]
    async with rig(tmp_path / "data", "", source, target) as it:
        assert it.triggers.rule_set().rules["api"].origin == "api"
        await it.triggers.take("test", [created(f"{source.uri}/a.jpg")])
        assert [row.state for row in await it.settled()] == ["delivered"]
        await it.triggers.remove_rule("api")
        with pytest.raises(NotFound):
            await it.triggers.remove_rule("api")
        assert (await it.triggers.take("test", [created(f"{source.uri}/a.jpg", "2")])).unmatched == 1


async def test_a_folder_that_a_rule_of_the_api_watches_has_its_source(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes]
) -> None:
    target = s3_bucket(moto_server, prefix="out")
    (inbox := tmp_path / "in").mkdir()
    record = {"name": "api", "watch": inbox.as_uri(), "output": f"{target.uri}/", "pipeline": "resize:32,32,fit=fill"}
    async with rig(tmp_path / "data", None, target, source_roots=(tmp_path,)) as it:
        await it.triggers.put_rule(rule_from_dict(record))
        (inbox / "a.png").write_bytes(pictures[0])
        await it.until(lambda rows: [row.state for row in rows] == ["delivered"])
        await it.triggers.remove_rule("api")
        assert not it.triggers.rule_set().sources


async def test_of_rules_of_the_api_that_loop_only_together_one_is_kept(tmp_path: Path, moto_server: Moto) -> None:
    one, two = s3_bucket(moto_server, prefix="one"), s3_bucket(moto_server, prefix="two")
    rules = [
        rule_from_dict({"name": name, "watch": f"{watch.uri}/", "output": f"{output.uri}/", "pipeline": "format:png"})
        for name, watch, output in (("there", one, two), ("back", two, one))
    ]
    async with rig(tmp_path / "data", None, one, two) as it:
        told = await asyncio.gather(*(it.triggers.put_rule(rule) for rule in rules), return_exceptions=True)
        assert sorted(type(one).__name__ for one in told) == ["ConfigError", "NoneType"]
        assert len(it.triggers.rule_set().rules) == 1
        assert (await it.triggers.state())["refused"] == {}


async def test_rules_that_can_not_stand_beside_others_are_told_and_the_rest_is_in_force(
    tmp_path: Path, moto_server: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    looks = 0

    def counted(*arguments: Any) -> RuleSet:
        nonlocal looks
        looks += 1
        assert threading.current_thread() is not threading.main_thread(), "the service goes on meanwhile"
        return combine(*arguments)

    monkeypatch.setattr(current, "combine", counted)
    async with rig(tmp_path / "data", None, source, target) as it:
        kept = it.service.triggering.rules
        for number in range(64):
            rule = {"name": f"r{number:02}", "watch": f"{source.uri}/", "output": f"{target.uri}/{{path}}"}
            rule["pipeline"] = "resize:8"
            if number == 40:
                rule["output"] = f"{source.uri}/"
            await kept.put(rule["name"], "local", rule)
        async with asyncio.timeout(30):
            while len(it.triggers.rule_set().rules) < 63:  # noqa: ASYNC110 -- nobody tells of it
                await asyncio.sleep(0.05)  # between two questions; the bound is above
        looks = 0
        await kept.put("r99", "local", {**rule, "name": "r99"})
        async with asyncio.timeout(30):
            while len(it.triggers.rule_set().rules) < 64:  # noqa: ASYNC110 -- nobody tells of it
                await asyncio.sleep(0.05)  # between two questions; the bound is above
        assert list((await it.triggers.state())["refused"]) == ["r40"]
        assert looks < 20, "not one for each rule"


async def test_the_file_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path, moto_server: Moto) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    path = tmp_path / "rules.toml"
    async with rig(tmp_path / "data", rule_text("one", f"{source.uri}/", f"{target.uri}/"), source, target) as it:

        async def until(names: list[str], *, broken: bool) -> None:
            async with asyncio.timeout(30):
                while True:
                    error = (await it.triggers.state())["file"]["error"]
                    if list(it.triggers.rule_set().rules) == names and (error is not None) == broken:
                        return
                    await asyncio.sleep(0.05)  # between two questions; the bound is above

        beside = tmp_path / "new"
        beside.write_text(rule_text("two", f"{source.uri}/", f"{target.uri}/"))
        os.replace(beside, path)  # noqa: PTH105 as editors do it
        await until(["two"], broken=False)
        path.write_text("[[rules]\nname = ")
        await until(["two"], broken=True)
        path.write_text(rule_text("three", f"{source.uri}/", "s3://nowhere/"))
        await until(["two"], broken=True)
        path.write_text(rule_text("three", f"{source.uri}/", f"{target.uri}/"))
        await until(["three"], broken=False)


async def test_a_service_with_a_broken_file_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rules\.toml"):
        async with rig(tmp_path / "data", "[[rules]]\nname = 3"):
            pass
