"""The page of a Deep Zoom image in a real browser, opened as a file: it shows the picture, pans and zooms."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pil
from region_tools import raster_of, write_all

from pixelmill.images.image import Size
from pixelmill.images.region_tree_writers import viewer_page
from pixelmill.images.region_writers import create_regions

COMPLETE = "document.documentElement.dataset.complete === 'true'"


def quarters() -> NDArray[np.uint8]:
    """Red, green, blue and white quarters, and one black pixel in the middle of the red one."""
    pixels = np.zeros((1400, 2000, 3), np.uint8)
    pixels[:700, :1000], pixels[:700, 1000:] = (255, 0, 0), (0, 255, 0)
    pixels[700:, :1000], pixels[700:, 1000:] = (0, 0, 255), (255, 255, 255)
    return pixels


def test_the_page_shows_the_picture_from_a_file_and_asks_nobody(tmp_path: Path) -> None:
    browser = pytest.importorskip("browser", reason="Playwright is not installed")
    expect = pytest.importorskip("playwright.sync_api").expect
    if not Path(browser.CHROMIUM).exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no Chromium")
    pixels = quarters()
    folder = tmp_path / "a <b> & 'c' #1"
    folder.mkdir()
    writer = create_regions(folder / "scan 1 {{facts}}.dzi", raster_of(pixels), options={"tiles": "png", "tile": 256})
    write_all(writer, pixels)
    faults: list[str] = []
    asked: list[str] = []
    with browser.chromium() as chromium:
        page = chromium.new_page(viewport={"width": 800, "height": 600})
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))

        def shot() -> NDArray[np.uint8]:
            page.wait_for_function(COMPLETE)
            data = page.locator("canvas").screenshot()
            return np.array(Pil.open(io.BytesIO(data)).convert("RGB"))

        page.goto((folder / "scan 1 {{facts}}.html").as_uri())
        assert page.title() == "scan 1 {{facts}}"
        fitted = shot()
        # 2000×1400 in 800×600: 800×560 in the middle.
        assert fitted[150, 200].tolist() == [255, 0, 0]
        assert fitted[150, 600].tolist() == [0, 255, 0]
        assert fitted[450, 200].tolist() == [0, 0, 255]
        assert fitted[450, 600].tolist() == [255, 255, 255]
        assert fitted[5, 400].tolist() == [21, 23, 26]

        page.get_by_role("button", name="One image pixel a screen pixel").click()
        expect(page.locator("html")).to_have_attribute("data-level", "11")
        one = shot()
        assert one[290, 390].tolist() == [255, 0, 0]
        assert one[310, 410].tolist() == [255, 255, 255]
        assert "100 %" in page.locator("output").inner_text()

        page.mouse.move(400, 300)
        page.mouse.down()
        page.mouse.move(500, 400, steps=4)
        page.mouse.up()
        moved = shot()
        assert moved[390, 490].tolist() == [255, 0, 0]
        assert moved[410, 510].tolist() == [255, 255, 255]

        page.mouse.move(500, 400)
        page.mouse.wheel(0, -600)
        expect(page.locator("output")).to_contain_text("400 %")
        zoomed = shot()  # the corner stays under the pointer
        assert zoomed[396, 496].tolist() == [255, 0, 0]
        assert zoomed[404, 504].tolist() == [255, 255, 255]

        page.keyboard.press("0")
        expect(page.locator("output")).to_contain_text("40.0 %")
        assert np.array_equal(shot()[60:-5, 5:-5], fitted[60:-5, 5:-5])  # but for rings around what has the focus
    assert not faults
    assert asked
    assert all(url.startswith("file://") for url in asked)


def test_a_name_can_not_end_the_script_of_the_page() -> None:
    page = viewer_page("</script><script>alert(1)</script>", Size(1, 1), 64, "jpg")
    assert page.count("</script>") == 1
    assert "alert(1)</script>" not in page
