"""Sources of events as they are written in a rules file: a name, a kind, and options that may come from variables.

Which options a kind has stands in ``source_options.py``. No message here shows a value: it may be a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pixelmill.errors import ConfigError, InvalidURI
from pixelmill.triggers.fields import HELP_PAGE, MAX_ITEMS, Fields, shown
from pixelmill.triggers.places import canonical, place
from pixelmill.triggers.rule import Rule, SourceSpec
from pixelmill.triggers.source_options import SECRETS

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
MAX_OPTION = 10_000
FROM_ENVIRONMENT = "env:"


def source_from(
    table: Mapping[str, Any], where: str, environ: Mapping[str, str], folder: Path | None = None
) -> SourceSpec:
    """One source; paths are relative to ``folder``. Raises :class:`ConfigError`."""
    fields = Fields(where, table)
    name = fields.text("name")
    if not NAME.fullmatch(name):
        fields.refuse("name", f"{name[:80]!r} must be 1 to 64 letters, digits, _ and -, the first no sign.")
    fields = Fields(f"{where} {name}", table)
    kind = fields.text("kind")
    if len(table) > MAX_ITEMS or not all(isinstance(option, str) for option in table):
        raise ConfigError(f"{where} {name}: a source has at most {MAX_ITEMS} options, which are text. See {HELP_PAGE}.")
    options = {
        option: _value(fields, option, value, environ)
        for option, value in table.items()
        if option not in {"name", "kind"} and value is not None
    }
    if kind == "folder" and "path" in options:
        options["path"] = _folder_path(fields, options["path"], folder)
    return SourceSpec(name, kind, options)


def _value(fields: Fields, option: str, value: Any, environ: Mapping[str, str]) -> str:
    """An option as text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list) and len(value) <= MAX_ITEMS and all(isinstance(item, str) for item in value):
        return ",".join(value)
    if not isinstance(value, str | int | float):
        fields.refuse(option, f"must be text, not {shown(value)}.")
    text = str(value).strip()
    if text.startswith(FROM_ENVIRONMENT):
        variable = text.removeprefix(FROM_ENVIRONMENT)
        if not environ.get(variable):
            fields.refuse(option, f"names the variable {variable[:80]!r}, which is not set.")
        text = environ[variable]
    if not text or len(text) > MAX_OPTION:
        fields.refuse(option, f"must have 1 to {MAX_OPTION:,} characters.")
    return text


def _folder_path(fields: Fields, text: str, folder: Path | None) -> str:
    """The absolute path of a folder that is watched."""
    if text.startswith("file:"):
        try:
            return place(text).path
        except InvalidURI as error:
            fields.refuse("path", f"can't be used: {error}")
    path = Path(text).expanduser()
    if not path.is_absolute() and folder is None:
        fields.refuse("path", f"{text[:80]!r} must be absolute.")
    return os.path.normpath((folder or Path("/")).absolute() / path)


def is_secret(kind: str, option: str) -> bool:
    """Whether an option's value is never printed: that of a secret itself, not the name of its variable or file."""
    return option in SECRETS.get(kind, ())


def shown_source(spec: SourceSpec) -> dict[str, Any]:
    """A source for people and answers: secrets as asterisks."""
    options = {name: "***" if is_secret(spec.kind, name) else value for name, value in spec.options.items()}
    return {"name": spec.name, "kind": spec.kind, "options": options}


def implied_folders(rules: Iterable[Rule], sources: Mapping[str, SourceSpec]) -> dict[str, SourceSpec]:
    """Sources for the folders of rules that no source of the file watches: a rule alone is enough for a folder."""
    watched = [_folder(spec.options["path"]) for spec in sources.values() if spec.kind == "folder"]
    found: dict[str, SourceSpec] = {}
    folders = {canonical(rule.watch): rule for rule in rules if place(rule.watch).scheme == "file"}
    for folder in sorted(folders, key=len):
        if any(folder.startswith(covered) for covered in watched):
            continue
        name = f"folder-{folders[folder].name}"
        if name in sources:
            raise ConfigError(
                f"The source {name} has the name that the folder of the rule {folders[folder].name} needs."
            )
        found[name] = SourceSpec(name, "folder", {"path": place(folder).path})
        watched.append(folder)
    return found


def _folder(path: str) -> str:
    return canonical(f"file://{quote(path)}")
