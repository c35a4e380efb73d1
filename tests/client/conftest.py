from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from service_process import ServiceProcess


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """One service for all tests of the client that leave it alive."""
    service = ServiceProcess(tmp_path_factory.mktemp("live") / "data")
    try:
        service.start()
        yield service
    finally:
        service.end()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service of its own, for a test that ends it."""
    service = ServiceProcess(tmp_path / "data")
    try:
        service.start()
        yield service
    finally:
        service.end()


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Six small JPEG files, all different."""
    folder = tmp_path / "images"
    folder.mkdir()
    made = []
    for index in range(6):
        random = np.random.default_rng(index)
        pixels = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (160 + index, 120))
        path = folder / f"{index}.jpg"
        path.write_bytes(bytes(cv2.imencode(".jpg", pixels)[1]))
        made.append(path)
    return made
