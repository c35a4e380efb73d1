"""The runner over MPI ranks gives what the passes give of the whole, on 1, 2 and 4 ranks. One start for many cases."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.tiling.operation_cases import CASES

from pixelmill.errors import ConfigError
from pixelmill.targets.launch import command
from pixelmill.targets.tiled_settings import MpiConfig
from pixelmill.tiling.alike import check_alike, traits
from pixelmill.tiling.mpi import common, pieces

SUPPORT = Path(__file__).parent.parent / "support"


def lines_of(ranks: int, script: str, *arguments: int) -> list[Any]:
    """What a script prints that runs on so many ranks; skips where there is no MPI."""
    if importlib.util.find_spec("mpi4py") is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("mpi4py is not installed; pip install mpi4py mpich")
    line = command(ranks, MpiConfig(8))
    line = [*line[: line.index("-m")], "-m", "mpi4py", str(SUPPORT / script), *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-2_000:]
    return [json.loads(one) for one in done.stdout.splitlines()]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_give_what_the_whole_gives(ranks: int) -> None:
    cases = lines_of(ranks, "rank_cases.py", ranks, 40)
    assert [one["case"] for one in cases] == list(range(40))
    assert {one["ranks"] for one in cases} == {ranks}


@pytest.mark.parametrize("ranks", [2])
def test_every_operation_over_ranks_is_the_whole(ranks: int) -> None:
    (counts,) = lines_of(ranks, "rank_operations.py", ranks, 2)
    assert counts.keys() >= set(CASES) - {"perspective"}  # which small pictures may have no room for


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_every_operation_over_ranks_is_the_whole_widely(ranks: int) -> None:
    (counts,) = lines_of(ranks, "rank_operations.py", 10 + ranks, 12)
    assert counts.keys() >= set(CASES) - {"perspective"}  # which small pictures may have no room for


def test_rows_that_travel_are_those_that_are_needed_and_not_there() -> None:
    """Over all pairs of ranks, each rank gets each row that it needs and lacks exactly once."""
    owned = [(0, 10), (10, 10), (10, 25), (25, 40)]
    needed = [(0, 13), (0, 0), (7, 28), (0, 40)]
    for rank, (own, need) in enumerate(zip(owned, needed, strict=True)):
        found = [row for given in owned for piece in pieces(own, need, given, most=4) for row in range(*piece)]
        assert sorted(found) == [row for row in range(*need) if not own[0] <= row < own[1]], rank
        assert all(last - first <= 4 for given in owned for first, last in pieces(own, need, given, most=4))
    assert common((0, 5), (5, 9)) == (0, 0)


def test_ranks_that_differ_are_named_with_what_they_differ_in() -> None:
    mine = traits()
    check_alike([mine, dict(mine)], ["left", "right"])
    with pytest.raises(ConfigError, match=r"MPI rank 1 on right differs from rank 0 on left in OpenCV: 4\.99, not"):
        check_alike([mine, {**mine, "OpenCV": "4.99"}], ["left", "right"])
    with pytest.raises(ConfigError, match=r"in CPU: it lacks \w+"):
        check_alike([mine, {**mine, "CPU": mine["CPU"].rpartition(" ")[0]}], ["left", "right"])
