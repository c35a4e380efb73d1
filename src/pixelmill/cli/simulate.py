"""`pixelmill simulate`: what gate rules would have done over recorded load."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pixelmill.cli.tables import print_table

DEFAULT_RULES = ("threshold", "lowest-cpu-40", "auto")


def simulate(
    traces: Annotated[list[Path], typer.Argument(help="Files with lines MACHINE_CPU_RAM, in percent.")],
    rules: Annotated[
        list[str] | None, typer.Option("--rule", help="A gate rule; may be given again.", show_default=False)
    ] = None,
    rate: Annotated[float, typer.Option(min=0.0, help="Tasks a second, all machines together.")] = 1.0,
    seconds: Annotated[float, typer.Option(min=0.001, help="Seconds of one core that a task takes.")] = 1.0,
    cores: Annotated[int, typer.Option(min=1, max=1024, help="Cores of each machine.")] = 2,
    interval: Annotated[float, typer.Option(min=0.001, help="Seconds between two samples.")] = 1.0,
    overflow_seconds: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds that a task takes in overflow; as --seconds.")
    ] = None,
    price: Annotated[float, typer.Option(min=0.0, help="Price of a second in overflow.")] = 0.0,
    price_per_call: Annotated[float, typer.Option(min=0.0, help="Price of a call in overflow.")] = 0.0,
    after: Annotated[
        float | None, typer.Option(min=0.0, help="Work that waited so many seconds may overflow; else never.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Let tasks come at random, with this seed; else evenly.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Compare gate rules over recorded load: tasks at home and in overflow, waits, cost.

    The rules are those of the service; machines and work are a model, which docs/overflow.md describes.
    """
    from pixelmill.fleet.overflow import Price
    from pixelmill.fleet.samplers import read_traces
    from pixelmill.fleet.simulate import Workload
    from pixelmill.fleet.simulate import simulate as run

    machines = {f"{path.name}:{name}": load for path in traces for name, load in read_traces(path).items()}
    work = Workload(
        rate=rate,
        task_s=seconds,
        cores=cores,
        interval_s=interval,
        overflow_s=seconds if overflow_seconds is None else overflow_seconds,
        price=Price(price_per_call, price),
        after_s=after,
        seed=seed,
    )
    found = [run(rule, machines, work) for rule in rules or DEFAULT_RULES]
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    rows = [
        (
            one.rule,
            f"{one.own:,}",
            f"{one.overflow:,}",
            f"{one.mean_wait_s:.2f}",
            f"{one.p95_wait_s:.2f}",
            f"{one.mean_total_s:.2f}",
            f"{one.p95_total_s:.2f}",
            f"{one.cost:.6g}",
        )
        for one in found
    ]
    print_table(("rule", "own", "overflow", "wait s", "p95", "total s", "p95", "cost"), rows)
