"""Fixtures of the models' tests: a folder of tiny weights, and the real ones where the assets are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from tiny_models import fill

from pixelmill.models.folder import ModelFolder
from pixelmill.models.registry import Entry
from weights import make_folder


@pytest.fixture
def tiny(tmp_path: Path) -> ModelFolder:
    """Tiny weights and the registry that knows them."""
    return ModelFolder(tmp_path / "models", registry=fill(tmp_path / "models"))


@pytest.fixture
def registry(tiny: ModelFolder) -> Mapping[str, Entry]:
    return tiny.registry


@pytest.fixture(scope="session")
def real(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """The weights among the assets: ``salient`` (U2-Net-p), ``things`` (quantized MobileNetV2), ``yunet``."""
    return ModelFolder(make_folder(assets / "models", tmp_path_factory.mktemp("real-models")))
