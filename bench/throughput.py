"""Throughput of each operation in megapixels a second of CPU time, on one core; the page docs/throughput.md.

    python bench/throughput.py [--images FILE_OR_FOLDER] [--rounds 5] [--write docs/throughput.md] [NAME...]

The input is one picture of 4000×3000 pixels, ``uint8``, as RGB and as its luma: the largest JPEG of ``--images``,
resized, or a drawn scene. Operations take turns in every round, in another order each time, so that a disturbance hits
all alike; what counts is the CPU time of this process, with OpenCV on one thread; decoding and encoding are left out.
Where a call takes longer than ``SLOW`` seconds, the first one counts and two rounds follow; none, above ``SLOWEST``.
"""

from __future__ import annotations

import argparse
import datetime as dt
import random
import sys
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

import common
from pixelmill.cli import samples
from pixelmill.images.image import Image
from pixelmill.images.probe import probe
from pixelmill.operations.operation import Operation
from pixelmill.operations.reference import EXAMPLES
from pixelmill.operations.table import TABLE
from pixelmill.pipelines.sources import load_models
from pixelmill.pipelines.spec import Pipeline

WIDTH, HEIGHT = 4000, 3000
SLOW, SLOWEST = 1.0, 5.0
LEAST = 0.02
"""CPU seconds of one sample; a quick operation is repeated until then."""

TEXTS: Mapping[str, str] = {
    "resize": "resize:1024,1024",
    "crop": "crop:500,500,3000,2000",
    "smart_crop": "smart_crop:2000,2000",
    "pad": "pad:4400,3300",
    "perspective": "perspective:100,80,3900,200,3800,2900,50,2950,width=3800,height=2800",
    "text": "text:Sunday~20morning,font_size=200",
    "border": "border:100,ffffff",
    "round_corners": "round_corners:200",
    "pixelate": "pixelate",
    "match": "match:other.jpg",
    "codes": "codes",
}
"""Where the example of the docs says little at this size."""

BY_CONTENT = frozenset(
    ("canny", "cartoon", "codes", "colors", "components", "faces", "features", "grabcut", "match", "quantize", "trim")
) | {"watershed", "denoise", "median"}
"""Operations whose time depends on what is in the picture."""


@dataclass(slots=True)
class Case:
    """One operation on one input; ``rates`` are megapixels a CPU second, one a round."""

    name: str
    text: str
    operation: Operation
    image: Image
    repeats: int
    rounds: int
    idle: bool
    """Whether there is nothing to do: the result is the input."""

    rates: list[float] = field(default_factory=list)

    def measure(self) -> None:
        """One sample."""
        start = time.process_time()
        for _ in range(self.repeats):
            self.operation.apply(self.image)
        spent = max(time.process_time() - start, 1e-9) / self.repeats
        self.rates.append(self.image.size.pixels / 1e6 / spent)


def picture(folder: str | None) -> tuple[Image, str]:
    """The input in color, and what it is."""
    if folder is None:
        drawn = samples.leaves(WIDTH, HEIGHT) + np.random.default_rng(1).normal(0, 4, (HEIGHT, WIDTH, 1))
        return Image(np.clip(drawn, 0, 255).astype(np.uint8)), "a drawn scene (leaves of `pixelmill demo`, with grain)"
    path = Path(folder)
    files = [path] if path.is_file() else sorted(path.glob("*.jp*g"))
    if not files:
        raise SystemExit(f"There is no JPEG in {folder}.")
    sizes = {file: probe(file.read_bytes()).size for file in files}
    chosen = max(files, key=lambda file: sizes[file].pixels)
    fitted = Pipeline.parse(f"resize:{WIDTH},{HEIGHT},fit=fill/format:png").run(chosen).image
    return fitted, f"a photograph of {sizes[chosen].width}×{sizes[chosen].height} pixels, resized"


