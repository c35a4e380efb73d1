"""`pixelmill bench`: a study of a service that anyone can repeat, and its load by several users, each with a report."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixelmill.cli.bench_output import Files, print_cells, print_load
from pixelmill.cli.private import sigterm_raises
from pixelmill.cli.state import Globals, Stopped
from pixelmill.errors import ConfigError, PixelmillError

if TYPE_CHECKING:
    from pixelmill.cli.bench_places import Place, Wanted
    from pixelmill.cli.progress import Bar
    from pixelmill.evaluation.document import Document, Load
    from pixelmill.evaluation.measuring import Plan, Step

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

PIPELINE = "grayscale/resize:256,256,fit=fill/format:jpeg,quality=80"
SIZES = "10,50,100,500,1000"
RESOLUTIONS = "1200x800,1500x997,2040x1536"

PipelineOption = Annotated[str, typer.Option(help="What is run, in text or JSON form.")]
ImagesOption = Annotated[Path | None, typer.Option(help="A folder of your own photographs, instead of drawn pictures.")]
UrlOption = Annotated[
    str | None, typer.Option(help="A running service (PIXELMILL_URL counts not); else a private one.")
]
TokenOption = Annotated[str | None, typer.Option(help="Token (better by PIXELMILL_TOKEN: others see command lines).")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The report, one HTML file.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="The same as JSON; beside the report unless given.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting of a private service (repeatable).")
]
ProgressOption = Annotated[
    bool | None, typer.Option("--progress/--no-progress", help="Draw a bar; on a terminal unless said otherwise.")
]


@app.command()
def evaluate(
    context: typer.Context,
    sizes: Annotated[str, typer.Option(help="Images in a batch, parted by commas.")] = SIZES,
    resolutions: Annotated[str, typer.Option(help="WIDTHxHEIGHT, parted by commas.")] = RESOLUTIONS,
    trigger: Annotated[str, typer.Option(help="manual: one after another; high-rate: all at once; both.")] = "both",
    pipeline: PipelineOption = PIPELINE,
    target: Annotated[
        str, typer.Option(help="service (jobs), process (one request an image), folder, s3, function, or a URL.")
    ] = "service",
    images: ImagesOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    output: OutputOption = Path("evaluation.html"),
    json_output: JsonOption = None,
    compare: Annotated[Path | None, typer.Option(help="The JSON of an earlier report, to be compared.")] = None,
    against: Annotated[
        str | None, typer.Option(help='A second configuration, in turns with the first: "workers=1", "url=…".')
    ] = None,
    rounds: Annotated[int, typer.Option(help="Measure each batch so often; three give a comparison its verdict.")] = 1,
    pause: Annotated[
        float, typer.Option(min=0.0, max=60.0, help="Seconds between images of the manual trigger.")
    ] = 0.0,
    limit: Annotated[float, typer.Option(min=1.0, max=86_400.0, help="Seconds that a batch may take.")] = 900.0,
    assignments: SetOption = None,
    store: Annotated[str, typer.Option(help="Targets s3, function: where images are put, s3://BUCKET/PREFIX.")] = "",
    results: Annotated[str, typer.Option(help="Where their results go, s3://OTHER/PREFIX.")] = "",
    store_options: Annotated[
        list[str] | None, typer.Option("--store-option", metavar="NAME=VALUE", help="Of both buckets (repeatable).")
    ] = None,
    queue: Annotated[str, typer.Option(help="Target s3: the SQS queue that gets the bucket's events.")] = "",
    queue_options: Annotated[
        list[str] | None, typer.Option("--queue-option", metavar="NAME=VALUE", help="Of that source (repeatable).")
    ] = None,
    rule: Annotated[str, typer.Option(help="Targets folder and s3 at --url: the rule that watches.")] = "bench",
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Target function: environments at a time.")] = 10,
    memory: Annotated[int | None, typer.Option(min=64, max=10_240, help="Target function: its megabytes.")] = None,
    progress: ProgressOption = None,
) -> None:
    """Measure batches of images, sent one after another and all at once, and write a report of every metric.

    Without --url a private service on a free loopback port is measured, which is gone afterwards. Exit code 1 where an
    image had no result. Ctrl-C writes what there is, marked as partial.
    """
    from pixelmill.cli.bench_images import Pictures
    from pixelmill.cli.bench_places import FunctionSize, opened, second
    from pixelmill.cli.bench_stores import Stores
    from pixelmill.evaluation import comparing, document, measuring

    plan = measuring.Plan(
        measuring.parse_sizes(sizes),
        measuring.parse_resolutions(resolutions),
        measuring.parse_triggers(trigger),
        rounds,
        limit,
        pause,
    )
    first = replace(
        _wanted(context, target, pipeline, url, token, assignments),
        stores=Stores(store, results, _options(store_options), queue, _options(queue_options), rule),
        function=FunctionSize(concurrency, memory),
    )
    wanted = [first] if against is None else [first, second(first, against)]
    for one in wanted:
        one.check()
    measuring.check_bounds(plan, len(wanted))
    earlier = None if compare is None else document.read(compare)
    files = Files(output, json_output, kept=compare)
    with sigterm_raises(), tempfile.TemporaryDirectory(prefix="pixelmill-bench-") as temporary, ExitStack() as stack:
        pictures = Pictures(Path(temporary), images)
        places = [opened(one, Path(temporary) / f"service-{index}", stack) for index, one in enumerate(wanted)]
        made, ending = _measured(plan, places, pictures, progress)
    made = replace(made, comparison=comparing.against(made))
    if made.comparison is None and earlier is not None:
        made = replace(made, comparison=comparing.with_earlier(earlier, made))
    print_cells(made)
    files.write(made)
    if ending is not None:
        raise ending
    if any(one.succeeded < one.sent for cell in made.cells for one in cell.rounds):
        raise typer.Exit(1)


@app.command()
def load(
    context: typer.Context,
    users: Annotated[int, typer.Option(help="Users at once.")] = 10,
    images_per_user: Annotated[int, typer.Option(help="Images that each of them sends.")] = 50,
    rate: Annotated[
        float | None, typer.Option(help="Images a second of each user, each a job; else all at once, as one job.")
    ] = None,
    resolution: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the images.")] = "1200x800",
    pipeline: PipelineOption = PIPELINE,
    images: ImagesOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    output: OutputOption = Path("load.html"),
    json_output: JsonOption = None,
    interactive: Annotated[
        bool, typer.Option(help="Also send single images beside, and tell how long each takes.")
    ] = True,
    limit: Annotated[float, typer.Option(min=1.0, max=86_400.0, help="Seconds that it may take.")] = 900.0,
    assignments: SetOption = None,
    progress: ProgressOption = None,
) -> None:
    """Let several users send many images each, all beginning at once, and write a report: times, fairness, refusals.

    Each user of a private service is an owner of its own; at --url all share the one token. 429 and 503 are obeyed:
    what was refused is sent again after the time that the service names.
    """
    from pixelmill.cli.bench_images import Pictures
    from pixelmill.cli.bench_load import people
    from pixelmill.cli.bench_places import opened
    from pixelmill.cli.progress import Bar, is_shown
    from pixelmill.evaluation import crowd, measuring
    from pixelmill.evaluation.service import ServiceSubject

    wanted = _wanted(context, "service", pipeline, url, token, assignments)
    wanted.check()
    sizes = measuring.parse_resolutions(resolution)
    if len(sizes) != 1:
        raise ConfigError(f"--resolution {resolution!r} must be one WIDTHxHEIGHT.")
    crowd.check(users, images_per_user, rate)
    files = Files(output, json_output)
    found: list[Load] = []
    with sigterm_raises(), tempfile.TemporaryDirectory(prefix="pixelmill-bench-") as temporary, ExitStack() as stack:
        pictures = Pictures(Path(temporary), images)
        place = opened(wanted, Path(temporary) / "service", stack)
        crowded = crowd.Crowd(
            place.url,
            place.configuration.pipeline,
            people(users, place.data, wanted.token, wanted.settings.get("database_url", "")),
            images_per_user,
            sizes[0],
            rate,
            limit,
            owners=place.data is not None,
            interactive=interactive,
        )
        paths = pictures.files(sizes[0], users * images_per_user)
        before, start = _loads(), time.monotonic()
        subject = place.subject
        assert isinstance(subject, ServiceSubject)
        with Bar("load", users * images_per_user, shown=is_shown(progress)) as bar:

            async def work() -> None:
                found.append(await crowd.load(crowded, paths, subject, bar.update))

            ending = _ended_by(work)
        made = _document("load", [place], pictures.description, before, start, ending)
    if found:
        made = replace(made, load=found[0])
        print_load(found[0])
    files.write(made)
    if ending is not None:
        raise ending
    if not found or found[0].all.succeeded < found[0].all.sent:
        raise typer.Exit(1)


def _wanted(
    context: typer.Context, target: str, pipeline: str, url: str | None, token: str | None, sets: list[str] | None
) -> Wanted:
    from pixelmill.cli.bench_places import Wanted, is_url, shown_setting
    from pixelmill.config import parse_assignments

    options: Globals = context.obj
    secret = options.settings(token=token)["token"] or None
    settings = parse_assignments(sets or ())
    label = " ".join(f"{name}={shown_setting(name, value)}" for name, value in settings.items()) or "as it is"
    # A token of the environment is for a service that was named, not for a private one.
    return Wanted(target, pipeline, url, secret if url or is_url(target) else None, settings, label)


def _options(given: list[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` as it was repeated; raises :class:`ConfigError`. A value may be a secret, and is in no message."""
    parts = [text.partition("=") for text in given or ()]
    if any(not name or not equals for name, equals, _ in parts):
        raise ConfigError("--store-option and --queue-option must be NAME=VALUE, such as region=eu-central-1.")
    return {name: value for name, _, value in parts}


