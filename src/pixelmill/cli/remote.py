"""`pixelmill run` from or to buckets: this process reads and writes the objects, pool processes do the image work.

Objects that are too large to be held run in tiles, in this process: they are read by ranges, one after the other.

Credentials are those of the configured ``stores``, where an address lies in one of them, else the cloud's own chain:
whoever runs the command may read and write what their credentials allow. Names, and what is done about results that are
there already, are as with files; without --overwrite an object is put only if there is none.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pixelmill.cli import inputs, outputs
from pixelmill.cli.batch import Runner, Sieve, Source, Work, ended_by_sigterm
from pixelmill.cli.explain import explain
from pixelmill.cli.far import Body, Bucket, FarObject
from pixelmill.cli.inputs import EXTENSIONS, Input, Inputs
from pixelmill.cli.outputs import Clash, Destination, Target, exists_error, extension
from pixelmill.cli.printer import Printer
from pixelmill.cli.progress import Bar, is_shown
from pixelmill.cli.references import files_of
from pixelmill.cli.run import parse_pipeline, with_model, with_output_format
from pixelmill.cli.settings import limits, pool_models
from pixelmill.cli.tiled import Order, why_tiled
from pixelmill.cli.tiled_orders import Tiled, orders_of
from pixelmill.cli.work import Report, Rules, data_to_write, detail, expected, failed, keep, there
from pixelmill.config import Settings
from pixelmill.cores import usable_cores
from pixelmill.errors import ConfigError, ObjectNotFound, PixelmillError
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.images.formats import format_of_name
from pixelmill.images.region_options import is_regions_only
from pixelmill.jobs.model import Priority
from pixelmill.pipelines.outcome import Outcome
from pixelmill.pipelines.plan import gives_data_only
from pixelmill.pipelines.sources import read_file
from pixelmill.pipelines.spec import Pipeline
from pixelmill.storage.named import SourceStores, names_bucket, read_limited
from pixelmill.storage.opening import bucket_of
from pixelmill.storage.options import StoreSpec
from pixelmill.storage.uris import decoded, split_raw
from pixelmill.targets.local import LocalPool
from pixelmill.targets.spawner import ZygoteProcess, prefork
from pixelmill.targets.target import RunRequest

LANES_MORE = 4
"""Sources under way beyond the workers: they are being read or written."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says."""

    pipeline: str
    sources: Sequence[str]
    output: str | None
    json_lines: bool
    explain: bool
    clash: Clash
    progress: bool | None
    model: str | None = None
    tile: int | None = None
    mpi: int | None = None


def run_remote(wanted: Wanted, settings: Settings) -> None:
    """Run it; raises :class:`typer.Exit` if any source failed."""
    parse_pipeline(wanted.pipeline, settings)  # a mistake is told before anything is started
    # Before the event loop, and before obstore starts threads.
    needs_pool = not wanted.explain and wanted.tile is None and wanted.mpi is None
    unused = [prefork()] if needs_pool else []
    try:
        _Command(wanted, settings, unused).run()
    finally:
        for zygote in unused:
            zygote.close()


