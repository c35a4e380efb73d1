"""Formats of extras: told by their bytes, in the tables, and refused with the command where a library is missing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from pixelmill.images.extras import LIBRARIES
from pixelmill.images.formats import FORMATS, WRITTEN

ROOT = Path(__file__).parents[2]
# A module that is None in sys.modules can't be imported: as if it were not installed.
SCRIPT = """
import sys
sys.modules[sys.argv[1]] = None
import numpy as np
from pixelmill.errors import MissingExtra, UnsupportedFormat
from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.image import Image
try:
    decode(sys.stdin.buffer.read())
except UnsupportedFormat as error:
    print(error)
try:
    encode(Image(np.zeros((2, 2), np.uint8)), "jxl")
except MissingExtra as error:
    print(error)
"""
FILES = {
    "jxl": bytes(imagecodecs.jpegxl_encode(np.zeros((2, 2), np.uint8))),
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="2" height="2"/>',
}


@pytest.mark.parametrize("fmt", LIBRARIES)
def test_without_its_extra_a_file_is_refused_with_the_command(fmt: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, LIBRARIES[fmt]], input=FILES[fmt], capture_output=True, timeout=60
    )
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith(f"Reading {fmt} files needs an extra"), done.stderr
    assert all(f"pip install 'pixelmill[{fmt}]'" in line for line in lines)
    assert len(lines) == 1 + (fmt in WRITTEN)


def test_every_extra_of_a_format_is_declared_and_installed_for_tests() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras, dev = declared["project"]["optional-dependencies"], declared["dependency-groups"]["dev"]
    assert {fmt.extra for fmt in FORMATS.values() if fmt.extra} == set(LIBRARIES)
    for name in LIBRARIES:
        assert set(extras[name]) <= set(dev)


def test_the_page_on_formats_has_every_format() -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    for name, fmt in FORMATS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` "))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert (cells[2] != "") == (name in WRITTEN)
        assert (fmt.extra or "") in cells[3]
        assert cells[1].split(", ") == [f"`{suffix}`" for suffix in fmt.extensions]
