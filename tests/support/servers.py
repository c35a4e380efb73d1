"""Real servers for tests: started on free loopback ports, in a folder of the test, and ended by their process id.

Each is a value with ``start``, ``stop``, ``kill`` (as a power cut would) and ``restart``; the same port and the same
folder are used again, so that what a server keeps on disk can be tested. Children die with the test process.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import httpx
import psutil
import psycopg

START_S = 60.0
_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def free_port() -> int:
    """A port that nobody listens on now, and that no connection is given by chance until somebody does."""
    first, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    for _ in range(100):
        port = secrets.choice(range(10_000, max(first, 11_000)))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no port from 10,000 to {first:,} is free")


def accepts(port: int) -> bool:
    """Whether somebody listens on that loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], what: str, seconds: float = START_S) -> None:
    """Poll until it holds; raises :class:`TimeoutError` that says what was waited for."""
    deadline, pause = time.monotonic() + seconds, 0.02
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} within {seconds:g} s")
        time.sleep(pause)
        pause = min(0.1, pause * 1.2)


def _die_with_parent() -> None:
    _libc.prctl(_PDEATHSIG, signal.SIGKILL)


def _tie() -> Callable[[], None] | None:
    """What ties a child to us; the kernel means the thread that started it, so only where that lives as long."""
    return _die_with_parent if threading.current_thread() is threading.main_thread() else None


class Server:
    """One process. Subclasses say what to start, and when it is ready."""

    name: ClassVar[str]
    program: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str | None:
        """Why it can't be started here; None if it can."""
        return None if cls.path() else f"{cls.program} is not installed"

    @classmethod
    def path(cls) -> str | None:
        """The program's place, if it is here."""
        return shutil.which(cls.program)

    def command(self) -> Sequence[str]:
        """The program with its arguments."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Variables beside those of this process."""
        return {}

    def options(self) -> Mapping[str, Any]:
        """More arguments for :class:`subprocess.Popen`."""
        return {}

    def is_ready(self) -> bool:
        """Whether it answers."""
        return accepts(self.port)

    def start(self) -> Self:
        """Start, and return when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command()),
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_tie(),  # noqa: PLW1509 -- it calls one function of libc, nothing that takes locks
                **{"cwd": self.folder, **self.options()},
            )
        wait_until(lambda: self._died() or self.is_ready(), f"{self.name} was not ready")
        if self._died():
            raise RuntimeError(f"{self.name} ended at once: {self.log()[-2000:]}")
        return self

    def _died(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def log(self) -> str:
        """What it printed."""
        return (self.folder / "server.log").read_text(errors="replace")

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Stop it for good, with all that belongs to it."""
        self.stop()

    def restart(self) -> None:
        """Stop and start again, on the same data."""
        self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        # Some are started by a script: those are its children, and must not outlive it.
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in psutil.wait_procs(family, timeout=0 if number is signal.SIGKILL else 5)[1]:
            child.kill()
        psutil.wait_procs(family, timeout=5)


class Redis(Server):
    """Keeps its data in an append-only file."""

    name, program = "Redis", "redis-server"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        places = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        return [self.program, *places, "--appendonly", "yes", "--save", ""]

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as line:
                line.sendall(b"PING\r\n")
                return line.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


