"""Messages between pool processes and the model process: one JSON record a packet, arrays beside it in shared memory.

A packet socket keeps messages apart; an array travels as an anonymous memory file (``memfd``) whose descriptor goes
along. What comes in is read out of the file, not mapped: nobody can pull memory away under the reader. Linux only.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from pixelmill.models.model import Array

SUPPORTED = sys.platform == "linux"
MAX_RECORD = 60_000
"""Bytes of a record."""
MAX_ARRAYS = 64
MAX_BYTES = 1 << 30
"""Of all arrays of a message."""
_TYPES = frozenset({"float32", "float16", "float64", "uint8", "int64", "int32"})


class Malformed(ValueError):
    """A message that is not of the form it must have: the connection can't go on."""


def send(connection: socket.socket, record: dict[str, Any], arrays: Sequence[Array] = ()) -> None:
    """Send a message; raises :class:`OSError` where the other end is gone."""
    described = [{"dtype": str(array.dtype), "shape": list(array.shape)} for array in arrays]
    data = json.dumps({**record, "arrays": described}, separators=(",", ":")).encode()
    if len(data) > MAX_RECORD:
        raise Malformed(f"a record of {len(data):,} bytes; at most {MAX_RECORD:,} are sent")
    if not arrays:
        connection.sendmsg([data])
        return
    file = os.memfd_create("pixelmill-arrays", os.MFD_CLOEXEC)
    try:
        for array in arrays:
            _write(file, _bytes_of(np.ascontiguousarray(array)))
        socket.send_fds(connection, [data], [file])
    finally:
        os.close(file)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[Array]] | None:
    """The next message, None at the end; raises :class:`OSError`, :class:`Malformed`."""
    data, descriptors, flags, _ = socket.recv_fds(connection, MAX_RECORD, 1)
    try:
        if not data:
            return None
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise Malformed("a message that is longer than allowed")
        record = _record(data)
        return record, _arrays(record.pop("arrays"), descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _record(data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Malformed("a message that is no JSON") from error
    if not isinstance(record, dict) or not isinstance(record.get("arrays"), list):
        raise Malformed("a message that is no record")
    return record


def _arrays(described: list[Any], descriptors: list[int]) -> list[Array]:
    if not described:
        return []
    if len(described) > MAX_ARRAYS or len(descriptors) != 1:
        raise Malformed("arrays without memory, or too many")
    made: list[Array] = []
    total = 0
    for item in described:
        dtype, shape = (item.get("dtype"), item.get("shape")) if isinstance(item, dict) else (None, None)
        if not isinstance(dtype, str) or dtype not in _TYPES or not isinstance(shape, list) or len(shape) > 8:
            raise Malformed("an array of no known type")
        if not all(isinstance(side, int) and 0 <= side <= MAX_BYTES for side in shape):
            raise Malformed("an array of no possible shape")
        size = int(np.prod([*shape, np.dtype(dtype).itemsize], dtype=object))
        total += size
        if total > MAX_BYTES or total > os.fstat(descriptors[0]).st_size:
            raise Malformed("arrays that are larger than their memory, or than allowed")
        try:
            made.append(np.empty(shape, dtype))
        except ValueError as error:  # of sides that are huge beside one of 0
            raise Malformed("an array of no possible shape") from error
    offset = 0
    for array in made:
        offset += _read(descriptors[0], _bytes_of(array), offset)
    return made


def _bytes_of(array: Array) -> memoryview:
    return array.data.cast("B") if array.size else memoryview(b"")


def _write(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]


def _read(file: int, into: memoryview, offset: int) -> int:
    done = 0
    while done < len(into):
        count = os.preadv(file, [into[done:]], offset + done)
        if count == 0:
            raise Malformed("memory that ends too early")
        done += count
    return done
