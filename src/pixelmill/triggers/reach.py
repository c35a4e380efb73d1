"""Whether rules can reach what they name: is a store configured for each output, may each source be read.

Messages name the setting to change. Pure; nothing is asked of a store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from pixelmill.errors import ConfigError
from pixelmill.storage.opening import bucket_of
from pixelmill.storage.options import StoreSpec
from pixelmill.storage.uris import BUCKET_SCHEMES
from pixelmill.triggers.naming import start_of, template_of
from pixelmill.triggers.places import place
from pixelmill.triggers.rule import Rule, RuleSet


def check_stores(rule_set: RuleSet, stores: Mapping[str, StoreSpec], source_roots: Sequence[Path]) -> None:
    """Raise :class:`ConfigError` for the first rule that watches or writes where this service can't.

    ``stores`` are the configured ones (setting ``stores``), ``source_roots`` the folders that may be read. Rules of the
    API write to configured stores only; the rules file, which the owner of the machine writes, may name folders too.
    """
    places = [bucket_of(spec.uri) for spec in stores.values() if _is_bucket(spec.uri)]
    for rule in rule_set.rules.values():
        _check_watch(rule, places, source_roots)
        _check_output(rule, places)


def _is_bucket(uri: str) -> bool:
    return uri.partition(":")[0].lower() in BUCKET_SCHEMES


def _check_watch(rule: Rule, places: Sequence[tuple[str, str, str]], roots: Sequence[Path]) -> None:
    watched = place(rule.watch)
    if watched.scheme != "file":
        if not _covered(watched.scheme, watched.bucket, watched.path, places):
            raise _no_store(rule, "watches", rule.watch, watched.scheme, watched.bucket)
        return
    folder = Path(watched.path)
    real = folder.resolve()
    if not any(real.is_relative_to(root.resolve()) for root in roots):
        raise ConfigError(
            f"The rule {rule.name} watches {folder}, which this service may not read. Start it with --source-root "
            f"{folder} (setting source_roots).",
            rule=rule.name,
            setting="source_roots",
        )


def _check_output(rule: Rule, places: Sequence[tuple[str, str, str]]) -> None:
    template = template_of(rule)
    if template.scheme == "file":
        if rule.origin == "api":
            raise ConfigError(
                f"The rule {rule.name} writes to a folder ({rule.output}), which only rules of the rules file may. "
                "Write to a configured store, or put the rule into the file (setting triggers).",
                rule=rule.name,
                setting="triggers",
            )
        return
    bucket = "".join(piece.text for piece in template.bucket)
    start = start_of(template).partition("://")[2].partition("/")[2]
    if not _covered(template.scheme, bucket, unquote(start), places):
        raise _no_store(rule, "writes to", rule.output, template.scheme, bucket)


def _covered(scheme: str, bucket: str, path: str, places: Sequence[tuple[str, str, str]]) -> bool:
    return any((scheme, bucket) == known[:2] and path.startswith(known[2]) for known in places)


def _no_store(rule: Rule, does: str, address: str, scheme: str, bucket: str) -> ConfigError:
    return ConfigError(
        f"The rule {rule.name} {does} {address}, which is in no configured store. Add one to the setting stores, "
        f'such as {bucket.replace(".", "-")} = "{scheme}://{bucket}"; see docs/stores.md.',
        rule=rule.name,
        setting="stores",
    )
