"""The page of operations is what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixelmill.images.encoders import OPTIONS
from pixelmill.operations.table import OPERATIONS
from pixelmill.pipelines.reference import operations_page
from pixelmill.pipelines.spec import Pipeline

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_the_page_of_operations_is_up_to_date() -> None:
    written = (DOCS / "operations.md").read_text(encoding="utf-8")
    assert written == operations_page(), "run: python -m pixelmill.pipelines.reference docs/operations.md"


def test_the_page_has_every_operation_and_every_format() -> None:
    page = operations_page()
    for name in OPERATIONS:
        assert f"\n## {name}\n" in page
    for name in OPTIONS:
        assert f"\n### format:{name}\n" in page


@pytest.mark.parametrize("fence", ["text", "json"])
def test_every_pipeline_in_the_docs_can_be_read(fence: str) -> None:
    found = 0
    for page in ("operations.md", "pipelines.md"):
        text = (DOCS / page).read_text(encoding="utf-8")
        for block in text.split(f"```{fence}\n")[1:]:
            body = block.split("```")[0].strip()
            for form in [body] if fence == "json" else body.splitlines():
                Pipeline.parse(form)
                found += 1
    assert found
