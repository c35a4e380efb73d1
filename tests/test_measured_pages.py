"""The pages that benchmarks write tell of everything there is: a rate for each operation, codecs for each format."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

import candidates
import evaluation_page
from pixelmill.evaluation.document import read
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


def test_the_evaluation_is_the_one_that_was_measured() -> None:
    made = read(evaluation_page.REPORT)
    assert not made.partial
    assert {(cell.trigger, cell.resolution) for cell in made.cells if cell.size == 1000} == {
        (trigger, resolution)
        for trigger in ("manual", "high-rate")
        for resolution in ("1200x800", "1500x997", "2040x1536")
    }
    page = evaluation_page.PAGE.read_text()
    assert evaluation_page.written(page, made) == page, "run: python bench/evaluation_page.py --write"


def test_the_report_in_the_documentation_is_small_and_of_the_same_run() -> None:
    html = evaluation_page.REPORT.with_suffix(".html").read_text()
    assert len(html.encode()) < 400_000
    assert escape(read(evaluation_page.REPORT).command) in html
