"""Fair shares of a queue: ranks for the queue in this database, and bounded windows for any other queue.

Shares have two levels within a class. Owners with work get equal shares, whatever number of jobs each has, and each
owner's share is parted equally among its jobs. Ranks are of the second level (of the first is ``engines/turns.py``);
windows of both.

Pure planning here; the outbox that acts on it is at the end. An outbox is needed where the queue is not in the job
store's database: a job and its messages are then not one transaction, so tasks wait as rows, and only a window of them
is released. This also makes cancelling cheap, and gives each job its share of the window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


def first_rank(head: int | None, next_rank: int) -> int:
    """The rank of the next task of a job whose last one had ``next_rank - 1``, when its owner's head has ``head``.

    This is start-time fair queueing with equal weights: the head's rank is the virtual time, and each job of the owner
    takes one task of each rank. A job that was idle starts at the head; one that is ahead stays behind its own tasks.
    """
    return next_rank if head is None else max(head, next_rank)


MODELS_SHARE = 4


@dataclass(frozen=True, slots=True)
class Waiting:
    """Tasks of a job that were not released yet; ``priority`` as in messages (smaller first).

    ``models``: they want learned models.
    """

    tasks: int
    priority: int = 1
    owner: str = ""
    models: bool = False


def plan_release(waiting: Mapping[str, Waiting], in_flight: Mapping[str, int], window: int) -> dict[str, int]:
    """How many tasks of each job to release now, so that at most ``window`` are in flight.

    Max-min fair within a priority, among owners and then among the jobs of each: room goes, task by task, to the owner
    with the fewest in flight of that priority, and to its job with the fewest (the order of ``waiting`` decides ties);
    no room is left while a task waits. More urgent jobs are served first.

    Tasks that want learned models get a quarter of the window at most: few of them run at once, and what stands before
    others in a queue that can't tell them apart is put back one by one (see ``engines/leased.py``).
    """
    learned = {name: job for name, job in waiting.items() if job.models}
    flying = sum(in_flight.get(name, 0) for name in learned)
    room = window - sum(in_flight.values())
    plan = _planned(learned, in_flight, min(room, max(1, window // MODELS_SHARE) - flying))
    others = {name: job for name, job in waiting.items() if not job.models}
    return plan | _planned(others, in_flight, room - sum(plan.values()))


def _planned(waiting: Mapping[str, Waiting], in_flight: Mapping[str, int], room: int) -> dict[str, int]:
    """The plan for so much room."""
    plan: dict[str, int] = {}
    for priority in sorted({job.priority for job in waiting.values()}):
        shares = _among_owners(
            {name: job for name, job in waiting.items() if job.priority == priority}, in_flight, room
        )
        plan |= shares
        room -= sum(shares.values())
        if room <= 0:
            break
    return plan


def _among_owners(jobs: Mapping[str, Waiting], in_flight: Mapping[str, int], room: int) -> dict[str, int]:
    """The shares of jobs of one priority."""
    tasks: dict[str, dict[str, int]] = {}
    flying: Counter[str] = Counter()
    for name, job in jobs.items():
        flying[job.owner] += in_flight.get(name, 0)
        if job.tasks > 0:
            tasks.setdefault(job.owner, {})[name] = job.tasks
    shares = _fill({owner: sum(mine.values()) for owner, mine in tasks.items()}, flying, room)
    plan: dict[str, int] = {}
    for owner, share in shares.items():
        plan |= _fill(tasks[owner], in_flight, share)
    return plan


def _fill(wanted: Mapping[str, int], in_flight: Mapping[str, int], room: int) -> dict[str, int]:
    """Water-filling: raise the lowest levels until the room or the work is used up."""
    if room <= 0 or not wanted:
        return {}
    floor = {name: in_flight.get(name, 0) for name in wanted}

    def filled(level: int) -> dict[str, int]:
        return {name: max(0, min(wanted[name], level - floor[name])) for name in wanted}

    # The highest level whose fill fits into the room, by bisection.
    low, high = 0, max(floor.values()) + max(wanted.values())
    while low < high:
        middle = (low + high + 1) // 2
        if sum(filled(middle).values()) <= room:
            low = middle
        else:
            high = middle - 1
    shares = filled(low)
    left = room - sum(shares.values())
    for name, more in filled(low + 1).items():
        if left <= 0:
            break
        if more > shares[name]:
            shares[name] += 1
            left -= 1
    return {name: count for name, count in shares.items() if count}
