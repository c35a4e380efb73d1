"""What `pixelmill run` tells of its sources: lines, data, images on standard output, and the summary at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pixelmill.cli.batch import Work
    from pixelmill.cli.outputs import Destination
    from pixelmill.cli.progress import Tally
    from pixelmill.cli.work import Report


class Printer:
    """Takes reports, counts them, and prints what a person or a program wants to see."""

    def __init__(self, work: Work, destination: Destination, *, json_lines: bool, prints_data: bool) -> None:
        from pixelmill.cli.progress import Bar, Tally

        self.bar = Bar("", None, shown=False)
        self._names = [source.name for source in work.sources]
        self._destination, self._json, self._prints_data = destination, json_lines, prints_data
        self._tally = Tally()

    def take(self, report: Report, body: bytes | None) -> None:
        """One source has ended; ``body`` is its image where that has no file to go to."""
        from pixelmill.cli.progress import Failure

        tally, name = self._tally, self._names[report.number]
        if report.error is not None:
            tally.failures.append(Failure(name, report.error["type"], report.error["detail"]))
        elif report.state == "skipped":
            tally.skipped += 1
        else:
            tally.succeeded += 1
        if self._json:
            print(json.dumps(_line(name, report), ensure_ascii=False), flush=True)
        elif self._prints_data and report.detail is not None:
            self._print_data(name, report.detail["data"])
        elif self._destination.kind == "stdout" and body is not None:
            sys.stdout.buffer.write(body)
            sys.stdout.buffer.flush()
        self.bar.update(tally.done, note=f"{len(tally.failures)} failed" if tally.failures else "")

    def _print_data(self, name: str, data: Mapping[str, Any]) -> None:
        """Over several lines for one source; a line of JSON each, with its source, for several."""
        if len(self._names) == 1:
            print(json.dumps(data, indent=2, ensure_ascii=False), flush=True)
        else:
            print(json.dumps({"source": name, "data": data}, ensure_ascii=False), flush=True)

    def stopped(self) -> None:
        """Say how far it came, and how to go on."""
        how = "; the same command with --skip-existing goes on" if self._destination.kind == "folder" else ""
        print(f"pixelmill: stopped after {self._tally.done:,} of {len(self._names):,} sources{how}", file=sys.stderr)

    def finish(self) -> None:
        """Print the summary, and what failed; raises :class:`typer.Exit` if anything did."""
        tally = self._tally
        if self._json:
            print(json.dumps({"summary": _summary(tally)}), flush=True)
        elif self._destination.kind != "stdout" and not self._prints_data and tally.done > 1:
            skipped = f", {tally.skipped:,} skipped" if tally.skipped else ""
            place = self._destination.uri or self._destination.path
            where = f" to {place}" if place is not None else ""
            written = f"{tally.succeeded:,} of {tally.done:,} written{where} in {tally.seconds:.1f} s"
            print(f"{written} ({tally.rate:.1f} images/s){skipped}", file=sys.stderr)
        if not tally.failures:
            return
        if tally.done == 1:
            print(f"pixelmill: {tally.failures[0].name}: {tally.failures[0].why}", file=sys.stderr)
        else:
            from pixelmill.cli.progress import print_failures

            print_failures(tally.failures)
        raise typer.Exit(1)


def _line(name: str, report: Report) -> dict[str, Any]:
    """A report for ``--json``."""
    line: dict[str, Any] = {"source": name, "state": report.state}
    if report.output is not None:
        line["output"] = report.output
    if report.data_file is not None:
        line["data_file"] = report.data_file
    if report.error is not None:
        line["error"] = {"type": report.error["type"], "detail": report.error["detail"]}
    return {**line, **(report.detail or {})}


def _summary(tally: Tally) -> dict[str, Any]:
    return {
        "sources": tally.done,
        "succeeded": tally.succeeded,
        "failed": len(tally.failures),
        "skipped": tally.skipped,
        "seconds": round(tally.seconds, 3),
        "images_per_second": round(tally.rate, 2),
    }
