"""Sources of events as they are written in a rules file: kinds, their options, and secrets that come from variables."""

from __future__ import annotations

import difflib
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
from pixelmill.triggers.source_options import OPTIONS, SECRETS

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
MAX_OPTION = 10_000
FROM_ENVIRONMENT = "env:"

_NAMED = ("_env", "_file")
KINDS: Mapping[str, Mapping[str, bool]] = {
    kind: {name: option.default is None for name, option in options.items()}
    | {f"{name}{form}": False for name in SECRETS[kind] for form in ("", *_NAMED)}
    for kind, options in OPTIONS.items()
}
"""Options by kind, and whether they must be there. What their values may be stands in ``source_options.py``."""
SHOWN = frozenset(name for options in KINDS.values() for name in options) - frozenset(
    name for secrets in SECRETS.values() for name in secrets
)
"""Options whose values may be printed; all others are secrets."""


def source_from(
    table: Mapping[str, Any], where: str, environ: Mapping[str, str], folder: Path | None = None
) -> SourceSpec:
    """One source; raises :class:`ConfigError`."""
    fields = Fields(where, table)
    name = fields.text("name")
    if not NAME.fullmatch(name):
        fields.refuse("name", f"{name[:80]!r} must be 1 to 64 letters, digits, _ and -, the first no sign.")
    fields = Fields(f"{where} {name}", table)
    kind = fields.text("kind")
    if kind not in KINDS:
        nearest = difflib.get_close_matches(kind.lower(), KINDS, n=1)
        hint = f" Did you mean {nearest[0]}?" if nearest else ""
        fields.refuse("kind", f"{kind[:40]!r} is unknown.{hint} Known are {', '.join(KINDS)}.")
    fields.only(("name", "kind", *KINDS[kind]))
    options = {
        option: _value(fields, option, table[option], environ)
        for option in KINDS[kind]
        if table.get(option) is not None
    }
    for option, must in KINDS[kind].items():
        if must and option not in options:
            fields.refuse(option, f"is missing. See {HELP_PAGE}.")
    if kind == "folder":
        options["path"] = _folder_path(fields, options["path"], folder)
    return SourceSpec(name, kind, options)


def _folder_path(fields: Fields, text: str, folder: Path | None) -> str:
    """The absolute path of a folder that is watched; relative ones are below the rules file's folder."""
    if text.startswith("file:"):
        try:
            return place(text).path
        except InvalidURI as error:
            fields.refuse("path", f"can't be used: {error}")
    path = Path(text).expanduser()
    if not path.is_absolute() and folder is None:
        fields.refuse("path", f"{text[:80]!r} must be absolute.")
    return os.path.normpath((folder or Path("/")).absolute() / path)


def _value(fields: Fields, option: str, value: Any, environ: Mapping[str, str]) -> str:
    """An option as text. Its value is never part of a message: it may be a secret."""
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


def shown_source(spec: SourceSpec) -> dict[str, Any]:
    """A source for people and answers: secrets as asterisks."""
    options = {name: value if name in SHOWN else "***" for name, value in spec.options.items()}
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
