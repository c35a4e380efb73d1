"""A pool process: reads a request from its socket, runs it, answers, and again.

It is forked by the zygote with everything imported. It holds one socket and no other descriptor of the service, ends
when that socket does, and survives every exception that the work raises. It knows no slots, queues or time limits.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from pixelmill import tracing
from pixelmill.errors import OutOfMemory, PixelmillError, RunError
from pixelmill.pipelines.outcome import Outcome
from pixelmill.targets import process
from pixelmill.targets.target import RunRequest
from pixelmill.targets.wire import (
    HEAD,
    Buffer,
    body_lengths,
    decode_request,
    encode_error,
    encode_frame,
    encode_outcome,
)

Entry = Callable[[RunRequest], Outcome]
"""What runs a request; raises an error of the tree for everything it knows."""

SOCKET_BUFFER = 1 << 20
"""Asked for on both ends, so that a common photograph passes in one go; the kernel may grant less."""

_CHECK_SIZE_EVERY = 16  # tasks between two looks at the own resident size
_CV_NO_MEMORY = -4  # cv::Error::StsNoMem


def worker_main(connection: socket.socket, zygote: int, entry: Entry, memory_bytes: int, retire_rss: int) -> NoReturn:
    """Live as a pool process; called in the child right after the fork, never returns.

    ``memory_bytes`` bounds what the work may allocate. When the process keeps more than ``retire_rss`` resident
    bytes over its size at the start, it asks to be replaced.
    """
    code = 70  # EX_SOFTWARE: an error in this module itself
    try:
        process.die_with(zygote)
        process.name_process("pixelmill-work")
        process.leave_signals_to_parent()
        process.close_descriptors(connection.fileno())
        process.offer_to_oom_killer()
        process.bound_memory(memory_bytes)
        _serve(connection, entry, memory_bytes, retire_rss)
        code = 0
    except OSError:
        code = 0  # the service has closed its end, or is gone
    except BaseException as error:  # noqa: BLE001 - the last frame of a process; the exit code and the log tell
        _log("worker.failed", "", error)
    finally:
        os._exit(code)


def _serve(connection: socket.socket, entry: Entry, memory_bytes: int, retire_rss: int) -> None:
    size = process.ResidentSize(os.getpid())
    bound = size.read() + retire_rss
    _send(connection, encode_frame({"hello": os.getpid()}))
    served = 0
    while True:
        head = connection.recv(HEAD.size, socket.MSG_WAITALL)
        if len(head) < HEAD.size:
            return
        json_length, _ = HEAD.unpack(head)
        try:
            record = json.loads(_receive(connection, json_length))
            bodies = [_receive(connection, length) for length in body_lengths(record)]
        except MemoryError:  # the source alone is over the limit; what is left of it in the stream goes with us
            _send(connection, encode_error(out_of_memory(memory_bytes), retire=True))
            return
        request = decode_request(record, bodies)
        served += 1
        grown = served % _CHECK_SIZE_EVERY == 0 and size.read() > bound
        reply = _attempt(entry, request, memory_bytes, retire=grown)
        # Drop the input before waiting for the next one: an idle process should not hold an image.
        del record, bodies, request
        _send(connection, reply)
        del reply


def _attempt(entry: Entry, request: RunRequest, memory_bytes: int, *, retire: bool) -> list[Buffer]:
    try:
        outcome = entry(request)
        return encode_outcome(outcome, retire=retire)
    except PixelmillError as error:
        return encode_error(error, retire=retire or isinstance(error, OutOfMemory))
    except Exception as error:  # noqa: BLE001 - the seam: whatever the work raises becomes an answer
        if _is_out_of_memory(error):
            return encode_error(out_of_memory(memory_bytes), retire=True)
        _log("worker.unexpected_error", request.id, error, request.trace)
        return encode_error(
            RunError(
                f"The task failed with an unexpected {type(error).__name__}: {error}. "
                "This is a defect in Pixelmill or in a library it uses; the service's log has the traceback.",
                error=type(error).__name__,
            ),
            retire=retire,
        )


def out_of_memory(memory_bytes: int) -> OutOfMemory:
    """The error for a task that reached the memory limit."""
    return OutOfMemory(
        f"The task needs more than the {memory_bytes / 1e6:,.0f} MB that a pool process may use. "
        "Use a smaller image or a lighter pipeline, or raise the memory limit of the pool.",
        limit_bytes=memory_bytes,
    )


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    # cv2.error, without importing cv2 for the sake of its name.
    return getattr(error, "code", None) == _CV_NO_MEMORY or "bad_alloc" in str(error)


def _receive(connection: socket.socket, length: int) -> bytes:
    """Exactly ``length`` bytes, received straight into the object that is returned."""
    if length == 0:
        return b""
    data = connection.recv(length, socket.MSG_WAITALL)
    while len(data) < length:  # a signal may cut it short; the end of the stream does
        more = connection.recv(length - len(data), socket.MSG_WAITALL)
        if not more:
            raise ConnectionResetError("the stream ended within a request")
        data += more
    return data


def _send(connection: socket.socket, buffers: list[Buffer]) -> None:
    sent = connection.sendmsg(buffers)
    for buffer in buffers:
        if sent < len(buffer):
            connection.sendall(memoryview(buffer)[sent:])
            sent = 0
        else:
            sent -= len(buffer)


def _log(event: str, task: str, error: BaseException, trace: str = "") -> None:
    """One line of JSON on standard error, which the service's log collects."""
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "level": "error",
        "event": event,
        "task": task,
        "pid": os.getpid(),
        "error": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    if (context := tracing.from_text(trace)) is not None:
        record |= {"trace_id": context.trace_id, "span_id": context.span_id}
    print(json.dumps(record), file=sys.stderr, flush=True)  # noqa: T201 - the log of a process without a logger
