"""Two configurations, or an earlier report and this one, cell by cell. Pure functions.

The ratio is that of the medians over rounds. Its confidence is what the rounds say, without a model of them: paired
rounds give a ratio each, unpaired ones the two extremes; only where three rounds or more all point one way is a
difference called better or worse.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from pixelmill.evaluation.document import Cell, Comparison, Configuration, Document, Ratio, Verdict
from pixelmill.evaluation.figures import BY_KEY, Figures, median, values

COMPARED = ("throughput", "duration.average", "duration.p95", "age.average", "age.p95", "total.p95", "success_rate")
ENOUGH = 3
"""Rounds that a verdict needs."""


def against(document: Document) -> Comparison | None:
    """The second configuration of a report against its first; None where there is one only."""
    if len(document.configurations) < 2:
        return None
    first, second = document.configurations[:2]
    return Comparison(
        first.label,
        second.label,
        True,
        tuple(differences(first, second)),
        tuple(_ratios(_of(document, 0), _of(document, 1), paired=True)),
    )


def with_earlier(earlier: Document, now: Document) -> Comparison:
    """This report's first configuration against that of an earlier one."""
    before, after = earlier.configurations[0], now.configurations[0]
    told = differences(before, after)
    if earlier.images != now.images:
        told.append(f"images: {earlier.images} / {now.images}")
    if earlier.partial:
        told.append("the earlier report is a partial one")
    return Comparison(
        f"{before.label}, {earlier.made[:16].replace('T', ' ')}",
        after.label,
        False,
        tuple(told),
        tuple(_ratios(_of(earlier, 0), _of(now, 0), paired=False)),
    )


def differences(before: Configuration, after: Configuration) -> list[str]:
    """What was not the same, in words, the machine first."""
    one, two = before.machine, after.machine
    versions = sorted({*one.versions, *two.versions})
    pairs = [
        ("CPU", one.cpu, two.cpu),
        ("cores", one.cores, two.cores),
        ("memory", _gigabytes(one.memory_bytes), _gigabytes(two.memory_bytes)),
        ("system", one.system, two.system),
        *((name, one.versions.get(name, "none"), two.versions.get(name, "none")) for name in versions),
        ("target", before.target, after.target),
        ("pipeline", before.pipeline, after.pipeline),
        ("settings", _words(before.settings), _words(after.settings)),
    ]
    return [f"{name}: {a or 'not known'} / {b or 'not known'}" for name, a, b in pairs if a != b]


def machines_differ(comparison: Comparison) -> bool:
    """Whether the two ran on different machines, as far as is known."""
    return any(text.startswith(("CPU:", "cores:", "memory:")) for text in comparison.differences)


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:.0f} GB" if count else ""


def _words(settings: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items()) or "none"


def _of(document: Document, configuration: int) -> Mapping[tuple[str, str, int], Cell]:
    return {cell.key: cell for cell in document.cells if cell.configuration == configuration}


def _ratios(
    before: Mapping[tuple[str, str, int], Cell], after: Mapping[tuple[str, str, int], Cell], *, paired: bool
) -> list[Ratio]:
    return [
        _ratio(key, metric, before[key].rounds, after[key].rounds, paired=paired)
        for key in after
        if key in before
        for metric in COMPARED
    ]


def _ratio(
    key: tuple[str, str, int], metric: str, before: Sequence[Figures], after: Sequence[Figures], *, paired: bool
) -> Ratio:
    one, two = values(before, metric), values(after, metric)
    pairs = zip(one, two, strict=False) if paired else itertools.product(one, two)
    every = [b / a for a, b in pairs if a > 0]
    low, high = (min(every), max(every)) if every else (None, None)
    a, b = median(before, metric) or 0.0, median(after, metric) or 0.0
    verdict = _verdict(BY_KEY[metric].better, low, high, min(len(one), len(two)))
    return Ratio(*key, metric, a, b, b / a if a > 0 else None, low, high, verdict)


def _verdict(better: str, low: float | None, high: float | None, rounds: int) -> Verdict:
    if rounds < ENOUGH:
        return "once"
    if low == high == 1:
        return "same"
    if low is None or high is None or low <= 1 <= high:
        return "unclear"
    return "better" if (low > 1) == (better == "more") else "worse"
