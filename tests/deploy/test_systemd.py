"""The units start commands that exist, give them time to drain, and are what systemd understands."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pixelmill.cli import COMMANDS
from pixelmill.config import SETTINGS, TABLE

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))


def read(path: Path) -> configparser.RawConfigParser:
    """Of names that come again, which systemd collects, the last one counts here."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text(encoding="ascii"))
    return parser


def test_there_is_a_unit_for_each_process_that_stays() -> None:
    assert [path.name for path in UNITS] == ["pixelmill-node.service", "pixelmill-worker.service", "pixelmill.service"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_command_and_lets_it_drain(path: Path) -> None:
    unit = read(path)
    assert unit.sections() == ["Unit", "Service", "Install"]
    service = unit["Service"]
    program, command = service["ExecStart"].split()
    assert program.endswith("/bin/pixelmill")
    assert command in {row.name for row in COMMANDS}
    assert float(service["TimeoutStopSec"]) > SETTINGS["drain"].default
    assert service["KillMode"] == "mixed", "SIGTERM to pool processes would end what they run"
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("always", "2")
    assert service["EnvironmentFile"].lstrip("-").startswith("/etc/pixelmill/")
    for name in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "RestrictNamespaces"):
        assert service[name] == "yes"
    assert "User" in service or service.get("DynamicUser") == "yes"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_sets_variables_that_exist(path: Path) -> None:
    known = {setting.variable for setting in TABLE}
    lines = [line.partition("=")[2] for line in path.read_text().splitlines() if line.startswith("Environment=")]
    assert {line.partition("=")[0] for line in lines} <= known


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_understands_a_unit(path: Path, tmp_path: Path) -> None:
    program = tmp_path / "pixelmill"
    program.symlink_to(sys.executable)  # it asks whether there is such a program
    unit = tmp_path / path.name
    unit.write_text(path.read_text().replace("/opt/pixelmill/bin/pixelmill", str(program)))
    said = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    ours = [line for line in said.stderr.splitlines() if path.name in line]
    assert (said.returncode, ours) == (0, [])
