"""The report as one page of HTML: nothing is fetched, no script is needed. Pure functions of the document."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from pixelmill.evaluation import cells_report
from pixelmill.evaluation.comparison_report import comparison
from pixelmill.evaluation.document import Configuration, Document, Machine, was_busy
from pixelmill.evaluation.figures import Figures, median
from pixelmill.evaluation.load_report import load, load_tiles
from pixelmill.evaluation.pieces import pairs, section, tiles
from pixelmill.evaluation.style import CSS
from pixelmill.evaluation.wording import milliseconds, number, percent, seconds

# An inline sheet and pictures drawn in the page are all that a reader's browser may use.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
TARGETS = {
    "service": "jobs",
    "process": "synchronous requests",
    "folder": "files dropped into a watched folder",
    "s3": "objects put into a bucket",
    "function": "invocations of a function",
}
MEANINGS = (
    ("event", "One image that is sent: it appears, and asks for the pipeline to be run."),
    (
        "sent, received, dropped",
        "Events that were sent; those that the target took; those with no outcome: refused for good or not in time.",
    ),
    ("invocations", "Attempts to run the pipeline. More than received where attempts were lost and made again."),
    ("success", "Images with a result, in percent of the events sent."),
    (
        "throttles, retries",
        "Answers 429 and 503 to the sender; requests that it sent again, after the time it was told.",
    ),
    ("cold starts", "Executions that were the first of their process. Told by services and functions."),
    ("duration", "From the start of the last attempt to its end, queue and upload not included."),
    ("event age", "From the moment the target took the event to the start of its work."),
    (
        "percentiles",
        "Interpolated linearly between the two closest ranks (definition 7 of Hyndman and Fan, as in NumPy).",
    ),
    (
        "concurrent executions",
        "Executions that ran at one time: on average from the first start to the last end, and the most.",
    ),
    (
        "time, throughput",
        "From the first event to the last end; images that succeeded, and megapixels of their sources, by it.",
    ),
    ("queue age", "In a time line: how long the oldest event that waits has waited."),
    ("own, overflow", "Where it ran: on machines of our own, or on targets that are paid for by the call."),
)


def render(document: Document) -> str:
    """The page."""
    title = _title(document)
    several = len(document.configurations) > 1
    parts = [
        _header(document, title),
        tiles(load_tiles(document.load) if document.load else list(_tiles(document))),
        _findings(document),
        load(document.load) if document.load else "",
        cells_report.charts(document),
        comparison(document.comparison) if several else "",
        cells_report.tables(document),
        "" if several else comparison(document.comparison),
        cells_report.over_time(document),
        cells_report.cold_starts(document),
        cells_report.errors(document),
        _facts(document),
        section("meanings", "What the numbers mean", pairs(MEANINGS, "meanings")),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body>{parts[0]}<main>{''.join(parts[1:])}</main>"
        f"<footer>Made by Pixelmill {escape(document.sender.versions.get('Pixelmill', ''))}, form "
        f"{document.pixelmill_evaluation} of the report.</footer></body></html>\n"
    )


def _title(document: Document) -> str:
    what = document.configurations[0].pipeline
    return f"{'Several users' if document.kind == 'load' else 'Evaluation'}: {what}"


def _header(document: Document, title: str) -> str:
    del title
    first = document.configurations[0]
    where = "a private service" if first.place == "private" else first.place
    what = TARGETS.get(first.target, "synchronous requests")
    kind = "Load of several users" if document.kind == "load" else "Evaluation"
    partial = (
        f'<p class="partial" role="note"><strong>Partial.</strong> {escape(document.why)} '
        f"{len(document.cells)} of {document.planned} batches are here.</p>"
        if document.partial
        else ""
    )
    return (
        f'<header><p class="kind">Pixelmill · {kind}</p><h1><code>{escape(first.pipeline)}</code></h1>'
        f"<p>{escape(what[0].upper() + what[1:])}, on {escape(where)}. {escape(_made(document.made))}; "
        f"{escape(seconds(document.seconds))}. Images: {escape(document.images)}.</p>{partial}</header>"
    )


def _made(iso: str) -> str:
    return f"{iso[:10]} {iso[11:16]} UTC"


def _tiles(document: Document) -> Iterator[tuple[str, str, str]]:
    cells = [cell for cell in document.cells if cell.configuration == 0]
    if not cells:
        return
    every = [one for cell in cells for one in cell.rounds]
    sent, succeeded = sum(one.sent for one in every), sum(one.succeeded for one in every)
    yield f"{sent:,}", "images sent", f"in {len(every)} batches"
    yield percent(100 * succeeded / sent if sent else 0.0), "success", f"{sent - succeeded:,} without a result"
    best = max(cells, key=lambda cell: median(cell.rounds, "throughput") or 0.0)
    yield (
        number(median(best.rounds, "throughput")),
        "images a second, best",
        f"{best.trigger}, {best.resolution} × {best.size:,}",
    )
    largest = max(cells, key=lambda cell: (cell.size, cell.trigger == "high-rate", -cells.index(cell)))
    where = f"{largest.trigger}, {largest.resolution} × {largest.size:,}"
    yield milliseconds(median(largest.rounds, "duration.average")), "duration, average", where
    yield milliseconds(median(largest.rounds, "age.max")), "oldest event at its start", where
    yield number(max(one.concurrency_peak for one in every)), "concurrent executions, peak", _slots(document)


def _slots(document: Document) -> str:
    slots = sum(document.configurations[0].slots.values())
    return f"of {slots:,} slots" if slots else ""


def _findings(document: Document) -> str:
    """What a reader would say who has looked at all tables."""
    cells = [cell for cell in document.cells if cell.configuration == 0]
    every: list[Figures] = [one for cell in cells for one in cell.rounds]
    if not every:
        return ""
    told = []
    for trigger, own in cells_report.by_trigger(cells):
        most = max(cell.size for cell in own)
        largest = [cell for cell in own if cell.size == most]
        rates = [f"{number(median(cell.rounds, 'throughput'))} at {cell.resolution}" for cell in largest]
        ages = max(median(cell.rounds, "age.p95") or 0.0 for cell in largest)
        told.append(
            f"{cells_report.TITLES[trigger]}. With {most:,} images: {_listed(rates)} images a second; 95 of 100 events "
            f"began within {milliseconds(ages)}."
        )
    bad = sum(one.failed for one in every), sum(one.dropped for one in every), sum(one.throttles for one in every)
    told.append(
        "No event was dropped, no image failed, nothing was throttled."
        if not any(bad)
        else f"Failed: {bad[0]:,}. Dropped: {bad[1]:,}. Throttled requests: {bad[2]:,}."
    )
    if was_busy(document):
        told.append(
            f"Something else kept this machine busy: its load average was {document.load_before[0]:.1f} on "
            f"{document.sender.cores} cores before this began. A quiet machine is faster."
        )
    return f'<ul class="findings">{"".join(f"<li>{escape(text)}</li>" for text in told)}</ul>'


def _listed(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _facts(document: Document) -> str:
    parts = []
    for configuration in document.configurations:
        several = len(document.configurations) > 1
        title = f"<h3>{escape(configuration.label)}</h3>" if several else ""
        parts.append(title + pairs(_configuration(configuration), "facts"))
    remote = document.configurations[0].machine != document.sender
    if remote:
        parts.append("<h3>The sender</h3>" + pairs(_machine(document.sender), "facts"))
    run = [
        (
            "Load average",
            f"before {_loads(document.load_before)}; after {_loads(document.load_after)} (1, 5, 15 minutes)",
        ),
        ("Rounds", f"{document.rounds}"),
    ]
    parts.append("<h3>The run</h3>" + pairs(run, "facts"))
    parts.append(f"<h3>To repeat it</h3><pre>{escape(document.command)}</pre>")
    return section("facts", "Machine, versions, command", *parts)


def _loads(loads: tuple[float, ...]) -> str:
    return " / ".join(f"{one:.2f}" for one in loads) or "not known"


def _configuration(one: Configuration) -> Iterator[tuple[str, str]]:
    yield "Target", f"{one.target}: {TARGETS.get(one.target, 'synchronous requests to that address')}"
    yield "Place", one.place
    if one.settings:
        yield "Settings", " ".join(f"{name}={value}" for name, value in one.settings.items())
    if one.slots:
        yield "Slots", ", ".join(f"{name}: {count}" for name, count in one.slots.items())
    yield from _machine(one.machine)


def _machine(machine: Machine) -> Iterator[tuple[str, str]]:
    if machine.cpu:
        yield "CPU", machine.cpu
    if machine.cores:
        yield "Cores", str(machine.cores)
    if machine.memory_bytes:
        yield "Memory", f"{machine.memory_bytes / 2**30:.1f} GB"
    if machine.system:
        yield "System", machine.system
    if machine.versions:
        yield "Versions", ", ".join(f"{name} {version}" for name, version in machine.versions.items())
