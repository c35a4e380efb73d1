"""Which queue the configuration names; wrong values are refused, and no secret is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixelmill.errors import ConfigError
from pixelmill.service.backends import database_url, make_queues
from pixelmill.service.settings import ServiceConfig
from pixelmill.storage.memory import MemoryStore
from servers import Azurite


def config(url: str, connection: str = "") -> ServiceConfig:
    return ServiceConfig(data=Path("unused"), queue_url=url, azure_connection=connection)


@pytest.mark.parametrize(
    "url",
    ["", "sql:x", "redis:tasks", "azure:", "azure:Tasks", "azure:a b", "sqs://host/x", "sqs:", "azure://host/", "x"],
)
def test_an_address_of_the_wrong_form_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="queue_url"):
        make_queues(config(url, "AccountName=x"), MemoryStore())


def test_azure_without_an_account_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match="PIXELMILL_AZURE_CONNECTION"):
        make_queues(config("azure:tasks"), MemoryStore())


def test_the_table_of_the_database_needs_no_queue() -> None:
    assert make_queues(config("sql:"), MemoryStore()) is None


def test_an_account_is_opened_by_its_connection_string() -> None:
    connection = f"DefaultEndpointsProtocol=http;AccountName=x;AccountKey={Azurite.key};EndpointSuffix=core.windows.net"
    assert make_queues(config("azure:tasks", connection), MemoryStore()) is not None


def test_no_secret_is_in_the_text_of_the_settings() -> None:
    shown = repr(ServiceConfig(data=Path("x"), database_url="postgresql://ann:geheim@h/d", azure_connection="geheim"))
    assert "geheim" not in shown


def test_the_database_is_in_the_data_folder_unless_another_is_named(tmp_path: Path) -> None:
    assert database_url("", tmp_path) == f"sqlite:///{tmp_path}/state.sqlite"
    assert database_url("postgresql://h/d", tmp_path) == "postgresql://h/d"