def _measured(
    plan: Plan, places: list[Place], pictures: Any, progress: bool | None
) -> tuple[Document, BaseException | None]:
    """The document, and what ended it early."""
    from pixelmill.cli.progress import Bar, is_shown
    from pixelmill.evaluation.measuring import Collected, measure, steps

    collected, before, start = Collected(), _loads(), time.monotonic()
    shown = is_shown(progress)
    with Bar("evaluate", plan.images(len(places)), shown=shown) as bar:
        watch = _Watch(bar, quiet=shown)
        subjects = [place.subject for place in places]
        ending = _ended_by(lambda: measure(plan, subjects, pictures, collected, watch))
    planned = len(list(steps(plan, len(places)))) // plan.rounds
    made = _document("evaluate", places, pictures.description, before, start, ending)
    return replace(made, cells=collected.cells, rounds=plan.rounds, planned=planned), ending


def _ended_by(work: Callable[[], Coroutine[Any, Any, Any]]) -> BaseException | None:
    """Run it; None, or the interrupt or error that ended it early."""
    from pixelmill.cli.batch import ended_by_sigterm

    async def run() -> None:
        with ended_by_sigterm():
            await work()

    before = signal.getsignal(signal.SIGTERM)
    try:
        asyncio.run(run())
    except (KeyboardInterrupt, Stopped, Exception) as ending:  # noqa: BLE001 -- raised again once the report is there
        return ending
    finally:
        signal.signal(signal.SIGTERM, before)  # the loop has put the system's own in its place
    return None


