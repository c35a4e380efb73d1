"""docs/triggers.md tells what the code has, and its examples can be read."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from pixelmill.cli.triggers import app
from pixelmill.jobs.trigger_events import STATES
from pixelmill.triggers.book import load_rules, parse_rules
from pixelmill.triggers.naming import destination, facts_of
from pixelmill.triggers.rule_fields import FIELDS, LIMITS
from pixelmill.triggers.template import NAMES

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "triggers.md").read_text(encoding="utf-8")


def first_cells(heading: str) -> list[str]:
    """What stands in backquotes in the first column below a heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for cell in rows for name in re.findall(r"`([^`]+)`", cell)]


def test_every_field_is_told() -> None:
    assert sorted(first_cells("The fields of a rule")) == sorted(FIELDS)
    assert all(f"`{name}`" in PAGE for name in LIMITS)


def test_every_name_of_templates_is_told_with_what_it_gives() -> None:
    assert sorted(first_cells("Names of results")) == sorted(f"{{{name}}}" for name in NAMES)
    rule = parse_rules(
        {"rules": [{"name": "a", "watch": "s3://photos/in/", "pipeline": "format:webp", "output": "s3://out.put/"}]}
    ).rules["a"]
    assert destination(rule, facts_of(rule, "s3://photos/in/sea/beach.jpeg", "webp", 0.0)).endswith("sea/beach.webp")


def test_every_state_is_told() -> None:
    assert tuple(first_cells("What happens to an event")) == STATES


def test_every_example_of_a_rules_file_can_be_read(tmp_path: Path) -> None:
    blocks = [text for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL) if "[[rules]]" in text]
    assert len(blocks) == 2
    for number, text in enumerate(blocks):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        assert load_rules(file).rules
    assert all(tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))


def test_every_command_is_told() -> None:
    told = (DOCS / "cli.md").read_text(encoding="utf-8")
    for command in app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        assert f"`triggers {name}" in told
