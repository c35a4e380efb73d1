"""How long `import pixelmill` and `pixelmill --help` take: wall seconds of a whole process, medians.

python bench/startup.py [--rounds N]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import common

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import pixelmill": [sys.executable, "-c", "import pixelmill"],
    "from pixelmill import Pipeline": [sys.executable, "-c", "from pixelmill import Pipeline"],
    "pixelmill --help": [sys.executable, "-m", "pixelmill", "--help"],
    "pixelmill run --help": [sys.executable, "-m", "pixelmill", "run", "--help"],
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(args.rounds):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - start)
    print(common.machine("typer", "rich", "pydantic"), "\n")
    print(common.table(("command", "seconds"), [(name, f"{common.median(t):.3f}") for name, t in times.items()]))


if __name__ == "__main__":
    main()
