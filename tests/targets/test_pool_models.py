"""Learned operations in pool processes: where weights come from, what is refused, and what is not imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import fill, sessions

from pixelmill.errors import InvalidParameter, ModelMissing, ModelRefused
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
    assert lacking(ModelMissing("not here", model="u2netp")) == "model:u2netp"
    assert lacking(ModelMissing("not here", model="mine")) is None


HEAVY = ("onnxruntime", "pymatting", "numba", "scipy", "httpx")


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
