"""Fixtures of the tests of targets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pool_tools import Announcement


@pytest.fixture
def announcement(tmp_path: Path) -> Iterator[Announcement]:
    announcement = Announcement(tmp_path)
    yield announcement
    announcement.close()
