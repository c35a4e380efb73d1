"""What becomes of an event, with real stores in memory: nothing takes the events beside it along."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from function_tools import SEED_D, Context, jpeg, s3_event, s3_record, sqs_event
from obstore.store import MemoryStore

from pixelmill.errors import ConfigError, OutOfMemory, StorageDenied
from pixelmill.functions import calls
from pixelmill.functions.calls import Function
from pixelmill.functions.objects import Objects
from pixelmill.functions.settings import FunctionSettings
from pixelmill.functions.work import Work, run_here
from pixelmill.pipelines.outcome import Outcome
from pixelmill.pipelines.spec import Pipeline
from pixelmill.triggers.event import ObjectEvent


class Places(Objects):
    """Buckets in memory; what is put into those of ``denied`` is refused."""

    denied: tuple[str, ...] = ()

    def __init__(self, *names: str) -> None:
        super().__init__({})
        for name in names:
            self._stores["s3", name] = MemoryStore()  # type: ignore[assignment]  # it has the same calls

    def put(self, uri: str, body: bytes, media_type: str, cache_control: str = "") -> None:
        if uri.startswith(self.denied):
            raise StorageDenied("no")
        super().put(uri, body, "")  # a store in memory keeps no attributes

    def keys(self, name: str) -> list[str]:
        return sorted(item["path"] for page in self._stores["s3", name].list() for item in page)


def event(uri: str) -> ObjectEvent:
    return ObjectEvent(uri, "created", "1", 0.0)


def rules_file(folder: Path) -> str:
    rules = folder / "rules.toml"
    rules.write_text(
        "".join(
            f'[[rules]]\nname = "{name}"\nwatch = "s3://inbox/"\npipeline = "grayscale"\noutput = "s3://{name}/"\n'
            for name in ("first", "second")
        )
    )
    return str(rules)


def test_a_rule_that_is_refused_does_not_keep_the_others_from_their_work(tmp_path: Path) -> None:
    places = Places("inbox", "first", "second")
    places.put("s3://inbox/a.jpg", jpeg(64, 48), "")
    places.denied = ("s3://first/",)
    work = Work(FunctionSettings(rules=rules_file(tmp_path)), run_here(None), places)
    with pytest.raises(StorageDenied):
        work.do(event("s3://inbox/a.jpg"))
    assert places.keys("second") == ["a.jpg"]


@pytest.mark.parametrize(
    ("raised", "kind", "says"),
    [(ValueError("odd"), "run-failed", "unexpected ValueError: odd"), (MemoryError(), OutOfMemory.type, "more memory")],
)
def test_an_error_that_nobody_expected_ends_with_its_event(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, kind: str, says: str
) -> None:
    places = Places("inbox", "outbox")
    places.put("s3://inbox/a.jpg", jpeg(64, 48), "")
    settings = FunctionSettings(pipeline=SEED_D, output="outbox", dead_letters="s3://outbox/failed/")

    def defect(*arguments: Any, **options: Any) -> Outcome:
        raise raised

    monkeypatch.setattr(Pipeline, "run", defect)
    (done,) = Work(settings, run_here(None), places).do(event("s3://inbox/a.jpg"))
    assert done.error is not None
    assert (done.state, done.error.type) == ("failed", kind)
    assert says in done.error.detail
    (letter,) = places.keys("outbox")
    assert letter.startswith("failed/")


def test_a_dead_letter_is_not_the_next_event_that_cannot_succeed() -> None:
    places = Places("inbox", "outbox")
    places.put("s3://inbox/a.jpg", b"no image", "")
    settings = FunctionSettings(pipeline=SEED_D, output="outbox", dead_letters="s3://inbox/failed/")
    work = Work(settings, run_here(None), places)
    assert work.do(event("s3://inbox/a.jpg"))[0].state == "failed"
    letter = next(key for key in places.keys("inbox") if key != "a.jpg")
    assert work.do(event(f"s3://inbox/{letter}"))[0].state == "ignored"
    whole = FunctionSettings(pipeline=SEED_D, output="outbox", dead_letters="s3://inbox/")
    with pytest.raises(ConfigError, match="DEAD_LETTERS"):
        Work(whole, run_here(None), places).do(event("s3://inbox/a.jpg"))


def test_a_message_is_not_begun_where_the_one_before_took_longer_than_what_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(calls, "time", SimpleNamespace(monotonic=lambda: clock.now, time=lambda: clock.now))
    function = Function({"PIPELINE": SEED_D, "OUTPUT_BUCKET": "outbox"}, lambda _: None)
    context = Context()
    done: list[str] = []

    def slow(one: ObjectEvent) -> list[Any]:
        done.append(one.uri)
        clock.now += 2
        context.left_ms -= 2_000
        return []

    monkeypatch.setattr(function._work, "do", slow)
    batch = sqs_event({str(number): s3_event([s3_record("inbox", f"{number}.jpg")]) for number in range(3)})
    answer = function(batch, context)
    assert done == ["s3://inbox/0.jpg"]
    assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}, {"itemIdentifier": "2"}]}


def test_a_message_that_ends_in_a_defect_does_not_bring_the_others_back(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    function = Function({"PIPELINE": SEED_D, "OUTPUT_BUCKET": "outbox"}, printed.append)

    def defect(one: ObjectEvent) -> list[Any]:
        if one.uri.endswith("/1.jpg"):
            raise KeyError("odd")
        return []

    monkeypatch.setattr(function._work, "do", defect)
    batch = sqs_event({str(number): s3_event([s3_record("inbox", f"{number}.jpg")]) for number in range(3)})
    assert function(batch, Context()) == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    metrics = [json.loads(line) for line in printed[0].splitlines()]
    assert [line.get("ErrorType") for line in metrics] == [None, "internal"]
