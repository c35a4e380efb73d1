"""Fixtures of the tests of targets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pool_tools import Announcement

from pixelmill.models.folder import ModelFolder
from weights import make_folder


@pytest.fixture
def announcement(tmp_path: Path) -> Iterator[Announcement]:
    announcement = Announcement(tmp_path)
    yield announcement
    announcement.close()


@pytest.fixture(scope="session")
def real(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """The weights among the assets: ``salient`` (U2-Net-p), ``things`` (quantized MobileNetV2), ``yunet``."""
    return ModelFolder(make_folder(assets / "models", tmp_path_factory.mktemp("real-models")))
