"""The page that finds images by what is in them, and presets that come alive with their model; in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from browser import OpenWindow, accessibility_faults, visit
from playwright.sync_api import expect
from service_process import ServiceProcess, wait_until
from tiny_models import fill

from pixelmill.images.encode import encode
from pixelmill.images.image import Image

COLORS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}
PIPELINE = "classify:model=colors/auto_tag:0.5,model=colors/faces:detector=haar"


@pytest.fixture
def learned(service: ServiceProcess) -> ServiceProcess:
    """With the classifier ``colors``, and none of the registry's models."""
    fill(service.data / "models")
    for name in ("u2netp.onnx", "mobilenet_v2.onnx", "labels.txt"):
        (service.data / "models" / name).unlink()
    return service


def tagged(service: ServiceProcess, name: str, *colors: str) -> str:
    files = [
        ("files", (f"{color}.png", encode(Image(np.full((64, 64, 3), COLORS[color], np.uint8)), "png")))
        for color in colors
    ]
    answer = httpx.post(f"{service.url}/v1/jobs", data={"pipeline": PIPELINE, "name": name}, files=files)
    job = str(answer.json()["id"])
    at = f"{service.url}/v1/jobs/{job}"
    wait_until(lambda: httpx.get(at).json()["state"] == "succeeded", "the job ends")
    return job


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_images_are_found_by_what_is_in_them(learned: ServiceProcess, open_window: OpenWindow, scheme: str) -> None:
    tagged(learned, "first", "red", "green")
    second = tagged(learned, "second", "red", "blue")
    watched = open_window(learned.url, color_scheme=scheme)
    page = watched.page
    visit(page, "/jobs")
    page.get_by_role("link", name="Find images").click()
    expect(page.get_by_text("What should be in the image?")).to_be_visible()
    assert accessibility_faults(page) == []
    images = page.get_by_role("list", name="Images").get_by_role("listitem")
    page.get_by_label("Label, such as cat").fill("scarlet")
    expect(images).to_have_count(4)  # classify tells all classes that it knows, the others with a small score
    expect(page).to_have_url(re.compile(r"label=scarlet"))
    page.get_by_label("With faces").check()
    expect(page.get_by_text("Nothing like that was found in any image")).to_be_visible()
    page.get_by_label("With faces").uncheck()
    expect(images).to_have_count(4)
    page.reload()
    expect(images).to_have_count(4)
    assert accessibility_faults(page) == []
    images.get_by_role("button", name="blue.png").click()
    dialog = page.get_by_role("dialog", name="blue.png")
    data = dialog.get_by_role("region", name="Data")
    expect(data.get_by_role("cell", name="blue thing")).to_be_visible()
    expect(data.get_by_role("heading", name="faces")).to_be_visible()
    assert accessibility_faults(page) == []
    page.keyboard.press("Escape")
    watched.may_fail_to_load = True  # the service refuses what has no word
    page.get_by_label("Label, such as cat").fill("?")
    expect(page.get_by_text(re.compile("has no word"))).to_be_visible()

    visit(page, f"/jobs/{second}")
    labels = page.get_by_role("list", name="Labels")
    expect(labels.get_by_role("link")).to_have_count(2)
    assert accessibility_faults(page) == []
    labels.get_by_role("link", name="blue thing").click()
    expect(page.get_by_role("heading", name="Find images of a job")).to_be_visible()
    expect(images).to_have_count(2)
    page.get_by_role("link", name="The job").click()
    expect(labels).to_be_visible()


def test_a_preset_can_be_used_once_its_model_is_there(learned: ServiceProcess, open_window: OpenWindow) -> None:
    page = open_window(learned.url).page
    visit(page, "/")
    beginning = page.get_by_role("button", name="Background removal", exact=True)
    expect(beginning).to_be_disabled()
    page.get_by_role("button", name="Open a preset or a saved pipeline").click()
    dialog = page.get_by_role("dialog", name="Open a pipeline")
    preset = dialog.get_by_role("listitem").filter(has_text="Background removal")
    expect(preset.get_by_text("pixelmill models pull u2netp")).to_be_visible()
    expect(preset.get_by_role("button", name="Copy the command for Background removal")).to_be_visible()
    expect(preset.get_by_role("button", name="Use Background removal")).to_be_disabled()
    assert accessibility_faults(page) == []
    page.keyboard.press("Escape")
    # The weights come while the page is open; whoever comes back to its window finds the preset usable.
    weights = Path(learned.data, "models", "u2netp.onnx")
    weights.write_bytes(Path(learned.data, "models", "bright.onnx").read_bytes())
    page.evaluate("dispatchEvent(new Event('focus'))")
    expect(beginning).to_be_enabled()
    beginning.click()
    expect(page.get_by_role("textbox", name="As text")).to_have_value("remove_background/format:png")
