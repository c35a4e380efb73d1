"""Sources of `pixelmill run` that run in tiles, one after the other, each on all cores.

Among several sources those are found by trying: what a pool process refuses as too large is held back (by the sieve of
``batch.py``), and has its turn behind the others.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pixelmill.cli.progress import is_shown
from pixelmill.cli.ranks import run_over_ranks
from pixelmill.cli.state import Stopped
from pixelmill.cli.tiled import Order, explain_order, run_order
from pixelmill.cli.work import Report, Rules
from pixelmill.pipelines.spec import Pipeline
from pixelmill.pipelines.tiled_explain import not_carried

if TYPE_CHECKING:
    from pixelmill.config import Settings


class Printer(Protocol):
    """Who takes reports, and tells people."""

    def take(self, report: Report, body: bytes | None) -> None:
        """One source has ended."""
        ...

    def stopped(self) -> None:
        """Nothing more comes."""
        ...


@dataclass(frozen=True, slots=True)
class Tiled:
    """What all orders of a command share. ``tile`` None: as planned; ``ranks`` None: on threads."""

    pipeline: Pipeline
    rules: Rules
    images: Mapping[str, Path]
    settings: Settings
    tile: int | None = None
    ranks: int | None = None
    progress: bool | None = None

    def run(self, orders: Iterable[Order], printer: Printer) -> None:
        """Run all; failures are reports. Raises :class:`KeyboardInterrupt` or :class:`Stopped` when interrupted."""
        left_out = not_carried(self.pipeline)
        for order in orders:
            if left_out is not None:
                print(f"pixelmill: {left_out}", file=sys.stderr)
                left_out = None
            try:
                printer.take(*self._one(order))
            except (KeyboardInterrupt, Stopped):
                printer.stopped()
                raise

    def explain(self, order: Order, *, as_json: bool) -> None:
        """Print the plan of one."""
        explain_order(order, self.pipeline, self.rules, self.settings, self.tile, as_json=as_json)

    def _one(self, order: Order) -> tuple[Report, bytes | None]:
        if not self.ranks:
            shown = is_shown(self.progress)
            return run_order(order, self.pipeline, self.rules, self.settings, self.tile, shown=shown)
        return run_over_ranks(
            order,
            self.pipeline,
            self.rules,
            self.settings,
            self.ranks,
            self.images,
            tile=self.tile,
            progress=self.progress,
        )


def orders_of(held: Iterable[Report], printer: Printer, look: Callable[[int], Order | None]) -> Iterator[Order]:
    """Of each report that was held back, what ``look`` makes of its number; where that is nothing, it has failed."""
    for report in sorted(held, key=lambda one: one.number):
        order = look(report.number)
        if order is None:
            printer.take(report, None)
        else:
            yield order
