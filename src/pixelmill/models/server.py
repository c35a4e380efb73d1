"""The model process's work: holds sessions for all processes of the machine, and runs what they send, in batches.

One thread a connection takes requests; one thread runs them, so that never more threads compute than a session has been
given. Items of one model that wait together, and were asked the same, run together, where its weights allow it and
memory does.
"""

from __future__ import annotations

import select
import socket
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from pixelmill.errors import Busy, ModelError, PixelmillError, RunError, error_to_dict
from pixelmill.models.channel import Malformed, peer_is_us, receive, send
from pixelmill.models.model import Array, Batching, Model, Options, Wanted
from pixelmill.models.registry import TASKS, Task
from pixelmill.models.sessions import Sessions

MAX_WAITING = 256
"""Items that wait for the runner; more are refused."""
LINGER_S = 0.02
"""How long an item waits for others of its model at most."""
MAX_CONNECTIONS = 1_024


@dataclass(slots=True, eq=False)
class Item:
    """One item that waits to be run, and what came of it."""

    model: Model
    data: Array
    connection: socket.socket
    options: Options = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)
    outputs: tuple[Array, ...] = ()
    error: PixelmillError | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether who asked is still there."""
        poll = select.poll()
        poll.register(self.connection, select.POLLRDHUP)
        return not poll.poll(0)


class Runner:
    """The one thread that computes."""

    def __init__(self) -> None:
        self._waiting: deque[Item] = deque()
        self._changed = threading.Condition()
        self._clients = 0  # nobody lingers for items that can't come
        self.batches: deque[int] = deque(maxlen=1_000)
        """Sizes of the last batches."""

    def joined(self, change: int) -> None:
        """So many more connections are there."""
        with self._changed:
            self._clients += change

    def submit(self, item: Item) -> None:
        """Add an item; raises :class:`Busy` where too many wait."""
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                raise Busy(f"{MAX_WAITING} items wait for the model process already. Try again later.")
            self._waiting.append(item)
            self._changed.notify()

    def run_forever(self) -> None:
        """Run batch after batch."""
        while True:
            self._run(self._take())

    def _take(self) -> list[Item]:
        """The oldest item, and others of its model, after at most ``LINGER_S`` of waiting for them."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            first = self._waiting[0]
            most = first.model.at_once if isinstance(first.model, Batching) else 1
            full = min(most, self._clients)
            if full > 1:
                self._changed.wait_for(lambda: len(self._alike(first)) >= full, LINGER_S)
            batch = self._alike(first)[:most]
            for item in batch:
                self._waiting.remove(item)
            return batch

    def _alike(self, first: Item) -> list[Item]:
        return [item for item in self._waiting if item.model is first.model and item.options == first.options]

    def _run(self, batch: list[Item]) -> None:
        wanted = [item for item in batch if item.is_wanted]
        if not wanted:
            return
        self.batches.append(len(wanted))
        try:
            model, options = wanted[0].model, wanted[0].options
            if isinstance(model, Batching):
                for item, outputs in zip(wanted, model.run_batch([item.data for item in wanted], options), strict=True):
                    item.outputs = outputs
            else:
                for item in wanted:
                    item.outputs = item.model.run(item.data, options)
        except PixelmillError as error:
            for item in wanted:
                item.error = error
        except Exception as error:  # noqa: BLE001 - the seam: whatever a library raises becomes an answer
            for item in wanted:
                item.error = RunError(f"The model failed with an unexpected {type(error).__name__}: {error}.")
        for item in batch:
            item.done.set()


class ModelServer:
    """Serves connections of pool processes on a listening packet socket."""

    def __init__(self, listener: socket.socket, sessions: Sessions) -> None:
        self._listener, self._sessions = listener, sessions
        self.runner = Runner()
        self._connections = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def serve(self) -> None:
        """Accept until the listener is closed."""
        threading.Thread(target=self.runner.run_forever, name="runner", daemon=True).start()
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if not peer_is_us(connection) or not self._connections.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._attend, args=(connection,), name="connection", daemon=True).start()

    def _attend(self, connection: socket.socket) -> None:
        self.runner.joined(1)
        try:
            with connection:
                while (message := receive(connection)) is not None:
                    self._answer(connection, *message)
        except (OSError, Malformed):
            pass  # gone, or talking nonsense: a process that runs hostile images may do either
        finally:
            self.runner.joined(-1)
            self._connections.release()

    def _answer(self, connection: socket.socket, record: dict[str, Any], arrays: list[Array]) -> None:
        try:
            model = self._model(record)
            if not arrays:
                nature = model.nature
                told = {
                    "family": nature.family,
                    "shape": list(nature.shape),
                    "dtype": nature.dtype,
                    "scale": nature.scale,
                }
                labels = list(nature.labels)
                send(connection, {**told, "labels": len(labels)})
                for start in range(0, len(labels), _LABELS):
                    send(connection, {"labels": [label[:200] for label in labels[start : start + _LABELS]]})
                return
            (data,) = arrays
            nature = model.nature
            if str(data.dtype) != nature.dtype or tuple(data.shape) != nature.shape:
                raise ModelError(f"The model {nature.name} was given an item of another shape than it takes.")
            item = Item(model, data, connection, _options(record))
            self.runner.submit(item)
            item.done.wait()
            if item.error is not None:
                raise item.error
            send(connection, {}, item.outputs)
        except PixelmillError as error:
            send(connection, {"error": error_to_dict(error)})

    def _model(self, record: dict[str, Any]) -> Model:
        name = record.get("name")
        task: Task | None = next((known for known in TASKS if known == record.get("task")), None)
        if not isinstance(name, str) or task is None:
            raise Malformed("a request without a model")
        model = self._sessions.load(Wanted(name, task))
        assert model is not None, "only an optional one may be missing"
        return model


def _options(record: dict[str, Any]) -> Options:
    """What the item is asked; raises :class:`Malformed` for anything but a few plain values."""
    given = record.get("options", {})
    if not isinstance(given, dict) or len(given) > _MAX_OPTIONS:
        raise Malformed("options of no known form")
    if not all(isinstance(value, str | int) and len(str(value)) <= _MAX_OPTION for value in given.values()):
        raise Malformed("an option that is neither a short text nor a number")
    return given


_MAX_OPTIONS, _MAX_OPTION = 16, 1_000
_LABELS = 100
"""Labels a message."""
