"""Addresses of Redis: wrong ones are refused, and no password is ever shown."""

from __future__ import annotations

import sys

import pytest

from pixelmill.errors import ConfigError, MissingExtra
from pixelmill.events.redis_client import check_url, database_of, make_client, without_password


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://h", "redis://:word@", "redis://h:many", "amqp://h"])
def test_other_addresses_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="PIXELMILL_REDIS_URL") as caught:
        check_url(url)
    assert not url or url not in str(caught.value)


def test_passwords_are_masked() -> None:
    assert without_password("redis://ann:p%40ss@h:1/2") == "redis://ann:***@h:1/2"
    assert without_password("redis://:s:e@h:1") == "redis://:***@h:1"
    assert without_password("redis://h:1/2") == "redis://h:1/2"
    assert without_password("unix:///run/r.sock?db=1&password=secret") == "unix:///run/r.sock?db=1&password=***"


@pytest.mark.parametrize(
    ("url", "database"), [("redis://h", "0"), ("redis://h/", "0"), ("redis://h:1/7", "7"), ("unix:///run/r.sock", "0")]
)
def test_the_database_of_an_address(url: str, database: str) -> None:
    assert database_of(url) == database


def test_without_the_package_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtra, match=r"pixelmill\[fleet\]"):
        make_client("redis://localhost")
