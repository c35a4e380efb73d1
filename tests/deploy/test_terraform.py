"""Terraform: formatted, whole in itself, and of the arguments that the providers have.

Providers can't be fetched everywhere, so `terraform validate` is not what is run here: see make_provider_schema.py.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from deploy_files import DEPLOY
from linters import lint

FOLDERS = sorted({path.parent for path in DEPLOY.rglob("*.tf")})
SCHEMA = json.loads((Path(__file__).parent / "provider_schema.json").read_text())
# By the parser that checkov brings; python-hcl2 has modules of the same name.
READ = """
import json, sys, hcl2
found = {}
for path in sys.argv[1:]:
    with open(path) as file:
        found[path] = hcl2.load(file)
json.dump(found, sys.stdout)
"""
# Of the language, in every resource.
META = {"count", "for_each", "depends_on", "lifecycle", "provider", "dynamic"}
BUILT_IN = {"each", "path", "self", "terraform", "count"}


@cache
def parsed() -> dict[str, dict[str, Any]]:
    """Every file, by its path, as hcl2 reads it."""
    files = [str(path) for folder in FOLDERS for path in sorted(folder.glob("*.tf"))]
    said = lint("python", "-c", READ, *files)
    assert said.returncode == 0, said.stderr
    found: dict[str, dict[str, Any]] = json.loads(said.stdout)
    return found


def blocks(folder: Path, kind: str) -> dict[str, Any]:
    """Blocks of a kind by their address: ``TYPE.NAME`` of resources and data, ``NAME`` of the rest."""
    found: dict[str, Any] = {}
    for path, document in parsed().items():
        if Path(path).parent == folder:
            for one in document.get(kind, ()):
                for name, body in one.items():
                    if kind in {"resource", "data"}:
                        found |= {f"{name}.{inner}": value for inner, value in body.items()}
                    elif not name.startswith("__"):
                        found[name] = body
    return found


@pytest.mark.skipif(shutil.which("terraform") is None, reason="there is no terraform, and no registry of ours has it")
def test_files_are_formatted() -> None:
    said = subprocess.run(
        ["terraform", "fmt", "-check", "-recursive", "-diff", DEPLOY], capture_output=True, text=True, timeout=60
    )
    assert (said.returncode, said.stdout) == (0, "")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_reference_is_declared_and_every_variable_is_used(folder: Path) -> None:
    text = "\n".join(path.read_text() for path in folder.glob("*.tf"))
    text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    declared, local = blocks(folder, "variable"), set(blocks(folder, "locals"))
    assert set(re.findall(r"\bvar\.(\w+)", text)) == set(declared)
    assert set(re.findall(r"\blocal\.(\w+)", text)) == local
    resources, data = set(blocks(folder, "resource")), set(blocks(folder, "data"))
    assert len(resources) > 10
    providers = "|".join(SCHEMA["providers"])
    assert set(re.findall(r"\bdata\.(\w+\.\w+)", text)) == data
    used = set(re.findall(rf"(?<![\w.])((?:{providers})_\w+\.\w+)", text))
    assert used <= resources, used - resources
    iterators = set(re.findall(r'dynamic "(\w+)"', text))
    for name in re.findall(r"(?<![\w.\"])(\w+)\.(?:value|key)\b", text):
        assert name in iterators | BUILT_IN, name
    for name, body in declared.items():
        assert body.get("description"), f"{name} has no description"
        assert body.get("type"), f"{name} has no type"
    for name, body in blocks(folder, "output").items():
        assert body.get("description"), f"output {name} has no description"


def check(where: str, body: dict[str, Any], known: dict[str, Any]) -> int:
    """Assert that a block has only arguments that there are, and all that must be there; how many were looked at."""
    looked = 0
    dynamic = {name: inner for one in body.get("dynamic", ()) for name, inner in one.items()}
    for name, value in body.items():
        if name in META or name.startswith("__"):
            continue
        assert name in known, f"{where}: there is no {name}, but {sorted(known)}"
        looked += 1
        inner = known[name][1]
        if inner:
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, dict):
                    looked += check(f"{where}.{name}", one, inner)
    for name, one in dynamic.items():
        assert name in known, f"{where}: there is no block {name}"
        looked += sum(check(f"{where}.{name}", content, known[name][1]) for content in one["content"])
    missing = {name for name, (must, _) in known.items() if must} - set(body) - set(dynamic)
    assert not missing, f"{where} lacks {missing}"
    return looked


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_resources_have_the_arguments_that_their_providers_know(folder: Path) -> None:
    looked = 0
    for kind in ("resource", "data"):
        for address, body in blocks(folder, kind).items():
            looked += check(f"{kind} {address}", body, SCHEMA[f"{kind}.{address.partition('.')[0]}"])
    assert looked > 80


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_the_provider_is_of_the_major_version_that_was_looked_at(folder: Path) -> None:
    text = (folder / "versions.tf").read_text()
    ((name, version),) = re.findall(r'source\s+= "hashicorp/(\w+)"\s+version = "~> ([0-9.]+)"', text)
    assert version.partition(".")[0] == SCHEMA["providers"][name].partition(".")[0]
