"""`pixelmill run --explain`: what would be decoded, fused and run for the first source, without running it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pixelmill.cli.inputs import Input
from pixelmill.cli.settings import limits
from pixelmill.errors import ObjectNotFound

if TYPE_CHECKING:
    from pixelmill.config import Settings
    from pixelmill.pipelines.spec import Pipeline


def explain(pipeline: Pipeline, items: Sequence[Input], settings: Settings, *, as_json: bool) -> None:
    """Print the plan for the first of ``items``; raises what reading and planning raise."""
    from pixelmill.images.probe import probe
    from pixelmill.pipelines.plan import plan
    from pixelmill.pipelines.sources import read_file

    first = items[0]
    if first.error is not None:
        raise first.error if len(items) == 1 else ObjectNotFound(f"The first source can't be used: {first.error}")
    bounds = limits(settings)
    data = first.body if isinstance(first.body, bytes) else read_file(first.body, bounds)
    info = probe(data, bounds, pipeline.source.frame)
    made = plan(pipeline, info, bounds)
    if not as_json:
        print(f"pipeline {pipeline.to_text()}")
        print(f"file     {first.name}")
        print(made.explain())
        return
    record = {
        "pipeline": pipeline.to_text(),
        "hash": pipeline.hash,
        "source": first.name,
        "decode": {"color": made.need.color, "least": made.need.least, "size": made.decoded},
        "steps": [step.action.name for step in made.steps],
        "format": made.target.name if made.target else None,
        "size": made.size,
        "frames": made.frames,
        "seconds": made.seconds,
        "peak_bytes": made.memory,
    }
    print(json.dumps(record))