class _Command:
    """One command: what was found, where it goes, and the way of each source. A pool takes the zygote."""

    def __init__(self, wanted: Wanted, settings: Settings, unused: list[ZygoteProcess]) -> None:
        self._wanted, self._settings, self._unused = wanted, settings, unused
        self._buckets = _Buckets(wanted, settings)
        found, self._uris = asyncio.run(self._buckets.expand(settings["max_bytes"]))
        bodies = {number: self._buckets.far(uri) for number, uri in self._uris.items()}
        self._found = found
        self._bodies: list[Body] = [bodies.get(number, item.body) for number, item in enumerate(found.items)]
        self._destination, self._bucket = self._buckets.destination(found)
        parsed = with_model(parse_pipeline(wanted.pipeline, settings), wanted.model)
        self._pipeline = with_output_format(parsed, self._destination)

    def run(self) -> None:
        """Explain or run; raises :class:`typer.Exit` if any source failed."""
        wanted, settings, found, destination = self._wanted, self._settings, self._found, self._destination
        if wanted.explain:
            self._explain()
            return
        prints_data = not wanted.json_lines and destination.path is None and gives_data_only(self._pipeline)
        if destination.kind == "none" and not wanted.json_lines and not prints_data:
            raise ConfigError("Say where results go: -o s3://BUCKET/PREFIX/, -o FOLDER, or -o - for standard output.")
        targets, told = outputs.plan(found.items, destination)
        for sentence in told:
            print(f"pixelmill: {sentence}", file=sys.stderr)
        work = Work(
            sources=[
                Source(item.name, item.body, target, item.error)
                for item, target in zip(found.items, targets, strict=True)
            ],
            pipeline=self._pipeline.to_json(),
            rules=self._rules(prints_data=prints_data),
            images=files_of(self._pipeline),
            limits=limits(settings),
            timeout_s=settings["timeout"],
            max_attempts=settings["max_attempts"],
        )
        printer = Printer(work, destination, json_lines=wanted.json_lines, prints_data=prints_data)
        self._tiled(work, self._pool_first(work, printer), printer)
        printer.finish()

    def _pool_first(self, work: Work, printer: Printer) -> Iterator[Order]:
        """What runs in tiles; what runs whole is run before the first of them is given."""
        why = self._why_all()
        if why is not None:
            for number, source in enumerate(work.sources):
                if source.error is not None:
                    printer.take(failed(number, source.error), None)
                else:
                    yield self._order(number, source.target, why)
            return
        sieve = Sieve(printer.take)
        check = limits(self._settings).check_bytes

        async def fetch(number: int) -> bytes | Path:
            uri = self._uris.get(number)
            return work.sources[number].body if uri is None else await self._buckets.read(uri, check)

        zygote, progress = self._unused.pop(), self._wanted.progress
        asyncio.run(_pooled(work, fetch, self._bucket, self._settings, printer, sieve, zygote, progress))

        def look(number: int) -> Order | None:
            found = self._why(number)
            return None if found is None else self._order(number, work.sources[number].target, found)

        yield from orders_of(sieve.held, printer, look)

    def _tiled(self, work: Work, orders: Iterable[Order], printer: Printer) -> None:
        wanted = self._wanted
        Tiled(self._pipeline, work.rules, work.images, self._settings, wanted.tile, wanted.mpi, wanted.progress).run(
            orders, printer
        )

    def _explain(self) -> None:
        wanted, first = self._wanted, self._found.items[0]
        why = self._why_all() or (self._why(0) if first.error is None else None)
        if why is None or first.error is not None:
            if 0 in self._uris and first.error is None:
                check = limits(self._settings).check_bytes
                first = replace(first, body=asyncio.run(self._buckets.read(self._uris[0], check)))
            explain(self._pipeline, [first, *self._found.items[1:]], self._settings, as_json=wanted.json_lines)
            return
        (target,), _ = outputs.plan([first], self._destination)
        rules = self._rules(prints_data=False)
        tiled = Tiled(self._pipeline, rules, {}, self._settings, wanted.tile)
        tiled.explain(self._order(0, target, why), as_json=wanted.json_lines)

    def _rules(self, *, prints_data: bool) -> Rules:
        as_json = self._wanted.json_lines
        return Rules(
            self._pipeline.output.format, self._wanted.clash, secrets.token_hex(6), not as_json, as_json or prints_data
        )

    def _order(self, number: int, target: Target, why: str) -> Order:
        return Order(number, self._found.items[number].name, self._bodies[number], target, why, self._bucket)

    def _why_all(self) -> str | None:
        """Why all sources run in tiles; None where they don't, or only some."""
        if self._wanted.mpi:
            return "MPI ranks were asked for"
        items = self._found.items
        if self._wanted.tile is None and (self._found.many or items[0].error is not None):
            return None
        return self._why(0)

    def _why(self, number: int) -> str | None:
        """Why that source runs in tiles."""
        body, path = self._bodies[number], self._destination.path
        return why_tiled(self._pipeline, body, path, self._wanted.tile, self._settings)


