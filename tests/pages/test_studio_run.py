"""The Studio from images to results, as people use it."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import OpenWindow, accessibility_faults, visit
from playwright.sync_api import Page, expect
from service_process import ServiceProcess
from studio import LONG_MS, drop, expect_end, images, photographs, results, run, run_button, write_pipeline

HOSTILE = b"\xff\xd8\xff\xe0" + b"this is no picture" * 40


def test_fifty_dropped_images_are_run_compared_and_downloaded(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = open_window(service.url, viewport={"width": 1440, "height": 900}).page
    visit(page, "/")
    drop(page, photographs(50))
    expect(page.get_by_text("50 images stored")).to_be_visible(timeout=LONG_MS)
    write_pipeline(page, "grayscale/resize:64,48/format:png")
    page.get_by_label("Name").fill("Fifty")
    run(page)
    expect_end(page, "50 done")
    expect(page.get_by_role("heading", level=2, name="Fifty")).to_be_visible()

    first = results(page).first
    expect(first).to_contain_text("local")
    first.get_by_role("button").click()
    viewer = page.get_by_role("dialog", name="photo-000.jpg")
    expect(viewer.get_by_text("320 × 240 jpeg")).to_be_visible()
    expect(viewer.get_by_text("64 × 48 png")).to_be_visible()
    viewer.get_by_role("slider").fill("80")
    expect(viewer.get_by_role("img", name="Input: photo-000.jpg")).to_be_visible()
    expect(viewer.get_by_role("img", name="Result of photo-000.jpg")).to_be_visible()
    viewer.get_by_role("button", name="Next").click()
    expect(page.get_by_role("dialog", name="photo-001.jpg")).to_contain_text("2 of 50")
    page.keyboard.press("Escape")

    with page.expect_download() as download:
        page.get_by_role("link", name="Download all").click()
    archive = zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert sorted(archive.namelist()) == [f"photo-{index:03}.png" for index in range(50)]
    for name in archive.namelist():
        found = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_UNCHANGED)
        assert found is not None
        assert found.shape == (48, 64)


def test_a_hostile_file_costs_only_itself(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = open_window(service.url, viewport={"width": 1440, "height": 900}).page
    visit(page, "/")
    drop(page, {**photographs(5), "<img src=x onerror=alert(1)>.jpg": HOSTILE, "empty.jpg": b""})
    expect(page.get_by_text("1 image was not sent")).to_be_visible()
    expect(page.get_by_text("The file is empty.")).to_be_visible()
    write_pipeline(page, "resize:64/format:webp")
    run(page)
    expect_end(page, "5 done")
    expect(page.get_by_label("Run", exact=True)).to_contain_text("1 failed")
    expect(page.get_by_label("Run", exact=True)).to_contain_text("1 image not sent")
    page.get_by_role("button", name="Failed 1").click()
    expect(results(page)).to_have_count(1)
    results(page).get_by_role("button").click()
    viewer = page.get_by_role("dialog")
    expect(viewer.get_by_role("heading", level=2)).to_have_text("<img src=x onerror=alert(1)>.jpg")
    expect(viewer.get_by_role("note")).to_be_visible()
    viewer.get_by_role("button", name="Close").click()
    # Without it the same images run once more; nothing is sent again.
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "PUT" else None)
    page.get_by_role("button", name=re.compile("Remove <img")).click(force=True)
    page.get_by_role("button", name="Remove empty.jpg").click(force=True)
    write_pipeline(page, "invert/format:webp")
    run(page)
    expect_end(page, "5 done")
    expect(page.get_by_label("Run", exact=True)).not_to_contain_text("failed")
    assert [url for url in sent if "/v1/uploads/" in url] == []


def test_too_large_files_are_told_before_they_are_sent(tmp_path: Path, open_window: OpenWindow) -> None:
    service = ServiceProcess(tmp_path / "data", "--workers", "1", "--set", "max_bytes=20KB")
    service.start()
    try:
        page = open_window(service.url).page
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url) if request.method == "PUT" else None)
        visit(page, "/")
        expect(page.get_by_role("button", name="Choose images")).to_be_visible()
        drop(page, {"small.jpg": photographs(1, 64, 48)["photo-000.jpg"], "large.jpg": b"\xff\xd8" + bytes(40_000)})
        expect(page.get_by_text("The file has 40 KB; this service takes 20 KB")).to_be_visible()
        expect(page.get_by_text("1 image stored")).to_be_visible()
        assert [url.rsplit("/", 1)[1] for url in sent if "/uploads/" in url] == ["small.jpg"]
    finally:
        service.end()


def test_a_chosen_folder_keeps_its_paths(service: ServiceProcess, open_window: OpenWindow, tmp_path: Path) -> None:
    folder = tmp_path / "album"
    (folder / "sea").mkdir(parents=True)
    for name, data in photographs(3).items():
        (folder / "sea" / name).write_bytes(data)
    (folder / "notes.txt").write_text("no image")
    page = open_window(service.url, viewport={"width": 1440, "height": 900}).page
    visit(page, "/")
    page.locator("input[data-chooses=folder]").set_input_files(folder)
    expect(page.get_by_text("3 images stored")).to_be_visible()
    expect(page.get_by_text("1 file that is no image was left out.")).to_be_visible()
    expect(page.get_by_role("button", name="album/sea/photo-001.jpg, in the store")).to_be_visible()


def test_everything_by_keyboard(service: ServiceProcess, open_window: OpenWindow, tmp_path: Path) -> None:
    files = []
    for name, data in photographs(6).items():
        (tmp_path / name).write_bytes(data)
        files.append(tmp_path / name)
    page = open_window(service.url, viewport={"width": 1440, "height": 900}).page
    visit(page, "/")
    page.on("filechooser", lambda chooser: chooser.set_files(files))
    _tab_to(page, "Choose images")
    page.keyboard.press("Enter")
    expect(page.get_by_text("6 images stored")).to_be_visible()
    _tab_to(page, "photo-000.jpg, in the store")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="photo-001.jpg, in the store")).to_be_focused()
    expect(page.get_by_role("button", name="photo-001.jpg, in the store")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("End")
    expect(page.get_by_role("button", name="photo-005.jpg, in the store")).to_be_focused()
    page.keyboard.press("Delete")
    expect(images(page)).to_have_count(5)
    expect(page.get_by_role("button", name="photo-004.jpg, in the store")).to_be_focused()
    _tab_to(page, "As text")
    page.keyboard.type("invert/format:png")
    expect(run_button(page)).to_be_enabled()
    _tab_to(page, "Run")
    page.keyboard.press("Enter")
    expect_end(page, "5 done")
    _tab_to(page, "photo-000.jpg")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="photo-001.jpg")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("dialog", name="photo-002.jpg")).to_contain_text("320 × 240 png")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("dialog", name="photo-000.jpg")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(results(page).first.get_by_role("button")).to_be_focused()


def _tab_to(page: Page, name: str) -> None:
    """Press the tab key until what has this name (or begins with it) has the focus."""
    named = """() => {
      const at = document.activeElement;
      return (at?.getAttribute('aria-label') ?? at?.labels?.[0]?.innerText ?? at?.innerText ?? '').trim();
    }"""
    seen = []
    for _ in range(120):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(named))
        if seen[-1].startswith(name):
            return
    raise AssertionError(f"The tab key does not come to {name!r}; it comes to {list(dict.fromkeys(seen))}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_is_accessible(service: ServiceProcess, open_window: OpenWindow, scheme: str) -> None:
    page = open_window(service.url, color_scheme=scheme, viewport={"width": 1440, "height": 900}).page
    visit(page, "/")
    assert accessibility_faults(page) == []
    drop(page, {**photographs(8, 900, 700), "broken.jpg": HOSTILE})
    expect(page.get_by_text("9 images stored")).to_be_visible()
    write_pipeline(page, "gaussian:3/format:png")
    expect(run_button(page)).to_be_enabled()
    assert accessibility_faults(page) == []
    run(page)
    results(page).first.wait_for()
    assert accessibility_faults(page) == []
    expect_end(page, "8 done")
    assert accessibility_faults(page) == []
    results(page).first.get_by_role("button").click()
    expect(page.get_by_role("dialog").get_by_text("What became of it")).to_be_visible()
    assert accessibility_faults(page) == []
    page.keyboard.press("End")
    expect(page.get_by_role("dialog", name="broken.jpg").get_by_role("note")).to_be_visible()
    assert accessibility_faults(page) == []


def test_a_phone_has_tabs_and_nothing_overflows(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = open_window(service.url, viewport={"width": 360, "height": 780}, has_touch=True).page
    visit(page, "/")
    drop(page, photographs(3))
    expect(page.get_by_text("3 images stored")).to_be_visible()
    page.get_by_role("tab", name="Pipeline").click()
    write_pipeline(page, "invert/format:png")
    run(page)
    expect_end(page, "3 done")
    expect(page.get_by_role("tab", name="Results")).to_have_attribute("aria-selected", "true")
    expect(results(page)).to_have_count(3)
    for name in ("Images", "Pipeline", "Preview", "Results"):
        page.get_by_role("tab", name=name).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert accessibility_faults(page) == []
