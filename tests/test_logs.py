from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill import logs
from pixelmill.errors import StorageFull

DOCS = Path(__file__).parent.parent / "docs" / "logs.md"


class Lines(io.StringIO):
    """A stream that gives its lines back as JSON."""

    def last(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.getvalue().splitlines()[-1])
        return found


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    levels = {name: logging.getLogger(name).level for name in logs._CHATTY}
    yield
    root.handlers[:], root.level = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def lines() -> Lines:
    stream = Lines()
    logs.configure("info", "json", stream)
    return stream


def test_an_event_is_one_line_of_json(lines: Lines) -> None:
    logs.event("pool.worker_killed", reason="timeout", pid=12, after_s=60.5)
    assert lines.getvalue().count("\n") == 1
    line = lines.last()
    stamp = datetime.fromisoformat(line.pop("ts"))
    assert stamp.tzinfo == UTC
    assert abs((datetime.now(UTC) - stamp).total_seconds()) < 60
    assert line == {
        "level": "warning",
        "event": "pool.worker_killed",
        "logger": "pixelmill.pool",
        "message": logs.CRITICAL_EVENTS["pool.worker_killed"],
        "reason": "timeout",
        "pid": 12,
        "after_s": 60.5,
    }


def test_times_are_utc_with_milliseconds() -> None:
    assert logs._timestamp(0.0) == "1970-01-01T00:00:00.000Z"
    assert logs._timestamp(1_800_000_000.9996) == "2027-01-15T08:00:00.999Z"


def test_an_unknown_event_is_refused_and_a_level_can_be_given(lines: Lines) -> None:
    with pytest.raises(ValueError, match=r"pool\.exploded"):
        logs.event("pool.exploded")
    logs.event("request.done", logging.ERROR)
    assert lines.last()["level"] == "error"
    before = lines.getvalue()
    logs.event("request.done", logging.DEBUG)
    assert lines.getvalue() == before


def test_bound_ids_are_on_every_line_of_their_context_only(lines: Lines) -> None:
    async def request(number: int) -> None:
        with logs.bind(request_id=f"r{number}"):
            await asyncio.sleep(0)
            with logs.bind(job_id=f"j{number}", task_id=None):
                logs.event("job.submitted", number=number)
            logging.getLogger("library").warning("number %d", number)

    async def main() -> None:
        await asyncio.gather(*map(request, range(5)))

    asyncio.run(main())
    seen = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert len(seen) == 10
    for line in seen:
        if line["event"] == "job.submitted":
            assert (line["request_id"], line["job_id"]) == (f"r{line['number']}", f"j{line['number']}")
        else:
            assert line["message"] == f"number {line['request_id'][1:]}"
            assert "job_id" not in line
        assert "task_id" not in line
    logs.event("service.stopped")
    assert "request_id" not in lines.last()
    with pytest.raises(ValueError, match="user"), logs.bind(user="ann"):
        pass


def test_an_exception_comes_with_type_and_trace(lines: Lines) -> None:
    def fill() -> None:
        raise StorageFull("no room")

    try:
        fill()
    except StorageFull as error:
        logs.event("store.full", error=error, key="a")
    error_part = lines.last()["error"]
    assert (error_part["type"], error_part["message"]) == ("storage-full", "no room")
    assert "test_logs.py" in error_part["trace"]
    try:
        int("no number")
    except ValueError:
        logging.getLogger("library").exception("oh")
    assert lines.last()["error"]["type"] == "ValueError"


