"""A pool process's way to the model process: a :class:`ModelSource` whose models run there.

One connection, made when the first model is asked for, and anew where the model process has ended meanwhile. What needs
no sessions of its own to be shared (face detection, 300 kB) runs here.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from pathlib import Path
from typing import Any

from pixelmill.errors import ModelMissing, WorkerCrashed, error_from_dict
from pixelmill.models.channel import Malformed, receive, send
from pixelmill.models.folder import is_path
from pixelmill.models.meeting import Taken, connected, hello, is_closed
from pixelmill.models.model import NO_OPTIONS, Array, Missing, Model, Nature, Options, Wanted
from pixelmill.models.registry import Task
from pixelmill.models.sessions import Sessions

ANSWER_S = 600.0
"""Longest wait for an answer; the time limit of the task ends it much earlier."""
CONNECT_S = 10.0
"""How long to look for a process that has just ended: a pool starts it again at once."""
_PAUSE_S = 0.05


class ModelClient:
    """``address`` is that of the model process's socket; ``here`` are the sessions of this process, and their folder.

    ``connect_s``: how long to look for a process that is not there.
    """

    def __init__(self, address: str, here: Sessions, *, connect_s: float = CONNECT_S) -> None:
        self._address, self._here, self._connect_s = address, here, connect_s
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None

    def load(self, wanted: Wanted) -> Model | None:
        """The model, once the model process has loaded it."""
        if wanted.task == "faces":
            return self._here.load(wanted)
        try:
            told, _ = self._ask(_named(wanted.name, wanted.task), ())
        except ModelMissing:
            if wanted.optional:
                return None
            raise
        nature = Nature(
            wanted.name,
            wanted.task,
            told["family"],
            tuple(told["shape"]),
            told["dtype"],
            tuple(told["labels"]),
            told["scale"],
        )
        return _Remote(self, nature)

    def missing(self, wanted: Wanted) -> Missing | None:
        """The extra, or the weights."""
        return self._here.missing(wanted)

    def close(self) -> None:
        """Give the connection back; it is made anew where it is needed again."""
        with self._lock:
            self._drop()

    def run(self, nature: Nature, item: Array, options: Options) -> tuple[Array, ...]:
        """The outputs for one item."""
        asked = {"options": dict(options)} if options else {}
        return tuple(self._ask({**_named(nature.name, nature.task), **asked}, (item,))[1])

    def _ask(self, record: dict[str, Any], arrays: tuple[Array, ...]) -> tuple[dict[str, Any], list[Array]]:
        with self._lock:
            try:
                connection = self._connected()
                send(connection, record, arrays)
                told, outputs = _received(connection)
                if "labels" in told:
                    labels: list[str] = []
                    while len(labels) < told["labels"]:
                        labels += _received(connection)[0]["labels"]
                    told["labels"] = labels
            except (OSError, Malformed) as error:
                self._drop()
                raise WorkerCrashed(
                    "The process that runs learned models ended under the task or does not answer. It is started again."
                ) from error
        if "error" in told:
            raise error_from_dict(told["error"])
        return told, outputs

    def _connected(self) -> socket.socket:
        if self._connection is not None and is_closed(self._connection):
            self._drop()  # it has ended since we asked last
        if self._connection is None:
            self._connection = self._found()
        return self._connection

    def _found(self) -> socket.socket:
        """A new connection that was welcomed; raises :class:`OSError`, :class:`Malformed`."""
        until = time.monotonic() + self._connect_s
        folder = self._here.folder
        while True:
            try:
                connection = connected(self._address, ANSWER_S)
                try:
                    send(connection, hello("work", folder.path, paths=folder.paths, pickles=folder.allow_pickle))
                    _received(connection)
                except BaseException:
                    connection.close()
                    raise
            except Taken:
                raise
            except ConnectionError:
                if time.monotonic() > until:
                    raise
                time.sleep(random.uniform(0.5, 1.5) * _PAUSE_S)  # noqa: S311 -- no secret
            else:
                return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Remote:
    """A :class:`Model` that runs in the model process."""

    def __init__(self, client: ModelClient, nature: Nature) -> None:
        self._client, self.nature = client, nature

    def run(self, item: Array, options: Options = NO_OPTIONS) -> tuple[Array, ...]:
        """The outputs for one item."""
        return self._client.run(self.nature, item, options)


def _named(name: str, task: Task) -> dict[str, Any]:
    """A model in a request: a path is one of this process's folder, not of the other's."""
    return {"name": str(Path(name).expanduser().absolute()) if is_path(name) else name, "task": task}


def _received(connection: socket.socket) -> tuple[dict[str, Any], list[Array]]:
    message = receive(connection)
    if message is None:
        raise ConnectionResetError("the model process closed the connection")
    return message
