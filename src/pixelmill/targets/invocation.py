"""One task as a JSON document and its reply, for machines that are called: functions, and containers with links.

Shared by who calls (``aws_lambda``, ``serverless``) and who is called (``POST /v1/process``, function handlers), so
that neither can drift. Pure: bytes that lie behind links are fetched by others.

The document::

    {"pixelmill": 1, "id": "…", "pipeline": {…} or "text", "source": BYTES, "images": {"sha256:…": BYTES},
     "name": "a.jpg", "timeout_s": 60, "kind": "image", "result": {"url": "…"}}

where BYTES is ``{"body": "Base64"}`` or ``{"url": "https://…"}`` (a GET), and ``result`` (a PUT) may be left out. A
warm-up is ``{"pixelmill": 1, "warm": true}``. The reply::

    {"pixelmill": 1, "outcome": {…}, "image": "Base64" or null, "stored": false, "target": "…", "cold": true}
    {"pixelmill": 1, "error": {"type": "corrupt-image", "detail": "…", "context": {…}}}

``stored``: the image was put to the ``result`` link, and ``image`` is null. ``cold``, which may be left out: it was the
first task of the instance.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pixelmill.errors import PixelmillError, RequestError, TargetUnavailable, error_to_dict
from pixelmill.images.limits import Limits
from pixelmill.pipelines.outcome import Outcome
from pixelmill.targets.soundness import sound_outcome
from pixelmill.targets.target import RunRequest, RunResult

VERSION = 1
MAX_IMAGES = 8
MAX_NAME = 1_000


@dataclass(frozen=True, slots=True)
class Link:
    """Where bytes are to be fetched from, or put to."""

    url: str


@dataclass(frozen=True, slots=True)
class Invocation:
    """A document that was read: what is to be run, with bytes or links to them."""

    id: str
    pipeline: str
    source: bytes | Link
    images: Mapping[str, bytes | Link] = field(default_factory=dict)
    name: str = ""
    timeout_s: float | None = None
    kind: Literal["image", "sheet"] = "image"
    result: Link | None = None

    def request(self, source: bytes, images: Mapping[str, bytes], limits: Limits, timeout_s: float) -> RunRequest:
        """What a target runs, once links are fetched; ``timeout_s`` is the most that is allowed here."""
        return RunRequest(
            id=self.id,
            pipeline=self.pipeline,
            source=source,
            images=images,
            source_name=self.name,
            limits=limits,
            timeout_s=timeout_s if self.timeout_s is None else min(timeout_s, self.timeout_s),
            kind=self.kind,
        )


# -- who calls ----------------------------------------------------------------------------------------------------


def document(
    request: RunRequest, source: bytes | Link, images: Mapping[str, bytes | Link], result: Link | None
) -> dict[str, Any]:
    """The document of a task. ``source`` and ``images`` stand for those of the request."""
    made: dict[str, Any] = {
        "pixelmill": VERSION,
        "id": request.id,
        "pipeline": json.loads(request.pipeline),
        "source": _written(source),
        "images": {reference: _written(image) for reference, image in images.items()},
        "name": request.source_name,
        "timeout_s": request.timeout_s,
        "kind": request.kind,
    }
    if result is not None:
        made["result"] = {"url": result.url}
    return made


def warm_document() -> dict[str, Any]:
    """A call that only makes a machine ready."""
    return {"pixelmill": VERSION, "warm": True}


def read_outcome(name: str, reply: Any, image: bytes | None = None) -> Outcome:
    """The outcome in a reply, with every value checked; raises :class:`TargetUnavailable` where it is rubbish.

    ``image``: the bytes that were put to the link.
    """
    try:
        record = reply.get("outcome", reply)  # the answer of `POST /v1/process` to a form is flat
        text = reply.get("image")
        body = image if text is None else base64.b64decode(text, validate=True)
        return sound_outcome(record, body)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise TargetUnavailable(
            f"{name} gave an answer that is no outcome ({type(error).__name__}: {str(error)[:200]}).",
            billed="elapsed",
            begun=True,
        ) from error


def is_cold(reply: Any) -> bool:
    """Whether a reply says that it was the first task of its instance; older ones say nothing."""
    return isinstance(reply, Mapping) and reply.get("cold") is True


def _written(part: bytes | Link) -> dict[str, str]:
    return {"url": part.url} if isinstance(part, Link) else {"body": base64.b64encode(part).decode()}


# -- who is called ------------------------------------------------------------------------------------------------


def is_warm_up(event: Any) -> bool:
    """True for a call that only makes a machine ready."""
    return isinstance(event, Mapping) and event.get("warm") is True


def read_document(event: Any) -> Invocation:
    """What a document asks for; raises :class:`RequestError`. Pipelines are checked where they are run."""
    if not isinstance(event, Mapping) or event.get("pixelmill") != VERSION:
        raise RequestError(f'The document must be an object with "pixelmill": {VERSION}.')
    known = {"pixelmill", "id", "pipeline", "source", "images", "name", "timeout_s", "kind", "result"}
    for name in event:
        if name not in known:
            raise RequestError(f"The document has an unknown member {str(name)[:40]!r}.")
    pipeline, images, result = event.get("pipeline"), event.get("images", {}), event.get("result")
    if not isinstance(images, Mapping) or len(images) > MAX_IMAGES:
        raise RequestError(f'"images" must be an object of at most {MAX_IMAGES} members.')
    if not isinstance(pipeline, str | Mapping):
        raise RequestError('"pipeline" must be an object or text.')
    if event.get("kind", "image") not in ("image", "sheet"):
        raise RequestError('"kind" is image or sheet.')
    return Invocation(
        id=_text(event, "id", 200) or "call",
        pipeline=pipeline if isinstance(pipeline, str) else json.dumps(pipeline),
        source=_read("source", event.get("source")),
        images={str(reference): _read("images", part) for reference, part in images.items()},
        name=_text(event, "name", MAX_NAME),
        timeout_s=_seconds(event.get("timeout_s")),
        kind=event.get("kind", "image"),
        result=None if result is None else _link("result", result),
    )


def reply_of(result: RunResult, *, stored: bool) -> dict[str, Any]:
    """The reply to a task that succeeded; ``stored``: its image was put to the link."""
    body = result.outcome.bytes
    reply = {
        "pixelmill": VERSION,
        "outcome": result.outcome.to_dict(),
        "image": None if stored or body is None else base64.b64encode(body).decode(),
        "stored": stored,
        "target": result.target,
    }
    return reply | {"cold": True} if result.cold else reply


def reply_of_error(error: PixelmillError) -> dict[str, Any]:
    """The reply to one that failed."""
    return {"pixelmill": VERSION, "error": error_to_dict(error)}


def _text(event: Mapping[str, Any], name: str, most: int) -> str:
    value = event.get(name, "")
    if not isinstance(value, str) or len(value) > most:
        raise RequestError(f'"{name}" must be text of at most {most:,} characters.')
    return value


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise RequestError('"timeout_s" must be a number of seconds above 0.')
    return float(value)


def _read(name: str, part: Any) -> bytes | Link:
    if isinstance(part, Mapping) and set(part) == {"body"} and isinstance(part["body"], str):
        try:
            return base64.b64decode(part["body"], validate=True)
        except binascii.Error as error:
            raise RequestError(f'"{name}" is no valid Base64: {error}.') from error
    return _link(name, part)


def _link(name: str, part: Any) -> Link:
    if isinstance(part, Mapping) and set(part) == {"url"} and isinstance(part["url"], str):
        return Link(part["url"])
    raise RequestError(f'"{name}" must be {{"body": "Base64"}} or {{"url": "https://…"}}.')
