"""Structured logs: one JSON object a line for machines, one short line for people, and the table of known events.

Owns the formats and the names; uses only the standard library's logging, so that libraries' lines come out in the same
form. It must not know what the events are about. Secrets are cut out of fields and messages before a line is written.

Every line has ``ts`` (RFC 3339, UTC, milliseconds), ``level``, ``event``, ``logger`` and ``message``; ``request_id``,
``job_id``, ``task_id``, ``trace_id`` and ``span_id`` where they are bound; the event's fields; and for an exception
``error`` with ``type``, ``message`` and ``trace``. Lines that are no known event (of libraries) have the event ``log``.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple, TextIO

Format = Literal["json", "console", "auto"]

MAX_TEXT = 8_192
MAX_TRACE = 16_384
MAX_ITEMS = 100
MAX_DEPTH = 6


class KnownEvent(NamedTuple):
    """The level an event usually has, whether somebody should be told, and what it means."""

    level: int
    critical: bool
    meaning: str


_INFO, _WARNING, _ERROR = logging.INFO, logging.WARNING, logging.ERROR

EVENTS: Mapping[str, KnownEvent] = {
    name: KnownEvent(level, critical, meaning)
    for name, level, critical, meaning in (
        ("service.started", _INFO, True, "The service accepts work."),
        ("service.draining", _INFO, True, "The service takes no new work and lets running tasks end."),
        ("service.stopped", _INFO, True, "The service has ended in order."),
        ("service.failed", _ERROR, True, "The service could not start, or a part it can't do without has ended."),
        ("worker.started", _INFO, True, "A worker takes tasks from the queue."),
        ("worker.draining", _INFO, True, "A worker takes no more tasks and lets running ones end."),
        ("worker.stopped", _INFO, True, "A worker has ended in order."),
        ("service.insecure", _WARNING, True, "The service listens beyond loopback without tokens."),
        ("loop.failed", _ERROR, True, "A background loop failed; it goes on after a pause."),
        ("request.failed", _ERROR, True, "A request ended in an error that nobody expected."),
        ("recovery.requeued", _WARNING, True, "Tasks that a crash interrupted were put back."),
        ("recovery.swept", _INFO, True, "Temporary files of dead processes were removed."),
        ("pool.worker_died", _WARNING, True, "A pool process ended by itself; its task was lost or tried again."),
        ("pool.worker_killed", _WARNING, True, "A pool process was killed: time limit, memory limit or cancel."),
        ("pool.start_failed", _ERROR, True, "A pool process could not be started."),
        ("pool.model_process_ended", _WARNING, True, "The process of learned models ended; it is started again."),
        ("models.warmed", _INFO, False, "A model was loaded in the background."),
        ("models.not_warmed", _WARNING, False, "A model could not be loaded in the background; tasks try again."),
        ("node.joined", _INFO, True, "A node joined, and takes tasks."),
        ("node.left", _INFO, True, "A node left in order: its tasks had ended."),
        ("node.lost", _WARNING, True, "A node fell silent or was cut off; its tasks go elsewhere."),
        ("node.refused", _WARNING, True, "Something that is no node of ours tried to join."),
        ("hub.joined", _INFO, True, "This node joined its hub."),
        ("hub.lost", _WARNING, True, "This node lost its hub, or did not reach it; it goes on trying."),
        ("task.attempt_lost", _WARNING, True, "An attempt of a task was lost; it was put back."),
        ("task.dead_lettered", _ERROR, True, "A task used up its attempts and failed."),
        ("store.full", _ERROR, True, "The object store has no space left."),
        ("store.denied", _ERROR, True, "The object store refused access: read-only, permissions, credentials."),
        ("store.unavailable", _ERROR, True, "The object store does not answer."),
        ("db.locked", _WARNING, True, "The database was locked for longer than it should be."),
        ("db.full", _ERROR, True, "The database has no space left."),
        ("db.failed", _ERROR, True, "The database failed."),
        ("db.migrated", _INFO, True, "The database was brought to a newer schema."),
        ("queue.full", _WARNING, True, "Work was refused because a bound on waiting work was reached."),
        ("overflow.opened", _WARNING, True, "Work goes to overflow targets, which cost money."),
        ("overflow.closed", _INFO, True, "Work stays on own machines again."),
        ("circuit.opened", _WARNING, True, "Calls to an overflow target failed; it gets none for a while."),
        ("circuit.closed", _INFO, True, "An overflow target works again."),
        ("budget.exhausted", _WARNING, True, "The overflow budget has no room for the next call."),
        ("events.unavailable", _WARNING, True, "Redis does not answer; task events wait at the workers."),
        ("events.unrecorded", _WARNING, True, "Task events could not be recorded; they are tried again."),
        ("events.unreadable", _ERROR, True, "A task event could not be read or recorded, and was left out."),
        ("events.lost", _WARNING, True, "Task events may be lost; state is rebuilt from queue and results."),
        ("bus.disconnected", _WARNING, True, "News of other services don't arrive; readers see this one's."),
        ("registry.failed", _WARNING, True, "The registry of nodes in Redis can't be used; others don't see this one."),
        ("telemetry.unsent", _WARNING, True, "The collector takes no spans or metrics; what has no room is dropped."),
        ("webhook.failed", _WARNING, True, "A webhook was given up after all its attempts."),
        ("trigger.failed", _WARNING, True, "An event of a rule failed, and is on the list of dead letters."),
        ("trigger.loop", _WARNING, True, "A result came back to the rule that made it; the event was ignored."),
        ("trigger.refused", _WARNING, True, "A rule of the API can't be in force beside the others."),
        ("trigger.reloaded", _INFO, True, "The rules file was read again."),
        ("trigger.broken", _ERROR, True, "The rules file can't be used; the rules before it stay in force."),
        ("source.failed", _WARNING, True, "A source of events can't be read, or watched; it is tried again."),
        ("source.unrecorded", _WARNING, True, "Events could not be recorded; their source keeps them for another try."),
        ("source.unread", _WARNING, True, "A document of a source of events could not be read; it was set aside."),
        ("token.created", _INFO, True, "A token was created."),
        ("token.revoked", _INFO, True, "A token was revoked."),
        ("auth.failed", _WARNING, True, "A request came without a valid token."),
        ("auth.denied", _WARNING, True, "A valid token was used for something its scopes don't cover."),
        ("source.started", _INFO, False, "A source of events is read, or watched."),
        ("function.failed", _WARNING, True, "An event can't succeed: the image, the pipeline, a limit."),
        ("function.unexpected", _ERROR, True, "A run ended in an error that nobody expected: a defect."),
        ("function.later", _WARNING, True, "An event did not succeed, and is to come again."),
        ("pool.started", _INFO, False, "The pool's processes are ready."),
        ("pool.worker_recycled", _INFO, False, "A pool process was replaced after its number of tasks."),
        ("tiled.ended", _INFO, False, "A run over tiles has ended well."),
        ("job.submitted", _INFO, False, "A job was recorded."),
        ("job.ended", _INFO, False, "All tasks of a job have ended."),
        ("job.cancelled", _INFO, False, "Somebody cancelled a job."),
        ("job.retried", _INFO, False, "Failed or cancelled tasks were queued again."),
        ("job.deleted", _INFO, False, "A job was deleted with its results, by its owner or by retention."),
        ("task.failed", _INFO, False, "A task failed for a reason of its own: the image, the pipeline, a limit."),
        ("recovery.reconciled", _INFO, False, "State was compared with queue and results, and put right."),
        ("webhook.delivered", _INFO, False, "A webhook was delivered."),
        ("webhook.retried", _INFO, False, "A webhook could not be delivered, and is tried again later."),
        ("trigger.submitted", _INFO, False, "Events of a rule became a job."),
        ("trigger.retried", _INFO, False, "A result could not be delivered, and is tried again later."),
        ("telemetry.sent", _INFO, False, "The collector takes spans or metrics again."),
        ("upload.expired", _INFO, False, "Uploads that no job used were removed."),
        ("function.done", _INFO, False, "A function wrote the result of an event."),
        ("function.gone", _INFO, False, "The object of an event is no longer there; nothing is done for it."),
        ("function.refused", _INFO, False, "A direct invocation ended with an error, which its caller was told."),
        ("function.unread", _INFO, False, "A document, or a part of it, is no event of an object."),
        ("request.done", _INFO, False, "A request was answered."),
        ("log", _INFO, False, "A line of a library, or of code that had no event for it."),
    )
}
"""Every event that :func:`event` accepts, by name. docs/logs.md shows this table."""

CRITICAL_EVENTS: Mapping[str, str] = {name: known.meaning for name, known in EVENTS.items() if known.critical}
"""The events that somebody who runs the service wants to be told of, and what they mean."""

_LOGGERS = {name: logging.getLogger(f"pixelmill.{name.partition('.')[0]}") for name in EVENTS}
# Libraries that tell every step at INFO; their warnings are still shown.
_CHATTY = (
    "httpx",
    "httpcore",
    "watchfiles",
    "PIL",
    "asyncio",
    "alembic",
    "sqlalchemy.engine",
    "multipart",
    "python_multipart",
)

_ID_NAMES = ("request_id", "job_id", "task_id", "trace_id", "span_id")
_ids: ContextVar[Mapping[str, str]] = ContextVar("pixelmill_log_ids")


def event(name: str, level: int | None = None, /, *, error: BaseException | None = None, **fields: Any) -> None:
    """Log a known event with its fields; ``level`` is the table's unless given.

    Raises :class:`ValueError` for a name that is not in :data:`EVENTS`, so that the table stays complete.
    """
    known = EVENTS.get(name)
    if known is None:
        raise ValueError(f"{name!r} is no known event; add it to EVENTS in pixelmill/logs.py and to docs/logs.md")
    logger = _LOGGERS[name]
    level = known.level if level is None else level
    if logger.isEnabledFor(level):
        exc_info = (type(error), error, error.__traceback__) if error is not None else None
        logger.log(level, known.meaning, exc_info=exc_info, extra={"event": name, "fields": fields}, stacklevel=2)


@contextmanager
def bind(**ids: str | None) -> Iterator[None]:
    """Put ids on every line logged within the block, in this context only.

    They are ``request_id``, ``job_id``, ``task_id``, ``trace_id`` and ``span_id``.
    """
    for name in ids:
        if name not in _ID_NAMES:
            raise ValueError(f"{name!r} can't be bound; {', '.join(_ID_NAMES)} can")
    bound = {**_ids.get({}), **{name: value for name, value in ids.items() if value is not None}}
    token = _ids.set(bound)
    try:
        yield
    finally:
        _ids.reset(token)


def configure(level: str = "info", fmt: Format = "auto", stream: TextIO | None = None) -> logging.Handler:
    """Send all logs to ``stream`` (stderr), in place of what an earlier call configured.

    ``auto`` is ``console`` on a terminal and ``json`` elsewhere. Returns the handler, for who wants to remove it.
    """
    stream = sys.stderr if stream is None else stream
    if fmt == "auto":
        fmt = "console" if stream.isatty() else "json"
    handler = _Handler(stream)
    handler.setFormatter(ConsoleFormatter() if fmt == "console" else JsonFormatter())
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    number = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(number)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    return handler


class _Handler(logging.StreamHandler[TextIO]):
    """Stands still when its stream is gone: a log that can't be written must not stop the work."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 the name is logging's
        if not isinstance(sys.exc_info()[1], OSError | ValueError):
            super().handleError(record)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, ASCII only, so that no terminal and no collector is fooled by what is in it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        return _encode(_line(record))


