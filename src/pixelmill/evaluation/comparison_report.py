"""The part of the report that compares: ratios of medians, and how sure they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from itertools import groupby
from statistics import geometric_mean

from pixelmill.evaluation.comparing import COMPARED, machines_differ
from pixelmill.evaluation.document import Comparison, Ratio
from pixelmill.evaluation.figures import BY_KEY
from pixelmill.evaluation.pieces import Cell, Markup, section, table
from pixelmill.evaluation.wording import number, ratio

NAMES = {
    "throughput": "images a second",
    "duration.average": "duration, average",
    "duration.p95": "duration, p95",
    "age.average": "event age, average",
    "age.p95": "event age, p95",
    "total.p95": "event to end, p95",
    "success_rate": "success",
}
WORDS = {"better": "better", "worse": "worse", "same": "the same", "unclear": "unclear", "once": "too few rounds"}


def comparison(found: Comparison | None) -> str:
    """A table for each trigger; nothing where nothing was compared."""
    if found is None:
        return ""
    head = f"<p><strong>{escape(found.before)}</strong> before, <strong>{escape(found.after)}</strong> after. "
    head += (
        "Rounds of the two took turns; the range is of the ratios of each round."
        if found.paired
        else "The range is of the ratios of any round now to any round then."
    )
    head += " Better or worse is said only where three rounds or more all agree.</p>"
    if machines_differ(found):
        head += (
            '<p class="partial" role="note"><strong>The machines differ</strong>, so the ratios tell of them too.</p>'
        )
    if found.differences:
        rows = "".join(f"<li>{escape(text)}</li>" for text in found.differences)
        head += f'<details open><summary>What was not the same</summary><ul class="findings">{rows}</ul></details>'
    if not found.ratios:
        return section("comparison", "Comparison", head, "<p>No batch is in both.</p>")
    parts = [_summary(found.ratios)]
    parts += [_tables(trigger, list(rows)) for trigger, rows in groupby(found.ratios, lambda one: one.trigger)]
    return section("comparison", "Comparison", head, *parts)


def _summary(ratios: Sequence[Ratio]) -> str:
    """Each metric over all batches."""
    rows: list[list[Cell]] = []
    for metric in COMPARED:
        own = [one for one in ratios if one.metric == metric]
        positive = [one.ratio for one in own if one.ratio]
        verdicts = Counter[str](one.verdict for one in own)
        mean = ratio(geometric_mean(positive)) if positive else "–"
        rows.append([NAMES[metric], mean, *(f"{verdicts[verdict]:,}" for verdict in WORDS)])
    header = ["metric", "ratio, geometric mean", *WORDS.values()]
    return table("Over all batches", header, [(None, rows)], bands=[("", 2), ("batches", len(WORDS))])


def _tables(trigger: str, ratios: list[Ratio]) -> str:
    groups = []
    for key, rows in groupby(ratios, lambda one: (one.resolution, one.size)):
        groups.append((f"{key[0]} × {key[1]:,}", [_row(one) for one in rows]))
    return table(
        f"{trigger[0].upper()}{trigger[1:]} trigger",
        ["batch", "metric", "before", "after", "ratio", "range", "verdict"],
        groups,
    )


def _row(one: Ratio) -> list[Cell]:
    unit = BY_KEY[one.metric].unit
    unit = f" {unit}" if unit in {"ms", "%"} else ""
    tone = {"better": "good", "worse": "bad"}.get(one.verdict, "soft")
    return [
        NAMES[one.metric],
        f"{number(one.before)}{unit}",
        f"{number(one.after)}{unit}",
        ratio(one.ratio),
        "–" if one.low is None else f"{ratio(one.low)} to {ratio(one.high)}",
        Markup(f'<span class="verdict {tone}">{WORDS[one.verdict]}</span>'),
    ]


assert set(NAMES) == set(COMPARED), "every metric that is compared has a name"
