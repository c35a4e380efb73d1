"""The messages between the service and a pool process: one frame is a head, JSON, and raw bytes behind it.

Pure: it turns values into buffers and back, and knows no sockets. JSON rather than pickle, because a process that
decodes hostile images must not be able to make the service run code. Image bytes are never copied into the JSON.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pixelmill.errors import PixelmillError, error_from_dict, error_to_dict
from pixelmill.images.limits import Limits
from pixelmill.pipelines.outcome import Outcome
from pixelmill.targets.target import RunRequest, near

HEAD = struct.Struct("<IQ")
"""Length of the JSON (at most :data:`MAX_JSON`) and of the bytes behind it."""

MAX_JSON = 16_000_000
"""Longest JSON part that is read; data of an outcome (boxes, labels, captions) is far below it."""

Buffer = bytes | bytearray | memoryview


class Reply(NamedTuple):
    """What a pool process answers: an outcome or an error, and whether it asks to be replaced."""

    outcome: Outcome | None
    error: PixelmillError | None
    retire: bool = False


def encode_frame(record: Any, bodies: Sequence[Buffer] = ()) -> list[Buffer]:
    """The buffers to send, in order, for a JSON value and the bytes behind it."""
    text = json.dumps(record, separators=(",", ":")).encode()
    return [HEAD.pack(len(text), sum(len(body) for body in bodies)) + text, *bodies]


def encode_request(request: RunRequest, trace: str = "") -> list[Buffer]:
    """A request as buffers. A path travels as text; the pool process opens the file itself.

    ``trace``: what the work belongs to, for the logs and spans of the other side.
    """
    bodies: list[Buffer] = []

    def describe(value: bytes | Path) -> int | str:
        if isinstance(value, Path):
            return str(value)
        bodies.append(value)
        return len(value)

    limits = request.limits
    record = {
        "id": request.id,
        "pipeline": request.pipeline,
        "source": describe(near(request.source, "A pool process")),
        "images": {name: describe(value) for name, value in request.images.items()},
        "name": request.source_name,
        "limits": [limits.max_bytes, limits.max_pixels, limits.max_side],
        "timeout_s": request.timeout_s,
        "kind": request.kind,
    }
    if trace:
        record["trace"] = trace
    return encode_frame(record, bodies)


def body_lengths(record: dict[str, Any]) -> list[int]:
    """The lengths of the byte strings behind a request's JSON, in the order they come."""
    parts = [record["source"], *record["images"].values()]
    return [part for part in parts if isinstance(part, int)]


def decode_request(record: dict[str, Any], bodies: Sequence[bytes]) -> RunRequest:
    """The inverse of :func:`encode_request`; ``bodies`` as :func:`body_lengths` parts them."""
    rest = iter(bodies)

    def restore(part: int | str) -> bytes | Path:
        return Path(part) if isinstance(part, str) else next(rest)

    return RunRequest(
        id=record["id"],
        pipeline=record["pipeline"],
        source=restore(record["source"]),
        images={name: restore(part) for name, part in record["images"].items()},
        source_name=record["name"],
        limits=Limits(*record["limits"]),
        timeout_s=record["timeout_s"],
        kind=record["kind"],
        trace=record.get("trace", ""),
    )


def encode_outcome(outcome: Outcome, *, retire: bool, worker: str = "", cold: bool = False) -> list[Buffer]:
    """The answer of a task that succeeded; ``worker`` and ``cold`` where they are not known to who receives it."""
    body = outcome.bytes
    record = {"outcome": outcome.to_dict(), "image": body is not None, "retire": retire}
    if worker:
        record["worker"] = worker
    if cold:
        record["cold"] = True
    return encode_frame(record, () if body is None else (body,))


def encode_error(error: PixelmillError, *, retire: bool) -> list[Buffer]:
    """The answer of a task that failed."""
    return encode_frame({"error": error_to_dict(error), "retire": retire})


def decode_reply(record: Any, body: bytes) -> Reply:
    """The inverse of :func:`encode_outcome` and :func:`encode_error`; raises :class:`ValueError` on nonsense."""
    try:
        if "error" in record:
            return Reply(None, error_from_dict(record["error"]), bool(record["retire"]))
        outcome = Outcome.from_dict(record["outcome"], body if record["image"] else None)
        return Reply(outcome, None, bool(record["retire"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a reply of the wrong form: {error!r}") from error


class FrameReader:
    """Puts frames together from the pieces a stream gives; ``max_body`` bounds what a peer may announce."""

    __slots__ = ("_buffer", "_max_body")

    def __init__(self, max_body: int) -> None:
        self._buffer = bytearray()
        self._max_body = max_body

    def feed(self, chunk: bytes) -> list[tuple[Any, bytes]]:
        """The frames that are complete now; raises :class:`ValueError` where the stream is not one of frames."""
        buffer: Buffer = chunk
        if self._buffer:
            self._buffer += chunk
            buffer = self._buffer
        frames = []
        at, end = 0, len(buffer)
        while end - at >= HEAD.size:
            json_length, body_length = HEAD.unpack_from(buffer, at)
            if json_length > MAX_JSON or body_length > self._max_body:
                raise ValueError(f"a frame of {json_length:,} + {body_length:,} bytes is over the limit")
            body_at = at + HEAD.size + json_length
            if end - body_at < body_length:
                break
            with memoryview(buffer) as view:
                record = json.loads(bytes(view[at + HEAD.size : body_at]))
                frames.append((record, bytes(view[body_at : body_at + body_length])))
            at = body_at + body_length
        if at < end or self._buffer:
            # The fast path, a whole frame in one chunk, never comes here.
            self._buffer = bytearray(buffer[at:]) if at or not self._buffer else self._buffer
        return frames
