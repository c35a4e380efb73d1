"""Scenarios against real services: what is told of each image, what is refused, and what is left behind."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_tools import picture
from live_service import LiveService
from service_process import ServiceProcess

from pixelmill.client import Client
from pixelmill.errors import ConnectionFailed, PipelineError, StorageUnavailable, Unauthenticated
from pixelmill.evaluation import crowd as crowds
from pixelmill.evaluation.crowd import Crowd, Person, load
from pixelmill.evaluation.figures import figures
from pixelmill.evaluation.function import FunctionSubject, Reply
from pixelmill.evaluation.observation import Harvest, Resolution, Trigger
from pixelmill.evaluation.service import ServiceSubject, look_at, targets_of
from pixelmill.evaluation.subject import Batch
from pixelmill.evaluation.synchronous import ProcessSubject

pytestmark = pytest.mark.anyio
GRAY = "grayscale/resize:32,32,fit=fill/format:jpeg"
SLOW = "resize:3000,3000,fit=fill/median:15/resize:32/format:jpeg"
SIZE = Resolution(160, 120)
ANN = {"owner": "ann", "scopes": ["process", "jobs:read", "jobs:write"]}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    service = ServiceProcess(tmp_path_factory.mktemp("live") / "data", "--workers", "2")
    try:
        service.start()
        yield service
    finally:
        service.end()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return made(tmp_path, 6)


def made(folder: Path, count: int, damaged: int = 0) -> list[Path]:
    paths = [folder / f"{number:06}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(picture(number)[: 700 if number < damaged else None])
    return paths


def batch(files: list[Path], trigger: Trigger = "high-rate", limit_s: float = 100.0) -> Batch:
    return Batch(trigger, SIZE, files, limit_s)


@pytest.mark.parametrize("trigger", ["manual", "high-rate"])
async def test_every_task_is_told_with_its_times_and_the_jobs_are_gone(
    live: ServiceProcess, files: list[Path], trigger: Trigger
) -> None:
    told: list[int] = []
    subject = ServiceSubject(live.url, None, GRAY)
    harvest = await subject.run(batch(files, trigger), told.append)
    assert {one.name for one in harvest.observations} == {path.name for path in files}
    for one in harvest.observations:
        assert one.state == "succeeded"
        assert one.received is not None
        assert one.started is not None
        assert one.ended is not None
        assert one.received <= one.started <= one.ended
        assert (one.target, one.pixels, one.attempts) == ("local", 160 * 120, 1)
        assert one.bytes_in > 500 < one.bytes_out
        assert set(one.timings) == {"decode", "apply", "encode"}
    assert told[-1] == len(files)
    assert harvest.sending_s > 0
    found = figures(harvest)
    # The service is the module's: in the second of the two runs its processes may be warm.
    assert (trigger == "manual") <= (found.cold_starts or 0) <= 3
    again = figures(await subject.run(batch(files[:2], trigger), told.append))
    assert (again.cold_starts or 0) + (found.cold_starts or 0) <= 3
    with Client(live.url) as client:
        assert list(client.jobs()) == []


async def test_a_damaged_image_fails_alone_with_its_reason(live: ServiceProcess, tmp_path: Path) -> None:
    files = made(tmp_path, 4, damaged=1)
    for subject in (ServiceSubject(live.url, None, GRAY), ProcessSubject(live.url, None, GRAY)):
        found = figures(await subject.run(batch(files), lambda _: None))
        assert (found.succeeded, found.failed, found.dropped) == (3, 1, 0)
        assert found.errors == {"corrupt-image": 1}


@pytest.mark.parametrize("trigger", ["manual", "high-rate"])
async def test_synchronous_requests_are_told_too(live: ServiceProcess, files: list[Path], trigger: Trigger) -> None:
    harvest = await ProcessSubject(live.url, None, GRAY).run(batch(files, trigger), lambda _: None)
    found = figures(harvest)
    assert (found.sent, found.succeeded, found.own, found.cold_starts) == (6, 6, 6, None)
    assert found.targets == {"local": 6}
    assert found.duration.max > 0
    assert found.age.max >= 0
    if trigger == "manual":
        # One after another: none is due before the one before was answered.
        ordered = sorted(harvest.observations, key=lambda one: one.received or 0)
        for before, after in itertools.pairwise(ordered):
            assert (before.ended or 0) <= (after.received or 0)


async def test_what_does_not_end_in_time_is_dropped_and_cancelled(live: ServiceProcess, tmp_path: Path) -> None:
    files = made(tmp_path, 12)
    found = figures(await ServiceSubject(live.url, None, SLOW).run(batch(files, limit_s=0.3), lambda _: None))
    assert found.sent == 12
    assert found.dropped > 0
    assert set(found.errors) <= {"not-ended-in-time", "not-sent-in-time"}
    with Client(live.url) as client:
        assert list(client.jobs()) == []


async def test_an_interrupted_batch_leaves_no_job(live: ServiceProcess, tmp_path: Path) -> None:
    files = made(tmp_path, 12)
    begun = asyncio.Event()
    task = asyncio.ensure_future(ServiceSubject(live.url, None, SLOW).run(batch(files), lambda _: begun.set()))
    await asyncio.wait_for(begun.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with Client(live.url) as client:
        assert list(client.jobs()) == []


async def test_throttles_are_counted_and_obeyed(tmp_path: Path) -> None:
    bounds = {"workers": 1, "max_waiting": 1, "interactive_wait_s": 0.2}
    with LiveService(tmp_path / "data", service=bounds) as service:
        subject = ProcessSubject(service.url, None, "median:9/resize:16")
        found = figures(await subject.run(batch(made(tmp_path, 12), limit_s=8.0), lambda _: None))
        assert service.stop() == 0
    assert found.throttles > 0
    assert found.retries > 0
    assert found.waited_s > 0
    assert found.succeeded > 0
    assert found.succeeded + found.dropped == 12
    assert set(found.errors) <= {"busy", "queue-full", "not-ended-in-time"}


async def test_events_that_a_full_queue_refuses_to_the_end_are_dropped(tmp_path: Path) -> None:
    with LiveService(tmp_path / "data", service={"workers": 1, "max_queued": 3}) as service:
        subject = ServiceSubject(service.url, None, GRAY)
        found = figures(await subject.run(batch(made(tmp_path, 8), limit_s=2.0), lambda _: None))
        assert service.stop() == 0
    assert (found.sent, found.received, found.dropped) == (8, 0, 8)
    assert found.errors == {"not-sent-in-time": 8}
    assert found.throttles >= 1


async def test_what_is_wrong_with_the_whole_is_raised(live: ServiceProcess, files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="greyscale"):
        await look_at(live.url, None, "greyscale")
    with pytest.raises(ConnectionFailed):
        await look_at("http://127.0.0.1:9", None, GRAY)
    text, nodes = await look_at(live.url, None, GRAY)
    assert text.startswith("grayscale/resize")
    assert targets_of(nodes)["local"]["overflow"] is False
    with LiveService(tmp_path / "data", api={"require_tokens": True}, tokens=[ANN]) as service:
        with pytest.raises(Unauthenticated):
            await look_at(service.url, "wrong", GRAY)
        with pytest.raises(Unauthenticated):
            await ServiceSubject(service.url, "wrong", GRAY).run(batch(files), lambda _: None)
        assert service.stop() == 0


# -- several users -------------------------------------------------------------------------------


def crowd(url: str, people: list[Person], **options: object) -> Crowd:
    wanted = {"images_per_user": 3, "resolution": SIZE, "rate": None, "limit_s": 100.0, "owners": True}
    return Crowd(url, GRAY, people, **{**wanted, **options})  # type: ignore[arg-type] # the fields of a Crowd


@pytest.mark.parametrize("rate", [None, 50.0])
async def test_each_user_is_told_of_and_the_service_is_left_as_it_was(tmp_path: Path, rate: float | None) -> None:
    owners = [{"owner": name, "scopes": ["process", "jobs:read", "jobs:write"]} for name in ("ann", "bob")]
    with LiveService(tmp_path / "data", tokens=owners, service={"workers": 1}) as service:
        people = [Person(one["owner"], token) for one, token in zip(owners, service.tokens, strict=True)]  # type: ignore[arg-type] # a name
        told: list[int] = []
        subject = ServiceSubject(service.url, None, GRAY)
        found = await load(crowd(service.url, people, rate=rate), made(tmp_path, 6), subject, told.append)
        for person in people:
            with Client(service.url, person.token) as client:
                assert list(client.jobs()) == []
        assert service.stop() == 0
    assert [(user.name, user.images, user.succeeded) for user in found.users] == [("ann", 3, 3), ("bob", 3, 3)]
    assert all(user.seconds > 0 < user.total.p50 for user in found.users)
    assert found.all.sent == found.all.succeeded == told[-1] == 6
    assert found.interactive is not None
    assert found.interactive.idle.count == 20


async def test_a_single_image_that_is_under_way_when_all_others_are_done_counts(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    over, begun, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(*_: object) -> float:
        begun.set()
        await answered.wait()
        return 7_000.0

    monkeypatch.setattr(crowds, "_timed", slow)
    one = Crowd("http://127.0.0.1:9", GRAY, (Person("a", None),), 1, SIZE, None, 10, owners=False)
    found: list[float] = []
    probing = asyncio.ensure_future(crowds._probe(one, files[0], found, Counter(), over))
    await begun.wait()
    over.set()
    answered.set()
    await probing
    assert found == [7_000.0]


class Invoked:
    """A function that does its work at once, whose results can't be looked at."""

    concurrency = 2
    result, error, throttled, cold, init_s, duration_s = None, None, False, False, 0.0, 0.01

    def __init__(self, raised: Exception) -> None:
        self.raised, self.started_at, self.cleared = raised, 0.0, False

    def invoke(self, event: object, *, wait_s: float = 0.0) -> Invoked:
        return self

    async def appear(self, path: Path) -> dict[str, str]:
        return {}

    async def read(self, event: object, result: object) -> Reply:
        raise self.raised

    async def clear(self) -> None:
        self.cleared = True


async def test_a_result_of_a_function_that_is_not_to_be_seen_is_that_images_own(files: list[Path]) -> None:
    function = Invoked(StorageUnavailable("away"))
    harvest = await FunctionSubject(function, function).run(batch(files), lambda _: None)
    assert [one.error for one in harvest.observations] == ["storage-unavailable"] * 6
    assert function.cleared
    denied = Invoked(ConnectionFailed("away"))
    with pytest.raises(ConnectionFailed):  # itself, not a group of it
        await FunctionSubject(denied, denied).run(batch(files), lambda _: None)
    assert denied.cleared


async def test_a_harvest_of_nothing_is_nothing() -> None:
    assert figures(Harvest(())).sent == 0
