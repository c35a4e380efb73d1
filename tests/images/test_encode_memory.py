"""Where memory ends, writing ends with an error of the tree: never with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import numpy as np
from pixelmill.errors import OutOfMemory
from pixelmill.images.encode import encode
from pixelmill.images.image import Image
from pixelmill.targets.process import bound_memory

channels, subsampling = int(sys.argv[1]), sys.argv[2]
options = {"speed": 10, "subsampling": subsampling}
shape = (channels,) if channels > 1 else ()
encode(Image(np.zeros((64, 64, *shape), np.uint8)), "avif", options)
bound_memory(200_000_000)
ends = []
for megapixels in (1, 3, 5, 7, 12):
    image = Image(np.zeros((1000, 1000 * megapixels, *shape), np.uint8))
    try:
        encode(image, "avif", options)
        ends.append("written")
    except OutOfMemory:
        ends.append("out-of-memory")
print(",".join(ends))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds private writable memory")
@pytest.mark.parametrize(("channels", "subsampling"), [(1, "420"), (3, "420"), (4, "420"), (3, "444"), (4, "422")])
def test_avif_without_memory_is_an_error(channels: int, subsampling: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(channels), subsampling], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    ends = done.stdout.strip().split(",")
    assert ends[0] == "written"
    assert ends[-1] == "out-of-memory"
    assert ends == sorted(ends, reverse=True)  # "written" up to a size
