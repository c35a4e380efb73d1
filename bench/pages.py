"""The pages in Chromium: bytes, first paint, time until one can act, open dashboards, long lists, uploads.

    python bench/pages.py [--rounds 7] [--seconds 60] [--dashboards 20] [--images 1000] [--only paint,scroll,...]

A private service on loopback with one pool process; Chromium runs on the same machine and is not counted in the
service's CPU. Needs `make pages` and Debian's Chromium (or PIXELMILL_TEST_CHROMIUM).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import httpx
import numpy as np
import psutil
from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from browser import chromium, visit

from pixelmill.api.pages import FOLDER
from server import PrivateService

PAGES = {"Studio": "/", "Jobs": "/jobs", "Dashboard": "/dashboard"}
READY = """
(() => {
  const look = () => {
    const main = document.querySelector('main#content:not([aria-busy="true"]) h1');
    if (main) window.readyAt = performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})()
"""
LONG_TASKS = """
window.longest = 0;
new PerformanceObserver(list => {
  for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
}).observe({type: 'longtask', buffered: false});
"""


def sizes() -> None:
    """Scripts and styles as they travel (Brotli)."""
    files = {path.name.removesuffix(".br"): path.stat().st_size for path in (FOLDER / "assets").glob("*.br")}
    for kind in (".js", ".css"):
        print(f"{kind[1:]:4} {sum(size for name, size in files.items() if name.endswith(kind)) / 1000:7.1f} KB")
    print(f"all  {sum(files.values()) / 1000:7.1f} KB")


def paint(browser: Browser, url: str, rounds: int) -> None:
    """First contentful paint, and the page's content with what the service said; fresh profiles, pages in turn."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in PAGES}
    for _ in range(rounds):
        for name, path in PAGES.items():
            context = browser.new_context(base_url=url)
            page = context.new_page()
            page.add_init_script(READY)
            visit(page, path)
            page.wait_for_function("window.readyAt !== undefined")
            first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN")
            found[name].append((first, page.evaluate("window.readyAt")))
            context.close()
    for name, times in found.items():
        first, ready = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name:10} first paint {first:6.0f} ms, content {ready:6.0f} ms (medians of {rounds})")


def tree_cpu(pid: int) -> float:
    """CPU seconds of a process and its children."""
    root = psutil.Process(pid)
    return sum(sum(one.cpu_times()[:2]) for one in (root, *root.children(recursive=True)))


def dashboards(browser: Browser, url: str, pid: int, count: int, seconds: float) -> None:
    """What open dashboards cost the service, each in a profile of its own, so each with a stream of its own."""
    costs = []
    for number in (0, count):
        with ExitStack() as stack:
            for _ in range(number):
                context = browser.new_context(base_url=url)
                stack.callback(context.close)
                visit(context.new_page(), "/dashboard")
            before, start = tree_cpu(pid), time.monotonic()
            time.sleep(seconds)
            costs.append(100 * (tree_cpu(pid) - before) / (time.monotonic() - start))
            print(f"{number:3} dashboards: {costs[-1]:5.1f} % of a core")
    print(f"{count} dashboards cost {costs[1] - costs[0]:.1f} % of a core more")


def picture(number: int) -> bytes:
    """A small JPEG, different for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (9, 12, 3), np.uint8)
    return bytes(cv2.imencode(".jpg", cv2.resize(pixels, (640, 480)))[1])


def scroll(browser: Browser, url: str, images: int) -> None:
    """The longest task of the page while a job of many images is scrolled from end to end."""
    files = [("files", (f"{number:05}.jpg", picture(number), "image/jpeg")) for number in range(images)]
    answer = httpx.post(f"{url}/v1/jobs", data={"pipeline": "grayscale/format:jpeg"}, files=files, timeout=300)
    job = answer.raise_for_status().json()["id"]
    while httpx.get(f"{url}/v1/jobs/{job}").json()["state"] in {"queued", "running"}:
        time.sleep(0.2)
    context = browser.new_context(base_url=url, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    visit(page, f"/jobs/{job}")
    page.get_by_role("list", name="Tasks").get_by_role("listitem").first.wait_for()
    print(f"a job of {images} images: the longest task while scrolling {longest_task(page):.0f} ms")
    context.close()


def longest_task(page: Page) -> float:
    """Milliseconds, while the wheel turns to the end of the page and back."""
    page.evaluate(LONG_TASKS)
    page.mouse.move(700, 600)
    for direction in (1, -1):
        before = -1
        while (now := page.evaluate("scrollY")) != before:
            before = now
            for _ in range(5):
                page.mouse.wheel(0, direction * 1500)
                page.wait_for_timeout(30)
            page.wait_for_timeout(150)
    return float(page.evaluate("window.longest"))


@contextmanager
def peak_memory(pid: int) -> Iterator[list[float]]:
    """The largest resident size of the service process in MB, looked at every 10 ms; the list gets before and peak."""
    process, found, end = psutil.Process(pid), [0.0, 0.0], threading.Event()
    found[0] = found[1] = process.memory_info().rss / 1e6

    def watch() -> None:
        while not end.wait(0.01):
            found[1] = max(found[1], process.memory_info().rss / 1e6)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        end.set()
        thread.join()


def uploads(url: str, pid: int) -> None:
    """Memory of the service while files of different sizes come in, four at a time as the pages send them."""
    with httpx.Client(base_url=url, timeout=300) as client, ThreadPoolExecutor(4) as senders:
        client.put("/v1/uploads/warm.jpg", content=bytes(1_000_000)).raise_for_status()
        for megabytes in (5, 50, 95):
            body = bytes(megabytes * 1_000_000)
            start = time.monotonic()
            with peak_memory(pid) as found:
                sent = [senders.submit(client.put, f"/v1/uploads/{number}.jpg", content=body) for number in range(12)]
                for one in sent:
                    one.result().raise_for_status()
            rate = 12 * megabytes / (time.monotonic() - start)
            print(f"12 uploads of {megabytes:2} MB: memory grows by {found[1] - found[0]:5.1f} MB, {rate:.0f} MB/s")


def main() -> None:
    """All parts, or those of --only."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--dashboards", type=int, default=20)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--only", default="sizes,paint,uploads,scroll,dashboards")
    options = parser.parse_args()
    parts = set(options.only.split(","))
    print(f"load of this machine before: {psutil.getloadavg()[0]:.1f} on {psutil.cpu_count()} cores")
    if "sizes" in parts:
        sizes()
    with PrivateService("--workers", "1") as service, chromium() as browser:
        url = f"http://127.0.0.1:{service.port}"
        if "paint" in parts:
            paint(browser, url, options.rounds)
        if "uploads" in parts:
            uploads(url, service.pid)
        if "scroll" in parts:
            scroll(browser, url, options.images)
        if "dashboards" in parts:
            dashboards(browser, url, service.pid, options.dashboards, options.seconds)


if __name__ == "__main__":
    main()
