"""Writes ``docs/operations.md`` from the table of operations and the models of their parameters.

``python -m pixelmill.pipelines.reference docs/operations.md`` renews the page; a test says when it is out of date.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pixelmill.images.encoders import OPTIONS
from pixelmill.operations.build import describe
from pixelmill.operations.operation import Operation
from pixelmill.operations.table import all_operations, example_of
from pixelmill.pipelines.spec import Pipeline

_HEAD = """\
# Operations

Every operation with its parameters, as the text form, the JSON form, Python and the REST API take them. The parameters
that an example writes without a name are positional, in the order of the table. This page is generated from the code:
`python -m pixelmill.pipelines.reference docs/operations.md`.

Also: `pixelmill operations`, `pixelmill operations NAME`, `GET /v1/operations`. How steps are combined is told in
[pipelines.md](pipelines.md).

"""
_KINDS = """\
**Kind**: *pointwise* looks at one pixel (runs of these are fused into one table), *local* at a neighborhood,
*geometric* moves pixels, *reduction* needs a statistic of the whole picture first, *border-merge* follows structures
across tile borders, *whole* needs everything at once. **Tier**: *cv2-exact* is the named OpenCV call to the bit,
*self-exact* is a formula of our own that gives the same result in every run. Both may depend on parameters; the
example's are shown.

"""


def operations_page() -> str:
    """The whole page, in Markdown."""
    operations = all_operations()
    rows = [f"| [`{cls.name}`](#{cls.name}) | {cls.family} | {cls.summary} | `{_example(cls)}` |" for cls in operations]
    index = "\n".join(["| operation | family | what it does | example |", "|---|---|---|---|", *rows])
    sections = [_section(cls) for cls in operations]
    formats = [f"### format:{name}\n\n{_prose(model)}\n\n{_parameters(model)}" for name, model in OPTIONS.items()]
    tail = (
        "## format\n\nThe last step, which is no operation: how the result is written. Without it the result has the "
        "source's format.\n\n" + "\n\n".join(formats)
    )
    return _HEAD + index + "\n\n" + _KINDS + "\n\n".join([*sections, tail]) + "\n"


def _section(cls: type[Operation]) -> str:
    facts = example_of(cls).facts()
    example = Pipeline((example_of(cls),))
    return "\n\n".join(
        part
        for part in (
            f"## {cls.name}",
            _prose(cls),
            f"{cls.family.capitalize()}, {facts.kind}, {facts.tier}.",
            _parameters(cls),
            f"```text\n{example.to_text()}\n{example.to_json()}\n```",
        )
        if part
    )


def _example(cls: type[Operation]) -> str:
    return Pipeline((example_of(cls),)).to_text()


def _prose(model: type[BaseModel]) -> str:
    return re.sub(r"``", "`", inspect.cleandoc(model.__doc__ or ""))


def _parameters(model: type[BaseModel]) -> str:
    if not model.model_fields:
        return "No parameters."
    rows = [
        f"| `{key}` | {_cell(describe(model, key))} | {_default(field)} | {_cell(field.description or '')} |"
        for key, field in model.model_fields.items()
    ]
    return "\n".join(["| parameter | values | default | meaning |", "|---|---|---|---|", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "&#124;")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value: Any = field.default
    if value is None:
        return "not set"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def main() -> None:
    """Write the page to the path that is given."""
    Path(sys.argv[1]).write_text(operations_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
