"""The Studio's pipeline: steps by hand and by text, presets and saved ones, copies that run elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import OpenWindow, accessibility_faults, visit
from playwright.sync_api import Locator, Page, expect
from service_process import ServiceProcess


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """One for all of these tests: what they leave there is deleted by them."""
    started = ServiceProcess(tmp_path_factory.mktemp("studio") / "data", "--workers", "2")
    started.start()
    yield started
    started.end()


def opened(open_window: OpenWindow, service: ServiceProcess, text: str = "", **options: object) -> Page:
    """The Studio with the pipeline of a text."""
    page = open_window(service.url, **options).page
    visit(page, "/")
    page.get_by_role("button", name="Add a step").wait_for()
    if text:
        text_form(page).fill(text)
        text_form(page).blur()
    return page


def text_form(page: Page) -> Locator:
    return page.get_by_role("textbox", name="As text")


def steps(page: Page) -> Locator:
    return page.get_by_role("list", name="Steps").get_by_role("listitem")


def add(page: Page, query: str) -> None:
    """By keyboard alone."""
    page.get_by_role("button", name="Add a step").press("Enter")
    page.get_by_role("combobox", name="Search operations").fill(query)
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for(state="detached")


BEGINS = {"cli": ("pixelmill run",), "curl": ("curl", "SECOND1="), "python": ("from pathlib",)}


def copied_as(page: Page, language: str) -> str:
    """What the button puts on the clipboard."""
    page.evaluate("navigator.clipboard.writeText('')")
    page.get_by_role("combobox", name="Copy as").select_option(language)
    page.get_by_role("button", name="Copy", exact=True).click()
    page.wait_for_function("navigator.clipboard.readText()")
    copied: str = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(BEGINS[language])
    return copied


def picture(path: Path, shade: int = 0) -> Path:
    pixels = cv2.resize(np.random.default_rng(shade).integers(0, 256, (9, 12, 3), np.uint8), (320, 240))
    cv2.imwrite(str(path), pixels)
    return path


def test_steps_are_found_filled_in_moved_and_undone_by_keyboard(
    service: ServiceProcess, open_window: OpenWindow
) -> None:
    page = opened(open_window, service)
    add(page, "blur")
    sigma = page.get_by_role("spinbutton", name="Sigma")
    expect(sigma).to_be_focused()
    sigma.fill("5")
    expect(text_form(page)).to_have_value("gaussian:5")
    add(page, "scale fit")
    expect(page.get_by_role("spinbutton", name="Width")).to_be_focused()
    expect(text_form(page)).to_have_value("gaussian:5/resize:256,256")
    page.get_by_role("combobox", name="Fit").select_option("fill")
    page.get_by_role("button", name="Move Resize up").press("Enter")
    expect(text_form(page)).to_have_value("resize:256,256,fit=fill/gaussian:5")
    page.get_by_role("button", name=re.compile("^Resize")).press("Alt+ArrowDown")
    expect(text_form(page)).to_have_value("gaussian:5/resize:256,256,fit=fill")
    page.get_by_role("switch", name="Gaussian: used").press("Space")
    expect(text_form(page)).to_have_value("resize:256,256,fit=fill")
    page.get_by_role("button", name="Duplicate Resize").press("Enter")
    expect(steps(page)).to_have_count(3)
    page.get_by_role("button", name="Remove Resize").press("Enter")
    expect(steps(page)).to_have_count(2)
    for _ in range(3):
        page.keyboard.press("Control+z")
    expect(text_form(page)).to_have_value("gaussian:5/resize:256,256,fit=fill")
    page.keyboard.press("Control+Shift+z")
    expect(text_form(page)).to_have_value("resize:256,256,fit=fill")
    # What is switched off isn't lost with the page.
    page.reload()
    expect(steps(page)).to_have_count(2)
    expect(page.get_by_role("switch", name="Gaussian: used")).not_to_be_checked()
    page.get_by_role("switch", name="Gaussian: used").check()
    expect(text_form(page)).to_have_value("gaussian:5/resize:256,256,fit=fill")


def test_a_step_is_dragged_to_another_place(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = opened(open_window, service, "grayscale/invert/sharpen")
    grips = page.locator(".grip")
    start, end = grips.nth(0).bounding_box(), grips.nth(2).bounding_box()
    assert start is not None
    assert end is not None
    page.mouse.move(start["x"] + 10, start["y"] + 20)
    page.mouse.down()
    page.mouse.move(end["x"] + 10, end["y"] + 10, steps=4)
    page.mouse.move(end["x"] + 10, end["y"] + 40)
    page.mouse.up()
    expect(text_form(page)).to_have_value("invert/sharpen/grayscale")
    # Escape lets it stay where it was.
    page.mouse.move(start["x"] + 10, start["y"] + 20)
    page.mouse.down()
    page.mouse.move(end["x"] + 10, end["y"] + 40, steps=4)
    page.keyboard.press("Escape")
    page.mouse.up()
    expect(text_form(page)).to_have_value("invert/sharpen/grayscale")


def test_a_slider_is_undone_in_one_step(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = opened(open_window, service, "brightness:0.2")
    page.get_by_role("button", name=re.compile("^Brightness")).click()
    slider = page.get_by_role("slider", name="Amount, slider")
    for _ in range(5):
        slider.press("ArrowRight")
    expect(text_form(page)).not_to_have_value("brightness:0.2")
    slider.press("Control+z")
    expect(text_form(page)).to_have_value("brightness:0.2")


def test_forms_have_what_the_schema_has(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = opened(open_window, service, "text:Hi/convolve:0:-1:0:-1:5:-1:0:-1:0")
    page.get_by_role("button", name=re.compile("^Text Text Hi")).click()
    page.get_by_role("textbox", name="Text", exact=True).fill("Good morning")
    page.get_by_role("textbox", name="Color, hex digits").fill("#FF8800")
    page.get_by_role("slider", name="Color, opacity").fill("128")
    page.get_by_role("switch", name="Wrap").uncheck()
    expect(text_form(page)).to_have_value(re.compile("^text:Good~20morning,color=ff880080,wrap=false/"))
    page.get_by_role("button", name="Reset Wrap").click()
    expect(text_form(page)).to_have_value(re.compile("^text:Good~20morning,color=ff880080/"))
    page.get_by_role("button", name=re.compile("^Convolve")).click()
    page.get_by_role("textbox", name="Kernel").fill("1 1 1 1 2 1 1 1 1")
    expect(text_form(page)).to_have_value(re.compile("/convolve:1:1:1:1:2:1:1:1:1$"))


def test_a_fault_is_told_at_its_step_and_in_the_text(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = opened(open_window, service, "grayscale/gaussian:2")
    text_form(page).fill("grayscale/gaussian:900")
    place = page.locator(".text-error mark")
    expect(place).to_have_text("gaussian:900")
    expect(page.get_by_label("Text of the pipeline").get_by_text("it must be a number from 0.1 to 100")).to_be_visible()
    text_form(page).fill("grayscale/gaussian:9/(")
    expect(place).to_have_text("(")
    # The steps stay as they were last understood.
    expect(steps(page)).to_have_count(2)
    text_form(page).fill("grayscale/gaussian:900")
    text_form(page).blur()
    expect(steps(page).nth(1).get_by_role("alert")).to_contain_text("sigma=900 is not possible")
    page.reload()
    expect(text_form(page)).to_have_value("grayscale/gaussian:900")


def test_presets_in_the_text_are_written_out(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = opened(open_window, service)
    text_form(page).fill("preset:thumbnail")
    expect(steps(page)).to_have_count(2)
    text_form(page).blur()
    expect(text_form(page)).to_have_value("grayscale/resize:256,256,fit=fill/format:jpeg")


def test_presets_say_what_they_lack(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = opened(open_window, service)
    page.get_by_role("button", name="Edges (Canny)").click()
    expect(text_form(page)).to_have_value("canny")
    page.get_by_role("button", name="Open a preset or a saved pipeline").click()
    dialog = page.get_by_role("dialog", name="Open a pipeline")
    lacking = dialog.get_by_role("listitem").filter(has_text="Caption").first
    expect(lacking.get_by_role("button", name="Use Caption")).to_be_disabled()
    expect(lacking).to_contain_text("caption")
    dialog.get_by_role("button", name="Append Sketch").click()
    dialog.wait_for(state="detached")
    expect(text_form(page)).to_have_value("canny/sketch")
    page.get_by_role("button", name="Open a preset or a saved pipeline").click()
    dialog.get_by_role("button", name="Use Thumbnail, 256 gray").click()
    expect(text_form(page)).to_have_value("grayscale/resize:256,256,fit=fill/format:jpeg")
    page.get_by_role("status").get_by_role("button", name="Undo").click()
    expect(text_form(page)).to_have_value("canny/sketch")


def test_pipelines_are_saved_loaded_and_deleted(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = opened(open_window, service, "grayscale/format:webp,quality=50")
    page.get_by_role("button", name="Save this pipeline").click()
    dialog = page.get_by_role("dialog", name="Save this pipeline")
    dialog.get_by_role("textbox", name="Name").fill("Small & gray")
    dialog.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("Saved as Small & gray.").wait_for()
    page.get_by_role("button", name="Remove everything").click()
    expect(text_form(page)).to_have_value("")
    # Another browser of the same owner has it, too.
    other = opened(open_window, service)
    other.get_by_role("button", name="Open a preset or a saved pipeline").click()
    other.get_by_role("button", name="Use Small & gray").click()
    expect(text_form(other)).to_have_value("grayscale/format:webp,quality=50")
    other.get_by_role("button", name="Open a preset or a saved pipeline").click()
    other.get_by_role("button", name="Delete Small & gray").click()
    other.get_by_text("Nothing is saved yet").wait_for()


def test_input_and_output_are_set_by_their_forms(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = opened(open_window, service, "invert")
    page.locator("summary", has_text="Input").click()
    page.get_by_role("spinbutton", name="One frame or page").fill("2")
    page.locator("summary", has_text="Output").click()
    page.get_by_role("combobox", name="Format").select_option("webp")
    page.get_by_role("spinbutton", name="Quality", exact=True).fill("60")
    page.get_by_role("combobox", name="Policy").select_option("keep")
    expect(text_form(page)).to_have_value("frame:2/invert/metadata:keep/format:webp,quality=60")


@pytest.mark.parametrize(
    "pipeline", ["grayscale/resize:64,64,fit=fill/format:png", "text:It's~20100~25,font_size=20", "info"]
)
def test_what_is_copied_runs(service: ServiceProcess, open_window: OpenWindow, tmp_path: Path, pipeline: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    pipeline = pipeline.replace("'", "~27")
    page = opened(open_window, service, pipeline, permissions=["clipboard-read", "clipboard-write"])
    bin_folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    for language, command in {"cli": ["bash"], "curl": ["bash"], "python": [sys.executable]}.items():
        copied = copied_as(page, language)
        assert pipeline in copied
        folder = tmp_path / language
        folder.mkdir()
        picture(folder / "photo.jpg")
        done = subprocess.run(
            command, input=copied, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{copied}\n{done.stderr}"
        made = [path for path in folder.rglob("*") if path.is_file() and path != folder / "photo.jpg"]
        if pipeline == "info":
            assert '"width"' in done.stdout.replace("'", '"') or any("width" in path.read_text() for path in made)
        else:
            (result,) = made
            pixels = cv2.imread(str(result))
            assert pixels is not None
            assert pixels.shape == ((64, 64, 3) if "resize" in pipeline else (240, 320, 3))


def test_a_second_image_is_chosen_uploaded_and_copied(
    service: ServiceProcess, open_window: OpenWindow, tmp_path: Path
) -> None:
    page = opened(open_window, service, permissions=["clipboard-read", "clipboard-write"])
    add(page, "watermark")
    expect(page.get_by_text("needed")).to_be_visible()
    page.get_by_label("Image", exact=True).set_input_files(picture(tmp_path / "my logo.png", 1))
    expect(text_form(page)).to_have_value(re.compile("^watermark:upload~3Aup_[0-9a-f]+$"))
    expect(page.get_by_text("my logo.png").first).to_be_visible()
    if shutil.which("curl") is None:
        return
    copied = copied_as(page, "curl")
    picture(tmp_path / "photo.jpg")
    done = subprocess.run(["bash"], input=copied, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{copied}\n{done.stderr}"
    assert (tmp_path / "result.jpg").exists()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_forms_and_dialogs_are_accessible(service: ServiceProcess, open_window: OpenWindow, scheme: str) -> None:
    page = opened(open_window, service, "watermark/text:Hi/gaussian:900/format:auto", color_scheme=scheme)
    expect(steps(page).nth(2).get_by_role("alert").or_(page.locator(".text-error"))).not_to_have_count(0)
    page.locator("summary", has_text="Output").click()
    for name in ("Watermark", "Text"):
        page.get_by_role("button", name=re.compile(f"^{name}")).first.click()
        assert accessibility_faults(page) == []
    page.get_by_role("button", name="Add a step").click()
    page.get_by_role("combobox", name="Search operations").wait_for()
    assert accessibility_faults(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Open a preset or a saved pipeline").click()
    page.get_by_text("Nothing is saved yet").wait_for()
    assert accessibility_faults(page) == []


def test_a_phone_shows_all_of_it(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = open_window(service.url, viewport={"width": 360, "height": 740}, has_touch=True).page
    visit(page, "/")
    page.get_by_role("tab", name="Pipeline").click()
    text_form(page).fill("text:Good~20morning,color=ff880080/watermark/canny:80,160/format:auto")
    text_form(page).blur()
    page.get_by_role("button", name=re.compile("^Text")).first.click()
    page.locator("summary", has_text="Output").click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.get_by_role("button", name="Add a step").click()
    page.get_by_role("combobox", name="Search operations").wait_for()
    assert page.evaluate("document.querySelector('dialog').getBoundingClientRect().right") <= 360
