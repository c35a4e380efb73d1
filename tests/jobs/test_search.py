"""What operations found in tasks is searched for: by label, caption and faces, on both databases."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from older_state import back_to
from sqlalchemy import Connection, delete, func, select, text

from pixelmill.errors import NotFound, RequestError
from pixelmill.jobs import findings_store, search
from pixelmill.jobs.database import Database
from pixelmill.jobs.findings import MAX_CAPTION_WORDS, MAX_LABEL_TERMS, MAX_PHRASE_BYTES, findings_of, words_of
from pixelmill.jobs.model import TaskEvent
from pixelmill.jobs.schema import finding_terms, findings, job_labels, jobs
from pixelmill.jobs.search import MAX_TERMS, Search, TaskSearch, Term, walk
from pixelmill.jobs.store import JobStore
from pixelmill.jobs.upkeep import Upkeep
from pixelmill.testing.clock import Clock
from pixelmill.testing.job_store import RETENTION_S, event_of, job_of, tasks_of

pytestmark = pytest.mark.anyio

CAT = {"classify": {"labels": [{"label": "tabby, tabby cat", "score": 0.8, "index": 281}], "model": "m"}}
DOG = {
    "classify": {
        "labels": [{"label": "beagle", "score": 0.6, "index": 1}, {"label": "tabby", "score": 0.1, "index": 2}]
    },
    "caption": {"caption": "A dog's ball, on the BEACH."},
    "faces": {"count": 0, "boxes": []},
}
PARTY = {"faces": {"count": 7, "boxes": []}, "faces-2": {"count": 9}, "caption-2": {"caption": "people on a beach"}}
TAGGED = {"auto_tag": {"tags": ["Egyptian cat", "tub"], "scores": [0.9, 0.3], "model": "m"}}


SEARCHES: tuple[tuple[dict[str, Any], list[str]], ...] = (
    ({"labels": ["tabby"]}, ["b-1", "a-1", "a-0"]),
    ({"labels": ["Tabby  CAT"]}, ["b-1", "a-0"]),
    ({"labels": ["cat"]}, ["b-1", "b-0", "a-0"]),
    ({"labels": ["egyptian cat"]}, ["b-0"]),
    ({"labels": ["cat tabby"]}, []),
    ({"labels": ["tab"]}, []),
    ({"labels": ["tabby"], "min_score": "0.5"}, ["b-1", "a-0"]),
    ({"labels": ["tabby"], "min_score": "0.8"}, ["b-1", "a-0"]),
    ({"labels": ["tabby"], "min_score": "0.81"}, []),
    ({"labels": ["cat"], "min_score": "0.9"}, ["b-0"]),
    ({"labels": ["tub", "cat"]}, ["b-0"]),
    ({"labels": ["tub, cat,"]}, ["b-0"]),
    ({"labels": ["tabby, tabby cat"]}, ["b-1", "a-0"]),
    ({"labels": ["tabby", "beagle"]}, ["a-1"]),
    ({"labels": ["tabby", "beagle"], "min_score": "0.5"}, []),
    ({"caption": "beach"}, ["a-3", "a-1"]),
    ({"caption": "beach Dog on"}, ["a-1"]),
    ({"caption": "ball!"}, ["a-1"]),
    ({"caption": "cat"}, []),
    ({"faces": "0"}, ["a-1"]),
    ({"faces": "1.."}, ["a-3"]),
    ({"faces": "..9"}, ["a-3", "a-1"]),
    ({"faces": "8..9"}, ["a-3"]),
    ({"faces": "10"}, []),
    ({"caption": "beach", "faces": "0..3"}, ["a-1"]),
    ({"caption": "beach", "labels": ["beagle"], "faces": "0"}, ["a-1"]),
)


def told(task: str, data: Mapping[str, Any], **values: Any) -> TaskEvent:
    return replace(event_of("succeeded", task, **values), outcome={"format": None, "data": data})


async def make(store: JobStore, job: str, found: Sequence[Mapping[str, Any]], owner: str = "ann") -> None:
    """A job with a task for each, which ends one after another."""
    await store.create_job(job_of(job, owner), tasks_of(job, len(found)))
    await store.record([told(f"{job}-{place}", data, owner=owner) for place, data in enumerate(found)])


async def found(
    store: JobStore, owner: str = "ann", *, job: str | None = None, limit: int = 2, **asked: Any
) -> list[str]:
    """Ids on all pages."""
    wanted = Search.of(**asked)
    assert wanted is not None
    ids: list[str] = []
    cursor = None
    while True:
        page = await TaskSearch(store.db).tasks(owner, wanted, job=job, limit=limit, cursor=cursor)
        assert len(page.items) <= limit
        ids += [task.id for task in page.items]
        cursor = page.next
        if cursor is None:
            return ids


async def rows(store: JobStore) -> list[int]:
    """How many rows each of the tables has."""
    tables = (findings, finding_terms, job_labels)

    def count(connection: Connection) -> list[int]:
        return [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]

    return await store.db.read(count)


@pytest.fixture
async def filled(store: JobStore) -> JobStore:
    await make(store, "a", [CAT, DOG, {}, PARTY])
    await make(store, "b", [TAGGED, CAT, {"dhash": {"hash": "beach"}}])
    await make(store, "c", [CAT, DOG], "bob")
    return store


async def test_tasks_are_found_by_what_was_found_in_them(filled: JobStore) -> None:
    for asked, ids in SEARCHES:
        assert await found(filled, **asked) == ids, asked
        assert await found(filled, limit=1, **asked) == ids, asked
        assert await found(filled, "nobody", **asked) == [], asked


async def test_a_search_stays_with_its_owner_and_job(filled: JobStore) -> None:
    assert await found(filled, "bob", labels=["tabby"]) == ["c-1", "c-0"]
    assert await found(filled, job="b", labels=["tabby"]) == ["b-1"]
    assert await found(filled, job="b", caption="dog") == []
    for job in ("c", "none"):
        with pytest.raises(NotFound):
            await found(filled, job=job, labels=["tabby"])
    await filled.create_job(job_of("new"), tasks_of("new", 1))
    assert await found(filled, job="new", labels=["tabby"]) == []


async def test_pages_are_stable_while_tasks_end(filled: JobStore) -> None:
    wanted = Search.of(labels=["tabby"])
    assert wanted is not None
    first = await TaskSearch(filled.db).tasks("ann", wanted, limit=1)
    await make(filled, "later", [CAT])
    second = await TaskSearch(filled.db).tasks("ann", wanted, limit=5, cursor=first.next)
    assert [task.id for task in (*first.items, *second.items)] == ["b-1", "a-1", "a-0"]
    assert second.next is None


async def test_what_is_heard_twice_is_there_once(store: JobStore) -> None:
    await store.create_job(job_of("job"), tasks_of("job", 2))
    events = [event_of("started", "job-0"), told("job-0", TAGGED)]
    await store.record([*events, *events])
    await store.record(events)
    await store.record([told("job-0", DOG, attempt=2)])  # another delivery: the first outcome stands
    assert await found(store, labels=["cat"]) == ["job-0"]
    assert await found(store, caption="dog") == []
    assert await rows(store) == [1, 4, 2]
    assert await TaskSearch(store.db).labels("ann", "job") == {"egyptian cat": 1, "tub": 1}


async def test_a_task_that_failed_has_nothing_until_it_is_retried(store: JobStore) -> None:
    await store.create_job(job_of("job"), tasks_of("job", 1))
    failed = replace(event_of("failed", "job-0"), outcome={"data": CAT})
    await store.record([failed])
    assert await rows(store) == [0, 0, 0]
    await store.retry("ann", "job")
    await store.record([told("job-0", CAT)])  # of the run before
    assert await rows(store) == [0, 0, 0]
    await store.record([told("job-0", CAT, run=1)])
    assert await found(store, labels=["cat"]) == ["job-0"]
    await store.cancel("ann", "job")
    assert await found(store, labels=["cat"]) == ["job-0"], "what had ended stays"


async def test_it_goes_with_its_job(filled: JobStore, clock: Clock) -> None:
    await filled.delete("ann", "a")
    assert await found(filled, labels=["tabby"]) == ["b-1"]
    clock.advance(10 * RETENTION_S)
    for owner, job in await Upkeep(filled, now=clock).expired_jobs():
        await filled.delete(owner, job)
    assert await rows(filled) == [0, 0, 0]


async def test_it_goes_with_its_job_where_a_program_that_does_not_know_it_deletes_that(filled: JobStore) -> None:
    gone = delete(jobs).where(jobs.c.id.in_(["a", "b"]))
    await filled.db.write(lambda connection: connection.execute(gone).rowcount)
    assert await found(filled, labels=["tabby"]) == []
    assert await found(filled, "bob", labels=["tabby"]) == ["c-1", "c-0"]
    assert (await rows(filled))[0] == 2


async def test_a_job_tells_what_most_of_its_tasks_are_tagged_with(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings_store, "SHOWN_LABELS", 3)
    await store.create_job(job_of("job"), tasks_of("job", 6))
    for place, tags in enumerate((["tub"], ["Tub", "tub", "cat"], ["cat"], ["tub", "ox"], ["ant"], [])):
        await store.record([told(f"job-{place}", {"auto_tag": {"tags": tags}, "classify": CAT["classify"]})])
    labels = await TaskSearch(store.db).labels("ann", "job")
    assert list(labels.items()) == [("tub", 3), ("cat", 2), ("ant", 1)]
    assert await TaskSearch(store.db).labels("bob", "job") == {}


async def test_a_job_has_a_bounded_number_of_labels(store: JobStore) -> None:
    most = findings_store.MAX_JOB_LABELS
    await store.create_job(job_of("job"), tasks_of("job", 30))
    tags = [[f"t{place}x{number}" for number in range(100)] for place in range(30)]
    for place, some in enumerate(tags):
        await store.record([told(f"job-{place}", {"auto_tag": {"tags": some}})])
    assert (await rows(store))[2] == most
    assert await found(store, labels=["t29x0"]) == ["job-29"], "only counts have the bound"


@pytest.mark.parametrize("windows", [search.WINDOWS, (3, 7)])
async def test_a_search_is_what_looking_at_every_task_gives(
    store: JobStore, monkeypatch: pytest.MonkeyPatch, windows: tuple[int, ...]
) -> None:
    """Against a search without any index, over tasks of several jobs that end in any order.

    With small windows most pages end before they are full.
    """
    monkeypatch.setattr(search, "WINDOWS", windows)
    chance = random.Random(7)
    vocabulary = [f"word{number}" for number in range(6)]
    data: dict[str, dict[str, Any]] = {}
    for of_job in ("x", "y", "z"):
        await store.create_job(job_of(of_job), tasks_of(of_job, 40))
        for place in range(40):
            labels = [{"label": word, "score": round(chance.random(), 2)} for word in chance.sample(vocabulary, 2)]
            caption = " ".join(chance.choices(vocabulary, k=3))
            counted = {"faces": {"count": chance.randrange(4)}} if chance.random() < 0.7 else {}
            data[f"{of_job}-{place}"] = {"classify": {"labels": labels}, "caption": {"caption": caption}, **counted}
    order = list(data)
    chance.shuffle(order)
    for start in range(0, len(order), 17):
        await store.record([told(task, data[task]) for task in order[start : start + 17]])

    def fits(task: str, label: str | None, least: float, words: Sequence[str], faces: tuple[int, int] | None) -> bool:
        of = data[task]
        scores = {item["label"]: item["score"] for item in of["classify"]["labels"]}
        if label is not None and not (label in scores and scores[label] >= least):
            return False
        if not set(words) <= set(of["caption"]["caption"].split()):
            return False
        return faces is None or ("faces" in of and faces[0] <= of["faces"]["count"] <= faces[1])

    hits = 0
    for _ in range(60):
        label = chance.choice([None, *vocabulary])
        least = chance.choice([0.0, 0.3, 0.7]) if label else 0.0
        words = chance.sample(vocabulary, chance.randrange(3))
        low = chance.randrange(3)
        faces: tuple[int, int] | None = chance.choice([None, (low, low + chance.randrange(2))])
        if label is None and not words and faces is None:
            continue
        job = chance.choice([None, "x", "y"])
        asked: dict[str, Any] = {
            "labels": [label] if label else [],
            "min_score": str(least) if label else None,
            "caption": " ".join(words) or None,
            "faces": None if faces is None else f"{faces[0]}..{faces[1]}",
        }
        right = [task for task in reversed(order) if fits(task, label, least, words, faces)]
        right = [task for task in right if job is None or task.startswith(f"{job}-")]
        assert await found(store, job=job, limit=chance.choice([1, 5, 50]), **asked) == right, asked
        hits += len(right)
    assert hits > 200


@pytest.mark.parametrize(
    ("asked", "parameter"),
    [
        ({"labels": ["..."]}, "label"),
        ({"labels": [","]}, "label"),
        ({"labels": [""]}, "label"),
        ({"labels": ["x" * 201]}, "label"),
        ({"min_score": "0.5"}, "min_score"),
        ({"labels": ["cat"], "min_score": "2"}, "min_score"),
        ({"labels": ["cat"], "min_score": "nan"}, "min_score"),
        ({"labels": ["cat"], "min_score": "x"}, "min_score"),
        ({"caption": "?!"}, "caption"),
        ({"caption": ""}, "caption"),
        ({"caption": " ".join(f"w{n}" for n in range(MAX_TERMS + 1))}, "caption"),
        ({"faces": ".."}, "faces"),
        ({"faces": ""}, "faces"),
        ({"faces": "5..2"}, "faces"),
        ({"faces": "-1"}, "faces"),
        ({"faces": "1.5"}, "faces"),
        ({"faces": "many"}, "faces"),
        ({"faces": "\u0661"}, "faces"),
        ({"faces": "9" * 40}, "faces"),
    ],
)
def test_a_search_that_means_nothing_is_refused(asked: dict[str, Any], parameter: str) -> None:
    with pytest.raises(RequestError) as caught:
        Search.of(**asked)
    assert caught.value.context["parameter"] == parameter


def test_nothing_asked_is_no_search() -> None:
    assert Search.of() is None


@pytest.mark.parametrize("job", [None, "job"])
@pytest.mark.parametrize("terms", [1, 3])
async def test_no_search_sorts_or_reads_a_table(tmp_path: Path, job: str | None, terms: int) -> None:
    asked = [Term(f"label:{number}", 0.5) for number in range(terms)]
    query = walk("ann", asked, job, 1, 9).limit(50)

    def plan(connection: Connection) -> str:
        compiled = query.compile(connection.engine, compile_kwargs={"literal_binds": True})
        lines = connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}".replace(":", r"\:"))).all()
        return "\n".join(row[3] for row in lines)

    async with Database(f"sqlite:///{tmp_path / 'state.sqlite'}") as database:
        found_plan = await database.read(plan)
    assert "SCAN" not in found_plan.replace("SCALAR", ""), found_plan
    assert "TEMP B-TREE" not in found_plan, found_plan


async def test_tasks_from_before_the_upgrade_are_found(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    async with Database(f"sqlite:///{path}") as database:
        store = JobStore(database, now=Clock())
        await make(store, "a", [CAT, DOG, {}, PARTY])
        await make(store, "b", [TAGGED, TAGGED])
        before = await rows(store)
    with sqlite3.connect(path) as raw:
        back_to("0010", raw)
    raw.close()
    async with Database(f"sqlite:///{path}") as database:
        store = JobStore(database, now=Clock())
        assert await rows(store) == before
        assert await found(store, labels=["tabby"]) == ["a-1", "a-0"]
        assert await TaskSearch(store.db).labels("ann", "b") == {"egyptian cat": 2, "tub": 2}
        await make(store, "c", [CAT])
        assert await found(store, labels=["tabby"]) == ["c-0", "a-1", "a-0"]


# -- what is taken of data -----------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)
steps = st.sampled_from(["classify", "auto_tag", "caption", "faces", "faces-2", "other"])
keys = st.sampled_from(["labels", "tags", "scores", "caption", "text", "captions", "count", "label", "score"])
shaped = st.dictionaries(keys, anything | st.lists(st.dictionaries(keys, anything, max_size=3), max_size=3), max_size=4)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # it draws nested values, on a busy machine
@given(st.none() | st.fixed_dictionaries({"data": st.dictionaries(steps, shaped | anything, max_size=4) | anything}))
def test_whatever_data_hold_is_taken_without_an_error(outcome: dict[str, Any] | None) -> None:
    taken = findings_of(outcome)
    assert len(taken.terms) <= MAX_LABEL_TERMS + MAX_CAPTION_WORDS + 1
    for term, score in taken.terms.items():
        term.encode()
        assert "\0" not in term
        json.dumps(score, allow_nan=False)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_a_word_is_its_own_word(given_text: str) -> None:
    for word in words_of(given_text):
        assert words_of(word) == [word]


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=3))
def test_a_label_is_found_by_its_own_text(labels: list[str]) -> None:
    taken = findings_of({"data": {"classify": {"labels": [{"label": label, "score": 0.5} for label in labels]}}})
    for label in labels:
        for synonym in label.split(","):
            if words_of(synonym):
                asked = Search.of(labels=[synonym])
                assert asked is not None
                assert asked.terms[0].text in taken.terms


async def test_a_label_that_is_longer_than_an_index_takes_is_recorded_and_found(store: JobStore) -> None:
    chance = random.Random(7)
    ideographs = [chr(chance.randint(0x4E00, 0x9FFF)) for _ in range(1_900)]  # of bytes that can't be compressed
    long = " ".join("".join(ideographs[start : start + 50]) for start in range(0, len(ideographs), 50))
    await make(store, "a", [{"auto_tag": {"tags": [long], "scores": [0.5], "model": "m"}}, CAT])
    assert await found(store, labels=["cat"]) == ["a-1"]
    assert await found(store, labels=[long[:200]]) == ["a-0"]
    assert len(await TaskSearch(store.db).labels("ann", "a")) == 1


def test_no_term_is_longer_than_an_index_takes() -> None:
    for text_of_it in ("\ufdfa" * 500, "word " * 400, "\U0001d7d8" * 2_000, "\xdf" * 64):
        taken = findings_of({"data": {"auto_tag": {"tags": [text_of_it]}, "caption": {"caption": text_of_it}}})
        assert taken.terms
        assert max(len(term.encode()) for term in (*taken.terms, *taken.labels)) <= MAX_PHRASE_BYTES + 10


def test_large_data_give_bounded_findings() -> None:
    labels = [{"label": f"one{n}, two{n} words", "score": 0.1} for n in range(5_000)]
    caption = " ".join(f"w{n}" for n in range(5_000))
    taken = findings_of({"data": {"classify": {"labels": labels}, "caption": {"caption": caption + "x" * 10**6}}})
    assert len(taken.terms) == MAX_LABEL_TERMS + MAX_CAPTION_WORDS
