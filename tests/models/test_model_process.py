"""The work of the model process: what travels, what runs together, and what nonsense does."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_captioner import PROMPT, SIDE, drawn, sentence
from tiny_models import fill, graph, salient

from pixelmill.errors import Busy, InvalidParameter, ModelMissing, ModelRefused, RunError, WorkerCrashed
from pixelmill.models import server as server_module
from pixelmill.models.blip import caption_of
from pixelmill.models.channel import MAX_RECORD, Malformed, receive, send
from pixelmill.models.client import ModelClient
from pixelmill.models.families import captioner_input
from pixelmill.models.folder import ModelFolder
from pixelmill.models.meeting import connected, hello, listening, private_address
from pixelmill.models.model import NO_OPTIONS, Array, Model, Nature, Options, Wanted
from pixelmill.models.server import Item, ModelServer, Runner
from pixelmill.models.sessions import Sessions


class Place:
    """A server of tiny models in this process, and clients of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = ModelFolder(folder, registry=fill(folder))
        self.address = private_address()
        listener = listening(self.address)
        assert listener is not None
        self.listener = listener
        sessions = Sessions(self.folder, threads=1)
        self.ended: list[str] = []
        self.over = threading.Event()
        self.server = ModelServer(self.listener, sessions, over=lambda *_: sessions, ended=self._end)
        self.clients: list[ModelClient] = []
        threading.Thread(target=self.server.serve, daemon=True).start()

    def _end(self, why: str) -> None:
        self.ended.append(why)
        self.over.set()

    def client(self) -> ModelClient:
        self.clients.append(ModelClient(self.address, Sessions(self.folder, threads=1)))
        return self.clients[-1]

    def raw(self, role: str = "work") -> socket.socket:
        connection = connected(self.address, 20)
        send(connection, hello(role, self.folder.path))
        welcome = receive(connection)
        assert welcome is not None
        assert welcome[0] == {"welcome": os.getpid()}
        return connection


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "models")
    yield made
    for client in made.clients:
        client.close()
    made.listener.shutdown(socket.SHUT_RDWR)
    made.listener.close()


def loaded(client: ModelClient, name: str = "u2netp", task: Any = "segmentation") -> Model:
    model = client.load(Wanted(name, task))
    assert model is not None
    return model


@pytest.mark.parametrize(
    "arrays",
    [
        [],
        [np.arange(24, dtype=np.float32).reshape(2, 3, 4)],
        [np.zeros((3, 5), np.uint8), np.ones(7, np.int64), np.zeros((0, 4), np.float32)],
        [np.random.default_rng(1).random((3, 320, 320), dtype=np.float32)],
        [np.arange(12, dtype=np.float32).reshape(3, 4).T],
    ],
)
def test_arrays_arrive_as_they_were_sent(arrays: list[Any]) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        send(left, {"name": "a"}, arrays)
        message = receive(right)
        assert message is not None
        record, found = message
        assert record == {"name": "a"}
        for one, other in zip(arrays, found, strict=True):
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)
        left.close()
        assert receive(right) is None


def hostile(described: list[Any], size: int | None) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    data = json.dumps({"arrays": described}).encode()
    with left, right:
        if size is None:
            left.sendmsg([data])
        else:
            file = os.memfd_create("test")
            os.write(file, b"\0" * size)
            socket.send_fds(left, [data], [file])
            os.close(file)
        receive(right)


FLOATS = {"dtype": "float32", "shape": [4]}


