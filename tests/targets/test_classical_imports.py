"""Classical work loads nothing of what the extras for learned models bring, in no process that it starts.

An audit hook (PEP 578) that every interpreter sets at its start, and that forked processes inherit, writes down which
files of modules are run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_models import fill

HEAVY = frozenset(
    {"onnxruntime", "torch", "transformers", "tokenizers", "safetensors", "pymatting", "numba", "llvmlite", "scipy"}
)
CLASSICAL = ("resize:64", "cartoon", "canny:80,160", "faces:draw,detector=haar", "smart_crop:64,64,faces")

HOOK = """
import os, sys

def hook(event, arguments):
    if event == "exec" and getattr(arguments[0], "co_name", "") == "<module>":
        file = os.open(os.environ["TEST_IMPORTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{arguments[0].co_filename}\\n".encode())
        os.close(file)

sys.addaudithook(hook)
"""
POOL = """
import asyncio, sys
from pathlib import Path
from pixelmill.pipelines.spec import Pipeline
from pixelmill.targets.local import LocalPool
from pixelmill.targets.modelling import PoolModels
from pixelmill.targets.target import RunRequest

async def main(folder, picture, *texts):
    pool = LocalPool(workers=1, models=PoolModels(Path(folder)))
    await pool.start()
    try:
        for text in texts:
            await pool.run(RunRequest(text, Pipeline.parse(text).to_json(), Path(picture).read_bytes()))
    finally:
        await pool.stop()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.random.default_rng(1).integers(0, 256, (96, 128, 3), np.uint8))
    return path


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., set[str]]:
    """Runs a command; the files of modules that it and all processes under it loaded."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    told = tmp_path / "imports"

    def run(*command: str | Path) -> set[str]:
        told.unlink(missing_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "hook"), "TEST_IMPORTS": str(told)}
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr[-3_000:]
        return set(told.read_text().splitlines())

    return run


def heavy(files: set[str]) -> set[str]:
    packages = {file.partition("/site-packages/")[2].partition("/")[0] for file in files}
    assert "numpy" in packages, "packages are told"
    return packages & HEAVY


def named(files: set[str]) -> set[str]:
    return {Path(file).name for file in files if "/pixelmill/operations/" in file}


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["in-process", "pool"])
def test_a_command_of_classical_operations(
    imported: Callable[..., set[str]], picture: Path, tmp_path: Path, options: Sequence[str]
) -> None:
    found = imported("-m", "pixelmill", "run", "/".join(CLASSICAL[:3]), picture, "-o", tmp_path / "out", *options)
    assert "artistic.py" in named(found), "what pool processes load is told"
    assert heavy(found) == set()


def test_a_pool_process_of_classical_operations_and_one_that_has_a_model_to_run(
    imported: Callable[..., set[str]], picture: Path, tmp_path: Path
) -> None:
    fill(tmp_path / "models")
    found = imported("-c", POOL, tmp_path / "models", picture, *CLASSICAL)
    assert "artistic.py" in named(found), "what pool processes load is told"
    assert heavy(found) == set()
    found = imported("-c", POOL, tmp_path / "models", picture, "remove_background:model=bright/format:png")
    assert "onnxruntime" in heavy(found), "and would be told of the extras' modules"
