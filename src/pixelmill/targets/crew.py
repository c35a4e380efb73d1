"""The processes of a local pool: keeps a number of them alive, hands out idle ones, and knows why one has ended.

Owns the zygote and the workers' sockets. It carries frames and knows nothing of pipelines or of limits on a task:
``local.py`` decides when a worker must die, and the crew sees to it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from pixelmill.errors import Cancelled, PixelmillError, ShuttingDown, WorkerCrashed
from pixelmill.targets.channel import Channel, worker_socket_pair
from pixelmill.targets.handle import WorkerHandle, crash, describe_exit
from pixelmill.targets.process import ResidentSize
from pixelmill.targets.spawner import Spawner, ZygoteEnded, ZygoteProcess
from pixelmill.targets.wire import Reply, decode_reply

log = logging.getLogger(__name__)

MAX_FAILURES = 5
"""Starts in a row that may fail before the crew, if nobody is left, calls itself unhealthy."""

_BACKOFF_S = 0.05  # after the first failure; doubles up to the bound
_MAX_BACKOFF_S = 30.0
_ZYGOTE_START_S = 60.0
_STOP_S = 2.0


class Crew:
    """``size`` worker processes and the zygote they come from."""

    def __init__(
        self, size: int, recycle_after: int, max_reply: int, boot: Mapping[str, Any], zygote: ZygoteProcess | None
    ) -> None:
        self.size = size
        self.restarts = 0
        self.on_restart: Callable[[str], None] = lambda _: None
        """Told why a process is replaced: died, recycled, or the type of the error that it was ended for."""
        self.reason = ""  # of the last failed start
        self.baseline = 0  # resident bytes of the zygote: what a worker has from the start
        self._recycle_after = recycle_after
        self._max_reply = max_reply
        self.boot = dict(boot)
        """What the zygote is told when it starts."""
        self._prefork = zygote
        self._spawner: Spawner | None = None
        self._workers: dict[int, WorkerHandle] = {}  # that count: neither ended nor retired
        self._by_pid: dict[int, WorkerHandle] = {}  # all that were not reaped yet
        self._idle: list[WorkerHandle] = []  # last in, first out: the warmest cache
        self._waiters: deque[asyncio.Future[WorkerHandle]] = deque()
        self._numbers = 0
        self._failures = 0
        self._stopped = False
        self._retry: asyncio.TimerHandle | None = None
        self._revival: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop

    # -- for the pool ----------------------------------------------------------------------------

    @property
    def is_healthy(self) -> bool:
        """False where nobody is there and several starts in a row have failed."""
        return self._failures < MAX_FAILURES or any(worker.greeted for worker in self._workers.values())

    @property
    def busy(self) -> list[WorkerHandle]:
        """Workers that run a task now."""
        return [worker for worker in self._workers.values() if worker.future is not None]

    @property
    def pids(self) -> list[int]:
        """The zygote and all workers."""
        zygote = self._spawner.pid if self._spawner else None
        return [*([zygote] if zygote else []), *self._by_pid]

    async def start(self) -> None:
        """Start everybody; raises :class:`WorkerCrashed` with the reason. One greeting means that work can begin."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._start_first_zygote()
            self._fill()
            self._put_back(await self.take())
        except (RuntimeError, OSError) as error:
            raise WorkerCrashed(f"The pool can't start its processes: {error}.") from error

    async def stop(self) -> None:
        """End everybody at once; what runs fails with :class:`Cancelled`."""
        self._stopped = True
        if self._retry is not None:
            self._retry.cancel()
        if self._revival is not None:
            self._revival.cancel()
            with suppress(asyncio.CancelledError):
                await self._revival
        self._fail_waiters(ShuttingDown("The pool has stopped; send the work to another process."))
        for worker in list(self._workers.values()):
            worker.error = Cancelled("The task was cancelled: the pool that ran it was stopped.")
            self._bury(worker, worker.error)
        if self._spawner is not None:
            await self._spawner.stop(_STOP_S)
        for worker in self._by_pid.values():
            self._release(worker)
        self._by_pid.clear()

    async def take(self) -> WorkerHandle:
        """An idle worker, first come first served; raises :class:`WorkerCrashed` where there will be none soon."""
        while True:
            if not self.is_healthy:
                raise self._unhealthy()
            worker = self._idle.pop() if self._idle else await self._wait()
            if worker.is_usable:
                return worker

    def grow(self, more: int) -> None:
        """Have so many more processes from now on."""
        self.size += more
        self._fill()

    def kill(self, worker: WorkerHandle, error: PixelmillError) -> None:
        """End a worker and whatever it runs, for the reason given; another takes its place when it is gone."""
        if worker.error is not None or worker.number not in self._workers:
            return
        worker.error = error
        if not isinstance(error, Cancelled):
            log.warning(
                "a pool process is ended: %s", error, extra={"event": "pool.worker_killed", "task": worker.task}
            )
        if worker.future is not None and not worker.future.done():
            worker.future.set_exception(error)
        if self._spawner is not None:
            self._spawner.kill(worker.pid)

    # -- workers come ----------------------------------------------------------------------------

    async def _start_first_zygote(self) -> None:
        """Again a few times where it is killed: short of memory, or by mistake, which the next one may be spared."""
        for failures in range(MAX_FAILURES - 1):
            try:
                return await self._start_zygote()
            except ZygoteEnded as error:
                log.error("a pool process could not be started: %s", error, extra={"event": "pool.start_failed"})  # noqa: TRY400 -- the sentence says it all
                await asyncio.sleep(_BACKOFF_S * 2**failures)
        return await self._start_zygote()

    async def _start_zygote(self) -> None:
        zygote, self._prefork = self._prefork, None
        self._spawner = Spawner(self, self.boot, zygote)
        await self._spawner.start(_ZYGOTE_START_S)
        assert self._spawner.pid is not None
        size = ResidentSize(self._spawner.pid)
        self.baseline = size.read()
        size.close()

    def _fill(self) -> None:
        """Order as many workers as are missing, unless a failure asks for patience."""
        if self._stopped or self._retry is not None or self._spawner is None:
            return
        while len(self._workers) < self.size and self._retry is None:
            self._order(self._spawner)

    def _order(self, spawner: Spawner) -> None:
        self._numbers += 1
        # Jittered, or all workers of a busy pool would be replaced in the same moment.
        lifetime = max(1, round(self._recycle_after * random.uniform(0.8, 1.0)))  # noqa: S311 - not a secret
        worker = WorkerHandle(self._numbers, lifetime)
        try:
            ours, theirs = worker_socket_pair()
            with theirs:
                spawner.fork(worker.number, theirs)
        except OSError as error:
            self._fail(f"no descriptors for a worker: {error.strerror}")
            return
        self._workers[worker.number] = worker
        worker.channel = Channel(
            self._loop,
            ours,
            lambda record, body: self._on_frame(worker, record, body),
            lambda reason: self._on_end(worker, reason),
            max_body=self._max_reply,
        )

    def on_forked(self, number: int, pid: int) -> None:
        """The zygote has forked a worker."""
        worker = self._workers.get(number)
        if worker is not None:
            worker.pid = pid
            worker.size = ResidentSize(pid)
            self._by_pid[pid] = worker
            if worker.is_usable:
                self._greet(worker)
            elif self._spawner is not None:  # condemned before its id was known
                self._spawner.kill(pid)

    def on_refused(self, number: int, reason: str) -> None:
        """The zygote could not fork."""
        worker = self._workers.pop(number, None)
        if worker is not None:
            self._release(worker)
            self._fail(reason)

    async def _wait(self) -> WorkerHandle:
        waiter: asyncio.Future[WorkerHandle] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._put_back(waiter.result())
            else:
                with suppress(ValueError):
                    self._waiters.remove(waiter)
            raise

    def _put_back(self, worker: WorkerHandle) -> None:
        if not worker.is_usable:
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(worker)
                return
        self._idle.append(worker)

    def _greet(self, worker: WorkerHandle) -> None:
        """A worker can be used when it has said so and its id is known (or it could not be ended): in any order."""
        if worker.greeted and worker.pid:
            self._failures = min(self._failures, MAX_FAILURES - 1)  # on probation until a task was answered
            self._put_back(worker)

    # -- workers answer --------------------------------------------------------------------------

    def _on_frame(self, worker: WorkerHandle, record: Any, body: bytes) -> None:
        if not worker.greeted:
            worker.greeted = True
            self._greet(worker)
            return
        future, worker.future = worker.future, None
        if future is None:
            self._condemn(worker, "an answer that nobody asked for", None)
            return
        try:
            reply = decode_reply(record, body)
        except ValueError as error:
            self._condemn(worker, str(error), future)
            return
        self._failures, self.reason = 0, ""
        worker.served += 1
        if not future.done():
            future.set_result(reply)
        if reply.retire or worker.served >= worker.lifetime:
            self._retire(worker)
        else:
            self._put_back(worker)

    def _condemn(self, worker: WorkerHandle, reason: str, future: asyncio.Future[Reply] | None) -> None:
        """A worker that talks nonsense, or can't be talked to, must not go on."""
        worker.future = future
        self.kill(
            worker,
            WorkerCrashed(
                f"The process that ran the task was ended, for the service could not talk with it: {reason}."
            ),
        )

    def _on_end(self, worker: WorkerHandle, reason: str) -> None:
        if reason:
            self._condemn(worker, reason, worker.future)
        elif self._spawner is not None and worker.pid in self._by_pid:
            self._spawner.kill(worker.pid)  # it has closed its socket: nothing can be heard from it any more

    # -- workers go ------------------------------------------------------------------------------

    def _retire(self, worker: WorkerHandle) -> None:
        """Replace an idle worker; it ends by itself when it finds its socket closed."""
        self._workers.pop(worker.number, None)
        if worker.channel is not None:
            worker.channel.close()
        self._count("recycled")
        self._fill()

    def on_exit(self, pid: int, code: int) -> None:
        """The zygote has reaped a worker."""
        worker = self._by_pid.pop(pid, None)
        if worker is None:
            return
        if worker.channel is not None:
            worker.channel.drain()  # it may have answered before it ended
        counted = worker.number in self._workers
        self._bury(worker, worker.error or crash(code))
        self._release(worker)
        if not counted or self._stopped:
            return
        self._count(worker.error.type if worker.error else "died")
        if worker.served == 0 and not worker.task:
            self._fail(f"a worker {describe_exit(code)} before its first task")
        else:
            self._fill()

    def _count(self, reason: str) -> None:
        self.restarts += 1
        self.on_restart(reason)

    def on_lost(self) -> None:
        """The zygote has ended, and the kernel has killed its workers."""
        lost = WorkerCrashed("The process that ran the task was ended together with the one that starts workers.")
        for worker in {*self._workers.values(), *self._by_pid.values()}:
            if worker.channel is not None:
                worker.channel.drain()
            self._bury(worker, worker.error or lost)
            self._release(worker)
        self._by_pid.clear()
        for _ in range(self.size):
            self._count("died")
        self._fail("the process that starts workers has ended", zygote=True)

    def _bury(self, worker: WorkerHandle, error: PixelmillError) -> None:
        """Take a worker that is ending out of the books, and fail what it ran."""
        self._workers.pop(worker.number, None)
        with suppress(ValueError):
            self._idle.remove(worker)
        if worker.channel is not None:
            worker.channel.close()
        future, worker.future = worker.future, None
        if future is not None and not future.done():
            log.warning("a task lost its process: %s", error, extra={"event": "pool.worker_lost", "task": worker.task})
            future.set_exception(error)

    def _release(self, worker: WorkerHandle) -> None:
        if worker.channel is not None:
            worker.channel.close()
        if worker.size is not None:
            worker.size.close()
            worker.size = None

    # -- failed starts ---------------------------------------------------------------------------

    def _fail(self, reason: str, *, zygote: bool = False) -> None:
        """A start has failed: try again after a pause that doubles; at some point, say that it is no use."""
        if self._stopped:
            return
        self._failures += 1
        self.reason = reason
        log.error("a pool process could not be started: %s", reason, extra={"event": "pool.start_failed"})
        if not self.is_healthy:
            self._fail_waiters(self._unhealthy())
        if self._retry is None:
            pause = min(_BACKOFF_S * 2 ** min(self._failures - 1, 16), _MAX_BACKOFF_S)
            self._retry = self._loop.call_later(pause, self._try_again, zygote)

    def _try_again(self, zygote: bool) -> None:
        self._retry = None
        if zygote:
            self._revival = self._loop.create_task(self._revive())
        else:
            self._fill()

    async def _revive(self) -> None:
        if self._spawner is not None:
            await self._spawner.stop(0)
        try:
            await self._start_zygote()
        except (RuntimeError, OSError) as error:
            self._fail(str(error), zygote=True)
        else:
            self._fill()

    def _fail_waiters(self, error: PixelmillError) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(error)

    def _unhealthy(self) -> WorkerCrashed:
        return WorkerCrashed(
            f"The pool can't start its processes ({self.reason}). It keeps trying; see the service's log, "
            "and check the machine's limits on processes and memory."
        )
