from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_tools import Cli


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "load.txt"
    path.write_text("".join(f"1_60.0_50.0\n2_{cpu}_50.0\n" for cpu in ["0.0"] * 10))
    return path


def test_rules_are_compared_on_a_trace(cli: Cli, trace: Path) -> None:
    options = ["--rate", "1", "--seconds", "0.1", "--price-per-call", "0.5"]
    done = cli("simulate", str(trace), "--rule", "threshold", "--rule", "lowest-cpu-40", *options, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [one["rule"] for one in found] == ["threshold", "lowest-cpu-40"]
    # The second machine is idle, so nothing overflows.
    assert all((one["own"], one["overflow"], one["cost"]) == (10, 0, 0.0) for one in found)


def test_the_table_names_the_usual_rules(cli: Cli, trace: Path) -> None:
    shown = cli("simulate", str(trace)).stdout.decode()
    assert all(rule in shown for rule in ("threshold", "lowest-cpu-40", "auto"))


def test_wrong_traces_and_rules_are_told(cli: Cli, tmp_path: Path, trace: Path) -> None:
    assert b"no gate" in cli("simulate", str(trace), "--rule", "best").stderr
    bad = tmp_path / "bad.txt"
    bad.write_text("1_a_b\n")
    assert b"Line 1" in cli("simulate", str(bad)).stderr
    assert cli("simulate", str(tmp_path / "absent")).returncode == 2
