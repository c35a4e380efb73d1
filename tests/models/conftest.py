"""Fixtures of the models' tests: a folder of tiny weights, and the real ones where the assets are."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from tiny_models import fill

from pixelmill.models.folder import ModelFolder
from pixelmill.models.registry import Entry


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
    folder = tmp_path_factory.mktemp("real-models")
    source = assets / "models"
    shutil.copy(source / "u2netp.onnx", folder / "salient.onnx")
    shutil.copy(source / "yunet_n_640_640.onnx", folder / "yunet.onnx")
    shutil.copy(source / "mobilenet_v2_1.0_224_quant.onnx", folder / "things.onnx")
    shutil.copy(source / "imagenet_labels_1001.txt", folder / "things.txt")
    (folder / "things.json").write_text('{"scale": 0.09889254}')
    return ModelFolder(folder)
