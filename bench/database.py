"""A private PostgreSQL for benchmarks, on a free loopback port: durable (`fsync=on`) unless asked otherwise."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from server import free_port

START_S = 60.0
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "128MB",
}


def _programs() -> Path:
    """The folder of `initdb` and `postgres`: Debian keeps them off PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    found = shutil.which("postgres") or (str(places[-1]) if places else None)
    if found is None:
        raise SystemExit("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    return Path(found).resolve().parent


@contextmanager
def private_postgres(fsync: str = "on") -> Iterator[tuple[str, str]]:
    """The address of an empty database for SQLAlchemy, and the server's version."""
    programs, port = _programs(), free_port()
    # PostgreSQL refuses to run as root.
    who: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="pixelmill-bench-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        data = folder / "data"
        data.mkdir()
        if who:
            folder.chmod(0o711)
            shutil.chown(data, "nobody", "nogroup")
        options = ["-U", "pixelmill", "-A", "trust", "-E", "UTF8"]
        subprocess.run(
            [str(programs / "initdb"), "-D", str(data), *options], check=True, capture_output=True, cwd="/", **who
        )
        flags = [f"--{key}={value}" for key, value in {**SETTINGS, "fsync": fsync, "port": port}.items()]
        with (folder / "server.log").open("wb") as log:
            server = subprocess.Popen(
                [str(programs / "postgres"), "-D", str(data), *flags], stdout=log, stderr=log, cwd="/", **who
            )
        try:
            yield f"postgresql+psycopg://pixelmill@127.0.0.1:{port}/postgres", _version(port, server)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)


def _version(port: int, server: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with psycopg.connect(f"postgresql://pixelmill@127.0.0.1:{port}/postgres", connect_timeout=2) as connection:
                return str(connection.info.parameter_status("server_version"))
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