class ConsoleFormatter(logging.Formatter):
    """A line for people: time, level, event, sentence, fields; a trace below it, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the trace of an exception."""
        line = _line(record)
        error = line.pop("error", None)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = " ".join(f"{key}={_shown(value)}" for key, value in line.items() if key not in _IN_FRONT)
        front = f"{clock} {record.levelname:<8} {line['event']:<22} {line['message']}"
        text = _printable(f"{front}  {fields}".rstrip())
        if error is None:
            return text
        trace = "\n".join(f"    {_printable(part)}" for part in error["trace"].splitlines())
        return f"{text}\n{trace}"


_encode = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=str).encode
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"event", "fields", "message", "asctime", "color_message"}
_IN_FRONT = frozenset({"ts", "level", "event", "logger", "message"})


def _line(record: logging.LogRecord) -> dict[str, Any]:
    """The line's parts in their order, plain and without secrets."""
    given = vars(record)
    line: dict[str, Any] = {
        "ts": _timestamp(record.created),
        "level": record.levelname.lower(),
        "event": given.get("event", "log"),
        "logger": record.name,
        "message": _without_secrets(record.getMessage()),
    }
    for name, value in _ids.get({}).items():
        line[name] = value[:128]
    fields = given.get("fields")
    if fields is None:  # a library's line, perhaps with its own ``extra``
        fields = {name: value for name, value in given.items() if name not in _STANDARD}
    for name, value in fields.items():
        key = f"field_{name}" if name in _IN_FRONT or name == "error" else name
        line[key] = "[redacted]" if _SECRET_NAME(name) else _plain(value)
    if record.exc_info and record.exc_info[1] is not None:
        line["error"] = _described(record.exc_info[1])
    return line


