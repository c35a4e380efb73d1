"""Contact sheets of jobs: picks the tasks to show, has a thumbnail made of each, and the sheet composed of those.

All image work is done by pool processes, a thumbnail a task of its own, so a bad result costs its cell alone. What lies
in this process is at most the thumbnails of a sheet, which are bounded by its pixels.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from pixelmill.errors import (
    Cancelled,
    IllegalTransition,
    InputError,
    LimitExceeded,
    ObjectNotFound,
    PixelmillError,
    RunError,
    TaskTimeout,
)
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.jobs.model import Counts, Job, Priority, State, Task, result_key
from pixelmill.jobs.store import JobStore
from pixelmill.operations.montage import MAX_CELLS, Montage, grid
from pixelmill.pipelines.output import Output
from pixelmill.pipelines.sheet import SheetCell, sheet_limits, thumbnail_bytes, thumbnail_pipeline, write_sheet
from pixelmill.pipelines.spec import Pipeline
from pixelmill.service.interactive import Interactive
from pixelmill.service.settings import ServiceConfig
from pixelmill.storage.store import ObjectStore
from pixelmill.targets.target import RunRequest, RunResult

LONGEST_S = 600.0
"""A whole sheet, waiting included."""
PAGE = 500


@dataclass(frozen=True, slots=True)
class _Pick:
    """A task that gets a cell; without a ``key`` it has no image, and ``note`` says why."""

    seq: int
    name: str
    key: str | None
    note: str = ""


class Montages:
    """Makes contact sheets. All of them together hold at most half of the slots, so that others get theirs."""

    def __init__(
        self,
        jobs: JobStore,
        store: ObjectStore,
        dispatcher: Dispatcher,
        interactive: Interactive,
        config: ServiceConfig,
    ) -> None:
        self._jobs, self._store, self._config = jobs, store, config
        self._dispatcher, self._interactive = dispatcher, interactive
        self._width = max(1, dispatcher.capacity // 2)
        self._turns = asyncio.Semaphore(self._width)

    async def make(
        self, owner: str, job_id: str, montage: Montage, output: Output, reserve: Callable[[int], None]
    ) -> RunResult:
        """The sheet of what a job has given so far; its data say what is shown, left out, and still to come.

        ``reserve`` is told how many bytes the sheet and its thumbnails may take, before there are any.

        Raises:
            NotFound: no such job of this owner.
            IllegalTransition: the job has nothing to show (yet).
            LimitExceeded: the sheet would be too large; says what would fit.
            Busy, QueueFull, ShuttingDown: no slot came free.
            TaskTimeout: it took longer than :data:`LONGEST_S`.
        """
        job = await self._jobs.job(owner, job_id)
        picks = await self._picked(job, montage)
        places = grid(len(picks), montage, limits=sheet_limits(output, self._config.limits))
        reserve(len(picks) * thumbnail_bytes(montage) + 3 * places.size.pixels)
        try:
            async with asyncio.timeout(LONGEST_S):
                images: dict[str, bytes] = {}
                cells = await self._thumbnails(job, picks, montage, images)
                result = await self._composed(job, cells, montage, output, images)
        except TimeoutError:
            raise TaskTimeout(
                f"The sheet was not done within {LONGEST_S:g} s. Give a limit, or ask when less work waits."
            ) from None
        return _told(result, job.counts)

    # -- which tasks -----------------------------------------------------------------------------

    async def _picked(self, job: Job, montage: Montage) -> list[_Pick]:
        """Tasks to show, in their order; at most as many of each state are read as a sheet can show."""
        states = [State.SUCCEEDED, *([State.FAILED, State.CANCELLED] if montage.failed == "mark" else [])]
        _check_count(job, states, montage)
        most = montage.limit or MAX_CELLS
        found = [pick for state in states for pick in await self._of_state(job, state, montage, most)]
        picks = sorted(found, key=lambda pick: pick.seq)[:most]
        if not picks:
            raise _nothing(job)
        return picks

    async def _of_state(self, job: Job, state: State, montage: Montage, most: int) -> list[_Pick]:
        picks: list[_Pick] = []
        read, cursor = 0, None
        while len(picks) < most and read < MAX_CELLS:
            page = await self._jobs.list_tasks(job.owner, job.id, limit=PAGE, cursor=cursor, state=state)
            read += len(page.items)
            picks += [pick for pick in map(_pick, page.items) if pick.key is not None or montage.failed == "mark"]
            cursor = page.next
            if cursor is None:
                break
        return picks[:most]

    # -- image work ------------------------------------------------------------------------------

    async def _thumbnails(
        self, job: Job, picks: Sequence[_Pick], montage: Montage, images: dict[str, bytes]
    ) -> list[SheetCell]:
        """The cells, in order; thumbnails go into ``images``. What can't be shown is marked, or left out."""
        pipeline = thumbnail_pipeline(montage).to_json()
        cells: dict[int, SheetCell] = {}
        waiting = iter(enumerate(picks))

        async def lane() -> None:
            for index, pick in waiting:
                cells[index] = await self._cell(pick, pipeline, f"{job.id}-{index}", images)

        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(self._width):
                    lanes.create_task(lane())
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        ordered = [cells[index] for index in range(len(picks))]
        shown = [cell for cell in ordered if cell.key is not None or montage.failed == "mark"]
        if not shown:
            raise _nothing(job)
        return shown

    async def _cell(self, pick: _Pick, pipeline: str, identity: str, images: dict[str, bytes]) -> SheetCell:
        if pick.key is None:
            return SheetCell(pick.name, None, pick.note)
        try:
            async with self._turns:
                body = await self._thumbnail(pick.key, pick.name, pipeline, identity)
        except Cancelled:  # the pool is being stopped
            raise
        except (InputError, RunError, ObjectNotFound) as error:
            return SheetCell(pick.name, None, error.type)
        images[identity] = body
        return SheetCell(pick.name, identity)

    async def _thumbnail(self, key: str, name: str, pipeline: str, identity: str) -> bytes:
        async with await self._dispatcher.acquire(
            Priority.INTERACTIVE, self._config.interactive_wait_s, own=True
        ) as slot:
            # Read with the slot in hand: only so many results lie in memory at once.
            source = self._store.local_path(key) or await self._store.get(key)
            request = RunRequest(
                id=f"{identity}-{secrets.token_hex(4)}",
                pipeline=pipeline,
                source=source,
                source_name=name,
                limits=self._config.limits,
                timeout_s=self._config.timeout_s,
            )
            body = (await slot.run(request)).outcome.bytes
        assert body is not None, "a pipeline with a format gives an image"
        return body

    async def _composed(
        self, job: Job, cells: Sequence[SheetCell], montage: Montage, output: Output, images: dict[str, bytes]
    ) -> RunResult:
        request = RunRequest(
            id=f"{job.id}-sheet-{secrets.token_hex(4)}",
            pipeline=Pipeline(output=output).to_json(),
            source=write_sheet(montage, cells),
            images=images,
            source_name=job.name or job.id,
            limits=self._config.limits,
            timeout_s=self._config.timeout_s,
            kind="sheet",
        )
        async with self._turns:
            return await self._interactive.run(request)


