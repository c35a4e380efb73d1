"""`pixelmill desktop`: a real Chromium window (without a screen), over a service of its own or a running one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from browser import CHROMIUM
from playwright.sync_api import Browser
from service_process import ServiceProcess, wait_until


@pytest.fixture
def headless(browser: Browser, tmp_path: Path) -> Path:
    """A browser command that needs no screen; asking for `browser` skips where there is no Chromium."""
    script = tmp_path / "headless"
    script.write_text(f'#!/bin/sh\nexec {CHROMIUM} --headless --disable-gpu --disable-dev-shm-usage "$@"\n')
    script.chmod(0o755)
    return script


@contextmanager
def desktop(*options: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", "pixelmill", "desktop", *options], stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        if process.stderr is not None:
            process.stderr.close()


def browser_of(process: subprocess.Popen[bytes]) -> psutil.Process | None:
    children = psutil.Process(process.pid).children()
    return next((child for child in children if any("--app=" in word for word in child.cmdline())), None)


def test_a_window_over_a_running_service_loads_the_pages_and_ends_alone(
    headless: Path, service: ServiceProcess
) -> None:
    with desktop(service.url, "--browser", str(headless)) as process:
        wait_until(lambda: '"path":"/v1/session"' in service.log.read_text(), "the page's script asks who is there")
        window = browser_of(process)
        assert window is not None
        window.terminate()  # as a closed window ends it
        assert process.wait(30) == 0
    assert service.process is not None
    assert service.process.poll() is None


def test_a_service_of_its_own_ends_with_the_window_and_keeps_its_data(headless: Path, tmp_path: Path) -> None:
    data = tmp_path / "mine"
    with desktop("--data", str(data), "--browser", str(headless)) as process:
        wait_until(lambda: browser_of(process) is not None, "the window is there")
        window = browser_of(process)
        assert window is not None
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 143
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert list(data.iterdir())


def test_what_is_no_address_is_refused(headless: Path) -> None:
    with desktop("ftp://example.org", "--browser", str(headless)) as process:
        assert process.wait(30) == 2
        assert process.stderr is not None
        assert b"is no address of a service" in process.stderr.read()
