"""What `pixelmill run` costs above the bare kernel: CPU and wall seconds of whole process trees, start-up included.

    python bench/cli_run.py [--images DIR] [--rounds N] [--count N] [--workers N]

The bare kernel is one process that reads each file, runs the kernel of `common.py` and writes the result. Both are run
in turn over the same files; medians. This process adopts every orphan (PR_SET_CHILD_SUBREAPER), so that the CPU of pool
processes that nobody else waited for is counted too.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common

_PR_SET_CHILD_SUBREAPER = 36


def bare(source: str, target: str) -> None:
    """The bare kernel over a folder; what the child process of this benchmark runs."""
    for name in sorted(os.listdir(source)):  # noqa: PTH208 -- the least code that does it
        data = Path(source, name).read_bytes()
        Path(target, name).write_bytes(common.kernel(data))


def measured(command: list[str]) -> tuple[float, float]:
    """CPU and wall seconds of a command with all its descendants."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    # Whoever installs Pixelmill has compiled modules; measuring the compiler would be noise.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    wall = time.perf_counter() - start
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--workers", default="0")
    parser.add_argument("--bare", nargs=2, metavar=("SOURCE", "TARGET"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        bare(*args.bare)
        return
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="pixelmill-bench-") as temporary:
        source, target = Path(temporary, "in"), Path(temporary, "out")
        source.mkdir()
        for index, data in enumerate(common.variants(common.photographs(args.images), args.count)):
            (source / f"{index:05}.jpg").write_bytes(data)
        commands = {
            "bare kernel, one process": [sys.executable, __file__, "--bare", str(source), str(target)],
            "pixelmill run": [
                *(sys.executable, "-m", "pixelmill", "run", common.PIPELINE, str(source)),
                *("-o", str(target), "--workers", args.workers),
            ],
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range(args.rounds + 1):  # the first one warms caches and is not counted
            for name, command in commands.items():
                shutil.rmtree(target, ignore_errors=True)
                target.mkdir()
                times[name].append(measured(command))
                written = len(list(target.iterdir()))
                if written != args.count:
                    raise SystemExit(f"{name} wrote {written} files, not {args.count}")
            if number == 0:
                times = {name: [] for name in commands}
                continue
            common.say(f"round {number}: " + ", ".join(f"{name} {t[-1][0]:.2f} s" for name, t in times.items()))
    least = common.median(cpu for cpu, _ in times["bare kernel, one process"])
    rows = []
    for name, pairs in times.items():
        cpu, wall = common.median(c for c, _ in pairs), common.median(w for _, w in pairs)
        rows.append((name, f"{cpu:.2f}", f"{cpu / least:.3f}", f"{wall:.2f}", f"{args.count / wall:.0f}"))
    print(common.machine("opencv-python-headless", "simplejpeg"), "\n")
    print(common.table(("", "CPU s", "times the kernel's CPU", "wall s", "images/s"), rows))


if __name__ == "__main__":
    main()
