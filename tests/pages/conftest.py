"""A browser for each module, a service for each test that asks for one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import browser as browsers
import pytest
from playwright.sync_api import Browser
from service_process import ServiceProcess, pictures

__all__ = ["pictures"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Absent on a user's machine its tests skip, in CI they fail."""
    missing = browsers.missing()
    if missing is not None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"{missing}; `make servers` brings it")
    with browsers.chromium() as started:
        yield started


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service on loopback without tokens."""
    started = ServiceProcess(tmp_path / "data", "--workers", "2")
    started.start()
    yield started
    started.end()


@pytest.fixture
def open_window(browser: Browser) -> Iterator[browsers.OpenWindow]:
    """`open_window(url, **context options)`: a private window, checked for faults at the end."""
    with ExitStack() as stack:

        def opened(url: str, **options: Any) -> browsers.Watched:
            return stack.enter_context(browsers.window(browser, url, **options))

        yield opened
