from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pixelmill.engines.executor import MAX_STORING, Executor
from pixelmill.errors import (
    Cancelled,
    CorruptImage,
    ObjectNotFound,
    PixelmillError,
    SourceRefused,
    StorageFull,
    WorkerCrashed,
)
from pixelmill.images.image import Size
from pixelmill.jobs.messages import TaskMessage
from pixelmill.pipelines.outcome import Outcome
from pixelmill.storage.folder import FolderStore
from pixelmill.storage.memory import MemoryStore
from pixelmill.storage.store import NO_HEADERS, ObjectInfo, ObjectStore, PutHeaders
from pixelmill.targets.target import RunRequest, RunResult
from pixelmill.testing.slots import BareSlot, Run, Slots

pytestmark = pytest.mark.anyio

MESSAGE = TaskMessage("t", 0, "j", "ann", "photo.jpg", '{"steps":[]}', "key:uploads/1", {"sha256:ab": "blobs/ab"})
KEY = "results/ann/j/t"


def result_of(body: bytes | None = b"pixels") -> RunResult:
    return RunResult(Outcome(body, "jpeg", "image/jpeg", Size(2, 2), Size(4, 4), "png", {"a": 1}), "pool", "77")


async def succeed(request: RunRequest) -> RunResult:
    return result_of()


def raising(error: PixelmillError) -> Run:
    async def run(request: RunRequest) -> RunResult:
        raise error

    return run


@pytest.fixture
async def store() -> ObjectStore:
    store = MemoryStore()
    await store.put("uploads/1", b"source")
    await store.put("blobs/ab", b"watermark")
    return store


async def slot(run: Run = succeed) -> BareSlot:
    return await Slots(1, run).acquire()


async def document(store: ObjectStore, key: str = KEY) -> dict[str, object]:
    found: dict[str, object] = json.loads(await store.get(f"{key}.json"))
    return found


async def test_a_source_outside_the_roots_is_refused_again_when_it_runs(store: ObjectStore, tmp_path: Path) -> None:
    root, secret = tmp_path / "root", tmp_path / "secret.jpg"
    root.mkdir()
    secret.write_bytes(b"secret")
    (root / "a.jpg").symlink_to(secret)
    message = replace(MESSAGE, source=(root / "a.jpg").as_uri())
    event = await Executor(store, [root]).execute(message, 1, await slot())
    assert event.error is not None
    assert event.error["type"] == "source-refused"


async def test_image_and_document_are_stored_and_told(store: ObjectStore) -> None:
    event = await Executor(store).execute(MESSAGE, 1, await slot())
    assert (event.kind, event.task, event.attempt, event.target, event.worker) == ("succeeded", "t", 1, "pool", "77")
    assert event.outcome is not None
    assert (event.outcome["bytes"], event.outcome["data"]) == (6, {"a": 1})
    assert await store.get(KEY) == b"pixels"
    kept = await document(store)
    assert (kept["state"], kept["outcome"], kept["error"]) == ("succeeded", event.outcome, None)


async def test_the_target_gets_bytes_or_files(store: ObjectStore, tmp_path: Path) -> None:
    seen: list[RunRequest] = []

    async def look(request: RunRequest) -> RunResult:
        seen.append(request)
        return result_of()

    await Executor(store).execute(MESSAGE, 1, await slot(look))
    folder = FolderStore(tmp_path)
    await folder.put("uploads/1", b"source")
    await folder.put("blobs/ab", b"watermark")
    await Executor(folder).execute(MESSAGE, 1, await slot(look))
    strange = tmp_path / "ü %41 \udcff.jpg"
    strange.write_bytes(b"source")
    await Executor(folder, [tmp_path]).execute(replace(MESSAGE, task="u", source=strange.as_uri()), 1, await slot(look))
    assert (seen[0].source, seen[0].images) == (b"source", {"sha256:ab": b"watermark"})
    assert isinstance(seen[1].source, Path)
    assert seen[1].source.read_bytes() == b"source"
    assert seen[2].source == strange
    assert (seen[0].id, seen[0].source_name, seen[0].timeout_s) == ("t/0", "photo.jpg", 60.0)


async def test_data_without_an_image_has_a_document_only(store: ObjectStore) -> None:
    async def analyse(request: RunRequest) -> RunResult:
        return result_of(None)

    event = await Executor(store).execute(MESSAGE, 1, await slot(analyse))
    assert event.outcome is not None
    assert event.outcome["bytes"] is None
    with pytest.raises(ObjectNotFound):
        await store.get(KEY)


async def test_a_bad_image_is_an_outcome_too(store: ObjectStore) -> None:
    event = await Executor(store).execute(MESSAGE, 1, await slot(raising(CorruptImage("truncated"))))
    assert (event.kind, event.target) == ("failed", "bare")
    assert event.error == {"type": "corrupt-image", "detail": "truncated", "context": {}}
    assert (await document(store))["error"] == event.error


