"""The measured part of docs/evaluation.md, from the JSON of a report: `python bench/evaluation_page.py --write`.

Measured anew, in a folder that has `photos` (on a machine that does nothing else), and put in its place:

    pixelmill bench evaluate --images photos -o report.html
    cp report.html report.json docs/evaluation/
    python bench/evaluation_page.py --write
    python docs/images/evaluation_picture.py
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from pixelmill.evaluation.document import Cell, Document, read, was_busy
from pixelmill.evaluation.figures import median
from pixelmill.evaluation.wording import milliseconds, number, percent

DOCS = Path(__file__).parents[1] / "docs"
REPORT = DOCS / "evaluation" / "report.json"
PAGE = DOCS / "evaluation.md"
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
HEADER = (
    *("resolution", "batch", "success", "duration average", "p50", "p95", "max", "event age average", "p95"),
    *("concurrent", "images/s", "MP/s"),
)
NAMES = {"manual": "one after another", "high-rate": "all at once"}


def measured(made: Document) -> str:
    """The part as Markdown."""
    return "\n".join([BEGIN, *_lines(made), END])


def _lines(made: Document) -> Iterator[str]:
    machine = made.configurations[0].machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    loads = " to ".join(f"{load[0]:.1f}" for load in (made.load_before, made.load_after) if load)
    memory = f"{machine.memory_bytes / 2**30:.0f} GB"
    yield f"{made.made[:10]}, {machine.cpu}, {machine.cores} cores, {memory}, {machine.system};"
    yield f"{versions}. Images: {made.images}. Load average {loads} (the sender included)."
    if was_busy(made):
        yield "**Something else kept the machine busy meanwhile; a quiet one is faster.**"
    yield f"{_rounds(made)}The whole [report](evaluation/report.html), and its [data](evaluation/report.json)."
    yield ""
    yield "```sh"
    yield made.command
    yield "```"
    yield ""
    yield '<picture><source media="(prefers-color-scheme: dark)" srcset="images/evaluation-dark.webp">'
    yield '<img alt="The report: numbers to see first, and charts by batch size" src="images/evaluation-light.webp">'
    yield "</picture>"
    for trigger, title in NAMES.items():
        cells = [cell for cell in made.cells if cell.trigger == trigger]
        if not cells:
            continue
        yield ""
        yield f"**{trigger}**, {title}:"
        yield ""
        yield f"| {' | '.join(HEADER)} |"
        yield f"|{'---|' * len(HEADER)}"
        yield from map(_row, cells)


def _rounds(made: Document) -> str:
    return f"Medians of {made.rounds} rounds. " if made.rounds > 1 else ""


def _row(cell: Cell) -> str:
    def of(key: str) -> float | None:
        return median(cell.rounds, key)

    times = ("duration.average", "duration.p50", "duration.p95", "duration.max", "age.average", "age.p95")
    shown = [
        cell.resolution,
        f"{cell.size:,}",
        percent(of("success_rate")),
        *(milliseconds(of(key)) for key in times),
        number(of("concurrency_average")),
        number(of("throughput")),
        number(of("pixel_rate")),
    ]
    return f"| {' | '.join(shown)} |"


def written(page: str, made: Document) -> str:
    """The page with the part in its place."""
    part = re.compile(f"{BEGIN}.*?{END}", re.DOTALL)
    return part.sub(lambda _: measured(made), page, count=1)


def main() -> None:
    """Print it, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/evaluation.md, instead of printing it")
    made = read(REPORT)
    if parser.parse_args().write:
        PAGE.write_text(written(PAGE.read_text(), made))
    else:
        print(measured(made))


if __name__ == "__main__":
    main()