def case(name: str, image: Image, rounds: int, instead: Mapping[str, str]) -> Case:
    """The operation made ready: tables and cascades are loaded, and how often it is repeated is known."""
    text = TEXTS.get(name, EXAMPLES[name][0])
    pipeline = Pipeline.parse(text)
    other = Image(np.ascontiguousarray(image.pixels[::2, ::2]).astype(np.uint8))
    operation = pipeline.operations[0].with_models(instead)
    wanted = operation.models()
    operation = operation.with_models(load_models(wanted, None)).with_images(
        dict.fromkeys(pipeline.image_references, other)
    )
    start = time.process_time()
    step = operation.apply(image)
    once = time.process_time() - start
    idle = step.image.pixels is image.pixels and step.data is None
    slow = once > SLOW
    if not slow:
        once = common.cpu_of(lambda: operation.apply(image))
    repeats = 1 if idle else max(1, min(1_000, int(LEAST / max(once, 1e-6))))
    if not slow:
        return Case(name, text, operation, image, repeats, rounds, idle)
    return Case(name, text, operation, image, 1, 0 if once > SLOWEST else 2, idle, [image.size.pixels / 1e6 / once])


def run(cases: Sequence[Case], rounds: int) -> None:
    """Every case once a round, each round in an order of its own."""
    for number in range(rounds):
        for turn in random.Random(number).sample(cases, len(cases)):
            if number < turn.rounds:
                turn.measure()
        common.say(f"round {number + 1} of {rounds}")


def cell(case: Case) -> str:
    """The median rate to three digits."""
    rate = common.median(case.rates)
    if case.idle:
        return "nothing to do"
    mark = {0: "\\*\\*", 2: "\\*"}.get(case.rounds if len(case.rates) != case.rounds else -1, "")
    return (f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 10 else f"{rate:.2f}") + mark


def spread(cases: Iterable[Case]) -> float:
    """The median over cases of half the range over the rounds, as a part of the median."""
    return common.median((max(c.rates) - min(c.rates)) / 2 / common.median(c.rates) for c in cases if not c.idle)


def page(color: Sequence[Case], gray: Sequence[Case], what: str, rounds: int, command: str) -> str:
    """The Markdown page."""
    rows = []
    for rgb, luma in zip(color, gray, strict=True):
        mark = " †" if rgb.name in BY_CONTENT else ""
        rows.append((f"[`{rgb.name}`](operations.md#{rgb.name})", f"`{rgb.text}`{mark}", cell(rgb), cell(luma)))
    table = common.table(("operation", "measured", "RGB, MP/s", "gray, MP/s"), rows)
    machine = common.machine("opencv-python-headless", "numpy", "pillow")
    what = textwrap.fill(
        f"Input: {what}, {WIDTH}×{HEIGHT} (12 MP), 8 bits a sample, as RGB and as its luma. Decoding and encoding are "
        "not in these figures; see [codecs.md](codecs.md). Parameters such as a radius change the time of many "
        "operations: what was measured stands in the table.",
        119,
    )
    where = textwrap.fill(
        f"Measured on {dt.datetime.now(tz=dt.UTC):%Y-%m-%d}, {machine}. Other work ran on the machine: CPU "
        f"time is counted, not the clock, but caches are shared. Half the range over the rounds is "
        f"{100 * spread((*color, *gray)):.0f} % in the median operation.",
        119,
    )
    return f"""# Throughput

<!-- Made by `{command}`. -->

Megapixels of input a second of CPU time, on one core: the median of {rounds} rounds in which all operations took turns,
each round in another order. \\* of three calls, as one takes over a second; \\*\\* of one call, over five.

{what}

† depends on what is in the picture.

`{command}`

{where}

{table}
"""


def main() -> None:
    """Measure, and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="operations; all if none is named")
    parser.add_argument("--images", help="a JPEG photograph, or a folder of which the largest is taken")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=PATH", help="weights, elsewhere")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", help="the page to write; else it is printed")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    source, what = picture(args.images)
    luma = Image(np.asarray(cv2.cvtColor(source.pixels, cv2.COLOR_RGB2GRAY), np.uint8))
    names = args.names or list(TABLE)
    instead = dict(text.split("=", 1) for text in args.model)
    color = [case(name, source, args.rounds, instead) for name in names]
    gray = [case(name, luma, args.rounds, instead) for name in names]
    common.say(f"{len(names)} operations are ready")
    run([*color, *gray], args.rounds)
    options = f"{' --images DIR' if args.images else ''} --rounds {args.rounds}"
    text = page(color, gray, what, args.rounds, f"python bench/throughput.py{options} --write docs/throughput.md")
    if args.write:
        Path(args.write).write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
