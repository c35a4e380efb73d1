"""Learned operations in pool processes: where weights come from, what is refused, and what is not imported."""

from __future__ import annotations

import asyncio
import os
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pool_requests import picture, picture_request
from tiny_models import fill, salient, sessions, two_inputs

from pixelmill.errors import (
    InvalidParameter,
    ModelMissing,
    ModelRefused,
    NotApplicable,
    OutOfMemory,
    WorkerCrashed,
)
from pixelmill.models.folder import ModelFolder
from pixelmill.pipelines.spec import Pipeline
from pixelmill.targets import model_keeper
from pixelmill.targets.local import LocalPool
from pixelmill.targets.modelling import PoolModels
from pixelmill.targets.needs import lacking, needs
from pixelmill.targets.target import RunResult

pytestmark = pytest.mark.anyio


async def test_a_pool_process_runs_the_models_of_its_folder_and_says_what_is_missing(tmp_path: Path) -> None:
    fill(tmp_path)
    pool = LocalPool(workers=1, models=PoolModels(tmp_path))
    await pool.start()
    try:
        done = (await pool.run(picture_request("remove_background:threshold=0.5,model=bright/format:png"))).outcome
        here = Pipeline.parse("remove_background:threshold=0.5/format:png").run(picture(), models=sessions())
        assert np.array_equal(done.image.pixels, here.image.pixels)
        assert done.data["remove_background"]["model"] == "bright"
        tags = (await pool.run(picture_request("auto_tag:0,model=colors"))).outcome.data["auto_tag"]["tags"]
        assert tags == Pipeline.parse("auto_tag:0").run(picture(), models=sessions()).data["auto_tag"]["tags"]
        with pytest.raises(ModelMissing, match="pixelmill models pull silueta"):
            await pool.run(picture_request("remove_background:model=silueta"))
        with pytest.raises(ModelRefused, match="their sum is another"):
            await pool.run(picture_request("remove_background"))
        with pytest.raises(InvalidParameter, match="by name only"):
            await pool.run(
                picture_request(f"remove_background:model={str(tmp_path / 'bright.onnx').replace('/', '~2F')}")
            )
        assert pool.load().restarts == 0
    finally:
        await pool.stop()


async def test_a_pool_of_the_command_line_takes_paths(tmp_path: Path) -> None:
    fill(tmp_path / "weights")
    pool = LocalPool(workers=1, models=PoolModels(tmp_path / "none", paths=True))
    await pool.start()
    try:
        path = str(tmp_path / "weights" / "bright.onnx").replace("/", "~2F")
        done = (await pool.run(picture_request(f"remove_background:model={path}/format:png"))).outcome
        assert done.image.channels == 4
    finally:
        await pool.stop()


def test_what_a_task_needs_names_its_models_and_what_runs_them() -> None:
    assert needs(picture_request("remove_background")) == {"ml", "model:u2netp"}
    assert needs(picture_request("faces:detector=yunet")) == {"model:yunet"}
    assert needs(picture_request("faces/smart_crop:9,9,faces/remove_background:method=grabcut")) == set()
    assert needs(picture_request("auto_tag:model=mine")) == {"ml"}
    assert needs(picture_request("caption")) == {"caption", "model:blip-base"}
    assert needs(picture_request("caption:model=mine/classify:model=mine")) == {"caption", "ml"}
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
        await pool.run(picture_request("grayscale/faces"))
        started_early = pool.models.pid is not None
        text = "remove_background:model=bright/format:png"
        await asyncio.gather(*(pool.run(picture_request(text)) for _ in range(6)))
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
        await pool.run(picture_request(text))
        before = pool.models.pid
        assert before is not None
        os.kill(before, signal.SIGSTOP)
        running = asyncio.ensure_future(pool.run(picture_request(text)))
        await asyncio.wait(
            {running}, timeout=0.5
        )  # it has asked by then, or asks a dead process: both end the same way
        os.kill(before, signal.SIGKILL)
        with pytest.raises(WorkerCrashed) as caught:
            await running
        assert caught.value.retryable
        done = await pool.run(picture_request(text))
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
        "from pixelmill.targets.model_keeper import ModelProcess\n"
        "from pixelmill.targets.modelling import PoolModels\n"
        "async def main():\n"
        "    held = ModelProcess(PoolModels(Path(sys.argv[1])))\n"
        "    held.prepare()\n"
        "    async with held.used():\n"
        "        while held.pid is None: await asyncio.sleep(0.01)\n"
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


