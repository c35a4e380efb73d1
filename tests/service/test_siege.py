"""The proof that nothing is lost: a batch on each engine, while everything that can die dies, at random moments.

``PIXELMILL_TEST_SEED`` chooses the moments and the victims.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from cable import Cable
from misbehaving import POISON
from siege import ENGINES, PIPELINE, Siege, Size, surroundings
from siege_blows import BLOWS
from siege_verdict import judge, judge_redriven, kind

from pixelmill.pipelines.spec import Pipeline
from servers import Redis, Server

SEED = int(os.environ.get("PIXELMILL_TEST_SEED", "1"))
TIMES = {
    "a pool process dies": 3,
    "a worker dies": 3,
    "a worker stalls": 1,
    "a node dies": 2,
    "the hub dies": 3,
    "redis dies": 2,
    "redis is wiped": 1,
    "the network is cut": 1,
}
FULL = Size(tasks=2000, opening=500, page=30, poison=6, bad=12, blows=TIMES)
SHORT = Size(
    tasks=200,
    opening=60,
    page=12,
    poison=2,
    bad=4,
    blows={"a pool process dies": 1, "a worker dies": 1, "the hub dies": 1},
)


@pytest.fixture
def cable() -> Iterator[Cable | None]:
    missing = Cable.missing()
    if missing is not None:
        if os.environ.get("CI"):
            pytest.fail(missing)
        yield None  # without that one blow
        return
    with Cable().laid() as made:
        yield made


def batch(size: Size, pictures: Sequence[bytes], chance: random.Random) -> list[tuple[str, bytes]]:
    """The files by name, in their order; the name says what is wrong with them."""
    special = chance.sample(range(size.tasks), size.poison + size.bad)
    poison, bad = set(special[: size.poison]), set(special[size.poison :])
    damaged = itertools.cycle((b"this is no image", pictures[0][:900], b""))
    files = []
    for index, picture in zip(range(size.tasks), itertools.cycle(pictures), strict=False):
        if index in poison:
            files.append((f"{index:04}-poison.jpg", picture + POISON))
        elif index in bad:
            files.append((f"{index:04}-bad.jpg", next(damaged)))
        else:
            files.append((f"{index:04}-good.jpg", picture))
    return files


def images_of(files: Sequence[tuple[str, bytes]]) -> dict[str, bytes]:
    """What is to come of each that is not bad, by name; poison too, for it only crashes while its cause is there."""
    pipeline = Pipeline.parse(PIPELINE)
    made = cache(lambda picture: pipeline.run(picture).bytes or b"")
    return {name: made(body.removesuffix(POISON)) for name, body in files if kind(name) != "bad"}


def besiege(
    engine: str, size: Size, folder: Path, pictures: list[bytes], cable: Cable | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ENGINES[engine]
    kinds: tuple[type[Server], ...] = (Redis, *wanted.servers)
    for missing in filter(None, (server.missing() for server in kinds)):
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"{missing}; `make servers` brings it")
    cause = folder / "cause"
    cause.touch()
    monkeypatch.setenv("PIXELMILL_TEST_POISON", str(cause))
    with ExitStack() as stack:
        servers: list[Server] = []
        for server in kinds:
            servers.append(server(folder / server.name))
            stack.callback(servers[-1].close)
            servers[-1].start()
            for name, value in surroundings(servers[-1]).items():
                monkeypatch.setenv(name, value)
        siege = Siege(folder, servers, size, SEED, cable)
        stack.callback(siege.end)
        siege.files = batch(size, pictures, siege.chance)
        expected = images_of(siege.files)
        siege.start()
        siege.run(BLOWS)
        assert all(still_open for _, _, still_open in siege.struck), "each blow fell while tasks were open"
        judge(siege, expected)
        cause.unlink()
        judge_redriven(siege, expected)
        print(siege.story())  # noqa: T201 -- shown by -s, and when it fails


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["leased, sqlite"])
def test_nothing_of_200_is_lost(
    engine: str, tmp_path: Path, pictures: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    besiege(engine, SHORT, tmp_path, pictures, None, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # what bounds it is its progress: see STALL_S
@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_of_2000_is_lost(
    engine: str, tmp_path: Path, pictures: list[bytes], cable: Cable | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    blows = {**TIMES, **dict.fromkeys(ENGINES[engine].blows, 1)}
    if cable is None:
        del blows["the network is cut"]
    besiege(engine, replace(FULL, blows=blows), tmp_path, pictures, cable, monkeypatch)