def _pick(task: Task) -> _Pick:
    outcome = task.outcome or {}
    if task.state is State.SUCCEEDED:
        if outcome.get("format"):
            return _Pick(task.seq, task.name, result_key(task.owner, task.job, task.id, task.run))
        return _Pick(task.seq, task.name, None, "data only")
    return _Pick(task.seq, task.name, None, str((task.error or {}).get("type") or task.state))


def _check_count(job: Job, states: Sequence[State], montage: Montage) -> None:
    """Raise :class:`LimitExceeded` for more results than a sheet shows, unless a limit says which."""
    count = sum(getattr(job.counts, state.value) for state in states)
    if montage.limit is None and count > MAX_CELLS:
        raise LimitExceeded(
            f"The job has {count:,} results; a sheet shows at most {MAX_CELLS:,}. Give limit={MAX_CELLS}, or less, for "
            "the first ones.",
            limit="cells of a sheet",
            value=count,
            maximum=MAX_CELLS,
        )


def _nothing(job: Job) -> IllegalTransition:
    left = job.counts.queued + job.counts.running
    what = f"{left:,} of its tasks have not ended yet: ask again." if left else "None of its tasks gave an image."
    return IllegalTransition(f"Job {job.id} has nothing to show on a sheet. {what}", state=str(job.state))


def _told(result: RunResult, counts: Counts) -> RunResult:
    """The result with what the job has beside the cells that are shown."""
    laid = dict(result.outcome.data["montage"])
    laid["left_out"] = max(0, counts.done - laid["cells"])
    laid["unfinished"] = counts.queued + counts.running
    return replace(result, outcome=replace(result.outcome, data={"montage": laid}))


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error that is no group; an error of the tree before others."""
    leaves = list(_leaves(errors))
    return next((error for error in leaves if isinstance(error, PixelmillError)), leaves[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
