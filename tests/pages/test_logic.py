"""What the pages compute without a browser: `web/tests`, run by node's own runner."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "web"
LIMIT_S = 120


def test_logic_of_the_pages() -> None:
    if shutil.which("node") is None or not (WEB / "node_modules").exists():
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("node or web/node_modules is missing; `make pages` brings both")
    done = subprocess.run(["node", "test.mjs"], cwd=WEB, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
