"""Takes the pictures of the pages: `make screenshots`; each page in both themes, as `docs/images/pages-*.webp`.

A hub with one pool process, a joined node and a container as overflow (all on loopback, all private) work on
scikit-image's photographs while the pictures are taken. Pixelmill itself encodes them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import skimage
from playwright.sync_api import Browser, Page, ViewportSize

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))
sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

from browser import chromium, visit

from pixelmill import Pipeline
from server import PrivateService, free_port

OUT = Path(__file__).parent
SIZE: ViewportSize = {"width": 1440, "height": 900}
PHOTOS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "coins.png",
    "camera.png",
)
JOBS = (
    ("catalogue thumbnails", "resize:256,256,fit=inside/format:webp", 400),
    ("sketches for the poster", "sketch:denoise=full/format:jpeg,quality=85", 240),
    ("edges", "canny:100,200/format:png", 160),
    ("cells and coins", "watershed:overlay/format:jpeg", 48),
)
STUDIO = "sketch/sepia/vignette/format:jpeg,quality=85"
BUSY_S = 45
WAIT_S = 120.0


def photographs() -> list[Path]:
    """Of scikit-image's wheel."""
    folder = Path(skimage.__file__).parent / "data"
    return [folder / name for name in PHOTOS if (folder / name).exists()]


def until(holds: bool | None, what: str) -> None:
    """Fail where something did not come about."""
    if not holds:
        raise SystemExit(f"{what} did not come about")


@contextmanager
def process(*options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`pixelmill` with these options, ended with the block."""
    started = subprocess.Popen(
        [sys.executable, "-m", "pixelmill", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield started
    finally:
        started.terminate()
        started.wait(40)


def answers(url: str) -> bool:
    """Whether a service is ready, or becomes so."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return True
        except httpx.HTTPError:
            time.sleep(0.1)
    return False


@contextmanager
def fleet() -> Iterator[str]:
    """The hub's URL."""
    container = f"http://127.0.0.1:{(port := free_port())}"
    os.environ["PIXELMILL_OVERFLOW"] = (
        f'[{{"name": "cloud-run", "url": "{container}", "price_per_second": 0.00005, "concurrency": 1}}]'
    )
    os.environ |= {"PIXELMILL_OVERFLOW_BUDGET_HOUR": "0.5", "PIXELMILL_OVERFLOW_BUDGET_DAY": "5"}
    with ExitStack() as stack:
        stack.enter_context(process("node", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"))
        until(answers(container), "the container")
        service = stack.enter_context(PrivateService("--workers", "1", "--set", "overflow_after_normal=3s"))
        hub = f"http://127.0.0.1:{service.port}"
        stack.enter_context(process("node", "--join", hub, "--name", "cellar", "--workers", "1", "--dedicated"))
        yield hub


def submit(url: str, name: str, pipeline: str, count: int) -> None:
    """A job over the photographs, again and again."""
    bodies = [(path.name, path.read_bytes()) for path in photographs()]
    files = [
        ("files", (f"{number:03}-{bodies[number % len(bodies)][0]}", bodies[number % len(bodies)][1]))
        for number in range(count)
    ]
    httpx.post(
        f"{url}/v1/jobs", data={"pipeline": pipeline, "name": name}, files=files, timeout=WAIT_S
    ).raise_for_status()


def save(page: Page, name: str) -> None:
    """The window as it is."""
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder) / "taken.png"
        page.screenshot(path=taken, animations="disabled")
        outcome = Pipeline.parse("format:webp,quality=85").run(taken)
    assert outcome.bytes is not None
    (OUT / f"pages-{name}.webp").write_bytes(outcome.bytes)
    print(f"pages-{name}.webp {len(outcome.bytes) / 1000:.0f} KB")


def studio(page: Page, theme: str) -> None:
    """Images, a pipeline, and its preview."""
    visit(page, "/")
    page.locator("input[type=file]").first.set_input_files(photographs())
    page.get_by_text(f"{len(photographs())} images stored").wait_for()
    page.get_by_role("textbox", name="As text").fill(STUDIO)
    page.get_by_text("After", exact=True).wait_for()
    page.wait_for_timeout(5_000)  # the picture after the last change
    save(page, f"studio-{theme}")


def jobs(page: Page, theme: str) -> None:
    """The list of jobs."""
    visit(page, "/jobs")
    page.get_by_role("link", name="edges").first.wait_for()
    save(page, f"jobs-{theme}")


def dashboard(page: Page, theme: str) -> None:
    """The machines and their last minutes."""
    visit(page, "/dashboard")
    page.get_by_role("article").nth(1).wait_for()
    page.wait_for_timeout(2_000)  # two samples
    save(page, f"dashboard-{theme}")


def take(browser: Browser, url: str) -> None:
    """Every page in both themes."""
    for theme in ("light", "dark"):
        for page_of in (dashboard, jobs, studio):
            context = browser.new_context(base_url=url, viewport=SIZE, color_scheme=theme)
            context.set_default_timeout(60_000)
            page_of(context.new_page(), theme)
            context.close()


def main() -> None:
    """Start the fleet, give it work, take the pictures."""
    with fleet() as url, chromium() as browser:
        for name, pipeline, count in JOBS:
            submit(url, name, pipeline, count)
        time.sleep(BUSY_S)  # minutes of a chart come in minutes
        take(browser, url)


if __name__ == "__main__":
    main()
