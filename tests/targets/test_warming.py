"""Models are loaded in the background at the start: nothing waits for it, and nothing fails by it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pool_requests import picture_request
from tiny_models import fill

from pixelmill.errors import ModelRefused
from pixelmill.models.model import Wanted
from pixelmill.service.settings import ServiceConfig
from pixelmill.targets import warming
from pixelmill.targets.local import LocalPool
from pixelmill.targets.modelling import PoolModels
from pixelmill.targets.warming import FILE, LastUsed

pytestmark = pytest.mark.anyio
CUT = "remove_background:model=bright/format:png"


@asynccontextmanager
async def pool_of(models: PoolModels) -> AsyncIterator[LocalPool]:
    pool = LocalPool(workers=1, models=models)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 -- the log tells nobody
            await asyncio.sleep(0.01)


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Events of warming, and the model of each."""
    found = [(getattr(line, "event", ""), getattr(line, "fields", {})) for line in caplog.records]
    return [(name, fields["model"]) for name, fields in found if name.startswith("models.")]


async def test_configured_models_are_loaded_and_what_goes_wrong_is_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fill(tmp_path)
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    async with pool_of(PoolModels(tmp_path, warm=("bright", "silueta", "broken", "colors", "nonsense"))) as pool:
        await until(lambda: len(events(caplog)) == 5)
        assert events(caplog) == [
            ("models.warmed", "bright"),
            ("models.not_warmed", "silueta"),
            ("models.not_warmed", "broken"),
            ("models.warmed", "colors"),
            ("models.not_warmed", "nonsense"),
        ]
        assert pool.models.pid is not None
        assert (await pool.run(picture_request(CUT))).outcome.image.channels == 4


async def test_a_pool_is_ready_and_runs_classical_tasks_while_models_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    begun, go = threading.Event(), threading.Event()

    def slow(choice: list[Wanted], models: PoolModels, address: str) -> str:
        begun.set()
        assert go.wait(60)
        raise ModelRefused("It is of no use.")

    monkeypatch.setattr(warming, "_load", slow)
    async with pool_of(PoolModels(tmp_path, warm=("bright",))) as pool:
        assert await asyncio.to_thread(begun.wait, 60)
        assert pool.load().healthy
        assert (await pool.run(picture_request("grayscale/format:png"))).outcome.image.channels == 1
        assert events(caplog) == []
        go.set()
        await until(lambda: events(caplog) == [("models.not_warmed", "bright")])


async def test_what_was_used_last_is_loaded_the_next_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fill(tmp_path)
    models = ServiceConfig(tmp_path, models=tmp_path, model_process="private").pool_models
    assert models.remembered == tmp_path / FILE
    async with pool_of(models) as pool:
        await pool.run(picture_request("grayscale/format:png"))
        assert pool.models.pid is None
        await pool.run(picture_request(CUT))
        await pool.run(picture_request("auto_tag:0,model=colors"))
    assert json.loads((tmp_path / FILE).read_text()) == [["colors", "classification"], ["bright", "segmentation"]]
    async with pool_of(models):
        await until(lambda: len(events(caplog)) == 2)
    assert events(caplog) == [("models.warmed", "colors"), ("models.warmed", "bright")]


@pytest.mark.parametrize("text", ["", "[", "{}", "[1]", "[[1, 2]]", '[["a", "nothing"]]', '[["a"]]'])
def test_a_file_that_can_not_be_understood_remembers_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert LastUsed(tmp_path / FILE).read() == []


def test_the_last_four_are_remembered_and_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    used = LastUsed(tmp_path / FILE)
    wanted = [Wanted(f"m{number}", "segmentation") for number in range(6)]
    assert [used.note([one]) for one in (*wanted, wanted[5])] == [True] * 6 + [False]
    used.write()
    assert LastUsed(tmp_path / FILE).read() == wanted[:1:-1]
    LastUsed(tmp_path / "none" / FILE).write()
    assert not (tmp_path / "none").exists()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize(
    ("given", "warm", "remembers"),
    [(("last",), (), True), (("none",), (), False), (("u2netp", "last"), ("u2netp",), True), ((), (), False)],
)
def test_the_setting_says_what_is_loaded(
    tmp_path: Path, given: tuple[str, ...], warm: tuple[str, ...], remembers: bool
) -> None:
    models = ServiceConfig(tmp_path, models_warm=given).pool_models
    assert models.warm == warm
    assert (models.remembered is not None) is remembers
