"""Compares the libraries that can read and write each format on this machine; the page docs/codecs.md.

    python bench/codecs/run.py [--images FOLDER] [--rounds 9] [--write docs/codecs.md] [FORMAT...]

For each format: CPU milliseconds (candidates take turns over every picture, the median over rounds, averaged over
pictures), bytes and PSNR of what is written, and what a library does with files that end early or have a damaged byte.
One thread. Pictures: the JPEG photographs of ``--images`` that ``common.photographs`` takes, or scikit-image's.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
import numpy as np

import common
from candidates import FORMATS, INSTALLED, LIBRARIES, RGB, Decode, Direction, Format
from pixelmill.images.decode import decode

CUTS = (0.2, 0.5, 0.9, 0.99)
"""Where files are cut off, as parts of their length."""
FLIPS = 40
"""Places, evenly spread behind the header, at which one byte is inverted."""
LEVEL = 1.2
"""How much faster another trustworthy candidate must be than the one in use, to be named."""


@dataclass(slots=True)
class Figures:
    """What was seen of one candidate in one direction."""

    milliseconds: float = 0.0
    kilobytes: float = 0.0
    psnr: list[float] = field(default_factory=list)
    refused: int = 0
    wrong: int = 0


def measured(runs: Sequence[Mapping[str, Callable[[], Any]]], rounds: int) -> dict[str, float]:
    """CPU milliseconds of each candidate: the median over rounds, averaged over pictures."""
    totals: dict[str, float] = dict.fromkeys(runs[0], 0.0)
    for number, case in enumerate(runs):
        samples: dict[str, list[float]] = {name: [] for name in case}
        for turn in range(rounds):
            order = list(case)[turn % len(case) :] + list(case)[: turn % len(case)]
            for name in order:
                start = time.process_time()
                case[name]()
                samples[name].append(1e3 * (time.process_time() - start))
        for name, taken in samples.items():
            totals[name] += common.median(taken)
        common.say(f"  picture {number + 1} of {len(runs)}")
    return {name: total / len(runs) for name, total in totals.items()}


def able(direction: Direction, sample: Any) -> dict[str, Any]:
    """The candidates that can do it at all, here."""
    found = {}
    for name, work in direction.candidates.items():
        try:
            work(sample)
        except Exception as error:  # noqa: BLE001 - libraries promise no list of what they raise
            common.say(f"  {name} is left out: {error}")
        else:
            found[name] = work
    return found


@contextmanager
def silent() -> Iterator[None]:
    """Without what C libraries say of damaged files on stderr."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def trust(work: Decode, body: bytes, figures: Figures) -> None:
    """How many cut files are refused; and of how many with a damaged byte other pixels come out without a word."""
    whole = work(body)
    with silent():
        for part in CUTS:
            try:
                work(body[: int(len(body) * part)])
            except Exception:  # noqa: BLE001 - as above
                figures.refused += 1
        for place in np.linspace(len(body) * 0.1, len(body) - 16, FLIPS).astype(int):
            damaged = bytearray(body)
            damaged[place] ^= 0xFF
            with suppress(Exception):
                pixels = work(bytes(damaged))
                figures.wrong += pixels.shape != whole.shape or bool((pixels != whole).any())


def reading(fmt: Format, pictures: Sequence[RGB], rounds: int) -> dict[str, Figures]:
    """Every decoder."""
    files = [fmt.make(rgb) for rgb in pictures]
    works = able(fmt.decoding, files[0])
    runs = [{name: (lambda work=work, data=data: work(data)) for name, work in works.items()} for data in files]
    figures = {name: Figures(milliseconds=cost) for name, cost in measured(runs, rounds).items()}
    small = fmt.make(np.ascontiguousarray(cv2.resize(pictures[0], (384, 256), interpolation=cv2.INTER_AREA)))
    for name, work in works.items():
        trust(work, small, figures[name])
    return figures


def writing(direction: Direction, pictures: Sequence[RGB], rounds: int) -> dict[str, Figures]:
    """Every encoder."""
    works = able(direction, pictures[0])
    runs = [{name: (lambda work=work, rgb=rgb: work(rgb)) for name, work in works.items()} for rgb in pictures]
    figures = {name: Figures(milliseconds=cost) for name, cost in measured(runs, rounds).items()}
    for name, work in works.items():
        for rgb in pictures:
            body = work(rgb)
            figures[name].kilobytes += len(body) / 1000 / len(pictures)
            figures[name].psnr.append(cv2.PSNR(rgb, np.ascontiguousarray(decode(body).pixels[..., :3])))
    return figures


def reading_table(figures: Mapping[str, Figures]) -> str:
    """Markdown."""
    first = figures["Pixelmill"].milliseconds
    return common.table(
        ("reading", "CPU ms", "relative", "cut files refused", "damaged bytes passed over"),
        (
            (name, *_times(f, first), f"{f.refused} of {len(CUTS)}", f"{f.wrong} of {FLIPS}")
            for name, f in figures.items()
        ),
    )


def _times(figures: Figures, first: float) -> tuple[str, str]:
    return f"{figures.milliseconds:.2f}", f"{figures.milliseconds / first:.2f}"


def writing_table(figures: Mapping[str, Figures], lossless: bool) -> str:
    """Markdown."""
    first = figures["Pixelmill"].milliseconds
    return common.table(
        ("writing", "CPU ms", "relative", "kB", *(() if lossless else ("PSNR, dB",))),
        (
            (name, *_times(f, first), f"{f.kilobytes:,.0f}", *(() if lossless else (f"{np.mean(f.psnr):.1f}",)))
            for name, f in figures.items()
        ),
    )


