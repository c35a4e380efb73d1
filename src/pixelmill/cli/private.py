"""A private service of a command: on a free loopback port, and gone with the command.

It is killed by the kernel should the command's process die in a way that leaves no time for ending it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pixelmill.cli.state import Stopped
from pixelmill.errors import RunError

READY_S = 60.0
STOP_S = 20.0


@contextmanager
def private_service(folder: Path, data: Path, *, own_settings: bool = False, more: Sequence[str] = ()) -> Iterator[str]:
    """A service on a free loopback port over the folder ``data``, its log in ``folder``; its URL.

    ``own_settings``: the user's variables and configuration file count for it. Else they stay out of it. ``more``:
    further options of `pixelmill serve`.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    log = folder / "service.log"
    options = ["--host", "127.0.0.1", "--port", str(port), "--data", str(data.absolute()), *more]
    command = [sys.executable, "-m", "pixelmill", "serve", *options]
    environment = {
        name: value for name, value in os.environ.items() if own_settings or not name.startswith("PIXELMILL_")
    }
    parent = os.getpid()
    with log.open("wb") as sink:
        process = subprocess.Popen(  # noqa: S603 -- the interpreter of this program, with fixed arguments
            command,
            cwd=None if own_settings else folder,
            env=_with_import_path(environment),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            # A Ctrl-C at the terminal is for this process, which then ends the service.
            process_group=0,
            preexec_fn=lambda: _die_with(parent),  # noqa: PLW1509 -- there is one thread here, so nothing can deadlock
        )
    try:
        _wait_until_ready(process, url, log)
        print(f"Private service at {url} (process {process.pid})", file=sys.stderr)
        yield url
    finally:
        _stop(process)


def _with_import_path(environment: dict[str, str]) -> dict[str, str]:
    """The service must import the same Pixelmill, though it starts in another folder."""
    paths = [str(Path(path).absolute()) for path in sys.path if path]
    return {**environment, "PYTHONPATH": os.pathsep.join(paths)}


def _die_with(parent: int) -> None:
    from pixelmill.targets.process import die_with

    die_with(parent)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    import httpx

    deadline = time.monotonic() + READY_S
    with httpx.Client(trust_env=False, timeout=2.0) as http:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if http.get(f"{url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
    tail = log.read_text(errors="replace")[-2000:].strip()
    raise RunError(
        f"The private service did not get ready. Its log ends with:\n{tail}\n`pixelmill doctor` may know more."
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that what was started is ended."""

    def stop(number: int, frame: object) -> None:
        del frame
        raise Stopped(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
