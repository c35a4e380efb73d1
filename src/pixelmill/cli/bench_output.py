"""What `pixelmill bench` leaves: a table on standard output, and the report as HTML and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pixelmill.errors import ConfigError

if TYPE_CHECKING:
    from pixelmill.evaluation.document import Document, Load


class Files:
    """Where the report goes; raises :class:`ConfigError` before anything is measured where that can't be.

    ``kept``: a file that must not be written over.
    """

    def __init__(self, html: Path, json: Path | None, kept: Path | None = None) -> None:
        self.html, self.json = html, json or html.with_suffix(".json")
        for option, path in (("-o", self.html), ("--json", self.json)):
            if path.is_dir() or not path.parent.is_dir():
                raise ConfigError(f"{option} {path} must name a file in a folder that exists.")
        if self.html.absolute() == self.json.absolute():
            raise ConfigError(f"-o and --json both name {self.html}; give them names of their own.")
        if kept is not None and kept.resolve() in {self.html.resolve(), self.json.resolve()}:
            raise ConfigError(f"{kept} (--compare) would be written over by the new report; name another file with -o.")

    def write(self, made: Document) -> None:
        """Write both, and say so."""
        from pixelmill.evaluation.document import to_json
        from pixelmill.evaluation.report import render

        for path, text in ((self.json, to_json(made)), (self.html, render(made))):
            try:
                path.write_text(text, encoding="utf-8")
            except OSError as error:
                raise ConfigError(f"{path} can't be written ({error.strerror or error}).") from error
        print(f"{'Partial report' if made.partial else 'Report'}: {self.html} (data: {self.json})")


def print_cells(made: Document) -> None:
    """A row for each batch."""
    from pixelmill.cli.tables import print_table
    from pixelmill.evaluation.figures import median
    from pixelmill.evaluation.wording import milliseconds, number, percent

    several = len(made.configurations) > 1
    header = ("trigger", "resolution", "batch", "success", "duration", "p95", "age p95", "peak", "images/s")
    rows = [
        (
            *((made.configurations[cell.configuration].label,) if several else ()),
            cell.trigger,
            cell.resolution,
            f"{cell.size:,}",
            percent(median(cell.rounds, "success_rate")),
            milliseconds(median(cell.rounds, "duration.average")),
            milliseconds(median(cell.rounds, "duration.p95")),
            milliseconds(median(cell.rounds, "age.p95")),
            number(median(cell.rounds, "concurrency_peak")),
            number(median(cell.rounds, "throughput")),
        )
        for cell in made.cells
    ]
    print_table(("configuration", *header) if several else header, rows)


def print_load(found: Load) -> None:
    """The numbers to see first."""
    from pixelmill.cli.tables import print_table
    from pixelmill.evaluation.crowd import fairness
    from pixelmill.evaluation.wording import milliseconds, number, percent, ratio, seconds

    slowest, jain = fairness(found.users)
    rows = [
        ("images", f"{found.all.sent:,}"),
        ("success", percent(found.all.success_rate)),
        ("images a second", number(found.all.throughput)),
        ("slowest user", seconds(max(user.seconds for user in found.users))),
        ("slowest to fastest", f"{ratio(slowest)} (Jain's index {jain:.3f})"),
        ("throttled requests", number(found.all.throttles)),
    ]
    if found.interactive is not None:
        rows.append(("single image, idle", f"{milliseconds(found.interactive.idle.p50)} (median)"))
        rows.append(("single image, beside", f"{milliseconds(found.interactive.under_load.p50)} (median)"))
    print_table(("", f"{len(found.users):,} users"), rows)
