"""One more run for tests that drive real parts, and for no others; the servers of a module or a run outlive it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import reruns

CONFTEST = """
import reruns, pytest

started = []

def pytest_collection_modifyitems(items):
    reruns.mark(items)

@pytest.fixture(scope="session")
def redis_server():
    started.append("redis")
    yield len(started)
    print("redis stopped")

@pytest.fixture(scope="module")
def browser():
    started.append("browser")
    yield len(started)
    print("browser stopped")
"""
REAL = """
tries = []

def test_before(redis_server, browser):
    assert (redis_server, browser) == (1, 2)

def test_fails_once(redis_server, browser):
    tries.append((redis_server, browser))
    assert len(tries) == 2, "the first time"
    assert tries == [(1, 2), (1, 2)]

def test_pure():
    tries.append("pure")
    assert False, "always"

def test_the_last_fails_twice(redis_server, browser):
    assert (redis_server, browser) == (1, 2)
    raise RuntimeError("both times")
"""


@pytest.mark.parametrize("processes", [(), ("-n", "1", "--dist", "loadfile")], ids=["alone", "xdist"])
def test_a_test_of_real_parts_has_one_more_run_beside_the_same_servers(
    tmp_path: Path, processes: tuple[str, ...]
) -> None:
    folder = tmp_path / "engines"
    folder.mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (folder / "test_real.py").write_text(REAL)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-raR", "--rerun-show-tracebacks", *processes, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(reruns.__file__).parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "2 failed, 2 passed, 2 rerun" in done.stdout
    assert "the first time" in done.stdout  # told although it passed then
    assert "RERUN engines/test_real.py::test_fails_once" in done.stdout
    assert "FAILED engines/test_real.py::test_pure" in done.stdout
    assert "FAILED engines/test_real.py::test_the_last_fails_twice" in done.stdout
