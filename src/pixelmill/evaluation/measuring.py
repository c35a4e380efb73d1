"""The plan of an evaluation, step by step, and its execution. What was measured is kept also if it ends early."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pixelmill.errors import ConfigError
from pixelmill.evaluation.document import Cell
from pixelmill.evaluation.facts import load_average
from pixelmill.evaluation.figures import Figures, figures
from pixelmill.evaluation.observation import TRIGGERS, Resolution, Trigger
from pixelmill.evaluation.subject import Batch, Images, Subject

MOST_IMAGES = 1_000_000
MOST_IN_A_BATCH = 100_000
MOST_ROUNDS = 50
SIDES = (16, 16_384)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured. ``limit_s`` bounds a batch, ``pause_s`` parts the images of the manual trigger."""

    sizes: tuple[int, ...]
    resolutions: tuple[Resolution, ...]
    triggers: tuple[Trigger, ...] = TRIGGERS
    rounds: int = 1
    limit_s: float = 900.0
    pause_s: float = 0.0

    def images(self, configurations: int) -> int:
        """How many are sent in all."""
        return sum(self.sizes) * len(self.resolutions) * len(self.triggers) * self.rounds * configurations


@dataclass(frozen=True, slots=True)
class Step:
    """One batch of the plan; ``configuration`` is an index, ``round`` counts from 0."""

    resolution: Resolution
    round: int
    size: int
    trigger: Trigger
    configuration: int

    def __str__(self) -> str:
        return f"{self.trigger} {self.resolution}, {self.size:,} images"


def steps(plan: Plan, configurations: int) -> Iterator[Step]:
    """All batches in their order: files of one resolution are made once; configurations take turns at going first."""
    for resolution in plan.resolutions:
        for number in range(plan.rounds):
            for size in plan.sizes:
                for trigger in plan.triggers:
                    order = range(configurations) if number % 2 == 0 else reversed(range(configurations))
                    for configuration in order:
                        yield Step(resolution, number, size, trigger, configuration)


class Watch(Protocol):
    """Who sees how far it has come."""

    def begin(self, step: Step) -> None:
        """A batch begins."""
        ...

    def ended(self, count: int) -> None:
        """So many of its images have ended."""
        ...


class Collected:
    """The figures of the batches that are done."""

    def __init__(self) -> None:
        self._rounds: dict[tuple[int, Trigger, Resolution, int], list[Figures]] = {}

    def add(self, step: Step, found: Figures) -> None:
        """Keep those of a batch."""
        key = (step.configuration, step.trigger, step.resolution, step.size)
        self._rounds.setdefault(key, []).append(found)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """In the order of the reports: by configuration, trigger, resolution, size."""
        order = sorted(self._rounds, key=lambda key: (key[0], TRIGGERS.index(key[1]), *key[2:]))
        return tuple(Cell(key[0], key[1], str(key[2]), key[3], tuple(self._rounds[key])) for key in order)


async def measure(plan: Plan, subjects: Sequence[Subject], images: Images, collected: Collected, watch: Watch) -> None:
    """Run every step; each is in ``collected`` when it is done."""
    for step in steps(plan, len(subjects)):
        # Making the files is no part of the batch.
        files = await asyncio.to_thread(images.files, step.resolution, step.size)
        watch.begin(step)
        before = load_average()[0]
        batch = Batch(step.trigger, step.resolution, files, plan.limit_s, plan.pause_s)
        harvest = await subjects[step.configuration].run(batch, watch.ended)
        watch.ended(step.size)
        collected.add(step, figures(harvest, before))


# -- what a command line says --------------------------------------------------------------------


def parse_sizes(text: str) -> tuple[int, ...]:
    """``10,50,100``, ascending; raises :class:`ConfigError`."""
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < 1 or sizes[-1] > MOST_IN_A_BATCH:
        raise ConfigError(
            f"--sizes {text!r} must be batch sizes from 1 to {MOST_IN_A_BATCH:,} parted by commas, such as 10,50,100."
        )
    return tuple(sizes)


def parse_resolutions(text: str) -> tuple[Resolution, ...]:
    """``1200x800,2040x1536``; raises :class:`ConfigError`."""
    found: list[Resolution] = []
    for part in text.split(","):
        width, _, height = part.strip().lower().partition("x")
        low, high = SIDES
        if not (width.isdecimal() and height.isdecimal() and low <= int(width) <= high and low <= int(height) <= high):
            raise ConfigError(
                f"--resolutions {text!r}: {part!r} is not WIDTHxHEIGHT with sides from {low} to {high:,} pixels, "
                "such as 1200x800."
            )
        found.append(Resolution(int(width), int(height)))
    return tuple(sorted(set(found), key=lambda one: (one.megapixels, one)))


def parse_triggers(text: str) -> tuple[Trigger, ...]:
    """``manual``, ``high-rate`` or ``both``; raises :class:`ConfigError`."""
    if text == "both":
        return TRIGGERS
    chosen = tuple(trigger for trigger in TRIGGERS if trigger == text)
    if not chosen:
        raise ConfigError(f"--trigger {text!r} must be manual (one after another), high-rate (all at once) or both.")
    return chosen


def check_bounds(plan: Plan, configurations: int) -> None:
    """Refuse a plan that would never end; raises :class:`ConfigError`."""
    if not 1 <= plan.rounds <= MOST_ROUNDS:
        raise ConfigError(f"--rounds {plan.rounds} must be from 1 to {MOST_ROUNDS}.")
    total = plan.images(configurations)
    if total > MOST_IMAGES:
        raise ConfigError(f"That would send {total:,} images; {MOST_IMAGES:,} is the most. Take fewer sizes or rounds.")