@pytest.mark.parametrize(
    ("described", "size"),
    [
        ([FLOATS], None),
        ([FLOATS], 15),
        ([{"dtype": "float32", "shape": [1 << 29, 1 << 29]}], 100),
        ([{"dtype": "float32", "shape": [-1]}], 100),
        ([{"dtype": "object", "shape": [1]}], 100),
        ([{"dtype": "float32", "shape": "4"}], 100),
        ([{"dtype": "float32", "shape": [1] * 9}], 100),
        ([FLOATS] * 65, 100_000),
        ([3], 100),
        ([{"dtype": ["float32"], "shape": [1]}], 100),
        ([{"dtype": "float32", "shape": [0, 1 << 30, 1 << 30, 1 << 30]}], 100),
    ],
)
def test_arrays_that_lie_about_themselves_are_refused(described: list[Any], size: int | None) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(Malformed):
        hostile(described, size)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("data", [b"no json", b"[]", b"{}", b'{"arrays": 3}', b"[" * 50_000, b"x" * (MAX_RECORD + 10)])
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_nonsense_ends_its_connection_and_no_other(place: Place, data: bytes) -> None:
    good = loaded(place.client())
    with place.raw() as connection:
        connection.send(data)
        assert connection.recv(10) == b""
    with place.raw() as connection:
        send(connection, {"name": 3, "task": "segmentation"})
        assert connection.recv(10) == b""
    assert good.run(np.zeros((3, 32, 32), np.float32))[0].shape == (1, 32, 32)


def test_models_run_there_as_they_run_here(place: Place) -> None:
    client, here = place.client(), Sessions(place.folder, threads=1)
    item = np.random.default_rng(2).random((3, 32, 32), dtype=np.float32)
    for name, task, shape in (("u2netp", "segmentation", (3, 32, 32)), ("mobilenet_v2", "classification", (3, 8, 8))):
        there, mine = loaded(client, name, task), here.load(Wanted(name, task))  # type: ignore[arg-type] # a task
        assert mine is not None
        assert there.nature == mine.nature
        assert there.nature.shape == shape
        part = np.ascontiguousarray(item[:, : shape[1], : shape[2]])
        for one, other in zip(there.run(part), mine.run(part), strict=True):
            assert np.array_equal(one, other)


def test_many_labels_travel_in_several_messages(place: Place) -> None:
    """Also those that JSON writes with twelve bytes a character."""
    labels = [f"{number:03}{chr(0x1F408) * 197}" for number in range(250)]
    weights = graph(
        [helper.make_node("Reshape", ["in", "flat"], ["out"])],
        (("in", TensorProto.FLOAT, [1, 3, 250, 250]),),
        (("out", TensorProto.FLOAT, [1, 250]),),
        constants=(numpy_helper.from_array(np.array([-1, 250], np.int64), "flat"),),
    )
    (place.folder.path / "many.onnx").write_bytes(weights)
    (place.folder.path / "many.txt").write_text("\n".join(labels))
    assert loaded(place.client(), "many", "classification").nature.labels == tuple(labels)


def test_what_can_not_be_loaded_is_told_as_here(place: Place) -> None:
    client = place.client()
    with pytest.raises(ModelMissing, match="pixelmill models pull silueta"):
        client.load(Wanted("silueta", "segmentation"))
    assert client.load(Wanted("silueta", "segmentation", optional=True)) is None
    with pytest.raises(InvalidParameter, match="Did you mean u2netp"):
        client.load(Wanted("u2nettp", "segmentation"))
    (place.folder.path / "u2netp.onnx").write_bytes(b"broken")
    with pytest.raises(ModelRefused, match="sum is another"):
        client.load(Wanted("u2netp", "segmentation"))