def test_lines_of_libraries_have_the_same_form(lines: Lines) -> None:
    logging.getLogger("library.part").warning("it %s", "happened", extra={"attempt": 3})
    line = lines.last()
    del line["ts"]
    assert line == {
        "level": "warning",
        "event": "log",
        "logger": "library.part",
        "message": "it happened",
        "attempt": 3,
    }
    before = lines.getvalue()
    logging.getLogger("httpx").info("HTTP Request: GET http://127.0.0.1")
    assert lines.getvalue() == before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"token": "s3cret"}, ""),
        ({"access_token": "s3cret", "Authorization": "Basic s3cret"}, ""),
        ({"headers": {"cookie": "s3cret", "x": ["Bearer s3cret"]}}, ""),
        ({"url": "https://host/a?X-Amz-Signature=s3cret&x=1"}, ""),
        ({"url": "postgresql://user:s3cret@host/db"}, ""),
        ({}, "Authorization: Bearer s3cret"),
        ({}, "GET /v1/events?token=s3cret HTTP/1.1"),
    ],
)
def test_secrets_are_cut_out(lines: Lines, fields: dict[str, Any], message: str) -> None:
    if message:
        logging.getLogger("library").warning(message)
        logging.getLogger("library").error("failed", exc_info=RuntimeError(message))
    else:
        logs.event("request.done", **fields)
    assert "s3cret" not in lines.getvalue()
    assert "[redacted]" in lines.getvalue()


def test_what_is_no_secret_stays(lines: Lines) -> None:
    logs.event("token.created", token_id="t1", key="uploads/a?key=1")
    assert (lines.last()["token_id"], lines.last()["key"]) == ("t1", "uploads/a?key=1")


def test_fields_can_not_replace_the_parts_of_a_line(lines: Lines) -> None:
    logs.event("request.done", ts="never", event="forged", message="x")
    line = lines.last()
    assert line["event"] == "request.done"
    assert (line["field_ts"], line["field_event"], line["field_message"]) == ("never", "forged", "x")


def test_what_is_huge_is_cut(lines: Lines) -> None:
    deep: dict[str, Any] = {}
    for _ in range(50):
        deep = {"deep": deep}
    logs.event(
        "request.done", text="x" * 1_000_000, many=list(range(100_000)), deep=deep, mapping=dict.fromkeys(range(1000))
    )
    logs.event("request.failed", error=ValueError("y" * 1_000_000))
    assert all(len(line) < 40_000 for line in lines.getvalue().splitlines())


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=5) | st.just(object()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(min_size=1, max_size=8), JSON_LIKE, max_size=4), st.text(max_size=30))
def test_any_fields_and_any_text_make_one_valid_line(fields: dict[str, Any], text: str) -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, text.replace("%", "%%"), None, None)
    record.event, record.fields = "request.done", fields

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    line = logs.JsonFormatter().format(record)
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line, parse_constant=refuse)["event"] == "request.done"
    console = logs.ConsoleFormatter().format(record)
    assert console.isprintable()


def test_on_a_terminal_lines_are_for_people(lines: Lines) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    logs.configure("info", "auto", stream)
    with logs.bind(job_id="j1"):
        logs.event("job.ended", name="two words\x1b[2J\n", count=3, empty="")
    assert lines.getvalue() == "", "a second configuration replaces the first"
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d INFO     job\.ended +All tasks of a job have ended\.  "
        r'job_id=j1 name="two words\\u001b\[2J\\n" count=3 empty=""\n',
        stream.getvalue(),
    )
    logs.event("request.failed", error=RuntimeError("boom"))
    assert stream.getvalue().splitlines()[-1] == "    RuntimeError: boom"


def test_a_broken_stream_does_not_stop_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    stream.close()
    logs.event("service.stopped")
    assert capsys.readouterr().err == ""


def test_levels_are_names() -> None:
    stream = Lines()
    logs.configure("error", "json", stream)
    logs.event("queue.full")
    assert stream.getvalue() == ""
    with pytest.raises(KeyError):
        logs.configure("loud", "json", stream)


def test_the_documentation_shows_the_table_of_events() -> None:
    rows = [
        f"| `{name}` | {logging.getLevelName(known.level).lower()} | {known.meaning} |"
        for critical in (True, False)
        for name, known in logs.EVENTS.items()
        if known.critical is critical
    ]
    shown = [line for line in DOCS.read_text().splitlines() if line.startswith("| `") and line.count("|") == 4]
    assert shown == rows, "docs/logs.md must be:\n" + "\n".join(rows)


def test_every_event_that_the_program_logs_is_known() -> None:
    source = Path(logs.__file__).parent
    logged = {
        name
        for path in source.rglob("*.py")
        for name in re.findall(r"""logs\.event\(\s*["']([^"']+)["']""", path.read_text())
    }
    assert logged <= set(logs.EVENTS)
