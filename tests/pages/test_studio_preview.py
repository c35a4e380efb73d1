"""The Studio's preview: before and after, zoom, data, faults, and a service that goes away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import OpenWindow, Watched, accessibility_faults, visit
from playwright.sync_api import Page, expect
from service_process import ServiceProcess


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """One for all of these tests."""
    started = ServiceProcess(tmp_path_factory.mktemp("preview") / "data", "--workers", "2")
    started.start()
    yield started
    started.end()


def picture(path: Path, width: int = 640, height: int = 480) -> Path:
    pixels = cv2.resize(np.random.default_rng(3).integers(0, 256, (9, 12, 3), np.uint8), (width, height))
    assert cv2.imwrite(str(path), pixels)
    return path


def showing(open_window: OpenWindow, service: ServiceProcess, image: Path, pipeline: str) -> Watched:
    """The Studio with an image in the preview."""
    watched = open_window(service.url)
    visit(watched.page, "/")
    watched.page.locator("input[type=file]").first.set_input_files(image)
    write(watched.page, pipeline)
    return watched


def write(page: Page, pipeline: str) -> None:
    text = page.get_by_role("textbox", name="As text")
    text.fill(pipeline)
    text.blur()


def shown(page: Page, words: str) -> None:
    """Return when the preview says so."""
    expect(page.get_by_role("region", name="Preview")).to_contain_text(words)


def test_every_change_is_seen_beside_the_original(
    service: ServiceProcess, open_window: OpenWindow, tmp_path: Path
) -> None:
    page = showing(open_window, service, picture(tmp_path / "a.png"), "").page
    expect(page.get_by_alt_text("a.png before")).to_be_visible()
    expect(page.get_by_alt_text("a.png after")).to_have_count(0)
    write(page, "resize:320,240")
    shown(page, "320 × 240 PNG")
    write(page, "resize:100,75/format:webp")
    shown(page, "100 × 75 WEBP")
    # What no browser shows comes as PNG.
    write(page, "resize:80,60/format:tiff")
    shown(page, "80 × 60 PNG")
    assert accessibility_faults(page) == []


def test_the_line_and_the_zoom_go_by_keyboard_and_pointer(
    service: ServiceProcess, open_window: OpenWindow, tmp_path: Path
) -> None:
    page = showing(open_window, service, picture(tmp_path / "a.png"), "grayscale").page
    line = page.get_by_role("slider", name="Line between before and after")
    line.press("ArrowLeft")
    expect(line).to_have_attribute("aria-valuenow", "48")
    line.press("Home")
    expect(line).to_have_attribute("aria-valuenow", "0")
    window = page.get_by_role("group", name="Picture:")
    box, handle = window.bounding_box(), line.bounding_box()
    assert box is not None
    assert handle is not None
    page.mouse.move(handle["x"] + handle["width"] / 2 + 8, handle["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 90, steps=3)
    page.mouse.up()
    expect(line).to_have_attribute("aria-valuenow", re.compile("7[456]"))
    zoom = page.get_by_role("status", name="Zoom")
    page.get_by_role("button", name="100 %", exact=True).click()
    expect(zoom).to_have_text("100 %")
    page.get_by_role("button", name="Larger").click()
    expect(zoom).to_have_text("125 %")
    window.focus()
    page.keyboard.press("0")
    expect(page.get_by_role("button", name="Fit")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("1")
    page.keyboard.press("+")
    expect(zoom).to_have_text("125 %")
    place = page.locator(".compare-picture").first.evaluate("one => one.style.transform")
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.wheel(0, -200)
    expect(zoom).not_to_have_text("125 %")
    page.keyboard.press("ArrowRight")
    assert page.locator(".compare-picture").first.evaluate("one => one.style.transform") != place


def test_a_fault_leaves_the_last_good_picture(service: ServiceProcess, open_window: OpenWindow, tmp_path: Path) -> None:
    page = showing(open_window, service, picture(tmp_path / "a.png"), "resize:200,150").page
    shown(page, "200 × 150")
    write(page, "resize:200,150/gaussian:900")
    shown(page, "it must be a number from 0.1 to 100")
    expect(page.get_by_alt_text("a.png after")).to_be_visible()
    write(page, "resize:200,150/gaussian:9")
    expect(page.get_by_role("region", name="Preview")).not_to_contain_text("it must be a number")


def test_data_is_listed_and_drawn(service: ServiceProcess, open_window: OpenWindow, tmp_path: Path) -> None:
    pixels = np.zeros((200, 300, 3), np.uint8)
    cv2.rectangle(pixels, (20, 20), (80, 90), (255, 255, 255), -1)
    cv2.rectangle(pixels, (150, 50), (250, 150), (255, 255, 255), -1)
    cv2.imwrite(str(tmp_path / "boxes.png"), pixels)
    page = showing(open_window, service, tmp_path / "boxes.png", "components:data/colors:2/histogram:8").page
    expect(page.get_by_role("img", name="Marked by components: 2")).to_be_visible()
    data = page.get_by_role("region", name="Data")
    expect(data).to_contain_text("#ffffff")
    expect(data.get_by_role("img", name=re.compile("^Histogram"))).to_be_visible()
    expect(data.get_by_role("row")).to_have_count(3)
    page.get_by_role("button", name="Marks").click()
    expect(page.get_by_role("img", name="Marked by components: 2")).to_have_count(0)
    # More than a header holds.
    write(page, "features:orb,500,draw=true")
    expect(data).to_contain_text("features")
    assert accessibility_faults(page) == []


def test_a_large_picture_is_sent_small(service: ServiceProcess, open_window: OpenWindow, tmp_path: Path) -> None:
    page = showing(open_window, service, picture(tmp_path / "large.jpg", 3000, 2000), "grayscale").page
    shown(page, "1024 × 683")
    shown(page, "at most 1024 pixels a side")


def test_what_the_browser_cannot_read_goes_to_the_service(
    service: ServiceProcess, open_window: OpenWindow, tmp_path: Path
) -> None:
    page = showing(open_window, service, picture(tmp_path / "scan.tiff", 1500, 1000), "invert").page
    shown(page, "1024 × 683 PNG")


def test_a_frame_is_taken_from_the_file_itself(
    service: ServiceProcess, open_window: OpenWindow, tmp_path: Path
) -> None:
    import PIL.Image

    frames = [PIL.Image.new("RGB", (90, 60), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    page = showing(open_window, service, tmp_path / "two.gif", "frame:1/colors:1").page
    expect(page.get_by_role("region", name="Data")).to_contain_text(re.compile("#0000f[ef]"))


def test_matching_asks_for_its_second_picture(service: ServiceProcess, open_window: OpenWindow, tmp_path: Path) -> None:
    page = showing(open_window, service, picture(tmp_path / "a.png"), "").page
    page.get_by_role("button", name="Feature matching").click()
    step = page.get_by_role("list", name="Steps").get_by_role("listitem")
    expect(step.get_by_role("alert")).to_contain_text("image")
    step.get_by_label("Image", exact=True).set_input_files(tmp_path / "a.png")
    shown(page, "1280 × 480 PNG")
    expect(page.get_by_role("region", name="Data")).to_contain_text("inliers")


def test_a_service_that_comes_back_is_asked_again(open_window: OpenWindow, tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path / "data", "--workers", "1")
    service.start()
    try:
        watched = showing(open_window, service, picture(tmp_path / "a.png"), "resize:200,150")
        watched.may_fail_to_load = True
        shown(watched.page, "200 × 150")
        service.kill()
        write(watched.page, "resize:100,75")
        watched.page.get_by_text("The service does not answer").first.wait_for()
        expect(watched.page.get_by_alt_text("a.png after")).to_be_visible()
        service.start()
        shown(watched.page, "100 × 75")
    finally:
        service.end()
