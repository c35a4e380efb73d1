"""`pixelmill desktop`: the pages in a window of their own, over a running service or one that ends with the window.

The window is Chromium's, Chrome's or Edge's (`--app`), else that of pywebview (extra ``desktop``), else the pages open
in the default browser. The browser gets a profile of its own, so that its process ends with the window.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from pixelmill.cli.private import private_service, sigterm_raises
from pixelmill.cli.state import Globals
from pixelmill.errors import ConfigError

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
    "microsoft-edge-stable",
    "microsoft-edge",
    "msedge",
    "chrome",
)
BROWSER_FILES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
FLAGS = ("--no-first-run", "--no-default-browser-check", "--disable-background-networking", "--disable-sync")
STOP_S = 5.0


def desktop(
    context: typer.Context,
    url: Annotated[str | None, typer.Argument(help="A running service; without it a private one is started.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the private service's database and objects.")] = None,
    browser: Annotated[
        str | None, typer.Option(help="The browser to open, as a command that understands --app=URL.")
    ] = None,
) -> None:
    """Open the Studio, Jobs and Dashboard in a window.

    Without URL a private service is started over the data folder (the setting `data`), and ends when the window is
    closed or with Ctrl-C: what was accepted goes on at the next start.
    """
    options: Globals = context.obj
    settings = options.settings((), data=data)
    _check_screen(browser)
    with sigterm_raises(), _temporary() as temporary:
        folder = Path(temporary)
        if url is not None:
            _show(_address(url), folder, browser)
            return
        with private_service(folder, Path(settings["data"]), own_settings=True) as address:
            _show(address, folder, browser)


def _temporary() -> tempfile.TemporaryDirectory[str]:
    """For the browser's profile, to which its processes may write for a moment after the window has gone."""
    return tempfile.TemporaryDirectory(prefix="pixelmill-desktop-", ignore_cleanup_errors=True)


def _address(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"{url!r} is no address of a service; it looks like http://127.0.0.1:8080.")
    return parts.geturl()


def _check_screen(browser: str | None) -> None:
    """Raise where no window can be shown; a browser that was named may know a way."""
    if browser is not None or not sys.platform.startswith("linux"):
        return
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ConfigError(
            "There is no screen here (neither DISPLAY nor WAYLAND_DISPLAY is set). Start `pixelmill serve` and open "
            "its address in a browser, from another machine through `ssh -L 8080:127.0.0.1:8080 HOST`."
        )


def _show(url: str, folder: Path, browser: str | None) -> None:
    """Until the window is closed."""
    command = _browser(browser)
    if command is not None:
        with _window(command, url, folder) as process:
            process.wait()
    elif _has_webview():
        _webview(url)
    else:
        _in_default_browser(url)


def _browser(wanted: str | None) -> str | None:
    if wanted is not None:
        found = shutil.which(wanted)
        if found is None:
            raise ConfigError(f"--browser {wanted}: there is no such command.")
        return found
    named = next(filter(None, map(shutil.which, BROWSERS)), None)
    return named or next((path for path in BROWSER_FILES if Path(path).exists()), None)


@contextmanager
def _window(command: str, url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The browser's window; its process ends with the block, and the block with it."""
    flags = [*FLAGS, f"--user-data-dir={folder / 'profile'}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        # Chromium's sandbox refuses root; the window shows nothing but this service's own pages.
        flags.append("--no-sandbox")
    process = subprocess.Popen(  # noqa: S603 -- a browser of this machine, and an address that was checked
        [command, f"--app={url}", *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    print(f"Pixelmill at {url}; close its window, or press Ctrl-C, to end", file=sys.stderr)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _has_webview() -> bool:
    from importlib.util import find_spec

    return find_spec("webview") is not None


def _webview(url: str) -> None:
    import webview

    print(f"Pixelmill at {url}; close its window to end", file=sys.stderr)
    webview.create_window("Pixelmill", url, width=1360, height=900)
    webview.start()


def _in_default_browser(url: str) -> None:
    import threading

    print(
        f"Pixelmill at {url}, in your browser; press Ctrl-C to end. (A window of its own needs Chromium, Chrome or "
        "Edge, or `pip install 'pixelmill[desktop]'`.)",
        file=sys.stderr,
    )
    if not webbrowser.open(url):
        print("No browser could be opened: open the address by hand.", file=sys.stderr)
    threading.Event().wait()
