"""Fixtures that every test may ask for: photographs, the optional folder of assets, the async backend."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ASSETS = Path(os.environ.get("PIXELMILL_TEST_ASSETS", ROOT.parent / "shared" / "assets"))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def assets() -> Path:
    """The optional folder of photographs, variants and hostile files; tests that need it skip without it."""
    if not ASSETS.is_dir():
        pytest.skip(f"no assets at {ASSETS}; set PIXELMILL_TEST_ASSETS to run this test")
    return ASSETS


@pytest.fixture(scope="session")
def photo_path() -> Path:
    """A real photograph (JPEG) that ships in scikit-image's wheel."""
    import skimage

    return Path(skimage.__file__).parent / "data" / "rocket.jpg"


@pytest.fixture(scope="session")
def photo(photo_path: Path) -> bytes:
    return photo_path.read_bytes()
