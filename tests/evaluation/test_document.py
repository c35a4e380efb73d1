"""The JSON form: it is what its schema says, and is read again as it was; what is no report is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from evaluation_tools import HOSTILE, a_document, a_load

from pixelmill.errors import ConfigError
from pixelmill.evaluation.document import VERSION, Document, read, schema, to_json

SCHEMA = Path(__file__).parents[2] / "docs" / "evaluation.schema.json"


def documents() -> list[Document]:
    return [
        a_document(failed=1, dropped=1),
        a_document(rounds=3, labels=("one", "two"), text=HOSTILE),
        replace(a_document(sizes=()), partial=True, why="It was ended by Ctrl-C."),
        a_load(),
    ]


@pytest.mark.parametrize("number", range(4))
def test_a_document_fits_the_schema_and_is_read_again(number: int, tmp_path: Path) -> None:
    made = documents()[number]
    text = to_json(made)
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(json.loads(text))
    path = tmp_path / "report.json"
    path.write_text(text)
    again = read(path)
    assert to_json(again) == text
    assert again.configurations == made.configurations
    assert [cell.key for cell in again.cells] == [cell.key for cell in made.cells]


def test_the_schema_in_the_documentation_is_the_one_of_the_code() -> None:
    assert json.loads(SCHEMA.read_text()) == schema(), (
        "run: python -c 'import json; from pixelmill.evaluation.document import schema; "
        "print(json.dumps(schema(), indent=1))' > docs/evaluation.schema.json"
    )


def damage(change: Any) -> str:
    plain = json.loads(to_json(a_document(sizes=(10,))))
    change(plain)
    return json.dumps(plain)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<html>", "is not JSON"),
        ("[]", "is no report"),
        ("{}", "is no report"),
        (damage(lambda plain: plain.update(pixelmill_evaluation=VERSION + 1)), f"is a report of form {VERSION + 1}"),
        (damage(lambda plain: plain.pop("configurations")), "damaged report: configurations"),
        (damage(lambda plain: plain["cells"][0].update(size="many")), "damaged report: cells.0.size"),
    ],
)
def test_what_is_no_report_is_refused(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read(path)


def test_a_report_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.json can't be read"):
        read(tmp_path / "nowhere.json")