class Postgres(Server):
    """A cluster of its own, owned by ``nobody`` where we are root, which PostgreSQL refuses to run as.

    Its data lie outside of pytest's folders: every start of pytest takes their rights from everybody else, and with
    them those of a server that runs for another start.
    """

    name, program = "PostgreSQL", "postgres"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._home = Path(tempfile.mkdtemp(prefix="pixelmill-test-postgresql-"))
        self.data = self._home / "data"

    def close(self) -> None:
        """Stop it for good, and remove its data."""
        super().close()
        shutil.rmtree(self._home, ignore_errors=True)

    @classmethod
    def path(cls) -> str | None:
        places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{cls.program}"))  # Debian keeps it off PATH
        return shutil.which(cls.program) or (str(places[-1]) if places else None)

    def url(self, database: str = "postgres") -> str:
        """For SQLAlchemy, with psycopg."""
        return f"postgresql+psycopg://pixelmill@127.0.0.1:{self.port}/{database}"

    def options(self) -> Mapping[str, Any]:
        owner = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        return {"cwd": self._home, **owner}

    def start(self) -> Self:
        if not (self.data / "PG_VERSION").exists():
            self._initialize()
        return super().start()

    def _initialize(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            for folder in (self._home, self.data):
                shutil.chown(folder, "nobody", "nogroup")
        program = Path(self.path() or "").resolve().with_name("initdb")
        options = ["-U", "pixelmill", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(
            [str(program), "-D", str(self.data), *options], check=True, capture_output=True, **self.options()
        )

    def command(self) -> Sequence[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 60,
            "shared_buffers": "64MB",
        }
        return [self.path() or "", "-D", str(self.data), *(f"--{name}={value}" for name, value in settings.items())]

    def is_ready(self) -> bool:
        return accepts(self.port) and "ready to accept connections" in self.log().rpartition("starting PostgreSQL")[2]

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """An empty database, or a copy of another one that nobody uses now."""
        name = f"test_{secrets.token_hex(4)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.url(name)
        finally:
            self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        with psycopg.connect(f"postgresql://pixelmill@127.0.0.1:{self.port}/postgres", autocommit=True) as connection:
            connection.execute(statement)

    def stop(self) -> None:
        self._end(signal.SIGINT)  # the fast shutdown: it does not wait for clients


class RabbitMQ(Server):
    """A broker with an Erlang port mapper of its own, which ends with it."""

    name, program = "RabbitMQ", "/usr/lib/rabbitmq/bin/rabbitmq-server"  # that on PATH changes the user

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.node = f"pixelmill{self.port}@localhost"
        self._mapper_port, self._distribution_port = free_port(), free_port()
        self._mapper: subprocess.Popen[bytes] | None = None
        self._spare: list[str] = []
        self._used: list[str] = []

    def url(self, vhost: str = "/") -> str:
        """Of a virtual host, for AMQP clients."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{vhost.replace('/', '%2F')}"

    def environment(self) -> Mapping[str, str]:
        folder = self.folder
        erlang = "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none"
        return {
            "HOME": str(folder),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": erlang,
        }

    def start(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rabbitmq.conf").write_text(f"listeners.tcp.local = 127.0.0.1:{self.port}\n")
        (self.folder / "enabled_plugins").write_text("[].\n")
        if self._mapper is None:
            self._mapper = subprocess.Popen(
                ["epmd", "-port", str(self._mapper_port), "-address", "127.0.0.1"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=_tie(),  # noqa: PLW1509 -- as above
            )
            wait_until(lambda: accepts(self._mapper_port), "epmd did not answer")
        return super().start()

    def command(self) -> Sequence[str]:
        return [self.program]

    def is_ready(self) -> bool:
        """Whether it speaks AMQP: it greets a client that offers another version."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as line:
                line.sendall(b"AMQP\0\0\0\0")
                return line.recv(4) == b"AMQP"
        except OSError:
            return False

    def control(self, *arguments: str) -> str:
        """What ``rabbitmqctl`` says."""
        program = Path(self.program).with_name("rabbitmqctl")
        done = subprocess.run(
            [str(program), "--quiet", *arguments],
            env={**os.environ, **self.environment()},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    @contextmanager
    def virtual_host(self) -> Iterator[str]:
        """An empty virtual host, which goes when the next ones are made."""
        if not self._spare:
            self._make_spare()
        name = self._spare.pop()
        try:
            yield self.url(name)
        finally:
            self._used.append(name)

    def _make_spare(self) -> None:
        """Some at a time: ``rabbitmqctl`` needs half a second of a processor for each call."""
        names = [f"test-{secrets.token_hex(4)}" for _ in range(8)]
        # The calls of `rabbitmqctl add_vhost`, `set_permissions` and `delete_vhost`.
        self.control(
            "eval",
            f"""
            Quiet = <<"none">>, All = <<".*">>,
            [ok = rabbit_vhost:delete(Name, Quiet) || Name <- {_erlang(self._used)}],
            [begin
                ok = rabbit_vhost:add(Name, Quiet),
                ok = rabbit_auth_backend_internal:set_permissions(<<"guest">>, Name, All, All, All, Quiet)
            end || Name <- {_erlang(names)}].
            """,
        )
        self._used, self._spare = [], names

    def close(self) -> None:
        """Stop the broker and its port mapper."""
        self.stop()
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper.wait()
            self._mapper = None


def _erlang(names: Sequence[str]) -> str:
    return "[" + ", ".join(f'<<"{name}">>' for name in names) + "]"


class Moto(Server):
    """S3 and SQS."""

    name, program = "moto", "moto_server"

    @classmethod
    def path(cls) -> str | None:
        return shutil.which(cls.program, path=str(Path(sys.executable).parent))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        return [self.path() or "", "-H", "127.0.0.1", "-p", str(self.port)]

    def reset(self) -> None:
        """Forget everything."""
        httpx.post(f"{self.url}/moto-api/reset").raise_for_status()


class Azurite(Server):
    """Azure Blob Storage and Queue Storage. Its account and key are the ones that everybody knows."""

    name, program = "Azurite", "azurite"
    account = "devstoreaccount1"
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.queue_port, self._table_port = free_port(), free_port()

    @classmethod
    def path(cls) -> str | None:
        beside = Path(sys.prefix) / "node" / "node_modules" / ".bin" / cls.program
        return str(beside) if beside.exists() else shutil.which(cls.program)

    @property
    def blob_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.account}"

    @property
    def queue_url(self) -> str:
        return f"http://127.0.0.1:{self.queue_port}/{self.account}"

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={self.key};"
            f"BlobEndpoint={self.blob_url};QueueEndpoint={self.queue_url};"
        )

    def command(self) -> Sequence[str]:
        ports = {"blob": self.port, "queue": self.queue_port, "table": self._table_port}
        hosts = [word for kind in ports for word in (f"--{kind}Host", "127.0.0.1")]
        places = [word for kind, port in ports.items() for word in (f"--{kind}Port", str(port))]
        quiet = ["--skipApiVersionCheck", "--disableTelemetry", "--silent"]
        return [self.path() or "", *hosts, *places, "--location", str(self.folder), *quiet]

    def is_ready(self) -> bool:
        return accepts(self.port) and accepts(self.queue_port)
