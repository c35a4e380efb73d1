"""The book of rules: read from a TOML or YAML file, or from plain values, and checked as a whole.

What comes out of it can run: pipelines are parsed, addresses are canonical, names are distinct, no rule feeds itself.
Whether stores are configured for it is asked in ``reach.py``. Errors name the file, the rule and the field.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pixelmill.errors import ConfigError
from pixelmill.pipelines.presets import BUILT_IN, Presets
from pixelmill.triggers.fields import Fields
from pixelmill.triggers.loops import check_loops
from pixelmill.triggers.rule import Rule, RuleSet, SourceSpec
from pixelmill.triggers.rule_fields import rule_from_dict, rule_to_dict
from pixelmill.triggers.rules_file import read_table
from pixelmill.triggers.source_fields import implied_folders, source_from
from pixelmill.triggers.source_options import read_options

__all__ = ["MAX_RULES", "MAX_SOURCES", "combine", "load_rules", "parse_rules", "rule_from_dict", "rule_to_dict"]

MAX_RULES = 1_000
"""Rules of the file and the API together."""
MAX_SOURCES = 100


def load_rules(path: Path, *, presets: Presets = BUILT_IN, environ: Mapping[str, str] | None = None) -> RuleSet:
    """The rules and sources of a file; see :func:`parse_rules`. Plain paths in it are relative to its folder."""
    return parse_rules(read_table(path), where=str(path), folder=path.parent, presets=presets, environ=environ)


def parse_rules(
    table: Mapping[str, Any],
    *,
    where: str = "rules",
    folder: Path | None = None,
    presets: Presets = BUILT_IN,
    environ: Mapping[str, str] | None = None,
) -> RuleSet:
    """The rules and sources that plain values describe; ``where`` begins every message.

    Options of sources may be ``env:NAME``, a variable of ``environ`` (by default the process's own). A rule that
    watches a folder which no source watches brings that source with it. Raises :class:`ConfigError`.
    """
    fields = Fields(where, table)
    fields.only(("rules", "sources"))
    rules = [
        rule_from_dict(record, presets=presets, origin="file", where=f"{where}: rule", folder=folder)
        for record in fields.tables("rules", MAX_RULES)
    ]
    variables = os.environ if environ is None else environ
    specs = [
        source_from(record, f"{where}: source", variables, folder) for record in fields.tables("sources", MAX_SOURCES)
    ]
    for spec in specs:
        _check_options(spec, where)
    sources = {spec.name: spec for spec in specs}
    _refuse_twins((rule.name for rule in rules), f"{where}: the rule")
    _refuse_twins((spec.name for spec in specs), f"{where}: the source")
    check_loops(rules, where)
    return RuleSet({rule.name: rule for rule in rules}, sources | implied_folders(rules, sources))


def _check_options(spec: SourceSpec, where: str) -> None:
    try:
        # Whether others than this machine reach the service is not known here; the source itself asks for it.
        read_options(spec, on_loopback=True)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.detail}", **error.context) from error


def combine(file: RuleSet, api: Sequence[Rule]) -> RuleSet:
    """The rules of the file and those of the API, which come last; each folder that they watch has its source.

    Raises :class:`ConfigError` for a name that both have, too many, or a loop.
    """
    if len(file.rules) + len(api) > MAX_RULES:
        raise ConfigError(f"There are {len(file.rules) + len(api):,} rules; at most {MAX_RULES:,} are taken.")
    for rule in api:
        if rule.name in file.rules:
            raise ConfigError(
                f"The rule {rule.name} stands in the rules file. Change it there, or choose another name."
            )
    _refuse_twins((rule.name for rule in api), "The rule")
    rules = [*file.rules.values(), *api]
    if api:
        check_loops(rules, "")
    return RuleSet({rule.name: rule for rule in rules}, {**file.sources, **implied_folders(api, file.sources)})


def _refuse_twins(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise ConfigError(f"{what} {name} stands twice. Names differ, also where case doesn't count.")
        seen.add(name.lower())
