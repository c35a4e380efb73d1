"""The local pool: tasks run in processes of this machine, with a hard time limit and a bound on memory.

What can go wrong in a task costs that task alone: a crash, a hang or a flood of memory ends one process, and a new
one is forked in milliseconds. The processes are the crew's (``crew.py``), slots are the dispatcher's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Literal

from pixelmill import tracing
from pixelmill.errors import Cancelled, ShuttingDown, TaskTimeout
from pixelmill.pipelines.learned import learned_models
from pixelmill.pipelines.outcome import Timings
from pixelmill.targets.crew import Crew
from pixelmill.targets.model_keeper import ModelProcess
from pixelmill.targets.modelling import PoolModels, model_slots
from pixelmill.targets.spawner import ZygoteProcess
from pixelmill.targets.target import RunRequest, RunResult, TargetLoad
from pixelmill.targets.warming import LastUsed, warm_up
from pixelmill.targets.wire import encode_request
from pixelmill.targets.worker import out_of_memory

DEFAULT_ENTRY = "pixelmill.targets.entry:run_request"

_WATCH_S = 0.1
"""How often deadlines and resident sizes are looked at, while tasks run: one timer for all of them."""


_NO_PATHS = PoolModels()


class LocalPool:
    """A :class:`Target` of ``workers`` processes. ``memory_bytes`` bounds what one task may allocate.

    A process is replaced after at most ``recycle_after`` tasks, or when it keeps ``retire_rss`` bytes more than it had
    at its start. ``entry`` names the function (``module:function``) that runs a request: it comes from configuration
    only, never from a request; ``preload`` names modules that are imported once for all workers.
    ``models``: where the weights of learned operations lie, and how many tasks may want them at once: such tasks have
    processes of their own, which are started with the first of them, so that they hold up no others.
    ``zygote`` is one that was forked early (``spawner.prefork``); without it, a fresh interpreter is started.

    ``start`` must be called from a thread that lives as long as the pool (the main thread, in a service): the kernel
    ends the processes with it.
    """

    def __init__(
        self,
        *,
        workers: int,
        name: str = "local",
        memory_bytes: int = 1_000_000_000,
        recycle_after: int = 1_000,
        retire_rss: int = 300_000_000,
        entry: str = DEFAULT_ENTRY,
        preload: Sequence[str] = (),
        models: PoolModels = _NO_PATHS,
        zygote: ZygoteProcess | None = None,
    ) -> None:
        if workers < 1 or recycle_after < 1:
            raise ValueError("a pool has at least one worker, and a worker runs at least one task")
        self.name = name
        self._memory_bytes = memory_bytes
        self.models = ModelProcess(models)
        self._models = models
        boot = {
            "entry": entry,
            "preload": list(preload),
            "memory_bytes": memory_bytes,
            "retire_rss": retire_rss,
        }
        self._workers = workers
        self._model_slots = model_slots(models)
        self._has_grown = False
        self._crew = Crew(workers, recycle_after, max_reply=memory_bytes, boot=boot, zygote=zygote)
        self._running = 0
        self._state: Literal["new", "on", "off"] = "new"
        self._watch: asyncio.TimerHandle | None = None
        self._last_used = None if models.remembered is None else LastUsed(models.remembered)
        self._warming: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop

    def on_restart(self, tell: Callable[[str], None]) -> None:
        """Call ``tell`` with the reason whenever a process is replaced; for metrics."""
        self._crew.on_restart = tell

    async def start(self) -> None:
        """Start the processes; raises :class:`WorkerCrashed` with the reason where they can't be started."""
        self._loop = asyncio.get_running_loop()
        self._crew.boot["models"] = self.models.prepare()
        try:
            await self._crew.start()
        except BaseException:
            await self.stop()
            raise
        self._state = "on"
        if self.models.address and (self._models.warm or self._models.remembered):
            self._warming = asyncio.create_task(warm_up(self._models, self.models), name="warm-up")

    async def stop(self) -> None:
        """End all processes at once; running tasks raise :class:`Cancelled`."""
        if self._state == "off":
            return
        self._state = "off"
        if self._watch is not None:
            self._watch.cancel()
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        await self._crew.stop()
        self.models.stop()

    def load(self) -> TargetLoad:
        """The load now; unhealthy while no process can be started."""
        crew = self._crew
        return TargetLoad(
            self._running,
            self._workers,
            crew.restarts,
            healthy=crew.is_healthy,
            reason=crew.reason,
            model_slots=self._model_slots,
        )

    def processes(self) -> list[int]:
        """Ids of all processes of the pool, the zygote first, the model process last; for load samples."""
        return [*self._crew.pids, *([self.models.pid] if self.models.pid else [])]

    async def run(self, request: RunRequest) -> RunResult:
        """Run one task, in line where all workers are busy. Cancelling the await kills the process.

        Raises what the pipeline raised, or :class:`TaskTimeout`, :class:`OutOfMemory`, :class:`WorkerCrashed`,
        :class:`Cancelled` (the pool was stopped), :class:`ShuttingDown` (it does not run).
        """
        if self._state != "on":
            raise ShuttingDown("The pool is not running; start it, or send the work to another process.")
        learned = learned_models(request.pipeline)
        if not learned:
            return await self._run(request)
        if not self._has_grown:
            self._has_grown = True
            self._crew.grow(self._model_slots)
        async with self.models.used():
            result = await self._run(request)
        if self._last_used is not None and self._last_used.note(learned):
            await asyncio.to_thread(self._last_used.write)
        return result

    async def _run(self, request: RunRequest) -> RunResult:
        buffers = encode_request(request, tracing.carried())
        worker = await self._crew.take()
        self._running += 1
        cold = worker.served == 0
        future = worker.begin(buffers, request.id, request.timeout_s)
        if self._watch is None:
            self._watch = self._loop.call_later(_WATCH_S, self._look)
        try:
            reply = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                future.exception()  # both in one turn of the loop: seen, and of no use to anybody
            if worker.future is future:  # else it has answered, and may be at another task by now
                self._crew.kill(worker, Cancelled("The task was cancelled."))
            raise
        finally:
            self._running -= 1
        if reply.error is not None:
            raise reply.error
        assert reply.outcome is not None
        if tracing.is_kept():
            _tell_parts(reply.outcome.timings)
        return RunResult(reply.outcome, self.name, str(worker.pid), cold=cold)

    def _look(self) -> None:
        """End tasks that are over their time or their memory; goes on while anything runs."""
        now, most = self._loop.time(), self._crew.baseline + self._memory_bytes
        busy = self._crew.busy
        for worker in busy:
            if now >= worker.deadline:
                self._crew.kill(worker, _timeout(worker.limit_s))
            elif worker.size is not None and worker.size.read() > most:
                self._crew.kill(worker, out_of_memory(self._memory_bytes))
        self._watch = self._loop.call_later(_WATCH_S, self._look) if busy else None


def _tell_parts(timings: Timings) -> None:
    """The parts of a run as spans: their lengths are known, and that they came one after the other until now."""
    at = time.time() - timings.total_ms / 1000
    for part, ms in (("decode", timings.decode_ms), ("apply", timings.apply_ms), ("encode", timings.encode_ms)):
        tracing.told(part, at, at + ms / 1000)
        at += ms / 1000


def _timeout(limit_s: float) -> TaskTimeout:
    return TaskTimeout(
        f"The task was not done within {limit_s:g} s, and its process was ended. "
        "Use a smaller image or a lighter pipeline, or raise the time limit.",
        limit_s=limit_s,
    )
