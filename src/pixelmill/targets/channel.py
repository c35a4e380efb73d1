"""The service's end of one worker's socket: sends frames without copying or blocking, hears answers and the end.

Works straight on the descriptor with the loop's readiness callbacks, which costs less than a transport and the
same under asyncio and uvloop. It knows frames, and nothing of tasks.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any

from pixelmill.targets.wire import Buffer, FrameReader
from pixelmill.targets.worker import SOCKET_BUFFER

_CHUNK = 1 << 18
_MAX_BUFFERS = 64  # in one system call; well below IOV_MAX


def worker_socket_pair() -> tuple[socket.socket, socket.socket]:
    """A connected pair with large buffers: the service's end (it does not block) and the worker's (it does)."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        # The kernel caps these at net.core.wmem_max and rmem_max.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
    ours.setblocking(False)
    return ours, theirs


class Channel:
    """One worker's socket. ``on_frame(record, body)`` and ``on_end(reason)`` are called in the loop.

    The reason is empty where the worker has ended the stream, else it says what is wrong with it.
    """

    __slots__ = ("_loop", "_on_end", "_on_frame", "_pending", "_reader", "_socket", "_writing")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        on_frame: Callable[[Any, bytes], None],
        on_end: Callable[[str], None],
        max_body: int,
    ) -> None:
        self._loop = loop
        self._socket = connection
        self._on_frame = on_frame
        self._on_end = on_end
        self._reader = FrameReader(max_body)
        self._pending: list[memoryview] = []
        self._writing = False
        loop.add_reader(connection.fileno(), self._on_readable)

    @property
    def is_closed(self) -> bool:
        """True once either side has ended it."""
        return self._socket.fileno() < 0

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Send all buffers, now or as the worker takes them; they must not change until an answer came."""
        self._pending += [memoryview(buffer) for buffer in buffers]
        self._flush()

    def drain(self) -> None:
        """Read what has arrived, up to the end of the stream: for a worker that is known to have ended."""
        while not self.is_closed and self._on_readable():
            pass

    def close(self) -> None:
        """Close our end, on which an idle worker ends by itself. ``on_end`` is not called."""
        if self.is_closed:
            return
        descriptor = self._socket.fileno()
        self._loop.remove_reader(descriptor)
        if self._writing:
            self._loop.remove_writer(descriptor)
        self._socket.close()
        self._pending.clear()

    def _flush(self) -> None:
        try:
            while self._pending:
                self._drop(self._socket.sendmsg(self._pending[:_MAX_BUFFERS]))
        except BlockingIOError:
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._socket.fileno(), self._flush)
            return
        except (BrokenPipeError, ConnectionResetError):
            self._pending.clear()  # it has ended: the reader sees that too, and what it still said
        except OSError as error:
            self._pending.clear()
            self._loop.call_soon(self._on_end, f"can't send: {error.strerror}")
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._socket.fileno())

    def _drop(self, sent: int) -> None:
        while self._pending and sent >= len(self._pending[0]):
            sent -= len(self._pending.pop(0))
        if sent:
            self._pending[0] = self._pending[0][sent:]

    def _on_readable(self) -> bool:
        """Read once; False where nothing is there, or nothing will come any more."""
        try:
            chunk = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        reason = ""
        frames: list[tuple[Any, bytes]] = []
        if chunk:
            try:
                frames = self._reader.feed(chunk)
            except (ValueError, RecursionError) as error:  # json.JSONDecodeError is a ValueError
                reason, chunk = str(error), b""
        for record, body in frames:
            self._on_frame(record, body)
        if not chunk:
            self.close()
            self._on_end(reason)
            return False
        return True
