"""When the service dies, however it dies, its processes end within two seconds and its port is free."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pool_tools import Announcement, Watched, sockets_of, wait_readable

HERE = Path(__file__).parent.parent / "support"


@contextmanager
def service(
    start: str, ends: str, folder: Path
) -> Iterator[tuple[subprocess.Popen[str], dict[str, object], Announcement]]:
    announcement = Announcement(folder)
    with subprocess.Popen(
        [sys.executable, str(HERE / "doomed_service.py"), start, ends, str(announcement.path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert wait_readable(process.stdout.fileno(), 30), "the service did not start"
            yield process, json.loads(process.stdout.readline()), announcement
        finally:
            process.kill()
            announcement.close()


@pytest.mark.parametrize("start", ["exec", "prefork"])
@pytest.mark.parametrize("ends", ["kill", "exit"])
def test_no_process_outlives_the_service_and_its_port_is_free(start: str, ends: str, tmp_path: Path) -> None:
    with service(start, ends, tmp_path) as (process, facts, _):
        pids = facts["pids"]
        assert isinstance(pids, list)
        assert len(pids) == 4
        held = sockets_of(process.pid)
        assert held
        for pid in pids:
            assert not sockets_of(pid) & held, "a pool process holds a socket of the service"
        watched = [Watched(pid) for pid in pids]
        if ends == "kill":
            process.kill()
        else:
            process.communicate("\n", timeout=10)
        deadline = time.monotonic() + 2
        for one in watched:
            assert one.ended_within(max(0.0, deadline - time.monotonic())), f"process {one.pid} lives on"
        process.wait(10)
        with socket.socket() as again:
            again.bind(("127.0.0.1", facts["port"]))
            again.listen()


def test_an_interrupt_from_the_terminal_does_not_touch_running_tasks(tmp_path: Path) -> None:
    with service("exec", "wait", tmp_path) as (process, _, announcement):
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == "interrupted\n"
        announcement.let_go()
        assert process.stdout.readline() == "b'done'\n"
        assert process.wait(10) == 0
