"""Services for the tests of the REST edge: one shared, others with settings of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from live_service import LiveService

Start = Callable[..., LiveService]


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """One service for all tests that need no settings of their own."""
    folder = tmp_path_factory.mktemp("api")
    roots = folder / "sources"
    roots.mkdir()
    with LiveService(folder / "data", service={"source_roots": [str(roots)]}) as service:
        yield service
        assert service.stop() == 0, service.log()


@pytest.fixture(scope="session")
def source_root(shared_service: LiveService) -> Path:
    """The folder that jobs of the shared service may name files of."""
    return shared_service.data.parent / "sources"


@pytest.fixture
def client(shared_service: LiveService) -> Iterator[httpx.Client]:
    with shared_service.client() as client:
        yield client


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts services with settings of their own; all are ended with the test."""
    with ExitStack() as stack:
        count = 0

        def make(**options: Any) -> LiveService:
            nonlocal count
            count += 1
            return stack.enter_context(LiveService(options.pop("data", tmp_path / f"data{count}"), **options))

        yield make


@pytest.fixture(scope="session")
def pictures() -> list[bytes]:
    """A few small JPEGs, all different."""
    made = []
    for index in range(6):
        random = np.random.default_rng(index)
        pixels = cv2.resize(random.integers(0, 256, (9, 12, 3), np.uint8), (160 + 16 * index, 120))
        made.append(bytes(cv2.imencode(".jpg", pixels)[1]))
    return made
