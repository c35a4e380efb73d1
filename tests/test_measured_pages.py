"""The pages that benchmarks write tell of everything there is: a rate for each operation, codecs for each format."""

from __future__ import annotations

import re
from pathlib import Path

import candidates
from pixelmill.images.formats import FORMATS, WRITTEN
from pixelmill.operations.table import TABLE

DOCS = Path(__file__).parents[1] / "docs"


def test_every_operation_has_its_throughput_in_the_order_of_the_table() -> None:
    rows = re.findall(r"^\| \[`(\w+)`\]", (DOCS / "throughput.md").read_text(), re.MULTILINE)
    assert rows == list(TABLE), "run: python bench/throughput.py --write docs/throughput.md"


def test_every_format_has_its_codecs() -> None:
    sections = re.findall(r"^## (\w+)$", (DOCS / "codecs.md").read_text(), re.MULTILINE)
    assert set(sections) == {fmt.name for fmt in candidates.FORMATS} == set(FORMATS), (
        "add it to bench/codecs/candidates.py, then run: python bench/codecs/run.py --write docs/codecs.md"
    )


def test_every_format_that_is_written_has_its_encoders_compared() -> None:
    assert {fmt.name for fmt in candidates.FORMATS if fmt.encoding is not None} == set(WRITTEN)


def test_what_pixelmill_uses_is_among_the_candidates() -> None:
    for fmt in candidates.FORMATS:
        for direction in (fmt.decoding, fmt.encoding):
            assert direction is None or {"Pixelmill", direction.used} <= set(direction.candidates), fmt.name