def _described(error: BaseException) -> dict[str, str]:
    slug = getattr(error, "type", None)  # our own errors have a stable one
    trace = "".join(traceback.format_exception(error, limit=-30))
    if len(trace) > MAX_TRACE:
        trace = f"{trace[: MAX_TRACE // 2]}\n...\n{trace[-MAX_TRACE // 2 :]}"
    return {
        "type": slug if isinstance(slug, str) else type(error).__qualname__,
        "message": _without_secrets(str(error)),
        "trace": _without_secrets(trace, MAX_TRACE + 5),
    }


def _plain(value: Any, depth: int = 0) -> Any:
    """``value`` as JSON values of bounded size, secrets cut out."""
    if isinstance(value, str):
        return _without_secrets(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth < MAX_DEPTH:
        if isinstance(value, Mapping):
            items = list(value.items())[:MAX_ITEMS]
            return {
                str(key): "[redacted]" if _SECRET_NAME(str(key)) else _plain(item, depth + 1) for key, item in items
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [_plain(item, depth + 1) for item in list(value)[:MAX_ITEMS]]
    return _without_secrets(str(value))


_SECRET_NAME = re.compile(
    r"(?i)(?:^|[_-])(?:token|secret|password|passwd|authorization|cookie|signature|api_?key|credentials?)$"
).search
_SECRET_HINT = re.compile(r"(?i)bearer|://[^/\s]*@|(?:token|secret|sig|signature|password|credential|api_?key)=").search
_SECRETS = (
    (re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]+"), r"\1[redacted]"),
    (re.compile(r"(://)[^/\s@]+@"), r"\1[redacted]@"),
    (re.compile(r"(?i)((?:token|secret|sig|signature|password|credential|api_?key)=)[^&\s\"']+"), r"\1[redacted]"),
)


def _without_secrets(text: str, maximum: int = MAX_TEXT) -> str:
    """``text`` of at most ``maximum`` characters, without tokens, passwords and signatures."""
    if len(text) > maximum:
        text = f"{text[:maximum]}... ({len(text):,} characters)"
    if _SECRET_HINT(text):
        for pattern, kept in _SECRETS:
            text = pattern.sub(kept, text)
    return text


def _shown(value: Any) -> str:
    """A field's value for people; quoted where it would run into the next one."""
    text = value if isinstance(value, str) else _encode(value)
    return _encode(text) if isinstance(value, str) and (" " in text or not text) else text


def _printable(text: str) -> str:
    """Control and formatting characters as escapes: a file name must not move the cursor."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


_second: tuple[int, str] = (0, "")


def _timestamp(created: float) -> str:
    """RFC 3339 in UTC with milliseconds. The text of the running second is kept: strftime costs 2 microseconds."""
    global _second  # noqa: PLW0603 a cache of one pure value; a race costs one computation
    whole = int(created)
    second, text = _second
    if second != whole:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
        _second = (whole, text)
    return f"{text}.{int((created - whole) * 1000):03d}Z"
