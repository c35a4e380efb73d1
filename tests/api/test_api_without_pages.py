"""An installation into which the pages were not built: everything else works, and `/` says how to get them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pixelmill.api import pages
from pixelmill.api.app import create_app
from pixelmill.api.settings import ApiSettings
from pixelmill.service import Service, ServiceConfig

pytestmark = pytest.mark.anyio


@pytest.fixture
def without_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pages, "FOLDER", tmp_path / "nothing")
    pages._files.cache_clear()
    yield
    pages._files.cache_clear()


@pytest.mark.usefixtures("without_pages")
async def test_the_service_says_how_to_get_the_pages(tmp_path: Path) -> None:
    app = create_app(Service(ServiceConfig(data=tmp_path / "data")), ApiSettings())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        index = await client.get("/", headers={"accept": "text/html"})
        assert index.status_code == 200
        assert "make pages" in index.text
        assert "unsafe" not in index.headers["content-security-policy"]
        assert (await client.get("/", headers={"accept": "application/json"})).json()["name"] == "Pixelmill"
        jobs = await client.get("/jobs", headers={"accept": "text/html"})
        assert (jobs.status_code, "make pages" in jobs.text) == (404, True)
        assert (await client.get("/assets/main.js")).status_code == 404
