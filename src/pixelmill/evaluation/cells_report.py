"""The part of the report that tells of batches: charts by size, tables of every metric, time lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from pixelmill.evaluation.charts import Line, area, bars, lines
from pixelmill.evaluation.document import Cell, Document
from pixelmill.evaluation.figures import Figures, median, middle_round, values
from pixelmill.evaluation.pieces import Cell as TableCell
from pixelmill.evaluation.pieces import Markup, figure, legend, section, table
from pixelmill.evaluation.wording import milliseconds, number, percent, seconds, size

TITLES = {"manual": "Manual trigger: one after another", "high-rate": "High-rate trigger: all at once"}
CHARTS = (
    ("throughput", "Throughput", "images a second"),
    ("duration.average", "Duration, average", "ms"),
    ("duration.p95", "Duration, p95", "ms"),
    ("age.average", "Event age, average", "ms"),
    ("age.p95", "Event age, p95", "ms"),
    ("concurrency_average", "Concurrent executions, average", ""),
)

Column = tuple[str, str, Callable[[float | None], str]]
OUTCOME: tuple[Column, ...] = (
    ("sent", "sent", number),
    ("received", "received", number),
    ("dropped", "dropped", number),
    ("invocations", "invocations", number),
    ("success_rate", "success", percent),
    ("failed", "failed", number),
    ("throttles", "throttles", number),
    ("retries", "retries", number),
    ("cold_starts", "cold starts", number),
    ("own", "own", number),
    ("overflow", "overflow", number),
)
DURATION: tuple[Column, ...] = tuple(
    (f"duration.{name}", name, number) for name in ("average", "p50", "p90", "p95", "p99", "max")
)
AGE: tuple[Column, ...] = tuple((f"age.{name}", name, number) for name in ("average", "p50", "p95", "max"))
FLOW: tuple[Column, ...] = (
    ("concurrency_average", "average", number),
    ("concurrency_peak", "peak", number),
    ("throughput", "images/s", number),
    ("pixel_rate", "MP/s", number),
    ("span_s", "time", lambda value: "–" if value is None else seconds(value)),
    ("megapixels", "megapixels", number),
    ("bytes_in", "bytes in", size),
    ("bytes_out", "bytes out", size),
)


def charts(document: Document) -> str:
    """Lines over batch sizes, for each trigger."""
    parts = []
    for trigger, cells in by_trigger(document.cells):
        sizes = sorted({cell.size for cell in cells})
        figures = [
            figure(
                title,
                lines(f"{title} by batch size, {trigger} trigger", _names(sizes), made, "images in a batch"),
                unit,
            )
            for key, title, unit in CHARTS
            if (made := _lines(document, cells, sizes, key))
        ]
        parts.append(f'<h3>{TITLES[trigger]}</h3><div class="charts">{"".join(figures)}</div>')
    entries = [(line.name, line.tone, line.dashed) for line in _lines(document, document.cells, [], "throughput")]
    return section("sizes", "By batch size and resolution", legend(entries), *parts) if parts else ""


def _names(sizes: Sequence[int]) -> list[str]:
    return [f"{count:,}" for count in sizes]


def _lines(document: Document, cells: Sequence[Cell], sizes: Sequence[int], key: str) -> list[Line]:
    """A line for each resolution, and for each of two configurations: the second one's are dashed."""
    several = len(document.configurations) > 1
    resolutions = _resolutions(document.cells)
    made = []
    for index, configuration in enumerate(document.configurations):
        for tone, resolution in enumerate(resolutions):
            own = {
                cell.size: cell.rounds for cell in cells if (cell.configuration, cell.resolution) == (index, resolution)
            }
            found = [values(own[count], key) if count in own else [] for count in sizes]
            name = f"{resolution}, {configuration.label}" if several else resolution
            made.append(
                Line(
                    name,
                    [median(own[count], key) if count in own else None for count in sizes],
                    tone,
                    index > 0,
                    [min(every, default=None) for every in found],
                    [max(every, default=None) for every in found],
                )
            )
    return made


def _resolutions(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.resolution for cell in cells))


def by_trigger(cells: Sequence[Cell]) -> Iterator[tuple[str, list[Cell]]]:
    """The cells of each trigger that has any."""
    for trigger in TITLES:
        own = [cell for cell in cells if cell.trigger == trigger]
        if own:
            yield trigger, own


def tables(document: Document) -> str:
    """Every metric by batch and resolution."""
    parts = []
    for trigger, cells in by_trigger(document.cells):
        for index, configuration in enumerate(document.configurations):
            own = [cell for cell in cells if cell.configuration == index]
            if not own:
                continue
            several = f", {configuration.label}" if len(document.configurations) > 1 else ""
            parts.append(f"<h3>{TITLES[trigger]}</h3>")
            parts.append(_table(f"Events and outcomes, {trigger} trigger{several}", own, OUTCOME))
            parts.append(
                _table(
                    f"Durations and event ages in milliseconds, {trigger} trigger{several}",
                    own,
                    (*DURATION, *AGE),
                    bands=[("", 2), ("duration", len(DURATION)), ("event age", len(AGE))],
                )
            )
            parts.append(
                _table(
                    f"Concurrency, throughput and bytes, {trigger} trigger{several}",
                    own,
                    FLOW,
                    bands=[("", 2), ("concurrency", 2), ("throughput", 3), ("of all images", 3)],
                )
            )
    rounds = "Medians of the rounds. " if document.rounds > 1 else ""
    intro = f"<p>{rounds}What each number means is said at the end of the page.</p>"
    return section("tables", "Every metric", intro, *parts) if parts else ""


