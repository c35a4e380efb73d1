"""Imports run downhill: a room imports only from rows above its own, and siblings leave each other alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "src" / "pixelmill"

# The table of DESIGN, from the ground up. Rooms in one set don't import each other.
LAYERS: list[set[str]] = [
    {"errors", "logs", "metrics", "tracing"},
    {"images", "storage", "models"},
    {"operations"},
    {"tiling"},
    {"pipelines"},
    {"jobs", "events"},
    {"targets"},
    {"fleet"},
    {"engines"},
    {"service", "config"},
    {"triggers"},
    {"api", "functions", "cli"},
]
# cli starts the server and the container of functions: the one edge that may know others.
EDGES_KNOWN_TO_CLI = {"api", "functions"}
CLIENT_MAY_IMPORT = {"errors"}
# Stands beside the layers as the client does: it measures services from outside. Only cli imports it.
EVALUATION_MAY_IMPORT = {"errors", "client", "logs"}
# The local runtime of functions, which `bench evaluate --target function` measures.
CLI_ALONE_MAY_IMPORT = {"testing"}
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
FILES = sorted(path for path in ROOT.rglob("*.py"))
# Modules that may import inside functions although they are no extras: explicit tables and lazy doors.
LAZY_DOORS = {
    "__init__.py": "the public names, imported on first use",
    "cli": "each command imports what it needs, so that --help stays fast",
    "operations/table.py": "operation families load on first use",
    "pipelines/spec.py": "Pipeline.run is the door to the runner, which imports the codecs; forms alone need none",
    "pipelines/outcome.py": "decoding a result again is rare; a client of outcomes needs no codec",
    "images": "codecs load on first use",
    "service/telemetry.py": "OpenTelemetry is an extra: the module that speaks it loads when a collector is configured",
    "functions": "each kind of call imports what it needs, so that a cold start pays for no other",
    "pipelines/run.py": "frames, metadata and format:auto load on first use, so that functions start fast",
    "pipelines/tiled_target.py": "format:auto loads on first use",
    "pipelines/plan.py": "format:auto loads on first use",
    "pipelines/sources.py": "fonts and models load on first use",
}


def room_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """Each imported pixelmill module, its line, and whether it stands at module level."""
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            names = [node.module or ""]
            if node.module == "pixelmill":
                names = [f"pixelmill.{alias.name}" for alias in node.names]
        for name in names:
            yield name, node.lineno, id(node) not in inside


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_rooms_above_its_own(path: Path) -> None:
    room = room_of(path)
    if room in {"__init__", "__main__", "testing"}:
        return
    for name, line, _ in imports(path):
        parts = name.split(".")
        if parts[0] != "pixelmill" or len(parts) == 1:
            continue
        other = parts[1]
        if other == room or other.startswith("__"):
            continue
        where = f"{path}:{line}: {room} imports {name}"
        if room == "client":
            assert other in CLIENT_MAY_IMPORT, where
        elif room == "evaluation":
            assert other in EVALUATION_MAY_IMPORT, where
        elif room == "cli":
            assert (
                other in {"client", "evaluation", *CLI_ALONE_MAY_IMPORT, *EDGES_KNOWN_TO_CLI}
                or LEVEL[other] < LEVEL[room]
            ), where
        else:
            assert other in LEVEL, f"{where}: which is in no layer"
            assert LEVEL[other] < LEVEL[room], where


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_inside_functions_stand_only_in_the_lazy_doors(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    if any(relative == door or relative.startswith(f"{door}/") for door in LAZY_DOORS):
        return
    late = [f"{path}:{line}: {name}" for name, line, top in imports(path) if not top and name.startswith("pixelmill")]
    assert not late


def test_there_are_no_cycles_between_modules() -> None:
    names = {"pixelmill." + ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}
    graph = {
        name: {target for target, _, top in imports(path) if top and target in names} for name, path in names.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name in done:
            return
        for target in graph[name]:
            visit(target, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def test_nothing_below_the_edges_reads_the_environment() -> None:
    for path in FILES:
        if room_of(path) in {"config", "cli", "api", "triggers", "functions", "client"}:
            continue
        text = path.read_text()
        assert "os.environ" not in text, f"{path} reads the environment"
        assert "getenv" not in text, f"{path} reads the environment"
