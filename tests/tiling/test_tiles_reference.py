"""The page of operations over tiles is that of the code."""

from __future__ import annotations

from pathlib import Path

from pixelmill.operations.tiles_reference import tiles_reference

PAGE = Path(__file__).parents[2] / "docs" / "tiles-by-operation.md"


def test_the_page_is_made_from_the_operations() -> None:
    made = "python -m pixelmill.operations.tiles_reference > docs/tiles-by-operation.md"
    assert PAGE.read_text() == tiles_reference(), f"`{made}` makes it anew"
