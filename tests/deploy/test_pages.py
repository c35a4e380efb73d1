"""What the pages for operators tell people to type exists: commands, options, settings, configuration files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from pixelmill.cli import COMMANDS, build
from pixelmill.cli.settings import service_config
from pixelmill.config import TABLE, TEST_PREFIX, load

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / name for name in ("hybrid.md", "operating.md")]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> Iterator[str]:
    for found, text in BLOCK.findall(page.read_text()):
        if found == language:
            yield text


def typed(page: Path) -> Iterator[list[str]]:
    """The arguments of each call of `pixelmill`, in blocks and in the text."""
    calls = [line for text in blocks(page, "sh") for line in text.splitlines()]
    calls += re.findall(r"`(pixelmill [a-z][^`]*)`", re.sub(r"\s+", " ", BLOCK.sub("", page.read_text())))
    for call in calls:
        words = shlex.split(call, comments=True)
        words = words[words.index("--") + 1 :] if words[:1] == ["runuser"] else words
        if words and words[0].rpartition("/bin/")[2] == "pixelmill":
            yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_and_option_exists(page: Path) -> None:
    calls = list(typed(page))
    assert len(calls) >= 8
    for words in calls:
        command = typer.main.get_command(build([words[0]]))
        assert words[0] in {row.name for row in COMMANDS}, words
        path = [word for word in words if not word.startswith("-")]
        while path and (inner := getattr(command, "commands", {}).get(path[0])) is not None:
            command, path = inner, path[1:]
        known = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, (words, sorted(known))


@pytest.mark.parametrize("path", [*PAGES, *(ROOT / "deploy").rglob("*.service")], ids=lambda path: path.name)
def test_every_variable_is_a_setting(path: Path) -> None:
    known = {setting.variable for setting in TABLE}
    named = set(re.findall(r"PIXELMILL_[A-Z_]+[A-Z]", path.read_text())) - {"PIXELMILL_NAME"}
    assert {name for name in named if not name.startswith(TEST_PREFIX)} <= known


def test_the_configuration_of_the_hub_is_understood(tmp_path: Path) -> None:
    (text,) = blocks(ROOT / "docs" / "hybrid.md", "toml")
    (tmp_path / "pixelmill.toml").write_text(text)
    config = service_config(load({}, {}, folder=tmp_path))
    assert [target.name for target in config.overflow.targets] == ["run"]
    assert (config.gate, config.joined_gate) == ("threshold", "threshold")
    assert config.overflow.budgets


def test_the_settings_of_the_azure_example_are_understood() -> None:
    page = (ROOT / "docs" / "hybrid.md").read_text()
    lines = re.findall(r"^(PIXELMILL_\w+)=(.*)$", page, re.MULTILINE)
    environ = {name: shlex.split(value)[0] for name, value in lines}
    config = service_config(load({}, environ))
    assert (config.queue_url, config.store) == ("azure:pixelmill", "az://images/pixelmill")
    assert dict(config.store_options) == {"account": "mypixelmill", "account_key": "…"}
