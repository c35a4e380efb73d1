"""Links against hosts that break off, fall silent or talk nonsense: an error of the store, to be tried again."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from pixelmill.errors import StorageUnavailable
from pixelmill.functions.links import Links
from pixelmill.functions.settings import FunctionSettings
from pixelmill.targets.invocation import Link

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"


class Host:
    """Answers each request with the same bytes, and then hangs up, or is silent."""

    def __init__(self, said: bytes, *, silent: bool = False) -> None:
        self._said, self._silent = said, silent
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.netloc = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._kept: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.recv(65_536)
            connection.sendall(self._said)
            if self._silent:
                self._kept.append(connection)
            else:
                connection.shutdown(socket.SHUT_WR)
                connection.close()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        for connection in self._kept:
            connection.close()


@pytest.fixture(params=["breaks off", "falls silent", "talks nonsense"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    said = {"breaks off": HEAD + b"x" * 400, "falls silent": HEAD + b"x" * 400, "talks nonsense": b"220 mail ready\r\n"}
    made = Host(said[request.param], silent=request.param == "falls silent")
    yield made
    made.close()


def test_what_a_host_does_wrong_is_to_be_tried_again(host: Host) -> None:
    settings = FunctionSettings(stores={"s3": {"endpoint": f"http://{host.netloc}"}})
    with pytest.raises(StorageUnavailable):
        Links(settings, 0.7).contents(Link(f"http://{host.netloc}/a.jpg"))


def test_the_whole_body_is_the_contents() -> None:
    host = Host(HEAD + b"x" * 1000)
    settings = FunctionSettings(stores={"s3": {"endpoint": f"http://{host.netloc}"}})
    assert Links(settings, 5).contents(Link(f"http://{host.netloc}/a.jpg")) == b"x" * 1000
    host.close()
