"""What the extras of learned models cost where only classical operations run: start of a pool, and of a command.

    PYTHONPATH=src python bench/classical_start.py [--rounds 15] [--extras ml,caption]

Two environments are made of links to what is installed here: one of the packages that the base installation needs, one
of these and those of the extras (of pyproject.toml; or names of packages). Each round starts in both, in turn: a pool
with one process, until its first image is done (`resize`), and `pixelmill run`, to its end. CPU seconds are of all
processes; PSS (proportional resident size) is that of the pool's tree when the image is done. The first round fills the
page cache and does not count.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

import common

ROOT = Path(__file__).parents[1]
NAMES = ("without the extras", "with the extras")
POOL = """
import asyncio, json, os, sys, time
start = time.perf_counter()
from pathlib import Path
import psutil
from pixelmill.pipelines.spec import Pipeline
from pixelmill.targets.local import LocalPool
from pixelmill.targets.modelling import PoolModels
from pixelmill.targets.target import RunRequest

async def main(folder, picture):
    pool = LocalPool(workers=1, models=PoolModels(Path(folder)))
    await pool.start()
    try:
        await pool.run(RunRequest("a", Pipeline.parse("resize:64").to_json(), Path(picture).read_bytes()))
        wall = time.perf_counter() - start
        me = psutil.Process()
        sizes = [one.memory_full_info().pss for one in (me, *me.children(recursive=True))]
        print(json.dumps({"wall": wall, "pss": sum(sizes), "processes": len(sizes)}))
    finally:
        await pool.stop()

asyncio.run(main(*sys.argv[1:]))
"""


def closure(names: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """The distributions of that name and all that they need, as installed here."""
    found: dict[str, importlib.metadata.Distribution] = {}
    wanted = [(name, frozenset[str]()) for name in names]
    while wanted:
        name, extras = wanted.pop()
        key = name.lower().replace("_", "-")
        new = key not in found
        if new:
            found[key] = importlib.metadata.distribution(name)
        if new or extras:
            for text in found[key].requires or ():
                one = Requirement(text)
                if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                    wanted.append((one.name, frozenset(one.extras)))
    return found


def environment(folder: Path, distributions: Iterable[importlib.metadata.Distribution]) -> Path:
    """The interpreter of a new environment that has exactly these (by links), and this program's sources."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for one in distributions:
        for file in one.files or ():
            name = file.parts[0]
            target = Path(str(one.locate_file(name)))
            if name not in {"..", "__pycache__"} and target.exists() and not (site / name).exists():
                (site / name).symlink_to(target)
    (site / "sources.pth").write_text(str(ROOT / "src"))
    return folder / "bin" / "python"


def children_cpu() -> float:
    """CPU seconds of all children that have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(command: list[str]) -> tuple[float, float, str]:
    """Wall and CPU seconds of a command, and what it printed."""
    cpu, start = children_cpu(), time.perf_counter()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=clean)
    return time.perf_counter() - start, children_cpu() - cpu, done.stdout


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--extras", default="ml,caption")
    arguments = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = project["optional-dependencies"]
    base = [Requirement(text).name for text in project["dependencies"]]
    extras = [Requirement(text).name for extra in arguments.extras.split(",") for text in known.get(extra, [extra])]
    with tempfile.TemporaryDirectory(prefix="pixelmill-bench-") as text:
        folder = Path(text)
        sets = (closure(base), closure(base + extras))
        programs = [environment(folder / str(number), chosen.values()) for number, chosen in enumerate(sets)]
        print(f"with the extras: {', '.join(sorted(set(sets[1]) - set(sets[0])))}\n")
        picture = folder / "a.jpg"
        picture.write_bytes(common.photographs(None)[0])
        figures: dict[str, list[list[float]]] = {
            name: [[], []] for name in ("pool: wall s", "pool: CPU s", "pool: PSS MB", "run: wall s", "run: CPU s")
        }
        for number in range(arguments.rounds + 1):
            for turn in ((0, 1), (1, 0))[number % 2]:
                python = str(programs[turn])
                _, cpu, said = run([python, "-c", POOL, str(folder / "models"), str(picture)])
                told = json.loads(said)
                out = str(folder / f"out{number}-{turn}")
                wall, command_cpu, _ = run([python, "-m", "pixelmill", "run", "resize:64", str(picture), "-o", out])
                if number:
                    values = (told["wall"], cpu, told["pss"] / 1e6, wall, command_cpu)
                    for name, value in zip(figures, values, strict=True):
                        figures[name][turn].append(value)
        rows = []
        for name, (without, with_them) in figures.items():
            ratios = [ours / theirs for ours, theirs in zip(with_them, without, strict=True)]
            medians = (f"{statistics.median(without):.3f}", f"{statistics.median(with_them):.3f}")
            rows.append((name, *medians, f"{statistics.median(ratios):.3f}"))
        print(common.machine(), "\n")
        print(common.table(("", *NAMES, "ratio, median of pairs"), rows))


if __name__ == "__main__":
    main()
