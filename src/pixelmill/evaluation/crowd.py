"""Several users at once, each with many images, and what a person feels who sends single ones beside them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelmill.client import AsyncClient, AsyncJob
from pixelmill.errors import ConfigError, PixelmillError
from pixelmill.evaluation.document import Interactive, Load, User
from pixelmill.evaluation.figures import figures
from pixelmill.evaluation.observation import Harvest, Observation, Resolution
from pixelmill.evaluation.series import distribution
from pixelmill.evaluation.service import ServiceSubject, first_of, sizes_of, tasks_of, tidy
from pixelmill.evaluation.subject import OF_AN_IMAGE, CountingPolicy, Tally, state_of

MOST_USERS = 200
MOST_IMAGES = 100_000
MOST_RATE = 1_000
IDLE_PROBES = 20
PROBE_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Person:
    """A user by name, with a token of its own or None."""

    name: str
    token: str | None


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who sends what. ``rate``: images a second of each user, each a job of its own; None: all at once, as one job.

    ``owners``: each person is an owner of its own to the service.
    """

    url: str
    pipeline: str
    people: Sequence[Person]
    images_per_user: int
    resolution: Resolution
    rate: float | None
    limit_s: float
    owners: bool
    interactive: bool = True


def check(users: int, images_per_user: int, rate: float | None) -> None:
    """Refuse what has no bound; raises :class:`ConfigError`."""
    if not 1 <= users <= MOST_USERS:
        raise ConfigError(f"--users {users} must be from 1 to {MOST_USERS}.")
    if images_per_user < 1 or users * images_per_user > MOST_IMAGES:
        raise ConfigError(f"All users together send from 1 to {MOST_IMAGES:,} images, not {users * images_per_user:,}.")
    if rate is not None and not 0 < rate <= MOST_RATE:
        raise ConfigError(f"--rate {rate:g} must be above 0 and at most {MOST_RATE:,} images a second.")


@dataclass(slots=True)
class _Seen:
    """What became of one user's images."""

    observations: list[Observation]
    tally: Tally
    seconds: float


async def load(crowd: Crowd, files: Sequence[Path], subject: ServiceSubject, tell: Callable[[int], None]) -> Load:
    """Let all users begin together; raises what no user could work with.

    ``files``: a different one for each image of each user. ``subject`` reads tasks as observations.
    """
    idle = await _probe_idle(crowd, files[0]) if crowd.interactive else []
    busy: list[float] = []
    errors: Counter[str] = Counter()
    over = asyncio.Event()
    probing = asyncio.ensure_future(_probe(crowd, files[0], busy, errors, over)) if crowd.interactive else None
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        tell(done)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_one_user(crowd, person, _share(crowd, files, number), subject, count))
                for number, person in enumerate(crowd.people)
            ]
        # The image that is under way counts: it is most likely a slow one.
        over.set()
        if probing is not None:
            await probing
    except BaseExceptionGroup as failed:
        raise first_of(failed) from None
    finally:
        if probing is not None:
            probing.cancel()
            with suppress(asyncio.CancelledError):
                await probing
    seen = [task.result() for task in tasks]
    every = Harvest(
        tuple(one for user in seen for one in user.observations),
        max(user.seconds for user in seen),
        sum(user.tally.throttles for user in seen),
        sum(user.tally.retries for user in seen),
        sum(user.tally.waited_s for user in seen),
    )
    return Load(
        owners=crowd.owners,
        images_per_user=crowd.images_per_user,
        rate=crowd.rate,
        resolution=str(crowd.resolution),
        users=tuple(_user(person, one) for person, one in zip(crowd.people, seen, strict=True)),
        all=figures(every),
        interactive=Interactive(distribution(idle), distribution(busy), dict(errors)) if crowd.interactive else None,
    )


def _share(crowd: Crowd, files: Sequence[Path], number: int) -> Sequence[Path]:
    return files[number * crowd.images_per_user : (number + 1) * crowd.images_per_user]