async def _pooled(
    work: Work,
    fetch: Callable[[int], Awaitable[bytes | Path]],
    place: Bucket | None,
    settings: Settings,
    printer: Printer,
    sieve: Sieve,
    zygote: ZygoteProcess,
    progress: bool | None,
) -> None:
    workers = min(settings["workers"] or usable_cores(), len(work.sources))
    pool = LocalPool(
        workers=workers,
        memory_bytes=settings["memory"],
        recycle_after=settings["recycle_after"],
        models=pool_models(settings, paths=True),
        zygote=zygote,
    )
    dispatcher = Dispatcher([pool], reserved=0, max_waiting=2 * (workers + LANES_MORE))

    async def runner(request: RunRequest) -> Outcome:
        return (await dispatcher.run(request, Priority.BATCH)).outcome

    with Bar("run", len(work.sources), shown=is_shown(progress)) as bar, ended_by_sigterm():
        printer.bar = bar
        batch = _RemoteBatch(work, Pipeline.parse(work.pipeline), fetch, place, runner, sieve.take)
        try:
            await pool.start()
            await batch.run(workers + LANES_MORE)
        finally:
            await pool.stop()


class _Buckets:
    """The buckets of a command: configured stores where they cover an address, else the bucket itself."""

    def __init__(self, wanted: Wanted, settings: Settings) -> None:
        named = [text for text in (*wanted.sources, wanted.output or "") if names_bucket(text)]
        configured = {
            name: spec for name, spec in settings["stores"].items() if any(_covers(spec, one) for one in named)
        }
        others = {_base(one) for one in named if not any(_covers(spec, one) for spec in configured.values())}
        bare = {f"bucket {base}": StoreSpec(base) for base in others}
        self._wanted, self._stores = wanted, SourceStores({**bare, **configured})

    async def expand(self, max_bytes: int) -> tuple[Inputs, Mapping[int, str]]:
        """All inputs in the order of the arguments, and the addresses of those in buckets by number."""
        items: list[Input] = []
        uris: dict[int, str] = {}
        many, left_out = len(self._wanted.sources) > 1, 0
        for argument in self._wanted.sources:
            if not names_bucket(argument):
                local = inputs.expand([argument], sys.stdin.buffer, max_bytes)
                items.extend(local.items)
                many, left_out = many or local.many, left_out + local.left_out
                continue
            folder = argument.endswith("/") or argument == _base(argument)
            pattern = f"{argument.rstrip('/')}/**" if folder else argument
            many = many or folder or any(mark in argument for mark in "*?[")
            try:
                found = await self._stores.expand([pattern])
            except PixelmillError as error:
                items.append(Input(argument, b"", argument.rpartition("/")[2] or "source", error))
                continue
            objects = [one for one in found if not folder or one.name.lower().endswith(EXTENSIONS)]
            left_out += len(found) - len(objects)
            if not objects:
                items.append(Input(argument, b"", "source", ObjectNotFound(f"No object matches {argument!r}.")))
            for one in objects:
                uris[len(items)] = one.uri
                items.append(Input(one.uri, b"", one.name))
        return Inputs(items, many, left_out), uris

    async def read(self, uri: str, check: Callable[[int], None]) -> bytes:
        """One object, within the limit."""
        store, key = self._stores.of(uri)
        return await read_limited(store, key, check)

    def far(self, uri: str) -> FarObject:
        """One object, to be read by ranges."""
        store, key = self._stores.of(uri)
        return FarObject(store, key, self._stores.spec_of(uri))

    def destination(self, found: Inputs) -> tuple[Destination, Bucket | None]:
        """Where results go; in a bucket the path of the destination is a key."""
        text = self._wanted.output
        if text is None or not names_bucket(text):
            return outputs.understand(text, found), None
        _, _, raw = split_raw(text)
        key = decoded(raw, text)
        place = Bucket(self._stores, _base(text))
        known = format_of_name(Path(key)) is not None
        if found.many and known and not key.endswith("/"):
            raise ConfigError(f"There are several sources, so -o must be a folder; {text} looks like a file.")
        regions_only = is_regions_only(Path(key).name)
        if not found.many and (known or regions_only) and not key.endswith("/"):
            return Destination("file", Path(key), text), place
        if not found.many and Path(key).suffix and not key.endswith("/"):
            raise ConfigError(
                f"-o {text}: no format has that extension; known are {', '.join(EXTENSIONS)}. "
                f"For a folder of that name write {text}/."
            )
        return Destination("folder", Path(key), text), place


