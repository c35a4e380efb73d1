"""Functions of platforms that call with a document, and judge by whether an error is raised: Google's and Azure's.

What is raised is tried again by them, where that was switched on; what can't succeed ends as a log line and a dead
letter.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

from pixelmill import logs
from pixelmill.errors import PixelmillError, RequestError
from pixelmill.functions.settings import settings_of
from pixelmill.functions.work import Work, run_here
from pixelmill.triggers.documents import is_foreign, read_events


@functools.cache  # one: what the process is told by its environment does not change
def work() -> Work:
    """The work of this process, made when first something is to be done; raises :class:`ConfigError`."""
    logs.configure(os.environ.get("PIXELMILL_LOG_LEVEL", "info"), "json", sys.stdout)
    settings = settings_of(os.environ)
    return Work(settings, run_here(settings.memory, settings.models))


def do_all(document: Any, *, keeps: bool = False) -> list[str]:
    """Everything that a document asks for; the addresses of results. Raises the first error that is for later.

    ``keeps``: who sent it keeps what raised, so a document that nobody can read raises too.
    """
    parsed = read_events(document)
    for part in parsed.unread:
        logs.event("function.unread", reason=part.reason, detail=part.detail)
    if keeps and is_foreign(parsed):
        raise RequestError(
            f"The document tells of no object: {parsed.unread[0].detail}", reason=parsed.unread[0].reason
        )
    results: list[str] = []
    later: PixelmillError | None = None
    for event in parsed.events:
        try:
            results += [done.uri for done in work().do(event) if done.uri]
        except PixelmillError as error:
            logs.event("function.later", uri=event.uri, type=error.type, detail=error.detail)
            later = later or error
    if later is not None:
        raise later
    return results
