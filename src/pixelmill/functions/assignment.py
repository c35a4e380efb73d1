"""Which rules are for an event: the one that the environment describes, or those of a rules file.

Results that come back are no work: below the place where a rule writes, nothing is taken for it. A rule that would
write into the bucket that it is called for, in the same names, is refused before anything is read.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from pixelmill.errors import ConfigError, PipelineError
from pixelmill.functions.settings import FunctionSettings
from pixelmill.storage.uris import URI, parse_uri
from pixelmill.triggers.event import ObjectEvent
from pixelmill.triggers.matching import matches
from pixelmill.triggers.naming import check_template, fixed_start
from pixelmill.triggers.places import canonical, place
from pixelmill.triggers.rule import Rule

DEFAULT_NAME = "{dir}/{stem}.{ext}"
"""Folder and stem of the source, with the extension of the result."""


class Assignment:
    """The rules of a function; raises :class:`ConfigError` where they can't be."""

    def __init__(self, settings: FunctionSettings) -> None:
        self._settings = settings
        self._rules: tuple[Rule, ...] | None = None
        if settings.rules:
            self._rules = _rules_of(settings.rules)
        elif settings.output:
            check_template(self._output("s3"))
        # Bounded by the buckets that send events, and by this number.
        self._of_bucket = functools.lru_cache(maxsize=256)(self._rule)

    def rules_for(self, event: ObjectEvent) -> Sequence[Rule]:
        """The rules that match; raises :class:`ConfigError` for a loop, and where nothing is set to be done."""
        if self._is_dead_letter(event):
            return []
        if self._rules is not None:
            return [rule for rule in self._rules if matches(rule, event) and not _is_result(rule, event)]
        if not (self._settings.pipeline and self._settings.output):
            raise ConfigError(
                "This function was called for an event, but PIPELINE and OUTPUT_BUCKET (or TRIGGERS) are not set. "
                "Set them in its environment: see docs/functions.md."
            )
        source = parse_uri(event.uri)
        rule = self._of_bucket(source.scheme, source.bucket)
        return [rule] if matches(rule, event) and not _is_result(rule, event) else []

    def _is_dead_letter(self, event: ObjectEvent) -> bool:
        """Whether it was written by this function, about an event that can't succeed: it would be the next such one."""
        letters = self._settings.dead_letters
        if not letters or not event.uri.startswith(canonical(letters)):
            return False
        if not place(letters).path:
            raise ConfigError(
                f"DEAD_LETTERS={letters} is the whole bucket that the event came from: what can't succeed could not be "
                "told from what is to be done. Name a folder in it, or another bucket.",
                variable="DEAD_LETTERS",
            )
        return True

    def _rule(self, scheme: str, bucket: str) -> Rule:
        watch, output = str(URI(scheme, bucket, "")), self._output(scheme)
        rule = Rule(
            name="environment",
            watch=watch,
            pipeline=self._settings.pipeline,
            output=output,
            cache_control=self._settings.cache_control,
        )
        rule = replace(rule, pipeline=_checked_pipeline(rule))
        if fixed_start(output) == watch:
            raise ConfigError(
                f"The result would be written to the bucket that the event came from ({bucket}), and start it "
                "again, for ever. Set OUTPUT_BUCKET to another bucket, or OUTPUT_PREFIX to a folder of its own, which "
                "the bucket's notification leaves out.",
                bucket=bucket,
            )
        return rule

    def _output(self, scheme: str) -> str:
        settings = self._settings
        base = settings.output if "://" in settings.output else f"{scheme}://{settings.output}"
        return f"{base}/{settings.prefix}{settings.name or DEFAULT_NAME}"


def _checked_pipeline(rule: Rule) -> str:
    """The pipeline, which gives the format whose extension the name has; :class:`ConfigError` where it can't be."""
    from pixelmill.pipelines.spec import Pipeline
    from pixelmill.triggers.naming import template_of

    try:
        pipeline = Pipeline.parse(rule.pipeline)
    except PipelineError as error:
        raise ConfigError(f"PIPELINE can't be used: {error}") from error
    if rule.output.endswith("}"):  # the usual name ends in {ext}, and a cold start pays for every import
        return rule.pipeline
    from pixelmill.triggers.products import with_format_of

    return with_format_of(template_of(rule), pipeline, rule.output).to_text()


def _is_result(rule: Rule, event: ObjectEvent) -> bool:
    """Whether the object lies where the rule itself writes, in a part of what it watches."""
    start = fixed_start(rule.output)
    return len(start) > len(canonical(rule.watch)) and event.uri.startswith(start)


def _rules_of(path: str) -> tuple[Rule, ...]:
    from pathlib import Path

    from pixelmill.triggers.book import load_rules

    return tuple(load_rules(Path(path)).rules.values())