def _document(
    kind: Any, places: list[Place], images: str, before: tuple[float, ...], start: float, ending: BaseException | None
) -> Document:
    from pixelmill.cli.bench_places import command_line
    from pixelmill.evaluation.document import Document
    from pixelmill.evaluation.facts import this_machine

    return Document(
        kind=kind,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command_line(sys.argv[1:]),
        images=images,
        configurations=tuple(place.configuration for place in places),
        sender=this_machine(),
        seconds=time.monotonic() - start,
        partial=ending is not None,
        why=_why(ending),
        load_before=before,
        load_after=_loads(),
    )


def _why(ending: BaseException | None) -> str:
    match ending:
        case None:
            return ""
        case KeyboardInterrupt():
            return "It was ended by Ctrl-C."
        case Stopped():
            return "It was ended by a signal."
        case _:
            kind = "" if isinstance(ending, PixelmillError) else f"{type(ending).__name__}: "
            return f"It was ended by an error: {kind}{ending}"


def _loads() -> tuple[float, ...]:
    from pixelmill.evaluation.facts import load_average

    return load_average()


class _Watch:
    """Draws the bar, or tells of each batch where none is drawn."""

    def __init__(self, bar: Bar, *, quiet: bool) -> None:
        self._bar, self._quiet = bar, quiet
        self._done = self._size = 0
        self._note = ""

    def begin(self, step: Step) -> None:
        """A batch begins."""
        self._done += self._size
        self._size = step.size
        self._note = f"{step}, round {step.round + 1}"
        if not self._quiet:
            print(self._note, file=sys.stderr, flush=True)
        self.ended(0)

    def ended(self, count: int) -> None:
        """So many of its images have ended."""
        self._bar.update(self._done + count, note=self._note)