def test_what_goes_wrong_unexpectedly_while_loading_is_an_answer_and_no_dead_process(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/srv/models/u2netp.onnx")

    with monkeypatch.context() as patched:
        patched.setattr(Sessions, "load", fail)
        with pytest.raises(RunError, match="unexpected PermissionError") as caught:
            place.client().load(Wanted("u2netp", "segmentation"))
    assert not isinstance(caught.value, WorkerCrashed)
    loaded(place.client())


def test_a_request_of_several_items_ends_its_connection(place: Place) -> None:
    with place.raw() as connection:
        send(connection, {"name": "u2netp", "task": "segmentation"}, [np.zeros((3, 32, 32), np.float32)] * 2)
        assert connection.recv(10) == b""


class Fragile:
    """A model that has no memory for three at once, and fails on a 13 in whatever company."""

    nature = Nature("fragile", "segmentation", "u2net", (1,))
    at_once = 8

    def run(self, item: Array, options: Options = NO_OPTIONS) -> tuple[Array, ...]:
        return self.run_batch([item], options)[0]

    def run_batch(self, items: list[Array], options: Options = NO_OPTIONS) -> list[tuple[Array, ...]]:
        del options
        if len(items) > 2:
            raise MemoryError
        if any(item[0] == 13 for item in items):
            raise ModelRefused("13 is no number.")
        return [(item,) for item in items]


@pytest.mark.parametrize(("values", "failed"), [((1, 2, 3, 4), []), ((13, 5), [13]), ((13,), [13]), ((1, 13, 2), [13])])
def test_an_item_fails_for_itself_and_not_for_those_it_ran_with(values: tuple[int, ...], failed: list[int]) -> None:
    left, right = socket.socketpair()
    with left, right:
        model, runner = Fragile(), Runner()
        items = [Item(model, np.array([value], np.float32), left) for value in values]
        for item in items:
            runner.submit(item)
        threading.Thread(target=runner.run_forever, daemon=True).start()
        for item in items:
            assert item.done.wait(20)
        assert [int(item.data[0]) for item in items if item.error] == failed
        assert all(isinstance(item.error, ModelRefused) for item in items if item.error)
        assert [int(item.outputs[0][0]) for item in items if not item.error] == [one for one in values if one != 13]


def test_an_item_of_another_shape_is_refused(place: Place) -> None:
    with place.raw() as connection:
        send(connection, {"name": "u2netp", "task": "segmentation"}, [np.zeros((3, 9, 9), np.float32)])
        message = receive(connection)
        assert message is not None
        assert "another shape" in message[0]["error"]["detail"]


def test_items_that_wait_together_run_together_and_get_their_own_results(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "LINGER_S", 20.0)  # as long as it takes: all four come
    models = [loaded(place.client(), "mobilenet_v2", "classification") for _ in range(4)]
    items = [np.full((3, 8, 8), value, np.float32) for value in range(4)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda pair: pair[0].run(pair[1]), zip(models, items, strict=True)))
    assert list(place.server.runner.batches) == [4]
    assert [float(output[0]) for (output,) in results] == [0, 1, 2, 3]


def test_a_model_that_takes_much_memory_runs_one_item_at_a_time(place: Place) -> None:
    models = [loaded(place.client()) for _ in range(3)]
    items = [np.full((3, 32, 32), value, np.float32) for value in range(3)]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda pair: pair[0].run(pair[1]), zip(models, items, strict=True)))
    assert list(place.server.runner.batches) == [1, 1, 1]
    assert [float(output[0, 5, 5]) for (output,) in results] == [0, 1, 2]


