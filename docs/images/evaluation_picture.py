"""Takes the picture of the measured report in both themes: `python docs/images/evaluation_picture.py`."""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import ViewportSize

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))

from browser import chromium

from pixelmill import Pipeline

OUT = Path(__file__).parent
REPORT = OUT.parent / "evaluation" / "report.html"
SIZE: ViewportSize = {"width": 1200, "height": 1180}


def main() -> None:
    """Pixelmill itself encodes the pictures."""
    with chromium() as browser:
        for scheme in ("light", "dark"):
            context = browser.new_context(color_scheme=scheme, viewport=SIZE)
            page = context.new_page()
            page.goto(REPORT.as_uri())
            outcome = Pipeline.parse("format:webp,quality=82").run(page.screenshot())
            assert outcome.bytes is not None
            path = OUT / f"evaluation-{scheme}.webp"
            path.write_bytes(outcome.bytes)
            print(f"{path.name}: {len(outcome.bytes):,} bytes")
            context.close()


if __name__ == "__main__":
    main()
