"""The model process's work: holds sessions for all processes of the machine, and runs what they send, in batches.

One thread a connection takes requests; one thread runs them, so that never more threads compute than a session has been
given. Items of one model that wait together, and were asked the same, run together, where its weights allow it and
memory does. Each connection says first who it is and of which models folder it speaks. The server ends when the last
pool has left, or when it was idle for long.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixelmill import __version__
from pixelmill.errors import Busy, ModelError, OutOfMemory, PixelmillError, RunError, error_to_dict
from pixelmill.models.channel import Malformed, receive, send
from pixelmill.models.folder import ModelFolder
from pixelmill.models.meeting import PROTOCOL, is_closed, peer_is_us
from pixelmill.models.model import Array, Batching, Model, Options, Wanted
from pixelmill.models.registry import TASKS, Task
from pixelmill.models.sessions import Sessions

MAX_WAITING = 256
"""Items that wait for the runner; more are refused."""
LINGER_S = 0.02
"""How long an item waits for others of its model at most."""
MAX_CONNECTIONS = 1_024
MAX_FOLDERS = 64
"""Models folders that are spoken of; the one that was asked for longest ago is forgotten, and made anew if need be."""
_LOOK_S = 5.0
FIRST_S = 30.0
"""How long the first pool may take to connect."""


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
        return not is_closed(self.connection)


class Runner:
    """The one thread that computes."""

    def __init__(self) -> None:
        self._waiting: deque[Item] = deque()
        self._changed = threading.Condition()
        self._clients = 0  # nobody lingers for items that can't come
        self.batches: deque[int] = deque(maxlen=1_000)
        """Sizes of the last batches."""
        self._runs = False
        self._asked = 0  # requests that are being answered: a model may be on its way from the disk
        self.last = time.monotonic()
        """When something was asked or answered last."""

    @property
    def is_idle(self) -> bool:
        """Nothing waits, runs or is being loaded."""
        return not self._waiting and not self._runs and not self._asked

    def joined(self, change: int) -> None:
        """So many more connections are there."""
        with self._changed:
            self._clients += change

    @contextmanager
    def asked(self) -> Iterator[None]:
        """A request is being answered for that long."""
        with self._changed:
            self._asked += 1
        try:
            yield
        finally:
            with self._changed:
                self._asked -= 1
                self.last = time.monotonic()

    def submit(self, item: Item) -> None:
        """Add an item; raises :class:`Busy` where too many wait."""
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                raise Busy(f"{MAX_WAITING} items wait for the model process already. Try again later.")
            self._waiting.append(item)
            self.last = time.monotonic()
            self._changed.notify()

    def run_forever(self) -> None:
        """Run batch after batch."""
        while True:
            self._run(self._take())
            self.last, self._runs = time.monotonic(), False

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
            self._runs = True
            for item in batch:
                self._waiting.remove(item)
            return batch

    def _alike(self, first: Item) -> list[Item]:
        return [item for item in self._waiting if item.model is first.model and item.options == first.options]

    def _run(self, batch: list[Item]) -> None:
        wanted = [item for item in batch if item.is_wanted]
        if wanted:
            self._compute(wanted)
        for item in batch:
            item.done.set()  # of those that nobody wants, too: their connections end then

    def _compute(self, wanted: list[Item]) -> None:
        self.batches.append(len(wanted))
        error = _run_together(wanted)
        if error is None:
            return
        if len(wanted) == 1:
            wanted[0].error = error
            return
        for item in wanted:  # one of them is to blame, or there are too many for the memory: each stands for itself
            item.error = _run_together([item])


def _run_together(items: list[Item]) -> PixelmillError | None:
    """Give each of these items of one model its outputs; or what went wrong."""
    model, options = items[0].model, items[0].options
    try:
        if isinstance(model, Batching):
            for item, outputs in zip(items, model.run_batch([item.data for item in items], options), strict=True):
                item.outputs = outputs
        else:
            for item in items:
                item.outputs = item.model.run(item.data, options)
    except PixelmillError as error:
        return error
    except MemoryError:
        return _no_memory()
    except Exception as error:  # noqa: BLE001 - the seam: whatever a library raises becomes an answer
        return _unexpected(error)
    return None


class ModelServer:
    """Serves connections of pools and their processes on a listening packet socket.

    ``sessions`` are of one folder; for those that connections name, ``over`` makes others. ``ended`` is called once,
    with the reason, when the last pool has left or nothing was asked for ``idle_s`` seconds; it ends the process.
    """

    def __init__(
        self,
        listener: socket.socket,
        sessions: Sessions,
        *,
        over: Callable[[ModelFolder], Sessions] | None = None,
        ended: Callable[[str], None] = lambda _: None,
        idle_s: float | None = None,
    ) -> None:
        self._listener = listener
        self._over = over or sessions.over
        self._ended, self._idle_s = ended, idle_s
        self.runner = Runner()
        self._connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._lock = threading.Lock()
        self._folders: OrderedDict[tuple[Path, bool, bool], Sessions] = OrderedDict()
        self._pools: dict[socket.socket, bool] = {}  # and whether each keeps us from ending for being idle
        self._met = False

    def serve(self) -> None:
        """Accept until the listener is closed."""
        threading.Thread(target=self._compute, name="runner", daemon=True).start()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if not peer_is_us(connection) or not self._connections.acquire(blocking=False):
                connection.close()
                continue
            try:
                threading.Thread(target=self._attend, args=(connection,), name="connection", daemon=True).start()
            except (RuntimeError, MemoryError):  # no room for a thread: who asks tries again
                connection.close()
                self._connections.release()

    def _compute(self) -> None:
        """Run what comes; without its runner the process would let everybody wait, and so it ends."""
        try:
            self.runner.run_forever()
        except BaseException:  # noqa: BLE001 - whatever it was: nobody else would run what waits
            traceback.print_exc()  # who started us logs it
            self._ended("the runner has failed")

    # -- who is here -----------------------------------------------------------------------------

    def _watch(self) -> None:
        """End where nobody ever comes, or nothing is asked for long."""
        time.sleep(FIRST_S)
        with self._lock:
            if not self._met:
                self._ended("no pool has come")
        while self._idle_s is not None:
            time.sleep(max(min(self._idle_s, _LOOK_S), self.runner.last + self._idle_s - time.monotonic()))
            with self._lock:
                spent = time.monotonic() - self.runner.last >= self._idle_s and self.runner.is_idle
                if spent and not any(self._pools.values()):
                    for pool in self._pools:
                        with suppress(OSError):
                            send(pool, {"bye": "idle"})
                    self._ended("idle")
                    return

    def _attend(self, connection: socket.socket) -> None:
        try:
            message = receive(connection)
            if message is None:
                return
            record = message[0]
            send(connection, _welcome(record))
            if record["hello"] == "pool":
                self._hold(connection, keep=record["keep"] is True)
            else:
                self._serve(connection, self._sessions_of(record))
        except (OSError, Malformed):
            pass  # gone, or talking nonsense: a process that runs hostile images may do either
        except MemoryError:
            with suppress(OSError):  # the rest of what it sent is lost, and its connection with it
                send(connection, {"error": error_to_dict(_no_memory())})
        finally:
            connection.close()
            self._connections.release()

    def _hold(self, connection: socket.socket, *, keep: bool) -> None:
        """A pool is here for as long as its connection is."""
        with self._lock:
            self._pools[connection] = keep
            self._met = True
        try:
            receive(connection)  # it says nothing more
        finally:
            with self._lock:
                del self._pools[connection]
                if not self._pools:
                    self._ended("the last pool has left")

    def _sessions_of(self, record: dict[str, Any]) -> Sessions:
        folder, paths, pickles = record["folder"], record["paths"], record["pickles"]
        if not isinstance(folder, str) or not isinstance(paths, bool) or not isinstance(pickles, bool):
            raise Malformed("a hello of no known form")
        key = (Path(folder), paths, pickles)
        with self._lock:
            found = self._folders.get(key) or self._over(ModelFolder(key[0], paths=paths, allow_pickle=pickles))
            self._folders[key] = found
            self._folders.move_to_end(key)
            while len(self._folders) > MAX_FOLDERS:
                self._folders.popitem(last=False)
        return found

    # -- what they ask ---------------------------------------------------------------------------

    def _serve(self, connection: socket.socket, sessions: Sessions) -> None:
        self.runner.joined(1)
        try:
            while (message := receive(connection)) is not None:
                with self.runner.asked():
                    self._answer(connection, sessions, *message)
        finally:
            self.runner.joined(-1)

    def _answer(
        self, connection: socket.socket, sessions: Sessions, record: dict[str, Any], arrays: list[Array]
    ) -> None:
        try:
            model = _model(sessions, record)
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
            if len(arrays) != 1:
                raise Malformed("a request of several items")
            data = arrays[0]
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


def _model(sessions: Sessions, record: dict[str, Any]) -> Model:
    name = record.get("name")
    task: Task | None = next((known for known in TASKS if known == record.get("task")), None)
    if not isinstance(name, str) or task is None:
        raise Malformed("a request without a model")
    try:
        model = sessions.load(Wanted(name, task))
    except (PixelmillError, MemoryError):
        raise
    except Exception as error:  # the seam: else the connection would end, and who asked would take us for dead
        raise _unexpected(error) from error
    assert model is not None, "only an optional one may be missing"
    return model


def _welcome(record: dict[str, Any]) -> dict[str, Any]:
    """The answer to a hello; raises :class:`Malformed` for none, or one of another version."""
    if record.get("hello") not in ("pool", "work") or not {"folder", "paths", "pickles", "keep"} <= record.keys():
        raise Malformed("a connection that says no hello")
    if (record.get("protocol"), record.get("version")) != (PROTOCOL, __version__):
        raise Malformed("a process of another version")
    return {"welcome": os.getpid()}


def _options(record: dict[str, Any]) -> Options:
    """What the item is asked; raises :class:`Malformed` for anything but a few plain values."""
    given = record.get("options", {})
    if not isinstance(given, dict) or len(given) > _MAX_OPTIONS:
        raise Malformed("options of no known form")
    if not all(isinstance(value, str | int) and len(str(value)) <= _MAX_OPTION for value in given.values()):
        raise Malformed("an option that is neither a short text nor a number")
    return given


def _unexpected(error: Exception) -> RunError:
    return RunError(f"The model failed with an unexpected {type(error).__name__}: {str(error)[:300]}.")


def _no_memory() -> OutOfMemory:
    return OutOfMemory(
        "The process that runs learned models has no memory for this item. Use a smaller model, or give the machine "
        "(or the control group) more memory."
    )


_MAX_OPTIONS, _MAX_OPTION = 16, 1_000
_LABELS = 24
"""Labels a message: of 200 characters each, which may take 12 bytes in JSON, they fit into a record."""