def test_items_that_were_asked_something_else_run_apart(
    captioner: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six that come together: three without a prompt, three with one; each of both kinds runs at once."""
    shutil.copytree(captioner, place.folder.path / "shapes")
    monkeypatch.setattr(server_module, "LINGER_S", 20.0)
    models = [loaded(place.client(), "shapes", "caption") for _ in range(6)]
    asked = [({"prompt": PROMPT} if number % 2 else {}, (1 + number % 3, "red", "square")) for number in range(6)]
    start = threading.Barrier(6)

    def ask(model: Model, options: dict[str, str], what: tuple[int, str, str]) -> str:
        start.wait()
        return caption_of(model.run(captioner_input(drawn(*what, 5), (SIDE, SIDE, 3)), options))[0]

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(ask, models, *zip(*asked, strict=True)))
    assert said == [f"{options.get('prompt', '')} {sentence(*what)}".strip() for options, what in asked]
    assert sorted(place.server.runner.batches) == [3, 3]


@pytest.mark.parametrize(
    "options", [3, {"a": None}, {"a": [1]}, {"a": "x" * 1_001}, {str(number): 1 for number in range(17)}]
)
def test_options_of_no_known_form_end_their_connection(place: Place, options: Any) -> None:
    with place.raw() as connection:
        asked = {"name": "u2netp", "task": "segmentation", "options": options}
        send(connection, asked, [np.zeros((3, 32, 32), np.float32)])
        assert connection.recv(10) == b""


def test_one_alone_does_not_wait_for_others(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "LINGER_S", 10_000.0)
    model = loaded(place.client())
    model.run(np.zeros((3, 32, 32), np.float32))
    assert list(place.server.runner.batches) == [1]


def test_what_waits_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(salient())
    model = Sessions(ModelFolder(tmp_path), threads=1).load(Wanted("mine", "segmentation"))
    assert model is not None
    runner = Runner()
    left, right = socket.socketpair()
    with left, right:
        for _ in range(server_module.MAX_WAITING):
            runner.submit(Item(model, np.zeros((3, 32, 32), np.float32), left))
        with pytest.raises(Busy, match="256 items wait"):
            runner.submit(Item(model, np.zeros((3, 32, 32), np.float32), left))


def test_items_of_those_who_have_left_are_not_run(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(salient())
    model = Sessions(ModelFolder(tmp_path), threads=1).load(Wanted("mine", "segmentation"))
    assert model is not None
    runner = Runner()
    left, right = socket.socketpair()
    with left:
        right.close()
        gone = Item(model, np.zeros((3, 32, 32), np.float32), left)
        assert not gone.is_wanted
        runner._run([gone])
        assert not runner.batches
        assert not gone.outputs
        assert gone.done.is_set(), "its connection must end"


def test_a_client_finds_the_server_that_came_in_place_of_a_dead_one(place: Place) -> None:
    client = place.client()
    model = loaded(client)
    connection = client._connection
    assert connection is not None
    connection.shutdown(socket.SHUT_RDWR)
    assert model.run(np.zeros((3, 32, 32), np.float32))[0].shape == (1, 32, 32)


def test_a_process_that_ends_under_an_item_is_told_and_may_be_retried(tmp_path: Path) -> None:
    address = private_address()
    listener = listening(address)
    assert listener is not None
    folder = ModelFolder(tmp_path, registry=fill(tmp_path))

    def ends_at_the_second_request() -> None:
        with listener.accept()[0] as connection:
            receive(connection)
            send(connection, {"welcome": 1})
            receive(connection)
            told = {"family": "u2net", "shape": [3, 32, 32], "dtype": "float32", "scale": 0.0, "labels": 0}
            send(connection, told)
            receive(connection)

    thread = threading.Thread(target=ends_at_the_second_request)
    thread.start()
    with listener:
        model = loaded(ModelClient(address, Sessions(folder, threads=1)))
        with pytest.raises(WorkerCrashed, match="started again") as caught:
            model.run(np.zeros((3, 32, 32), np.float32))
        assert caught.value.retryable
        thread.join()


def test_a_server_ends_with_the_last_pool_and_not_with_others(place: Place) -> None:
    with place.raw("pool") as first, place.raw("pool") as second:
        loaded(place.client())
        first.close()
        assert loaded(place.client()).run(np.zeros((3, 32, 32), np.float32))
        assert place.ended == []
        second.shutdown(socket.SHUT_RDWR)
        assert second.recv(1) == b""
        assert place.over.wait(20)
    assert place.ended == ["the last pool has left"]


@pytest.mark.parametrize("change", [{"version": "0.0.0"}, {"protocol": 0}, {"hello": "guest"}, {"folder": 5}])
def test_a_process_of_another_version_is_not_welcome(place: Place, change: dict[str, Any]) -> None:
    with connected(place.address, 20) as connection:
        send(connection, hello("work", place.folder.path) | change)
        message = receive(connection)
        assert message is None or receive(connection) is None


def test_each_connection_sees_the_folder_that_it_names(tmp_path: Path) -> None:
    folders = [ModelFolder(tmp_path / name) for name in ("a", "b")]
    for folder, side in zip(folders, (32, 64), strict=True):
        folder.path.mkdir()
        (folder.path / "mine.onnx").write_bytes(salient(side))
    listener = listening(address := private_address())
    assert listener is not None
    server = ModelServer(listener, Sessions(ModelFolder(tmp_path / "none"), threads=1))
    threading.Thread(target=server.serve, daemon=True).start()
    with listener:
        clients = [ModelClient(address, Sessions(folder, threads=1)) for folder in folders]
        assert [loaded(client, "mine").nature.shape for client in clients] == [(3, 32, 32), (3, 64, 64)]
        for client in clients:
            client.close()
        listener.shutdown(socket.SHUT_RDWR)


def test_a_server_that_nobody_asks_ends_unless_a_pool_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "FIRST_S", 0.0)
    for keep in (False, True):
        listener = listening(address := private_address())
        assert listener is not None
        ended: list[str] = []
        server = ModelServer(listener, Sessions(ModelFolder(tmp_path), threads=1), ended=ended.append, idle_s=0.5)
        with listener, connected(address, 1.5) as pool:
            send(pool, hello("pool", tmp_path, keep=keep))
            threading.Thread(target=server.serve, daemon=True).start()
            assert receive(pool) is not None
            if keep:
                with pytest.raises(TimeoutError):
                    receive(pool)
                assert "idle" not in ended
            else:
                assert receive(pool) == ({"bye": "idle"}, [])
            listener.shutdown(socket.SHUT_RDWR)


def test_a_server_that_loads_for_long_is_not_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "FIRST_S", 0.0)
    (tmp_path / "mine.onnx").write_bytes(salient())
    goes_on, load = threading.Event(), Sessions.load

    def slowly(self: Sessions, wanted: Wanted) -> Model | None:
        assert goes_on.wait(20)
        return load(self, wanted)

    monkeypatch.setattr(Sessions, "load", slowly)
    listener = listening(address := private_address())
    assert listener is not None
    server = ModelServer(listener, Sessions(ModelFolder(tmp_path), threads=1), idle_s=0.2)
    with listener, connected(address, 1.0) as pool, connected(address, 20) as work:
        send(pool, hello("pool", tmp_path))
        threading.Thread(target=server.serve, daemon=True).start()
        assert receive(pool) is not None
        send(work, hello("work", tmp_path))
        send(work, {"name": "mine", "task": "segmentation"})
        with pytest.raises(TimeoutError):  # five times as long as it may be idle
            receive(pool)
        goes_on.set()
        assert receive(work) is not None
        assert "family" in (receive(work) or ({}, []))[0]
        listener.shutdown(socket.SHUT_RDWR)


def test_a_server_whose_runner_fails_ends(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as one that gets no memory even for its lists: it must let nobody wait for ever."""

    def fail(*_: object) -> None:
        raise MemoryError("no memory at all")

    with place.raw() as connection:
        monkeypatch.setattr(Runner, "_alike", fail)
        send(connection, {"name": "u2netp", "task": "segmentation"}, [np.zeros((3, 32, 32), np.float32)])
        assert place.over.wait(20)
        assert place.ended == ["the runner has failed"]
        assert "no memory at all" in capsys.readouterr().err


def test_nobody_at_the_address_is_told(tmp_path: Path) -> None:
    client = ModelClient(private_address(), Sessions(ModelFolder(tmp_path)), connect_s=0.2)
    with pytest.raises(WorkerCrashed):
        client.load(Wanted("u2netp", "segmentation"))
