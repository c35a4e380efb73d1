"""Direct invocations: the document of ``targets/invocation.py``, which a service sends that overflows to this function.

Errors of the work are replies, as the document has them; nothing is raised for them, so nobody tries again what can't
succeed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pixelmill import logs, tracing
from pixelmill.errors import LimitExceeded, PixelmillError, RequestError
from pixelmill.functions.links import Links
from pixelmill.functions.settings import FunctionSettings
from pixelmill.functions.work import guarded, named_models, run_here
from pixelmill.pipelines.outcome import Outcome
from pixelmill.targets.invocation import (
    VERSION,
    Invocation,
    is_warm_up,
    read_document,
    reply_of,
    reply_of_error,
)
from pixelmill.targets.target import RunResult

MAX_PAYLOAD = 6_291_456
"""Bytes of a reply (AWS Lambda quotas)."""
MAX_INLINE = 4_400_000
"""Bytes of an image that fit into one, in Base64, with room for the rest."""


def answer(
    document: Mapping[str, Any],
    settings: FunctionSettings,
    left_s: float,
    errors: Counter[str],
    *,
    cold: bool = False,
    follows: bool = True,
) -> Mapping[str, Any]:
    """The reply to a document; ``left_s`` seconds are left for it. Types of errors are counted in ``errors``.

    ``cold``: it is the first invocation of this process. ``follows``: links are fetched and put for this caller.
    """
    if is_warm_up(document):
        return {"pixelmill": VERSION}
    try:
        asked = read_document(document)
    except PixelmillError as error:
        return _failed(error, "", errors)
    # What came by HTTP may have its trace in headers.
    with in_trace(tracing.from_text(asked.trace) or tracing.current()):
        try:
            return _run(asked, settings, left_s, cold=cold, follows=follows)
        except PixelmillError as error:
            return _failed(error, asked.id, errors)


@contextmanager
def in_trace(context: tracing.TraceContext | None) -> Iterator[None]:
    """Work in the block belongs to that trace, and so do its log lines."""
    ids = {} if context is None else {"trace_id": context.trace_id, "span_id": context.span_id}
    with tracing.within(context), logs.bind(**ids):
        yield


def _failed(error: PixelmillError, call: str, errors: Counter[str]) -> Mapping[str, Any]:
    errors[error.type] += 1
    logs.event("function.refused", call=call, type=error.type, detail=error.detail)
    return reply_of_error(error)


def _run(
    asked: Invocation, settings: FunctionSettings, left_s: float, *, cold: bool, follows: bool
) -> Mapping[str, Any]:
    links = Links(settings, left_s, follows=follows)
    if asked.result is not None:
        links.check(asked.result)
    source = links.contents(asked.source)
    if not source:
        raise RequestError("The source is empty.", field="source")
    images = {reference: links.contents(part) for reference, part in asked.images.items()}
    outcome = _outcome(asked, source, images, settings, left_s)
    body = outcome.bytes
    stored = body is not None and len(body) > MAX_INLINE
    if body is not None and stored:
        if asked.result is None:
            raise LimitExceeded(
                f"The result has {len(body):,} bytes; {MAX_INLINE:,} fit into a reply of AWS Lambda. Ask with a link "
                'for it ("result"), or for fewer pixels.',
                limit="reply",
                value=len(body),
                maximum=MAX_INLINE,
            )
        links.put(asked.result, body, outcome.media_type or "application/octet-stream")
    return reply_of(RunResult(outcome, settings.function, str(os.getpid()), cold=cold), stored=stored)


def _outcome(
    asked: Invocation, source: bytes, images: Mapping[str, bytes], settings: FunctionSettings, left_s: float
) -> Outcome:
    if asked.kind == "sheet" or images:
        from pixelmill.targets.entry import run_request

        request = asked.request(source, images, settings.limits, left_s)
        return guarded(lambda: run_request(request, models=named_models(settings.models)))
    return run_here(settings.memory, settings.models)(asked.pipeline, source, settings.limits)
