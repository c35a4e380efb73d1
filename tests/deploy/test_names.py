"""Every variable, command and option that deploy/ and its pages name exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy_files import DEPLOY, PAGES, ROOT, VARIABLES, calls, check_call, documents, texts, variables
from packaging.requirements import Requirement

from pixelmill.cli.settings import service_config
from pixelmill.config import load

BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
STARTS = (
    "pixelmill",
    "docker compose run --rm service",
    "docker run --rm --volume pixelmill:/data pixelmill:full",
    "kubectl --namespace pixelmill exec deployment/pixelmill-service -- pixelmill",
)
"""What stands before the program's own arguments where a page calls it."""


def typed() -> Iterator[tuple[Path, list[str]]]:
    for page in sorted(PAGES.glob("*.md")):
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while words and re.match(r"[A-Z_]+=", words[0]):
                    del words[0]  # variables of one command
                for start in map(shlex.split, STARTS):
                    if words[: len(start)] == start and len(words) > len(start):
                        yield page, words[len(start) :]


def test_every_variable_is_a_setting() -> None:
    named = {name: path for path in texts() for name in variables(path)}
    assert len(named) > 15
    assert {name: str(path) for name, path in named.items() if name not in VARIABLES} == {}


def test_deployed_processes_are_started_with_commands_and_options_that_exist() -> None:
    found = calls()
    assert {words[0] for _, words in found} == {"serve", "worker", "node", "models"}
    assert len(found) >= 12
    for _, words in found:
        check_call(words)


def test_what_pages_type_exists() -> None:
    found = list(typed())
    assert len(found) >= 8
    for _, words in found:
        check_call(words)


def test_extras_of_images_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    named = {name for row in re.findall(r"^ARG \w+_EXTRAS=(\S+)$", text, re.MULTILINE) for name in row.split(",")}
    assert {"fleet", "ml", "caption"} <= named <= set(project["optional-dependencies"])


def test_the_torch_of_the_image_is_one_that_the_extra_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = map(Requirement, project["optional-dependencies"]["caption"])
    (torch,) = (one for one in asked if one.name == "torch")
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    (version,) = re.findall(r"^ARG TORCH_VERSION=(\S+)$", text, re.MULTILINE)
    assert torch.specifier.contains(version)


@pytest.mark.parametrize("service", ["service", "worker", "node"])
def test_settings_of_compose_are_understood(service: str) -> None:
    (document,) = documents(DEPLOY / "compose" / "compose.yaml")
    environment = document["services"][service]["environment"]
    given = {name: re.sub(r"\$\{\w+:?[-?]([^}]*)\}", r"\1", str(value)) for name, value in environment.items()}
    given = {name: value.replace("set it in .env, see .env.example", "secret") for name, value in given.items()}
    settings = load({}, given)
    config = service_config(settings)
    if service == "node":
        assert settings["join"] == "http://service:8080"
        return
    assert config.queue_url == "amqp://pixelmill:secret@rabbitmq:5672/pixelmill"
    assert (config.store, config.store_options["endpoint"]) == ("s3://pixelmill", "http://objects:9000")
    assert config.redis_url == "redis://:secret@redis:6379/0"
    assert bool(config.database_url) == (service == "service"), "workers need no database"


def test_settings_of_kubernetes_are_understood() -> None:
    (document,) = documents(DEPLOY / "kubernetes" / "base" / "settings.yaml")
    config = service_config(load({}, document["data"]))
    assert config.store == "s3://my-pixelmill"
    assert config.drain_s == 30
