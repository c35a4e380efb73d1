"""Fixtures that every test may ask for: photographs, the optional folder of assets, the async backend."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import reruns
import tiny_captioner

from servers import Azurite, Moto, Postgres, RabbitMQ, Redis, Server

ROOT = Path(__file__).parent.parent
ASSETS = Path(os.environ.get("PIXELMILL_TEST_ASSETS", ROOT.parent / "shared" / "assets"))


# A shell ignores SIGINT for what it runs in the background, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Nobody here speaks TLS to the world, and reading the certificates of its authorities would cost each HTTP client, also
# those of the services that tests start, 20 ms of a processor: more than the request. One there must be for obstore.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "support" / "nobody.pem")
os.environ.pop("SSL_CERT_DIR", None)

LONG = ("service", "pages", "engines", "cli", "targets", "client")
"""Folders whose files take longest: run first, so that no process is left alone with them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folders = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: folders.get(item.path.parent.name, len(LONG)))
    reruns.mark(items)


@pytest.fixture(autouse=True, scope="session")
def _no_models_of_this_user() -> Iterator[None]:
    """What the user of this machine has pulled must not change what operations do in tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pixelmill.models.folder.DEFAULT_FOLDER", "/nonexistent/models")
        yield


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def assets() -> Path:
    """The optional folder of photographs, variants and hostile files; tests that need it skip without it."""
    if not ASSETS.is_dir():
        pytest.skip(f"no assets at {ASSETS}; set PIXELMILL_TEST_ASSETS to run this test")
    return ASSETS


@pytest.fixture(scope="session")
def photo_path() -> Path:
    """A real photograph (JPEG) that ships in scikit-image's wheel."""
    import skimage

    return Path(skimage.__file__).parent / "data" / "rocket.jpg"


@pytest.fixture(scope="session")
def photo(photo_path: Path) -> bytes:
    return photo_path.read_bytes()


@pytest.fixture(scope="session")
def captioner() -> Path:
    """The checkpoint folder of a tiny BLIP that captions drawn shapes (``tiny_captioner``): trained once a machine."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("the extra caption is not installed; `make dev` brings it")
    return tiny_captioner.checkpoint()


# -- real servers --------------------------------------------------------------------------------------------------

S = TypeVar("S", bound=Server)


def _running(kind: type[S], factory: pytest.TempPathFactory) -> Iterator[S]:
    """One server for all tests of the run; absent on a user's machine its tests skip, in CI they fail."""
    missing = kind.missing()
    if missing is not None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"{missing}; `make servers` brings it")
    server = kind(factory.mktemp(kind.name.lower()))
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Tests use databases or key prefixes of their own, and may kill it if they start it again."""
    yield from _running(Redis, tmp_path_factory)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Tests create databases of their own: see ``postgres_url``."""
    yield from _running(Postgres, tmp_path_factory)


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """The address of an empty database, which goes with the test."""
    with postgres_server.database() as url:
        yield url


def _with_schema(url: str) -> str:
    from pixelmill.jobs.database import Database

    async def opened() -> None:
        async with Database(url):
            pass

    asyncio.run(opened())
    return url


@pytest.fixture(scope="session")
def sqlite_with_schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the state's schema, to be copied: migrations take longer than most tests."""
    path = tmp_path_factory.mktemp("schema") / "state.sqlite"
    _with_schema(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_with_schema(postgres_server: Postgres) -> Iterator[str]:
    """The same in PostgreSQL: the name of a database."""
    with postgres_server.database() as url:
        yield _with_schema(url).rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database without rows: the tests that ask for it run on each kind."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_with_schema"), tmp_path / "state.sqlite")
        yield f"sqlite:///{tmp_path}/state.sqlite"
    else:
        template = request.getfixturevalue("postgres_with_schema")
        server: Postgres = request.getfixturevalue("postgres_server")
        with server.database(template) as url:
            yield url


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """Tests use virtual hosts of their own: see ``rabbitmq_url``."""
    yield from _running(RabbitMQ, tmp_path_factory)


@pytest.fixture
def rabbitmq_url(rabbitmq_server: RabbitMQ) -> Iterator[str]:
    """The address of an empty virtual host, which goes with the test."""
    with rabbitmq_server.virtual_host() as url:
        yield url


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """S3 and SQS; tests use buckets and queues of their own names."""
    yield from _running(Moto, tmp_path_factory)


@pytest.fixture(scope="session")
def azurite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """Blob and queue storage of Azure; tests use containers and queues of their own names."""
    yield from _running(Azurite, tmp_path_factory)
