"""Made-up observations and documents for tests of the evaluation: what a target might have told."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from pixelmill.evaluation.comparing import against
from pixelmill.evaluation.crowd import Person
from pixelmill.evaluation.document import Cell, Configuration, Document, Interactive, Load, Machine, User
from pixelmill.evaluation.figures import Figures, figures
from pixelmill.evaluation.observation import Harvest, Observation, Resolution
from pixelmill.evaluation.series import distribution

START = 1_700_000_000.0
HOSTILE = "<script>alert(1)</script>\"'&<img src=x>"
MACHINE = Machine("A CPU & more", 2, 8 << 30, "Debian", {"Pixelmill": "1", "Python": "3.11"})


def observations(count: int, *, seed: int = 0, slots: int = 2, failed: int = 0, dropped: int = 0) -> list[Observation]:
    """All events come at once; `slots` work on them."""
    random_ = random.Random(seed)
    free = [START] * slots
    made = []
    for number in range(count):
        slot = free.index(min(free))
        started = free[slot] + 0.001
        free[slot] = ended = started + random_.uniform(0.002, 0.02)
        state = "dropped" if number < dropped else "failed" if number < dropped + failed else "succeeded"
        made.append(
            Observation(
                f"{number:06}.jpg",
                state,  # type: ignore[arg-type] # one of three
                START if state != "dropped" else None,
                started if state != "dropped" else None,
                ended if state != "dropped" else None,
                error={"dropped": "queue-full", "failed": "corrupt-image"}.get(state, ""),
                target="local",
                cold=number < slots,
                bytes_in=1000,
                bytes_out=100,
                pixels=960_000,
                timings={"decode": 2.0, "apply": 0.5, "encode": 0.5},
            )
        )
    return made


def some_figures(count: int, **options: int) -> Figures:
    return figures(Harvest(tuple(observations(count, **options)), 0.5))


def a_document(
    *,
    sizes: Sequence[int] = (10, 50),
    resolutions: Sequence[Resolution] = (Resolution(1200, 800), Resolution(2040, 1536)),
    rounds: int = 1,
    labels: Sequence[str] = ("as it is",),
    failed: int = 0,
    dropped: int = 0,
    text: str = "grayscale/format:jpeg",
    seed: int = 0,
) -> Document:
    cells = tuple(
        Cell(
            index,
            trigger,
            str(resolution),
            size,
            tuple(
                some_figures(size, seed=seed + 97 * number + index, slots=2 + index, failed=failed, dropped=dropped)
                for number in range(rounds)
            ),
        )
        for index in range(len(labels))
        for trigger in ("manual", "high-rate")
        for resolution in resolutions
        for size in sizes
    )
    configurations = tuple(
        Configuration(label, "service", text, "private", {"workers": "2"}, MACHINE, {"local": 3}) for label in labels
    )
    made = Document(
        kind="evaluate",
        made="2026-11-28T12:00:00+00:00",
        command=f"pixelmill bench evaluate --pipeline {text}",
        images="24 photographs",
        configurations=configurations,
        sender=MACHINE,
        seconds=12.5,
        rounds=rounds,
        planned=len(cells),
        load_before=(0.1, 0.2, 0.3),
        load_after=(1.0, 0.5, 0.3),
        cells=cells,
    )
    return replace(made, comparison=against(made))


def a_load(users: int = 4, text: str = "grayscale/format:jpeg") -> Document:
    people = [Person(f"user-{number}", None) for number in range(users)]
    made = a_document(sizes=(), text=text)
    seen = [
        User(person.name, 10, 10, 0, 0, {}, number, 1, 0.5 * number, 1 + number / 10, distribution([5.0, 7.0 + number]))
        for number, person in enumerate(people)
    ]
    beside = Interactive(distribution([4.0, 5.0]), distribution([9.0, 30.0]), {"busy": 1})
    found = Load(True, 10, None, "1200x800", tuple(seen), some_figures(10 * users), beside)
    return replace(made, kind="load", load=found)
