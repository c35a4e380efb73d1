"""What one source of `pixelmill run` takes: look, run, write, report. The same code in this process and in the pool.

Pool processes get sources by the chunk and write the result files themselves: a message an image would cost the main
process more than its share, and make it the bottleneck of a machine with many cores.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pixelmill.cli.outputs import Clash, Target, exists_error, extension, write
from pixelmill.errors import PixelmillError, error_to_dict
from pixelmill.images.encoders import AUTO, Acceptable
from pixelmill.images.formats import format_of_name
from pixelmill.images.image import Size
from pixelmill.images.limits import Limits
from pixelmill.models.model import ModelSource
from pixelmill.pipelines.outcome import Outcome
from pixelmill.pipelines.plan import gives_data_only
from pixelmill.pipelines.run import run
from pixelmill.pipelines.spec import Pipeline
from pixelmill.targets.target import RunRequest

ENTRY = "pixelmill.cli.work:run_chunk"
INLINE = "-"
"""Under this name the bytes of a source that is no file (standard input) travel among the request's images."""


class Report(NamedTuple):
    """How one source ended, and what it left; plain values. ``detail`` is given where it was asked for.

    ``error`` has ``type`` and ``detail``; ``output`` and ``data_file`` are paths where files were written.
    """

    number: int
    state: Literal["succeeded", "failed", "skipped"]
    output: str | None = None
    data_file: str | None = None
    detail: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What all sources of a command share. ``format`` is what the pipeline writes, None: as the source.

    ``token`` names the files that are not whole yet. ``detailed``: reports have what ``--json`` prints.
    """

    format: str | None
    clash: Clash
    token: str
    data_to_files: bool
    detailed: bool


def part_of(rules: Rules, target: Target, number: int) -> str | None:
    """The file that a source's result is written to before it gets its name."""
    place = target.path or target.stem
    if place is None:
        return None
    return os.path.join(os.path.dirname(place), f".{rules.token}-{number}.part")  # noqa: PTH118, PTH120 -- text, not Path: there may be a million


def failed(number: int, error: PixelmillError) -> Report:
    """The report of a source that failed."""
    return Report(number, "failed", error=error_to_dict(error))


def attempt(
    rules: Rules,
    pipeline: Pipeline,
    number: int,
    target: Target,
    source: bytes | Path,
    limits: Limits,
    images: Mapping[str, bytes | Path],
    models: ModelSource | None = None,
) -> tuple[Report, Outcome | None]:
    """Run one source and write what it gives; failures are reports."""
    try:
        before = there(rules, pipeline, target)
        if before is not None:
            if rules.clash == "skip":
                return Report(number, "skipped", output=before), None
            raise exists_error(before)
        outcome = run(pipeline, source, limits=limits, images=images, models=models)
        return keep(rules, number, target, outcome), outcome
    except PixelmillError as error:
        return failed(number, error), None


def there(rules: Rules, pipeline: Pipeline, target: Target) -> str | None:
    """The result file, if it exists and must not be replaced; as far as its name is known before the work."""
    return next((path for path in expected(rules, pipeline, target) if os.path.lexists(path)), None)


def expected(rules: Rules, pipeline: Pipeline, target: Target) -> list[str]:
    """Where a result may be that must not be replaced, as far as that is known before the work."""
    if rules.clash == "overwrite":
        return []
    if gives_data_only(pipeline):
        return [_data_file(target)] if target.stem is not None and rules.data_to_files else []
    if target.path is not None or target.stem is None:
        return [] if target.path is None else [target.path]
    if rules.format == AUTO:
        # Chosen only when the pixels are there; without --skip-existing, writing refuses the name that it comes to.
        names: Sequence[str] = get_args(Acceptable) if rules.clash == "skip" else ()
        return [f"{target.stem}{extension(name, target.name)}" for name in names]
    guess = rules.format or getattr(format_of_name(target.name), "name", None)
    return [] if guess is None else [target.stem + extension(guess, target.name)]


def _data_file(target: Target) -> str:
    return f"{target.stem}.json"


def keep(rules: Rules, number: int, target: Target, outcome: Outcome) -> Report:
    """Write what a source gave, where it is to go."""
    output = None
    part = part_of(rules, target, number)
    if part is not None and outcome.bytes is not None and outcome.format is not None:
        output = target.path or f"{target.stem}{extension(outcome.format, target.name)}"
        write(output, outcome.bytes, rules.clash, part)
    data_file = keep_data(rules, number, target, outcome.data)
    shown = detail(outcome) if rules.detailed else None
    return Report(number, "succeeded", output, data_file, shown)


def keep_data(rules: Rules, number: int, target: Target, data: Mapping[str, Any]) -> str | None:
    """Write what was found, where it is to go: the file's name."""
    part, found = part_of(rules, target, number), data_to_write(rules, target, data)
    if part is None or found is None:
        return None
    path, body = found
    write(path, body, rules.clash, part)
    return path


def data_to_write(rules: Rules, target: Target, data: Mapping[str, Any]) -> tuple[str, bytes] | None:
    """The name and the text of what was found, where it is to be written."""
    if target.stem is None or not data or not rules.data_to_files:
        return None
    text = json.dumps(dict(data), indent=2, ensure_ascii=False) + "\n"
    return _data_file(target), text.encode()


def detail(outcome: Outcome) -> dict[str, Any]:
    """What ``--json`` prints of an outcome."""
    document = outcome.to_dict()
    shown = {name: document[name] for name in ("format", "size", "source_size", "frames", "data", "timings")}
    return {**shown, "bytes": None if outcome.bytes is None else len(outcome.bytes)}


# -- in pool processes ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Item:
    """A source in a chunk. ``path`` is ``INLINE`` for bytes that travel beside the chunk."""

    number: int
    path: str
    target: Target


def chunk_request(
    identity: str,
    rules: Rules,
    items: list[Item],
    pipeline: str,
    limits: Limits,
    timeout_s: float,
    images: Mapping[str, bytes | Path],
) -> RunRequest:
    """The request that ``run_chunk`` understands."""
    document = {
        "rules": [rules.format, rules.clash, rules.token, rules.data_to_files, rules.detailed],
        "items": [[item.number, item.path, item.target.name, item.target.stem, item.target.path] for item in items],
    }
    source = json.dumps(document).encode()
    return RunRequest(identity, pipeline, source, images, limits=limits, timeout_s=timeout_s)


def run_chunk(request: RunRequest, *, models: ModelSource | None = None) -> Outcome:
    """The entry of pool processes: reports as the outcome's data; its bytes are the image of a source with no place."""
    assert isinstance(request.source, bytes)
    document = json.loads(request.source)
    rules = Rules(*document["rules"])
    pipeline = _parse(request.pipeline)
    reports: list[Report] = []
    body: bytes | None = None
    for number, path, name, stem, exact in document["items"]:
        source = request.images[INLINE] if path == INLINE else Path(path)
        target = Target(name, stem, exact)
        report, outcome = attempt(rules, pipeline, number, target, source, request.limits, request.images, models)
        reports.append(report)
        if outcome is not None and target.nowhere:
            body = outcome.bytes
    return Outcome(body, None, None, None, Size(0, 0), "chunk", {"reports": reports})


def read_reports(outcome: Outcome) -> list[Report]:
    """The reports that ``run_chunk`` gave."""
    return [Report(*fields) for fields in outcome.data["reports"]]


@lru_cache(maxsize=4)
def _parse(text: str) -> Pipeline:
    return Pipeline.parse(text)
