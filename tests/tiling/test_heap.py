"""Tiles that follow each other are computed in the same memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, threading
import numpy as np
from pixelmill.tiling.heap import keep_freed_memory
assert keep_freed_memory()

def tiles(count):
    for _ in range(count):
        one = np.ones(3_000_000, np.uint8)
        del one

def faults(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    lane = threading.Thread(target=tiles, args=(count,))
    lane.start()
    lane.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(3)
print(faults(100))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a heap of the GNU C library is set")
def test_memory_of_a_tile_is_that_of_the_one_before() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 3 * 3_000_000 // 4096  # of a hundred tiles; each would have 732