def _base(uri: str) -> str:
    scheme, bucket, _ = split_raw(uri)
    return f"{scheme}://{bucket}"


def _covers(spec: StoreSpec, uri: str) -> bool:
    """Whether a configured store holds what an address names."""
    place = bucket_of(spec.uri)
    scheme, bucket, raw = split_raw(uri)
    return (scheme, bucket) == place[:2] and f"{decoded(raw, uri)}/".startswith(place[2])


class _RemoteBatch:
    """One pass over all sources, a bounded number under way."""

    def __init__(
        self,
        work: Work,
        pipeline: Pipeline,
        fetch: Callable[[int], Awaitable[bytes | Path]],
        place: Bucket | None,
        runner: Runner,
        take: Callable[[Report, bytes | None], None],
    ) -> None:
        self._work, self._fetch, self._place, self._runner, self._take = work, fetch, place, runner, take
        self._pipeline = pipeline
        self._numbers = iter(range(len(work.sources)))

    async def run(self, lanes: int) -> None:
        """Run all; failures are reports."""
        async with asyncio.TaskGroup() as group:
            for _ in range(min(lanes, len(self._work.sources))):
                group.create_task(self._lane())

    async def _lane(self) -> None:
        for number in self._numbers:
            try:
                report, body = await self._one(number)
            except PixelmillError as error:
                report, body = failed(number, error), None
            self._take(report, body)

    async def _one(self, number: int) -> tuple[Report, bytes | None]:
        work, source = self._work, self._work.sources[number]
        if source.error is not None:
            raise source.error
        before = await self._there(source.target)
        if before is not None:
            if work.rules.clash == "skip":
                return Report(number, "skipped", output=before), None
            raise exists_error(before)
        outcome = await self._outcome(number, await self._fetch(number))
        if self._place is None:
            return keep(work.rules, number, source.target, outcome), outcome.bytes
        return await self._put(self._place, number, source.target, outcome), None

    async def _outcome(self, number: int, body: bytes | Path) -> Outcome:
        work = self._work
        if isinstance(body, Path):
            body = await asyncio.to_thread(read_file, body, work.limits)
        request = RunRequest(
            str(number), work.pipeline, body, dict(work.images), limits=work.limits, timeout_s=work.timeout_s
        )
        for attempt in range(1, work.max_attempts + 1):
            try:
                return await self._runner(request)
            except PixelmillError as error:
                if not error.retryable or attempt == work.max_attempts:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _there(self, target: Target) -> str | None:
        """The result that exists and must not be replaced, as far as its name is known."""
        rules = self._work.rules
        if self._place is None:
            return there(rules, self._pipeline, target)
        return await self._place.first_there(expected(rules, self._pipeline, target))

    async def _put(self, place: Bucket, number: int, target: Target, outcome: Outcome) -> Report:
        rules = self._work.rules
        output = data_file = None
        if outcome.bytes is not None and outcome.format is not None:
            key = target.path or f"{target.stem}{extension(outcome.format, target.name)}"
            output = await place.put(key, outcome.bytes, rules.clash)
        found = data_to_write(rules, target, outcome.data)
        if found is not None:
            data_file = await place.put(*found, rules.clash)
        return Report(number, "succeeded", output, data_file, detail(outcome) if rules.detailed else None)
