"""What a person does in the Studio, for tests: bring images, write a pipeline, run it, look."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import cv2
import numpy as np
from playwright.sync_api import Locator, Page, expect

LONG_MS = 60_000
"""A run of a few dozen images, on a machine that has other work, too."""

_DROP = """async ([files, target]) => {
  const data = new DataTransfer();
  for (const [name, text] of files) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    data.items.add(new File([bytes], name, {type: "image/jpeg", lastModified: 1}));
  }
  const at = document.querySelector(target);
  for (const type of ["dragenter", "dragover", "drop"])
    at.dispatchEvent(new DragEvent(type, {dataTransfer: data, bubbles: true, cancelable: true}));
}"""


def photographs(count: int, width: int = 320, height: int = 240) -> dict[str, bytes]:
    """JPEGs with soft shapes and noise, all different, by name."""
    made = {}
    for index in range(count):
        random = np.random.default_rng(index)
        pixels = cv2.resize(
            random.integers(0, 256, (6, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
        )
        noise = random.integers(0, 24, pixels.shape, np.uint8)
        made[f"photo-{index:03}.jpg"] = bytes(cv2.imencode(".jpg", cv2.add(pixels, noise))[1])
    return made


def drop(page: Page, files: Mapping[str, bytes], on: str = "body") -> None:
    """Drop files on a place of the page."""
    encoded = [[name, base64.b64encode(data).decode()] for name, data in files.items()]
    page.evaluate(_DROP, [encoded, on])


def write_pipeline(page: Page, text: str) -> None:
    """By its text form; returns when it is understood."""
    page.get_by_role("textbox", name="As text").fill(text)


def images(page: Page) -> Locator:
    """Cells of the grid of images that are in the document."""
    return page.get_by_role("list", name="Images").get_by_role("listitem")


def results(page: Page) -> Locator:
    """Cells of the grid of results that are in the document."""
    return page.get_by_role("list", name="Results").get_by_role("listitem")


def run_button(page: Page) -> Locator:
    """Starts a run, or another one."""
    return page.get_by_role("button", name="Run")


def run(page: Page) -> None:
    """Start a run, as soon as the page lets one."""
    button = run_button(page)
    expect(button).to_be_enabled()
    button.click()


def expect_end(page: Page, words: str) -> None:
    """Wait until the run has ended with these words (``12 done``)."""
    expect(page.get_by_label("Run", exact=True)).to_contain_text(words, timeout=LONG_MS)
    page.get_by_role("link", name="Download all").wait_for(timeout=LONG_MS)