async def test_each_thing_that_is_wrong_ends_with_its_error_and_harms_nobody_else(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "cut.onnx").write_bytes(salient()[:200])
    (tmp_path / "two.onnx").write_bytes(two_inputs())
    pool = LocalPool(workers=2, models=PoolModels(tmp_path))
    await pool.start()
    try:
        good = "remove_background:model=bright/format:png"
        wrong = {
            "remove_background:model=cut/format:png": (ModelRefused, "truncated, damaged or no ONNX model"),
            "remove_background:model=two/format:png": (ModelRefused, "2 inputs"),
            "resize:20,20,fit=fill/remove_background:model=bright/format:png": (NotApplicable, "32 a side"),
            "remove_background:model=silueta/format:png": (ModelMissing, "pixelmill models pull silueta"),
        }
        tasks = [asyncio.ensure_future(pool.run(picture_request(text))) for text in (*wrong, good, *wrong, good)]
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end, expected in zip(ends, [*wrong.values(), None] * 2, strict=True):
            if expected is None:
                assert isinstance(end, RunResult)
            else:
                assert isinstance(end, expected[0])
                assert expected[1] in str(end)
                assert not end.retryable
        assert (pool.load().restarts, pool.models.restarts) == (0, 0)
    finally:
        await pool.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="another process is bounded on Linux alone")
async def test_a_model_process_without_memory_says_so_and_goes_on_when_there_is_some(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "large.onnx").write_bytes(salient(3_000))  # an item of it is 108 MB
    pool = LocalPool(workers=1, models=PoolModels(tmp_path))
    await pool.start()
    try:
        await pool.run(picture_request("remove_background:model=bright/format:png"))
        pid = pool.models.pid
        assert pid is not None
        most = (bytes_of_data(pid) + 60_000_000, resource.RLIM_INFINITY)
        before = resource.prlimit(pid, resource.RLIMIT_DATA, most)
        with pytest.raises(OutOfMemory):
            await pool.run(picture_request("remove_background:model=large/format:png"))
        await pool.run(picture_request("remove_background:model=bright/format:png"))
        resource.prlimit(pid, resource.RLIMIT_DATA, before)
        done = await pool.run(picture_request("remove_background:model=large/format:png"))
        assert done.outcome.image.channels == 4
        assert pool.models.pid == pid
    finally:
        await pool.stop()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def until_stopped(pid: int) -> None:
    """A process with many threads goes on for a moment after it was told to stop."""
    async with asyncio.timeout(60):
        while state_of(pid) != "T":  # noqa: ASYNC110 -- the kernel tells nobody else
            await asyncio.sleep(0.01)


def bytes_of_data(pid: int) -> int:
    """What ``RLIMIT_DATA`` counts."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")


def threads_of(pid: int | None) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


async def test_tasks_with_models_have_processes_of_their_own(tmp_path: Path) -> None:
    fill(tmp_path)
    pool = LocalPool(workers=1, models=PoolModels(tmp_path, slots=2))
    await pool.start()
    try:
        await pool.run(picture_request("grayscale/format:png"))
        assert len(pool.processes()) == 2, "the zygote and one worker"
        assert (pool.load().capacity, pool.load().model_slots) == (1, 2)
        await pool.run(picture_request("remove_background:model=bright/format:png"))
        pid = pool.models.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await until_stopped(pid)
        learned = [
            asyncio.ensure_future(pool.run(picture_request("remove_background:model=bright/format:png")))
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        done = await pool.run(picture_request("grayscale/format:png"))
        assert done.outcome.image.channels == 1
        assert not any(task.done() for task in learned)
        os.kill(pid, signal.SIGCONT)
        await asyncio.gather(*learned)
        assert pool.load().capacity == 1
    finally:
        await pool.stop()


async def test_the_model_process_computes_on_no_more_threads_than_it_has_cores(
    real: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for cores in (1, 3):
        monkeypatch.setattr(model_keeper, "usable_cores", lambda cores=cores: cores)
        pool = LocalPool(workers=1, models=PoolModels(real.path, slots=1))
        await pool.start()
        try:
            await pool.run(picture_request("remove_background:model=salient/format:png"))
            counts.append(threads_of(pool.models.pid))
        finally:
            await pool.stop()
    assert counts[1] - counts[0] == 2, "two more beside the one that runs it"
