"""`pixelmill run --mpi N`: one image over MPI ranks that this command starts, watches, and ends with itself."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pixelmill.cli.batch import ended_by_sigterm
from pixelmill.cli.far import FarObject
from pixelmill.cli.progress import is_shown
from pixelmill.cli.settings import limits, mpi_config
from pixelmill.cli.state import Stopped
from pixelmill.cli.tile_bar import TileBar
from pixelmill.cli.tiled import Order, destination, keep_found, skipped_for
from pixelmill.cli.work import Report, Rules, failed
from pixelmill.cores import usable_cores
from pixelmill.errors import NotApplicable, PixelmillError, StorageError
from pixelmill.images.formats import format_of_name
from pixelmill.images.limits import TiledLimits
from pixelmill.images.region_results import publish
from pixelmill.pipelines.outcome import Outcome
from pixelmill.pipelines.spec import Pipeline
from pixelmill.targets.launch import check_ranks
from pixelmill.targets.target import Progress
from pixelmill.targets.tiled_order import TiledOrder, file_identity
from pixelmill.targets.tiled_runs import run_order
from pixelmill.tiling.places import ObjectPlace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pixelmill.config import Settings

PIECE_BYTES = 4 << 20
LONGEST_S = 30 * 24 * 3600.0
"""A person who waits ends it when it takes too long; a bound nevertheless."""


def run_over_ranks(
    order: Order,
    pipeline: Pipeline,
    rules: Rules,
    settings: Settings,
    ranks: int,
    images: Mapping[str, Path],
    *,
    tile: int | None,
    progress: bool | None,
) -> tuple[Report, bytes | None]:
    """Run it; the report, and the bytes of a result that goes to no file. A failure is a report.

    Raises :class:`KeyboardInterrupt` or :class:`Stopped` when it was interrupted: no rank is left then, and no result.
    """
    logging.getLogger("pixelmill").addHandler(logging.NullHandler())  # the command tells what failed itself
    try:
        check_ranks(ranks, mpi_config(settings), usable_cores())
        dest = destination(order, pipeline)
        if (skipped := skipped_for(order, pipeline, rules, dest)) is not None:
            return skipped, None
        _check_format(dest)
        place = settings["scratch"]
        if dest is not None and order.bucket is None:
            dest.parent.mkdir(parents=True, exist_ok=True)
            place = dest.parent  # so that a rename is all that gives it its name
        folder = Path(tempfile.mkdtemp(prefix=".pixelmill-", dir=place))
        try:
            wanted = _order(order, pipeline, settings, ranks, images, folder, tile)
            with TileBar(order.name, shown=is_shown(progress)) as bar:
                outcome = asyncio.run(_ended_with_us(wanted, settings, bar))
            body = _keep(order, Path(wanted.target), dest, outcome, rules)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        data_file = keep_found(order, rules, outcome.data)
    except PixelmillError as error:
        return failed(order.number, error), None
    except OSError as error:
        return failed(order.number, StorageError(f"{order.target.stem}: {error.strerror or error}.")), None
    output = order.shown(str(dest)) if dest is not None and outcome.format is not None else None
    detail = {**outcome.to_dict(), "ranks": ranks} if rules.detailed else None
    return Report(order.number, "succeeded", output, data_file, detail), body


async def _ended_with_us(order: TiledOrder, settings: Settings, bar: TileBar) -> Outcome:
    """Ctrl-C and SIGTERM cancel it, and that ends mpirun and all ranks."""

    def tell(progress: Progress) -> None:
        bar.show(progress.tiles / max(1, progress.of), line_of(progress))

    with ended_by_sigterm():
        return await run_order(order, mpi_config(settings), tell)


def _order(
    order: Order,
    pipeline: Pipeline,
    settings: Settings,
    ranks: int,
    images: Mapping[str, Path],
    folder: Path,
    tile: int | None,
) -> TiledOrder:
    source, store, stored = str(folder / "source"), "", {}
    if isinstance(order.body, FarObject):
        far = order.body
        source, store, stored = far.key, far.spec.uri, dict(far.spec.options)
    elif isinstance(order.body, Path):
        source = str(order.body.absolute())
    else:
        Path(source).write_bytes(order.body)
    bounds = limits(settings)
    return TiledOrder(
        pipeline=pipeline.to_json(),
        source=source,
        folder=str(folder.absolute()),
        target=str((folder / "result").absolute()),
        limits=TiledLimits(bounds.max_bytes, settings["tiled_max_pixels"], settings["tiled_max_side"], LONGEST_S),
        memory_bytes=settings["tiled_memory"],
        ranks=ranks,
        tile=tile or 0,
        images={reference: str(path.absolute()) for reference, path in images.items()},
        store=store,
        options=stored,
        identity="" if store else file_identity(Path(source)),  # nothing is taken up: its folder is gone at the end
        scratch_bytes=settings["scratch_bytes"],
    )


def _check_format(dest: Path | None) -> None:
    """Raise :class:`NotApplicable` for a result that ranks don't write together."""
    if dest is not None and format_of_name(dest) is None:
        raise NotApplicable(
            "Over MPI ranks a result is a TIFF, or small enough for another format that is one file; "
            f"{dest.name} is neither. Leave --mpi out: threads write it."
        )


def _keep(order: Order, result: Path, dest: Path | None, outcome: Outcome, rules: Rules) -> bytes | None:
    """Give the result its name; its bytes where it has none."""
    if outcome.format is None:
        return None
    if dest is None:
        return result.read_bytes()
    if order.bucket is not None:
        _upload(result, order.bucket.place(str(dest), rules.clash, None))
        return None
    try:
        publish(result, dest, if_absent=rules.clash != "overwrite")
    except OSError as error:
        raise StorageError(f"The result can't be moved to {dest}: {error.strerror}.") from error
    return None


def _upload(result: Path, place: ObjectPlace) -> None:
    """Ranks have put the result together in a file here: into the bucket, whole or not at all."""
    target = place.file(result.stat().st_size)

    def stop(number: int, _: object) -> NoReturn:
        raise Stopped(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with result.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                target.append(piece)
        target.finish()
    except BaseException:
        target.abort()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def line_of(progress: Progress) -> str:
    """What stands behind the bar."""
    seconds = int(progress.left_s or 0)
    left = "" if progress.left_s is None else f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left"
    rate = f"{progress.pixels_s / 1e6:,.0f} MP/s"
    return f"{progress.tiles:,}/{progress.of:,} tiles  {rate}  {progress.memory / 1e6:,.0f} MB  {left}"