def verdict(verb: str, direction: Direction, figures: Mapping[str, Figures]) -> str:
    """What is used, and what the figures say of it."""
    used = direction.used
    mine = figures.get(used, figures["Pixelmill"])
    others = {name: f for name, f in figures.items() if name not in ("Pixelmill", used)}
    quicker = {name: f for name, f in others.items() if f.milliseconds * LEVEL < mine.milliseconds}
    said = [f"{verb} is by {'code of its own' if used == 'Pixelmill' else used}."]
    if not others:
        said.append("There is no other candidate.")
    elif not quicker:
        said.append("No other candidate is over a fifth quicker.")
    for name, f in quicker.items():
        flaw = weakness(f, mine) or (None if name in INSTALLED else "does not come with Pixelmill")
        ratio = f"takes {f.milliseconds / mine.milliseconds:.2f} of the time"
        said.append(f"{name} {ratio}, but {flaw}." if flaw else f"{name} {ratio}.")
    return " ".join((*said, direction.why)).strip()


def weakness(other: Figures, mine: Figures) -> str | None:
    """Why the other is no choice although it is quicker; None if nothing is seen."""
    if other.refused < mine.refused:
        return "takes files that end early for whole ones"
    if other.wrong > mine.wrong + FLIPS // 10:
        return "passes over damage that this one refuses"
    if other.psnr and np.mean(other.psnr) < np.mean(mine.psnr) - 0.5:
        return f"loses {np.mean(mine.psnr) - np.mean(other.psnr):.1f} dB"
    if other.kilobytes > 1.1 * mine.kilobytes:
        return f"its files are {100 * (other.kilobytes / mine.kilobytes - 1):.0f} % larger"
    return None


def section(fmt: Format, pictures: Sequence[RGB], rounds: int) -> str:
    """One format of the page."""
    common.say(fmt.name)
    read = reading(fmt, pictures, rounds)
    parts = [f"## {fmt.name}", reading_table(read)]
    said = [verdict("Reading", fmt.decoding, read)]
    if fmt.encoding is not None:
        written = writing(fmt.encoding, pictures, max(3, rounds // 2))
        parts.append(writing_table(written, fmt.lossless))
        said.append(verdict("Writing", fmt.encoding, written))
    parts += [textwrap.fill(text, 119, break_long_words=False, break_on_hyphens=False) for text in said]
    return "\n\n".join(parts)


def versions() -> str:
    """The libraries compared, as far as they are here."""
    found = []
    for package in LIBRARIES.values():
        with suppress(PackageNotFoundError):
            version(package)
            found.append(package)
    return common.machine(*found, "numpy")


def page(sections: Sequence[str], pictures: Sequence[RGB], rounds: int, command: str) -> str:
    """The whole page."""
    sizes = sorted({f"{rgb.shape[1]}×{rgb.shape[0]}" for rgb in pictures})
    told = textwrap.fill(
        f"Measured on {dt.datetime.now(tz=dt.UTC):%Y-%m-%d}: pictures ({len(pictures)}) of {', '.join(sizes)} "
        f"pixels, RGB of 8 bits, {versions()}. One thread; candidates took turns over every picture; a figure is the "
        f"median of {rounds} rounds (writing: {max(3, rounds // 2)}), averaged over pictures. Other work ran on the "
        "machine: CPU time is counted, not the clock. Written with Pixelmill's defaults; PSNR is against the pixels "
        "that were written.",
        119,
        break_on_hyphens=False,
    )
    cuts = ", ".join(f"{100 * part:.0f} %" for part in CUTS)
    return f"""# Codecs

<!-- Made by `{command}`. -->

Which library reads and writes each format, and what the others would cost. Where another one is over a fifth quicker,
the text below the table says so, and what speaks against it. The rows called Pixelmill are all that it does: probe,
limits, checks of the file's structure, profiles.

A library that is to be trusted refuses a file that ends early: gray below half a photograph must not pass for it. One
column says how many files were refused that were cut off at {cuts} of their
length. The last column says of how many files with one byte inverted, somewhere behind the first tenth, other
pixels came out without an error: formats without check sums can't tell all of them.

`{command}`

{told}

{chr(10).join(f"{text}{chr(10)}" for text in sections)}
What scales, compression levels and effort cost is told by `python bench/codecs/settings.py`.
"""


def main() -> None:
    """Measure, and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", help="formats; all if none is named")
    parser.add_argument("--images", help="a folder of JPEG photographs")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--most", type=int, default=3, help="pictures that are used, at most")
    parser.add_argument("--write", help="the page to write; else it is printed")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    photographs = common.photographs(args.images)
    chosen = photographs[:: max(1, len(photographs) // args.most)][: args.most]
    pictures = [np.asarray(decode(data).pixels, np.uint8) for data in chosen]
    sections = [section(fmt, pictures, args.rounds) for fmt in FORMATS if not args.formats or fmt.name in args.formats]
    options = f"{' --images DIR' if args.images else ''} --rounds {args.rounds} --most {args.most}"
    text = page(sections, pictures, args.rounds, f"python bench/codecs/run.py{options} --write docs/codecs.md")
    if args.write:
        Path(args.write).write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
