"""Runs of one image over tiles, in a process of their own with threads, or in many with MPI ranks.

It starts them, hears how far they are, and ends them: at their time limit, over their memory, when they are cancelled,
or when they fall silent about their end. It knows no pixels. What a run had written before it was ended stays in
its scratch folder, and the next attempt on this machine goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from pixelmill.errors import (
    OutOfMemory,
    PixelmillError,
    RunError,
    TaskTimeout,
    WorkerCrashed,
)
from pixelmill.pipelines.outcome import Outcome
from pixelmill.targets.handle import describe_exit
from pixelmill.targets.launch import command
from pixelmill.targets.target import Progress
from pixelmill.targets.tiled_order import MAX_LINE, Report, TiledOrder
from pixelmill.targets.tiled_settings import MpiConfig

log = logging.getLogger(__name__)

WATCH_S = 0.25
TERM_S = 3.0
"""How long processes may take to end by themselves before they are killed."""
TAIL = 4_000
"""Characters of standard error that are kept for the message."""


@dataclass(slots=True)
class _Run:
    """One run while it goes on. ``reason``: why it is ended from outside."""

    process: asyncio.subprocess.Process
    deadline: float
    members: dict[int, psutil.Process]
    outcome: Outcome | None = None
    error: PixelmillError | None = None
    reason: PixelmillError | None = None
    tail: str = ""


async def run_order(
    order: TiledOrder,
    mpi: MpiConfig,
    tell: Callable[[Progress], None],
    members: dict[int, psutil.Process] | None = None,
) -> Outcome:
    """Run it to its end; no process of it is left when this returns, raises, or is cancelled.

    ``tell`` gets every report of the processes; ``members`` is filled with those of this machine. Raises what the run
    raised, or :class:`TaskTimeout`, :class:`OutOfMemory`, :class:`WorkerCrashed` (a rank was killed),
    :class:`MissingExtra`.
    """
    process = await asyncio.create_subprocess_exec(
        *command(order.ranks, mpi),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C of the terminal is for us, and we end them
        limit=MAX_LINE,
    )
    run = _Run(process, time.monotonic() + order.limits.timeout_s, {} if members is None else members)
    watching = asyncio.create_task(_watch(run, order))
    try:
        await _converse(run, order, tell)
    finally:
        watching.cancel()
        await asyncio.shield(asyncio.ensure_future(_end(run)))
    if run.outcome is not None and process.returncode == 0:
        return run.outcome
    raise run.reason or run.error or _crash(run)


async def _converse(run: _Run, order: TiledOrder, tell: Callable[[Progress], None]) -> None:
    """Send the order and hear reports until the processes close their output.

    Standard input stays open: where we are killed it ends, and the first rank ends them all.
    """
    process = run.process
    assert process.stdin is not None
    process.stdin.write(order.to_line())
    with suppress(ConnectionError):  # it has ended already: its output says why
        await process.stdin.drain()
    await asyncio.gather(_hear(run, tell), _collect(run))
    await process.wait()


async def _hear(run: _Run, tell: Callable[[Progress], None]) -> None:
    assert run.process.stdout is not None
    while True:
        try:
            line = await run.process.stdout.readline()
        except ValueError:  # skipped by the reader
            run.error = run.error or RunError(
                f"The run over tiles told more than {MAX_LINE:,} bytes at once. Let the pipeline find less."
            )
            continue
        if not line:
            return
        report = Report.from_line(line)
        if report is None:
            continue
        if report.progress is not None:
            tell(report.progress)
        run.outcome = report.outcome or run.outcome
        run.error = run.error or report.error


async def _collect(run: _Run) -> None:
    """The end of what is said on standard error."""
    assert run.process.stderr is not None
    while chunk := await run.process.stderr.read(65_536):
        run.tail = (run.tail + chunk.decode("utf-8", "replace"))[-TAIL:]


async def _watch(run: _Run, order: TiledOrder) -> None:
    """End it at its deadline or over its memory."""
    while True:
        if time.monotonic() > run.deadline:
            run.reason = TaskTimeout(
                f"The run over tiles was not done within {order.limits.timeout_s:g} s, and was ended. Use more "
                "ranks or a lighter pipeline, or raise PIXELMILL_TILED_TIMEOUT.",
                limit_s=order.limits.timeout_s,
            )
        elif (used := await asyncio.to_thread(_resident, run)) > order.memory_bytes:
            run.reason = OutOfMemory(
                f"The processes of the run have {used / 1e6:,.0f} MB, more than the {order.memory_bytes / 1e6:,.0f} MB "
                "that they may use together. Use smaller tiles or fewer ranks, or raise PIXELMILL_TILED_MEMORY.",
                limit_bytes=order.memory_bytes,
            )
        if run.reason is not None:
            _signal(run, signal.SIGTERM)
            return
        await asyncio.sleep(WATCH_S)


def _resident(run: _Run) -> int:
    """Resident bytes of all processes on this machine; shared pages count in each."""
    with suppress(psutil.Error):
        top = run.members.setdefault(run.process.pid, psutil.Process(run.process.pid))
        for child in top.children(recursive=True):
            run.members.setdefault(child.pid, child)
    total = 0
    for member in list(run.members.values()):
        with suppress(psutil.Error):
            total += member.memory_info().rss
    return total


def _signal(run: _Run, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(run.process.pid, number)


async def _end(run: _Run) -> None:
    """Make sure that nobody of it is left: ranks are in sessions of their own, so a group alone is not enough."""
    await asyncio.to_thread(_resident, run)
    transport = run.process.stdin
    if run.process.returncode is None:
        _signal(run, signal.SIGTERM)
    if transport is not None:
        transport.close()
    try:
        async with asyncio.timeout(TERM_S):
            await run.process.wait()
    except TimeoutError:
        _signal(run, signal.SIGKILL)
        await run.process.wait()
    await asyncio.to_thread(_reap, list(run.members.values()))


def _reap(members: Sequence[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(members, timeout=TERM_S)
    for member in alive:
        with suppress(psutil.Error):
            member.kill()
    psutil.wait_procs(alive, timeout=TERM_S)


def _crash(run: _Run) -> PixelmillError:
    """The error for a run that ended without a word."""
    code = run.process.returncode
    tail = run.tail.strip()
    if code == 0:
        return RunError("The run over tiles ended and told no result. This is a defect; the service's log has more.")
    log.error("a run over tiles %s: %s", describe_exit(code or 0), tail)
    last = next((line.strip() for line in reversed(tail.splitlines()) if line.strip()), "")
    return WorkerCrashed(
        f"A process of the run over tiles {describe_exit(code or 0)}, and the others were ended with it. What was "
        f"written is kept for the next attempt.{f' The last words: {last[:300]}' if last else ''}",
        exit_code=code,
    )
