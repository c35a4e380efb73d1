"""Learned operations in pool processes: where weights come from, what is refused, and what is not imported."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import fill, sessions

from pixelmill.errors import InvalidParameter, ModelMissing, ModelRefused, WorkerCrashed
from pixelmill.images.encode import encode
from pixelmill.images.image import Image
from pixelmill.pipelines.spec import Pipeline
from pixelmill.targets.local import LocalPool
from pixelmill.targets.modelling import PoolModels
from pixelmill.targets.needs import lacking, needs
from pixelmill.targets.target import RunRequest

pytestmark = pytest.mark.anyio


def picture() -> bytes:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[16:48, 24:72] = (250, 240, 230)
    return encode(Image(pixels), "png")


def request(text: str) -> RunRequest:
    return RunRequest("1", Pipeline.parse(text).to_json(), picture(), {}, timeout_s=60.0)


async def test_a_pool_process_runs_the_models_of_its_folder_and_says_what_is_missing(tmp_path: Path) -> None:
    fill(tmp_path)
    pool = LocalPool(workers=1, models=PoolModels(tmp_path))
    await pool.start()
    try:
        done = (await pool.run(request("remove_background:threshold=0.5,model=bright/format:png"))).outcome
        here = Pipeline.parse("remove_background:threshold=0.5/format:png").run(picture(), models=sessions())
        assert np.array_equal(done.image.pixels, here.image.pixels)
        assert done.data["remove_background"]["model"] == "bright"
        tags = (await pool.run(request("auto_tag:0,model=colors"))).outcome.data["auto_tag"]["tags"]
        assert tags == Pipeline.parse("auto_tag:0").run(picture(), models=sessions()).data["auto_tag"]["tags"]
        with pytest.raises(ModelMissing, match="pixelmill models pull silueta"):
            await pool.run(request("remove_background:model=silueta"))
        with pytest.raises(ModelRefused, match="their sum is another"):
            await pool.run(request("remove_background"))
        with pytest.raises(InvalidParameter, match="by name only"):
            await pool.run(request(f"remove_background:model={str(tmp_path / 'bright.onnx').replace('/', '~2F')}"))
        assert pool.load().restarts == 0
    finally:
        await pool.stop()


async def test_a_pool_of_the_command_line_takes_paths(tmp_path: Path) -> None:
    fill(tmp_path / "weights")
    pool = LocalPool(workers=1, models=PoolModels(tmp_path / "none", paths=True))
    await pool.start()
    try:
        path = str(tmp_path / "weights" / "bright.onnx").replace("/", "~2F")
        done = (await pool.run(request(f"remove_background:model={path}/format:png"))).outcome
        assert done.image.channels == 4
    finally:
        await pool.stop()


def test_what_a_task_needs_names_its_models_and_what_runs_them() -> None:
    assert needs(request("remove_background")) == {"ml", "model:u2netp"}
    assert needs(request("faces:detector=yunet")) == {"model:yunet"}
    assert needs(request("faces/smart_crop:9,9,faces/remove_background:method=grabcut")) == set()
    assert needs(request("auto_tag:model=mine")) == {"ml"}
    assert needs(request("caption")) == {"caption", "model:blip-base"}
    assert needs(request("caption:model=mine/classify:model=mine")) == {"caption", "ml"}
    assert lacking(ModelMissing("not here", model="u2netp")) == "model:u2netp"
    assert lacking(ModelMissing("not here", model="mine")) is None


HEAVY = ("onnxruntime", "pymatting", "numba", "scipy", "httpx", "torch", "transformers")


def test_a_pool_process_imports_nothing_of_the_extra_before_a_task_needs_it() -> None:
    code = (
        "import sys, importlib\n"
        "from pixelmill.targets.entry import PRELOAD\n"
        "for name in PRELOAD: importlib.import_module(name)\n"
        "from pixelmill.targets.modelling import source_of\n"
        "source_of({'folder': None, 'paths': False})\n"
        "from pixelmill import Pipeline\n"
        "import numpy as np\n"
        "from pixelmill.images.image import Image\n"
        "Pipeline.parse('faces/grayscale/format:png').run(Image(np.zeros((64, 64, 3), np.uint8)))\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def libraries(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


async def test_one_process_holds_the_models_for_all_and_only_once_it_is_needed(tmp_path: Path) -> None:
    fill(tmp_path)
    pool = LocalPool(workers=2, models=PoolModels(tmp_path))
    await pool.start()
    try:
        await pool.run(request("grayscale/faces"))
        started_early = pool.models.pid is not None
        text = "remove_background:model=bright/format:png"
        await asyncio.gather(*(pool.run(request(text)) for _ in range(6)))
        pid = pool.models.pid or 0
        assert pid
        assert not started_early
        assert pool.processes()[-1] == pid
        assert "onnxruntime" in libraries(pid)
        for worker in pool.processes()[:-1]:
            assert "onnxruntime" not in libraries(worker), "sessions lie in the model process alone"
    finally:
        await pool.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_model_process_that_dies_is_started_again_and_its_task_may_be_retried(tmp_path: Path) -> None:
    fill(tmp_path)
    pool = LocalPool(workers=2, models=PoolModels(tmp_path))
    await pool.start()
    try:
        text = "remove_background:model=bright/format:png"
        await pool.run(request(text))
        before = pool.models.pid
        assert before is not None
        os.kill(before, signal.SIGSTOP)
        running = asyncio.ensure_future(pool.run(request(text)))
        await asyncio.wait(
            {running}, timeout=0.5
        )  # it has asked by then, or asks a dead process: both end the same way
        os.kill(before, signal.SIGKILL)
        with pytest.raises(WorkerCrashed) as caught:
            await running
        assert caught.value.retryable
        done = await pool.run(request(text))
        assert done.outcome.image.channels == 4
        assert pool.models.pid not in {None, before}
        assert pool.models.restarts == 1
    finally:
        await pool.stop()


def test_the_model_process_ends_with_who_started_it(tmp_path: Path) -> None:
    fill(tmp_path)
    code = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from pixelmill.targets.modelling import ModelProcess, PoolModels\n"
        "async def main():\n"
        "    held = ModelProcess(PoolModels(Path(sys.argv[1])))\n"
        "    async with held.used():\n"
        "        print(held.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    descriptor = os.pidfd_open(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert select.select([descriptor], [], [], 20)[0], "the kernel ends it with its parent"
    os.close(descriptor)