async def _one_user(
    crowd: Crowd, person: Person, files: Sequence[Path], subject: ServiceSubject, count: Callable[[int], None]
) -> _Seen:
    tally, jobs, start = Tally(), list[AsyncJob](), time.perf_counter()
    refused: list[Observation] = []

    async with AsyncClient(crowd.url, person.token, retry=CountingPolicy(tally=tally)) as client:

        async def submit(some: Sequence[Path]) -> None:
            try:
                jobs.append(await client.submit(some, crowd.pipeline, name=f"load {person.name}"))
            except OF_AN_IMAGE as error:
                refused.extend(Observation(path.name, state_of(error), error=error.type) for path in some)

        async with tidy(jobs):
            with suppress(TimeoutError):
                async with asyncio.timeout(crowd.limit_s):
                    if crowd.rate is None:
                        await submit(files)
                    else:
                        await _paced(submit, files, crowd.rate)
                    for job in jobs:
                        await job.wait()
            seconds = time.perf_counter() - start
            found = subject.observed(await tasks_of(jobs), sizes_of(files))
        missing = len(files) - len(found) - len(refused)
        refused += [Observation("", "dropped", error="not-sent-in-time")] * max(0, missing)
        count(len(files))
    return _Seen([*found, *refused], tally, seconds)


async def _paced(
    submit: Callable[[Sequence[Path]], Coroutine[Any, Any, None]], files: Sequence[Path], rate: float
) -> None:
    """Each image at its time, also while earlier ones are still being sent."""
    clock = asyncio.get_running_loop().time
    start = clock()
    async with asyncio.TaskGroup() as group:
        for number, path in enumerate(files):
            await asyncio.sleep(max(0.0, start + number / rate - clock()))
            group.create_task(submit([path]))


def _user(person: Person, seen: _Seen) -> User:
    own = figures(Harvest(tuple(seen.observations)))
    return User(
        person.name,
        own.sent,
        own.succeeded,
        own.failed,
        own.dropped,
        own.errors,
        seen.tally.throttles,
        seen.tally.retries,
        seen.tally.waited_s,
        seen.seconds,
        own.total,
    )


# -- single images beside them -------------------------------------------------------------------


async def _probe_idle(crowd: Crowd, path: Path) -> list[float]:
    async with AsyncClient(crowd.url, crowd.people[0].token) as client:
        await client.process(path, crowd.pipeline)  # the first one pays for connections
        return [await _timed(client, path, crowd.pipeline) for _ in range(IDLE_PROBES)]


async def _probe(crowd: Crowd, path: Path, found: list[float], errors: Counter[str], over: asyncio.Event) -> None:
    """One image after another until it is over; refusals are counted, not repeated: a person sees them."""
    async with AsyncClient(crowd.url, crowd.people[0].token, retry=CountingPolicy(attempts=1)) as client:
        while not over.is_set():
            try:
                found.append(await _timed(client, path, crowd.pipeline))
            except PixelmillError as error:
                errors[error.type] += 1
            await asyncio.sleep(PROBE_PAUSE_S)


async def _timed(client: AsyncClient, path: Path, pipeline: str) -> float:
    start = time.perf_counter()
    await client.process(path, pipeline)
    return 1000 * (time.perf_counter() - start)


def fairness(loads: Sequence[User]) -> tuple[float, float]:
    """The slowest user's time over the fastest one's, and Jain's index of their rates (1: all the same).

    Jain, Chiu and Hawe, "A Quantitative Measure of Fairness and Discrimination", DEC-TR-301, 1984.
    """
    times = [user.seconds for user in loads if user.seconds > 0]
    if not times:
        return 1.0, 1.0
    rates = [1 / seconds for seconds in times]
    return max(times) / min(times), sum(rates) ** 2 / (len(rates) * sum(rate**2 for rate in rates))
