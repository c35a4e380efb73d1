"""Writes the files in ``docs/`` that are made from code: ``python -m pixelmill.api.docs``. A test keeps them equal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from pixelmill.api.app import create_app
from pixelmill.api.openapi import document_text
from pixelmill.api.problems import errors_page
from pixelmill.api.settings import ApiSettings
from pixelmill.service import Service, ServiceConfig


def pages() -> Mapping[str, str]:
    """The text of each file, by its name."""
    # Nothing is opened before the service starts, so the folder is never made.
    app = create_app(Service(ServiceConfig(data=Path("unused"))), ApiSettings())
    return {"openapi.json": document_text(app), "errors.md": errors_page()}


def main(folder: Path) -> None:
    """Write them all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
