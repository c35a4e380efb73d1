"""A plan in tiles for people and for programs: what `pixelmill run --explain` prints. Pure."""

from __future__ import annotations

from typing import Any

from pixelmill.images.image import Size
from pixelmill.pipelines.spec import Pipeline
from pixelmill.pipelines.tiled_plan import TiledPlan
from pixelmill.tiling.compiler import likely
from pixelmill.tiling.stage import SOURCE, Stage

NOT_CARRIED = ("exif", "xmp", "iptc")
MODES = {1: "gray", 3: "rgb", 4: "rgba"}
MEGA = 1e6


def not_carried(pipeline: Pipeline) -> str | None:
    """What a run in tiles leaves out of what the pipeline asks for; None where that is nothing."""
    policy = pipeline.output.metadata.policy
    if policy == "strip":
        return None
    return (
        f"metadata:{policy} has no effect in tiles: EXIF, XMP and IPTC of the source are not carried "
        "(its profile is, with icc=true)"
    )


def explain_tiled(chosen: TiledPlan) -> str:
    """A line for what is read, each step, each sweep, and what it takes."""
    source = chosen.source
    mode, bits = MODES.get(source.channels, f"{source.channels} channels"), 8 * source.dtype.itemsize
    lines = [
        f"source   {_size(source.size)}, {mode}, {bits} bits a sample",
        f"run      in tiles: {chosen.why}",
    ]
    for step in chosen.steps:
        halo = f", halo {step.halo:,}" if step.halo else ""
        lines.append(f"step {step.number:<3} {step.name}: {step.kind}, {step.tier}{halo}, {_size(step.size)}")
    for stage in chosen.stages:
        lines.append(f"sweep {stage.number + 1:<2} {_flow(stage)}")
        lines.append(f"         {_tiles(chosen, stage)}")
    if chosen.program.open is not None:
        lines.append("         what follows is decided by what is found; this is the most that is likely")
    scratch = likely(chosen.program).scratch_bytes
    if scratch:
        held = min(scratch, chosen.wishes.in_memory)
        where = "in memory" if scratch <= held else "on disk"
        lines.append(f"scratch  {_bytes(scratch)} of intermediate pixels at the most, {where}")
    left_out = not_carried(chosen.pipeline)
    if left_out is not None and chosen.result is not None:
        lines.append(f"note     {left_out}")
    workers = chosen.wishes.workers
    lines.append(
        f"all      about {chosen.memory / MEGA:,.0f} MB of memory at the peak, {workers} "
        f"{'worker' if workers == 1 else 'workers'}, {_duration(chosen.seconds)} beside writing"
    )
    return "\n".join(lines)


def tiled_record(chosen: TiledPlan) -> dict[str, Any]:
    """The same as plain JSON values."""
    program = likely(chosen.program)
    return {
        "why": chosen.why,
        "steps": [
            {"name": step.name, "kind": step.kind, "tier": step.tier, "halo": step.halo, "size": list(step.size)}
            for step in chosen.steps
        ],
        "sweeps": [
            {
                "passes": [link.name for link in stage.links],
                "from": "source" if stage.start == SOURCE else "scratch",
                "writes": stage.writes,
                "tile": list(stage.grid.tile),
                "tiles": stage.grid.tiles,
                "halo": stage.halo,
                "computed_twice": round(program.recomputed(stage), 4),
            }
            for stage in program.stages
        ],
        "not_carried": list(NOT_CARRIED) if not_carried(chosen.pipeline) else [],
        "scratch_bytes": program.scratch_bytes,
        "workers": chosen.wishes.workers,
        "seconds": chosen.seconds,
        "peak_bytes": chosen.memory,
    }


def _flow(stage: Stage) -> str:
    start = "read" if stage.start == SOURCE else "scratch"
    ends = []
    if stage.store is not None or stage.keeps:
        ends.append("scratch")
    if stage.writes:
        ends.append("write")
    return " → ".join([start, stage.name, *ends])


def _tiles(chosen: TiledPlan, stage: Stage) -> str:
    grid, twice = stage.grid, likely(chosen.program).recomputed(stage)
    halo = f", halo {stage.halo:,}" if stage.halo else ""
    return (
        f"{grid.tiles:,} {'tile' if grid.tiles == 1 else 'tiles'} of {_size(grid.tile)}{halo}; "
        f"{max(0.0, twice):.1%} computed twice"
    )


def _size(size: Size) -> str:
    return f"{size.width:,}×{size.height:,}"


def _bytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / MEGA:,.1f} MB"


def _duration(seconds: float) -> str:
    return f"about {seconds:,.0f} s" if seconds >= 1 else f"about {seconds * 1e3:,.0f} ms"