@pytest.mark.parametrize("error", [WorkerCrashed("signal 9"), Cancelled("stopped")])
async def test_what_costs_an_attempt_leaves_nothing(store: ObjectStore, error: PixelmillError) -> None:
    with pytest.raises(type(error)):
        await Executor(store).execute(MESSAGE, 1, await slot(raising(error)))
    with pytest.raises(ObjectNotFound):
        await document(store)


async def test_a_source_that_vanished_is_named(store: ObjectStore) -> None:
    event = await Executor(store).execute(replace(MESSAGE, source="key:uploads/none"), 1, await slot())
    assert event.error is not None
    assert event.error["type"] == "object-not-found"


async def test_a_source_of_another_kind_is_refused(store: ObjectStore) -> None:
    event = await Executor(store).execute(replace(MESSAGE, source="https://example.org/x"), 1, await slot())
    assert event.error is not None
    assert event.error["type"] == SourceRefused.type


async def test_a_second_delivery_finds_the_outcome_and_runs_nothing(store: ObjectStore) -> None:
    executor = Executor(store)
    first = await executor.execute(MESSAGE, 1, await slot())
    again = await executor.execute(MESSAGE, 2, await slot(raising(CorruptImage("must not run"))))
    assert (again.kind, again.outcome, again.at) == ("succeeded", first.outcome, first.at)


async def test_the_first_outcome_stored_stands(store: ObjectStore) -> None:
    """Two holders of one message, as after a lease that ran out."""
    barrier = asyncio.Barrier(2)

    async def together(request: RunRequest) -> RunResult:
        await barrier.wait()
        return result_of()

    executor = Executor(store)
    one, two = await asyncio.gather(
        executor.execute(MESSAGE, 1, await slot(together)), executor.execute(MESSAGE, 1, await slot(together))
    )
    assert one == two


async def test_an_attempt_cut_off_between_image_and_document_is_finished(store: ObjectStore) -> None:
    await store.put(KEY, b"pixels")
    event = await Executor(store).execute(MESSAGE, 2, await slot())
    assert event.kind == "succeeded"
    assert (await document(store))["state"] == "succeeded"


async def test_a_new_run_has_its_own_place(store: ObjectStore) -> None:
    executor = Executor(store)
    await executor.execute(MESSAGE, 1, await slot(raising(CorruptImage("no"))))
    event = await executor.execute(replace(MESSAGE, run=1), 1, await slot())
    assert event.kind == "succeeded"
    assert await store.get(f"{KEY}-r1") == b"pixels"


async def test_giving_up_keeps_an_outcome_that_is_there(store: ObjectStore) -> None:
    executor = Executor(store)
    event = await executor.give_up(MESSAGE, 3, WorkerCrashed("three times"))
    assert (event.kind, event.attempt) == ("failed", 3)
    other = replace(MESSAGE, task="u")
    await executor.execute(other, 1, await slot())
    assert (await executor.give_up(other, 3, WorkerCrashed("three times"))).kind == "succeeded"


async def test_a_full_store_costs_an_attempt_and_giving_up_still_has_its_reason() -> None:
    store = MemoryStore(capacity=0)
    executor = Executor(store)
    message = replace(MESSAGE, source="file:///x.jpg", images={})
    with pytest.raises(StorageFull):
        await executor.execute(message, 1, await slot())
    event = await executor.give_up(message, 3, StorageFull("no space"))
    assert event.error is not None
    assert event.error["type"] == "storage-full"


async def test_a_slot_is_free_while_its_result_is_stored_but_only_so_many_results_wait() -> None:
    go, full = asyncio.Event(), asyncio.Event()
    begun: list[str] = []

    class Slow(MemoryStore):
        async def put(
            self,
            key: str,
            data: bytes | AsyncIterator[bytes],
            *,
            if_absent: bool = False,
            limit: int | None = None,
            headers: PutHeaders = NO_HEADERS,
        ) -> ObjectInfo:
            begun.append(key)
            if len(begun) == MAX_STORING:
                full.set()
            await go.wait()
            return await super().put(key, data, if_absent=if_absent, limit=limit, headers=headers)

    slots = Slots(MAX_STORING + 4, succeed)
    executor = Executor(Slow())
    message = replace(MESSAGE, source="file:///x.jpg", images={})
    running = [
        asyncio.create_task(executor.execute(replace(message, task=str(i)), 1, await slots.acquire()))
        for i in range(MAX_STORING + 4)
    ]
    async with asyncio.timeout(10):
        await full.wait()
    assert slots.out == 4
    go.set()
    await asyncio.gather(*running)
    assert slots.out == 0
