"""The Dockerfile passes its linter and keeps its promises; the health check tells a living service from none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from deploy_files import DEPLOY, ROOT
from linters import lint
from service_process import ServiceProcess

from servers import free_port, wait_until

FILE = DEPLOY / "docker" / "Dockerfile"
CHECK = DEPLOY / "docker" / "healthcheck.py"


def stages() -> dict[str, tuple[str, list[str]]]:
    """By name: what each is made from, and its lines, with continuations joined and comments left out."""
    found: dict[str, tuple[str, list[str]]] = {}
    lines = [line for line in FILE.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    name = ""
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            name = match[2]
            found[name] = (match[1], [])
        elif name:
            found[name][1].append(line)
    return found


def test_hadolint_finds_nothing() -> None:
    said = lint("hadolint", "--no-color", FILE)
    assert (said.returncode, said.stdout) == (0, "")


def test_there_are_four_images_and_the_last_is_the_default() -> None:
    found = stages()
    assert {"slim", "full", "ml", "lambda"} <= set(found)
    assert list(found)[-1] == "slim"


@pytest.mark.parametrize("name", ["slim", "full", "ml", "lambda"])
def test_an_image_has_nothing_to_build_with_and_is_not_root(name: str) -> None:
    found = stages()
    base, own = found[name]
    assert base == "runtime"
    lines = found["runtime"][1] + own
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]
    assert sum(line.startswith("RUN ") for line in lines) == 1, "what runs in the image's own layers is one command"
    (installed,) = re.findall(r"apt-get install (?:--\S+ )*([a-z0-9 -]+?) +&&", " ".join(lines))
    assert installed == "tini"
    assert "COPY --from=environment-" + name + " /opt/pixelmill /opt/pixelmill" in own


def test_weights_are_not_in_the_image_but_have_a_folder_of_the_user() -> None:
    found = stages()
    text = " ".join(line for _, lines in found.values() for line in lines)
    assert "models pull" not in text
    assert ".onnx" not in text
    (variables,) = [line for line in found["ml"][1] if line.startswith("ENV ")]
    named = dict(word.split("=", 1) for word in variables.split()[1:])
    assert named["PIXELMILL_MODELS"] == "/models"
    made = re.findall(
        r"install --directory --owner=10001 --group=10001 --mode=0755 (\S+)", " ".join(found["runtime"][1])
    )
    assert made == [named["PIXELMILL_MODELS"]], "a new volume there belongs to the user"


def test_tini_is_process_1_and_hands_signals_to_the_program_alone() -> None:
    (entry,) = [line for line in stages()["runtime"][1] if line.startswith("ENTRYPOINT ")]
    assert json.loads(entry.removeprefix("ENTRYPOINT ")) == ["tini", "--", "pixelmill"]


def test_bases_have_a_tag_and_can_be_replaced() -> None:
    text = FILE.read_text()
    arguments = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", text, re.MULTILINE))
    assert set(arguments) == {"PYTHON_IMAGE", "NODE_IMAGE"}
    assert all(re.search(r":[0-9.]+-", value) for value in arguments.values())
    outside = {base for base, _ in stages().values()} - set(stages())
    assert outside == {"${PYTHON_IMAGE}", "${NODE_IMAGE}"}


def test_what_is_copied_is_there_and_is_let_through() -> None:
    lets = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word.rstrip("/")
        for _, lines in stages().values()
        for line in lines
        if line.startswith("COPY ") and "--from=" not in line
        for word in line.split()[1:-1]
        if not word.startswith("--")
    }
    assert {"src", "web", "pyproject.toml"} <= copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert any(path == one or path.startswith(f"{one}/") for one in lets), path


def ask(port: int, *arguments: str, name: str = "PORT") -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PIXELMILL_", "PORT"))}
    return subprocess.run(
        [sys.executable, CHECK, *arguments],
        env={**inherited, name: str(port)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_the_health_check_tells_a_living_service_from_none(tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path / "data", "--workers", "1")
    assert ask(service.port).returncode == 1
    service.start()
    try:
        for arguments in ((), ("/readyz",)):
            said = ask(service.port, *arguments)
            assert (said.returncode, said.stdout[:4]) == (0, "200 "), said
        assert ask(service.port, "/nothing").returncode == 1
        assert ask(service.port, name="PIXELMILL_PORT").returncode == 0
    finally:
        service.stop()
    said = ask(service.port)
    assert said.returncode == 1
    assert "does not answer" in said.stdout


def test_the_health_check_finds_a_worker(tmp_path: Path, postgres_url: str) -> None:
    port = free_port()
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PIXELMILL_")}
    settings = {
        "PIXELMILL_DATABASE_URL": postgres_url,
        "PIXELMILL_STORE": str(tmp_path / "objects"),
        "PIXELMILL_METRICS_PORT": str(port),
        "PIXELMILL_WORKERS": "1",
    }
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "pixelmill", "worker", "--data", tmp_path / "data"],
            env=inherited | settings,
            stdout=log,
            stderr=log,
        )
        try:
            wait_until(lambda: ask(port, name="PIXELMILL_METRICS_PORT").returncode == 0, "the worker is found")
        finally:
            worker.terminate()
            assert worker.wait(60) == 0, (tmp_path / "log").read_text()
    assert ask(port, name="PIXELMILL_METRICS_PORT").returncode == 1