def _table(
    caption: str, cells: Sequence[Cell], columns: Sequence[Column], *, bands: Sequence[tuple[str, int]] = ()
) -> str:
    groups = [
        (resolution, [[f"{cell.size:,}", *(_shown(cell.rounds, *column) for column in columns)] for cell in own])
        for resolution, own in groupby(cells, lambda cell: cell.resolution)
    ]
    return table(caption, ["resolution", "batch", *(title for _, title, _ in columns)], groups, bands=bands)


def _shown(rounds: Sequence[Figures], key: str, _title: str, write: Callable[[float | None], str]) -> TableCell:
    value = median(rounds, key)
    text = write(value)
    wrong = value != 100 if key == "success_rate" else value and key in {"failed", "dropped"}
    return Markup(f'<span class="bad">{text}</span>') if wrong else text


def over_time(document: Document) -> str:
    """What happened in each batch: small pictures, one row a batch."""
    parts = []
    for trigger, cells in by_trigger(document.cells):
        for index, configuration in enumerate(document.configurations):
            own = [cell for cell in cells if cell.configuration == index]
            if not own:
                continue
            several = f", {configuration.label}" if len(document.configurations) > 1 else ""
            groups = [
                (resolution, [_pictures(cell) for cell in rows])
                for resolution, rows in groupby(own, lambda cell: cell.resolution)
            ]
            made = table(
                f"{TITLES[trigger]}{several}",
                ["resolution", "batch", "concurrent executions", "queue age, ms", "images a second", "durations, ms"],
                groups,
            )
            parts.append(made.replace('<table class="grouped">', '<table class="grouped pictures">', 1))
    note = "<p>Each row is one batch"
    note += ", in the round whose time is the median" if document.rounds > 1 else ""
    note += ". Time runs from the first event to the last end; bars count executions by their duration.</p>"
    return section("time", "Over time", note, *parts) if parts else ""


def _pictures(cell: Cell) -> list[TableCell]:
    one = middle_round(cell.rounds)
    line = one.timeline
    where = f"{cell.trigger}, {cell.resolution}, {cell.size:,} images"
    ages = [1000 * age for age in line.age_s]
    return [
        f"{cell.size:,}",
        Markup(
            area(
                f"Concurrent executions over time, {where}: peak {one.concurrency_peak}", line.concurrency, line.step_s
            )
        ),
        Markup(area(f"Queue age over time, {where}: at most {milliseconds(one.age.max)}", ages, line.step_s, 2)),
        Markup(
            area(f"Throughput over time, {where}: {number(one.throughput)} images/s", line.throughput, line.step_s, 1)
        ),
        Markup(bars(f"Durations, {where}: median {milliseconds(one.duration.p50)}", one.histogram, 3)),
    ]


def cold_starts(document: Document) -> str:
    """First tasks of processes against the rest."""
    rows: list[list[TableCell]] = []
    for cell in document.cells:
        known = [one for one in cell.rounds if one.cold_starts]
        if not known:
            continue
        one = max(known, key=lambda found: found.cold.max)
        label = f", {document.configurations[cell.configuration].label}" if len(document.configurations) > 1 else ""
        rows.append(
            [
                f"{cell.trigger}, {cell.resolution}, {cell.size:,}{label}",
                number(sum(found.cold_starts or 0 for found in known)),
                number(one.cold.average),
                number(one.cold.max),
                number(one.warm.p50) if one.warm.count else "–",
                number(one.start.average) if one.start.count else "–",
            ]
        )
    if not rows:
        told = any(one.cold_starts == 0 for cell in document.cells for one in cell.rounds)
        text = "No process was new in any batch." if told else "This target does not tell its processes apart."
        return section("cold", "Cold starts", f"<p>{text}</p>") if document.cells else ""
    made = table(
        "First tasks of new processes",
        ["batch", "cold starts", "cold average ms", "cold max ms", "warm median ms", "start of the process ms"],
        [(None, rows)],
    )
    return section("cold", "Cold starts", made)


def errors(document: Document) -> str:
    """What failed or was dropped, by reason."""
    found: Counter[tuple[str, str]] = Counter()
    for cell in document.cells:
        for one in cell.rounds:
            for reason, count in one.errors.items():
                found[reason, f"{cell.trigger}, {cell.resolution}, {cell.size:,}"] += count
    if not found:
        return section("errors", "Errors", "<p>No image failed, none was dropped.</p>") if document.cells else ""
    rows = [[reason, where, number(count)] for (reason, where), count in found.most_common(100)]
    return section("errors", "Errors", table("By reason and batch", ["reason", "batch", "images"], [(None, rows)]))
