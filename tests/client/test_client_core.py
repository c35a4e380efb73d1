"""The client's core without I/O: retries, event streams, names, answers."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill.client.effects import Call, Sleep, send
from pixelmill.client.naming import LONGEST_STEM, Names, safe_stem
from pixelmill.client.retry import RetryPolicy
from pixelmill.client.sources import pages
from pixelmill.client.sse import EventStream
from pixelmill.client.values import Event, TaskStatus
from pixelmill.client.wire import Request, Response, read_problem, read_processed, read_server_timing
from pixelmill.errors import (
    ERROR_TYPES,
    Busy,
    ConnectionFailed,
    NotFound,
    PixelmillError,
    RequestError,
    StorageDenied,
    UnknownOperation,
)

GET = Request("GET", "/v1/jobs")
ONCE = Request("POST", "/v1/jobs/1/tasks", repeatable=False)


def answer(status: int, body: Any = None, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, named, json.dumps(body).encode() if body is not None else b"")


def problem(status: int, slug: str, **members: Any) -> Response:
    return answer(status, {"type": f"/v1/problems/{slug}", "status": status, "detail": "so it is", **members})


def play(request: Request, answers: Iterable[Response | Exception], policy: RetryPolicy) -> tuple[Any, list[float]]:
    """Drive ``send`` with scripted answers; what came out (or was raised), and the waits in between."""
    flow = send(request, policy)
    waits: list[float] = []
    script = iter(answers)
    effect = next(flow)
    try:
        while True:
            if isinstance(effect, Sleep):
                waits.append(effect.seconds)
                effect = flow.send(None)
                continue
            assert isinstance(effect, Call)
            result = next(script)
            effect = flow.throw(result) if isinstance(result, Exception) else flow.send(result)
    except StopIteration as end:
        return end.value, waits
    except PixelmillError as error:
        return error, waits


@pytest.fixture
def policy() -> RetryPolicy:
    return RetryPolicy(random=random.Random(1))


def test_a_good_answer_needs_one_attempt(policy: RetryPolicy) -> None:
    result, waits = play(GET, [answer(200, {})], policy)
    assert (result.status, waits) == (200, [])


def test_waits_double_within_bounds_and_attempts_are_bounded(policy: RetryPolicy) -> None:
    result, waits = play(GET, [ConnectionFailed("broke", sent=True)] * 9, policy)
    assert isinstance(result, ConnectionFailed)
    assert len(waits) == policy.attempts - 1
    for number, wait in enumerate(waits):
        longest = min(policy.longest_s, policy.first_s * 2**number)
        assert longest / 2 <= wait <= longest


def test_retry_after_is_honored_up_to_the_patience(policy: RetryPolicy) -> None:
    result, waits = play(GET, [busy(7), answer(200, {})], policy)
    assert (result.status, waits) == (200, [7.0])
    result, waits = play(GET, [busy(3600)], policy)
    assert isinstance(result, Busy)
    assert waits == []


def busy(seconds: int) -> Response:
    response = problem(429, "busy", retryable=True)
    return Response(429, {"retry-after": str(seconds)}, response.body)


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422, 500])
def test_what_would_fail_again_is_not_tried_again(status: int, policy: RetryPolicy) -> None:
    result, waits = play(GET, [problem(status, "invalid-request")], policy)
    assert isinstance(result, RequestError)
    assert waits == []


def test_the_service_may_say_that_a_503_is_for_good(policy: RetryPolicy) -> None:
    result, waits = play(GET, [problem(503, "storage-denied", retryable=False)], policy)
    assert isinstance(result, StorageDenied)
    assert waits == []


def test_what_must_not_be_repeated_is_repeated_only_if_it_was_refused_or_never_sent(policy: RetryPolicy) -> None:
    assert play(ONCE, [ConnectionFailed("lost", sent=True)], policy)[1] == []
    assert len(play(ONCE, [ConnectionFailed("refused", sent=False), answer(202, {})], policy)[1]) == 1
    assert len(play(ONCE, [busy(1), answer(202, {})], policy)[1]) == 1
    assert play(ONCE, [answer(502)], policy)[1] == []
    assert len(play(GET, [answer(502), answer(200, {})], policy)[1]) == 1


@pytest.mark.parametrize("slug", sorted(ERROR_TYPES))
def test_every_problem_type_becomes_its_error(slug: str) -> None:
    error = read_problem(problem(418, slug, context={"nearest": ["a"]}))
    assert type(error) is ERROR_TYPES[slug]
    assert (error.detail, error.context["nearest"], error.context["status"]) == ("so it is", ["a"], 418)


def test_answers_of_strangers_become_errors_too() -> None:
    assert isinstance(read_problem(Response(404, {}, b"<html>nginx</html>")), NotFound)
    assert isinstance(read_problem(Response(400, {}, b"[1]")), RequestError)
    assert isinstance(read_problem(problem(422, "from-the-future")), RequestError)
    assert isinstance(
        read_problem(problem(422, "unknown-operation", context={"detail": 1, "self": 2})), UnknownOperation
    )
    with pytest.raises(RequestError, match="not JSON"):
        Response(200, {}, b"hello").json()


def test_processed_reads_image_data_and_timings() -> None:
    headers = {
        "content-type": "image/jpeg",
        "server-timing": "decode;dur=2.10, apply;dur=0.42, queue;dur=0",
        "x-pixelmill-data": '{"faces":[]}',
    }
    processed = read_processed(Response(200, headers, b"JPEG"))
    assert (processed.bytes, processed.media_type, processed.data) == (b"JPEG", "image/jpeg", {"faces": []})
    assert processed.timings == {"decode": 2.1, "apply": 0.42, "queue": 0.0}
    body = b'{"data": {"a": 1}, "image": null}'
    only_data = read_processed(Response(200, {"content-type": "application/json"}, body))
    assert (only_data.bytes, only_data.data) == (None, {"a": 1})
    assert read_server_timing('cache;desc="hit, or so";dur=1.5') == {"cache": 1.5}


# -- events --------------------------------------------------------------------------------------


def lines(*events: tuple[str, str, dict[str, Any]]) -> list[str]:
    text: list[str] = [": connected", "retry: 2000", ""]
    for id_, type_, data in events:
        text += [f"id: {id_}", f"event: {type_}", f"data: {json.dumps(data)}", "", ": alive", ""]
    return text


def heard(stream: EventStream, text: Iterable[str]) -> list[Event]:
    return [event for line in text if (event := stream.feed(line)) is not None]


def test_a_stream_resumes_after_the_last_whole_event(policy: RetryPolicy) -> None:
    stream = EventStream("/v1/events", policy)
    assert "last-event-id" not in stream.request().headers
    text = lines(("4", "task", {"state": "running"}), ("5", "task", {"state": "succeeded"}))
    assert [event.id for event in heard(stream, text[:-3])] == ["4"]  # torn before the empty line that ends 5
    assert stream.request().headers["last-event-id"] == "4"
    assert [event.id for event in heard(stream, text)] == ["4", "5"]


def test_a_stream_has_ended_only_if_the_last_thing_heard_of_the_job_is_its_end(policy: RetryPolicy) -> None:
    stream = EventStream("/v1/jobs/j/events", policy, job_id="j")
    heard(stream, lines(("1", "job", {"state": "failed"})))
    ended = [stream.ended]
    heard(stream, lines(("2", "job", {"state": "running"})))  # somebody has retried it
    ended.append(stream.ended)
    heard(stream, lines(("3", "deleted", {})))
    assert [*ended, stream.ended] == [True, False, True]


def test_a_stream_gives_up_after_failures_in_a_row_and_counts_anew_after_an_event(policy: RetryPolicy) -> None:
    stream = EventStream("/v1/events", policy)
    for _ in range(policy.attempts - 1):
        stream.lost()
    heard(stream, lines(("1", "task", {})))
    assert stream.lost() <= policy.first_s
    for _ in range(policy.attempts - 2):
        stream.lost()
    with pytest.raises(ConnectionFailed):
        stream.lost()


def test_fields_may_come_without_a_space_and_data_in_several_lines(policy: RetryPolicy) -> None:
    stream = EventStream("/v1/events", policy)
    (event,) = heard(stream, ["id:7", 'data:{"a":', "data: 2}", "unknown: x", ""])
    assert (event.id, event.type, event.data) == ("7", "message", {"a": 2})


# -- names and pages -----------------------------------------------------------------------------


@given(st.text(max_size=300))
def test_any_name_becomes_one_safe_file_name(name: str) -> None:
    stem = safe_stem(name)
    assert stem not in {"", ".", ".."}
    assert not stem.startswith(".")
    assert not set(stem) & set('/\\\0<>:"|?*')
    assert len(stem.encode("utf-8", "replace")) <= LONGEST_STEM


@given(st.lists(st.sampled_from(["a.jpg", "A.png", "a-2.jpg", "../a.gif", "b", ".hidden", "a\0.jpg"]), max_size=12))
def test_stems_are_distinct_and_repeatable(names: list[str]) -> None:
    first, second = Names(), Names()
    stems = [first.stem(name) for name in names]
    assert len({stem.casefold() for stem in stems}) == len(stems)
    assert stems == [second.stem(name) for name in names]


@given(st.integers(0, 40), st.integers(1, 12))
def test_pages_keep_order_and_say_which_is_last(count: int, size: int) -> None:
    found = list(pages(range(count), size))
    assert [item for page, _ in found for item in page] == list(range(count))
    assert [last for _, last in found] == [False] * (len(found) - 1) + [True]
    assert all(len(page) <= size for page, _ in found)


def test_values_ignore_members_of_newer_services() -> None:
    record = {
        "id": "t",
        "state": "failed",
        "name": "a.jpg",
        "source": {"name": "a.jpg", "uri": None},
        "error": {"type": "/v1/problems/corrupt-image", "detail": "torn"},
        "from_the_future": 1,
    }
    task = TaskStatus.read(record)
    assert task.error is not None
    assert (task.error["type"], task.uri, task.has_image) == ("corrupt-image", None, False)
