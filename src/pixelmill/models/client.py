"""A pool process's way to the model process: a :class:`ModelSource` whose models run there.

One connection, made when the first model is asked for, and anew after the model process was restarted. What needs no
sessions of its own to be shared (face detection, 300 kB) runs here.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

from pixelmill.errors import ModelMissing, WorkerCrashed, error_from_dict
from pixelmill.models.channel import Malformed, receive, send
from pixelmill.models.model import NO_OPTIONS, Array, Missing, Model, Nature, Options, Wanted
from pixelmill.models.sessions import Sessions

ANSWER_S = 600.0
"""Longest wait for an answer; the time limit of the task ends it much earlier."""


class ModelClient:
    """``address`` is that of the model process's socket; ``here`` are the sessions of this process."""

    def __init__(self, address: str, here: Sessions) -> None:
        self._address, self._here = address, here
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None

    def load(self, wanted: Wanted) -> Model | None:
        """The model, once the model process has loaded it."""
        if wanted.task == "faces":
            return self._here.load(wanted)
        try:
            told, _ = self._ask({"name": wanted.name, "task": wanted.task}, ())
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
        """All outputs for one item."""
        asked = {"options": dict(options)} if options else {}
        return tuple(self._ask({"name": nature.name, "task": nature.task, **asked}, (item,))[1])

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
        if self._connection is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                connection.settimeout(ANSWER_S)
                connection.connect(self._address)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Remote:
    """A :class:`Model` that runs in the model process."""

    def __init__(self, client: ModelClient, nature: Nature) -> None:
        self._client, self.nature = client, nature

    def run(self, item: Array, options: Options = NO_OPTIONS) -> tuple[Array, ...]:
        """All outputs for one item."""
        return self._client.run(self.nature, item, options)


def _received(connection: socket.socket) -> tuple[dict[str, Any], list[Array]]:
    message = receive(connection)
    if message is None:
        raise ConnectionResetError("the model process closed the connection")
    return message
