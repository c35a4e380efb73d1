"""The calls of a function on AWS Lambda: which kind each is, what is answered, what is raised, and its metrics.

What a call is, its document tells: one function can serve all kinds. What can't succeed (a broken image) ends with its
event, as a log line, a metric and a dead letter; what may succeed another time is raised, so that Lambda, or the queue,
sends it again.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pixelmill import logs
from pixelmill.errors import PixelmillError, TaskTimeout
from pixelmill.functions import emf
from pixelmill.functions.settings import FunctionSettings, name_of, settings_of
from pixelmill.functions.work import Done, Work, run_here

RESERVE_S = 0.4
"""So much must be left of the time for another event to be begun; or as much as the longest took, if that is more."""


class Context(Protocol):
    """Of what Lambda hands over, this is used."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Until the function is killed."""
        ...


@dataclass(slots=True)
class Tally:
    """What one call did, for its metrics."""

    done: list[Done] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    received: int = 0
    dropped: int = 0
    more: dict[str, float] = field(default_factory=dict)
    longest_s: float = RESERVE_S

    def add(self, done: Sequence[Done]) -> None:
        """What became of one event."""
        self.done += done
        self.received += 1
        self.dropped += any(one.state == "ignored" for one in done)
        self.errors.update(one.error.type for one in done if one.state == "failed" and one.error is not None)

    def values(self) -> dict[str, float | Sequence[float]]:
        """By names of metrics."""
        values: dict[str, float | Sequence[float]] = {
            "BytesIn": sum(one.bytes_in for one in self.done),
            "BytesOut": sum(one.bytes_out for one in self.done),
            "Megapixels": sum(one.pixels for one in self.done) / 1e6,
            "EventsReceived": self.received,
            "EventsDropped": self.dropped,
            "Results": sum(one.state == "written" for one in self.done),
            **self.more,
        }
        ages = [one.age_s * 1000 for one in self.done]
        return {**values, "EventAge": ages} if ages else values


class Function:
    """The handler of one process. ``error`` of the settings is told at each call, where it can be seen."""

    def __init__(self, environ: Mapping[str, str], write: Callable[[str], object] | None = None) -> None:
        self._write = write or sys.stdout.write
        self._error: PixelmillError | None = None
        self._calls = 0
        try:
            self._settings = settings_of(environ)
        except PixelmillError as error:
            self._error, self._settings = error, FunctionSettings(function=name_of(environ))
        self._work = Work(self._settings, run_here(self._settings.memory, self._settings.models))
        if self._settings.pipeline:
            self._get_ready()

    def _get_ready(self) -> None:
        """Load what the pipeline needs while the function starts, which is when Lambda gives it the most of a CPU."""
        try:
            from pixelmill.images import decode_jpeg, jpeg_header
            from pixelmill.pipelines import run
            from pixelmill.pipelines.spec import Pipeline
            from pixelmill.triggers import documents

            _ = decode_jpeg, jpeg_header, run, documents, Pipeline.parse(self._settings.pipeline)
        except PixelmillError as error:
            self._error = error

    def __call__(self, event: Any, context: Context) -> Any:
        """Do what the event asks for; raises what is to be tried again."""
        begun, tally = time.monotonic(), Tally()
        self._calls += 1
        try:
            with logs.bind(request_id=context.aws_request_id):
                return self._answer(event, context, tally)
        except PixelmillError as error:
            tally.errors[error.type] += 1
            raise
        except Exception:
            tally.errors["internal"] += 1
            raise
        finally:
            self._tell(tally, (time.monotonic() - begun) * 1000, context)

    def _answer(self, event: Any, context: Context, tally: Tally) -> Any:
        if self._error is not None:
            raise self._error
        if isinstance(event, Mapping):
            if "pixelmill" in event or event.get("warm") is True:
                from pixelmill.functions.direct import answer

                return answer(event, self._settings, self._left(context), tally.errors, cold=self._calls == 1)
            if "requestContext" in event:
                from pixelmill.functions.gateway import Call, answer_http

                cold = self._calls == 1
                return answer_http(event, Call(self._work, self._left(context), cold, tally.errors, tally.more))
            records = event.get("Records")
            if isinstance(records, list) and any(_is_message(record) for record in records):
                return self._batch(records, context, tally)
        return self._events(event, context, tally)

    def _events(self, document: Any, context: Context, tally: Tally) -> dict[str, Any]:
        """All events of a document. Those that come after one that is for later are done too, before that is raised."""
        from pixelmill.triggers.documents import is_foreign, read_events

        parsed = read_events(document)
        tally.dropped += len(parsed.unread)
        for part in parsed.unread:
            logs.event("function.unread", reason=part.reason, detail=part.detail)
        if is_foreign(parsed):
            tally.errors["unread"] += 1
        later: PixelmillError | None = None
        results: list[str] = []
        for event in parsed.events:
            if self._left(context) < tally.longest_s:
                later = TaskTimeout(
                    f"The function's time ended before all {len(parsed.events):,} events were done. Give it more, or "
                    "smaller batches."
                )
                break
            begun = time.monotonic()
            try:
                done = self._work.do(event)
            except PixelmillError as error:
                logs.event("function.later", uri=event.uri, type=error.type, detail=error.detail)
                tally.received += 1
                later = later or error
            else:
                tally.add(done)
                results += [one.uri for one in done if one.uri]
            tally.longest_s = max(tally.longest_s, time.monotonic() - begun)
        if later is not None:
            raise later
        return {"results": results}

    def _batch(self, records: Sequence[Any], context: Context, tally: Tally) -> dict[str, Any]:
        """Messages of a queue: which of them are to come again (``ReportBatchItemFailures``)."""
        failures = []
        for record in records:
            unread = tally.errors["unread"]
            try:
                self._events(record, context, tally)
            except Exception as error:  # noqa: BLE001 -- one message must not bring the others back
                if isinstance(error, PixelmillError):
                    tally.errors[error.type] += 1
                else:
                    tally.errors["internal"] += 1
                    logs.event("function.unexpected", error=error)
                failed = True
            else:
                # What nobody can read is not deleted: it is for the queue's redrive policy, and for who looks there.
                failed = tally.errors["unread"] > unread
            if failed:
                failures.append({"itemIdentifier": str(record.get("messageId", ""))})
        return {"batchItemFailures": failures}

    @staticmethod
    def _left(context: Context) -> float:
        return context.get_remaining_time_in_millis() / 1000

    def _tell(self, tally: Tally, milliseconds: float, context: Context) -> None:
        values = {
            "Invocations": 1,
            "Duration": milliseconds,
            "ColdStarts": int(self._calls == 1),
            **tally.values(),
        }
        properties = {"RequestId": context.aws_request_id}
        lines = emf.documents(self._settings.function, round(time.time() * 1000), values, tally.errors, properties)
        self._write("".join(f"{line}\n" for line in lines))


def _is_message(record: Any) -> bool:
    return isinstance(record, Mapping) and record.get("eventSource") == "aws:sqs"
