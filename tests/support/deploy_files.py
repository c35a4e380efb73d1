"""What the files of deploy/ say, for the tests that compare it with the program: commands, options, variables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
import yaml

from pixelmill.cli import COMMANDS, build
from pixelmill.config import TABLE, TEST_PREFIX

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PAGES = ROOT / "docs" / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
VARIABLES = frozenset(setting.variable for setting in TABLE)
_VARIABLE = re.compile(r"PIXELMILL_[A-Z_]+[A-Z]")


def texts() -> list[Path]:
    """Every file of deploy/, and its pages."""
    found = [path for folder in (DEPLOY, PAGES) for path in folder.rglob("*")]
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def variables(path: Path) -> set[str]:
    """The variables of ours that a file names."""
    named = _VARIABLE.findall(path.read_text(encoding="utf-8"))
    return {name for name in named if not name.startswith(TEST_PREFIX)} - {"PIXELMILL_NAME"}


def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a YAML file."""
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def manifests() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every document of Kubernetes that is no matter of kustomize."""
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        if path.name != "kustomization.yaml":
            yield from ((path, one) for one in documents(path))


def check_call(words: list[str]) -> None:
    """Assert that the command line understands the names in a call: command, sub-command, options."""
    assert words, "no command"
    assert words[0] in {row.name for row in COMMANDS}, words
    command = typer.main.get_command(build([words[0]]))
    path = [word for word in words if not word.startswith("-")]
    while path and (inner := getattr(command, "commands", {}).get(path[0])) is not None:
        command, path = inner, path[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, (words, sorted(known))


def calls() -> list[tuple[Path, list[str]]]:
    """The arguments with which each file of deploy/ starts the program."""
    found: list[tuple[Path, list[str]]] = []
    dockerfile = DEPLOY / "docker" / "Dockerfile"
    starts = re.findall(r'^CMD (\["serve".*\])$', dockerfile.read_text(), re.MULTILINE)
    found += [(dockerfile, json.loads(text)) for text in starts]
    compose = DEPLOY / "compose" / "compose.yaml"
    (document,) = documents(compose)
    for service in document["services"].values():
        if service["image"].startswith("${IMAGE") and service["command"]:
            found.append((compose, list(map(str, service["command"]))))
    for path, one in manifests():
        if one["kind"] == "Deployment":
            found += [(path, box["args"]) for box in one["spec"]["template"]["spec"]["containers"]]
    for path in DEPLOY.rglob("*.tf"):
        found += [
            (path, json.loads(text)) for text in re.findall(r"^\s+args\s+= (\[.*\])$", path.read_text(), re.MULTILINE)
        ]
    return found
