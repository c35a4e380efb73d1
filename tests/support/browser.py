"""Debian's Chromium through Playwright: windows that fail their test where a page does what it must not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

CHROMIUM = os.environ.get("PIXELMILL_TEST_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
WAIT_MS = 30_000
expect.set_options(timeout=WAIT_MS)
WEB = Path(__file__).parents[2] / "web"
AXE = WEB / "node_modules" / "axe-core" / "axe.min.js"
SHELL = 'main#content:not([aria-busy="true"])'


def missing() -> str | None:
    """What is absent here, in words."""
    from pixelmill.api import pages

    if find_spec("playwright") is None:
        return "Playwright is not installed"
    if not Path(CHROMIUM).exists():
        return "there is no Chromium"
    return None if pages.are_built() else "the pages are not built (`make pages`)"


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a profile of its own; ends with the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A window, and what went wrong in it."""

    page: Page
    origin: str
    faults: list[str] = field(default_factory=list)
    may_fail_to_load: bool = False
    """The test kills the service, or is refused: failed requests are then no fault."""

    def __post_init__(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(f"page error: {error}"))
        self.page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        # Tests that run beside make network interfaces; Chromium then ends what is under way, also on loopback.
        if "net::ERR_NETWORK_CHANGED" in message.text:
            return
        if message.type != "error" or (self.may_fail_to_load and "Failed to load resource" in message.text):
            return
        self.faults.append(f"console: {message.text} ({message.location.get('url')})")

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in {"blob", "data"} or f"{parts.scheme}://{parts.netloc}" == self.origin:
            return
        self.faults.append(f"asked another host: {request.url}")

    def check(self) -> None:
        """Nothing was said on the console, nothing was fetched from elsewhere."""
        assert not self.faults, "\n".join(self.faults)


OpenWindow = Callable[..., Watched]
"""The fixture ``open_window``: ``open_window(url, **options of a context)``."""


@contextmanager
def window(browser: Browser, url: str, **options: Any) -> Iterator[Watched]:
    """A private window on the service at ``url``, whose faults fail the test."""
    context: BrowserContext = browser.new_context(base_url=url, accept_downloads=True, **options)
    context.set_default_timeout(WAIT_MS)
    watched = Watched(context.new_page(), url)
    try:
        yield watched
        watched.check()
    finally:
        context.close()


def visit(page: Page, path: str) -> None:
    """Open a page, and wait until it is there."""
    page.goto(path, wait_until="domcontentloaded")
    page.wait_for_selector(SHELL)


def sign_in(page: Page, token: str, path: str = "/jobs") -> None:
    """Open a page as somebody who isn't signed in, and sign in there."""
    visit(page, path)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()


def accessibility_faults(page: Page) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA (its rules for A and AA up to 2.2)."""
    page.evaluate(AXE.read_text())
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = page.evaluate("async tags => (await axe.run({runOnly: tags})).violations", tags)
    return [
        f"{rule['id']} ({rule['impact']}): {rule['help']}: "
        + "; ".join(str(node["target"]) for node in rule["nodes"][:4])
        for rule in found
    ]
