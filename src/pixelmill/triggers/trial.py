"""A dry run: which rules an event is for, and why not, what would run, and what its result would be called.

Nothing is read, run or recorded. Sizes and ids of tasks are examples: of a source of 1200×800 pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pixelmill.errors import PixelmillError
from pixelmill.images.formats import WRITTEN, format_of_name
from pixelmill.images.image import Size
from pixelmill.pipelines.spec import Pipeline
from pixelmill.triggers.event import ObjectEvent, Parsed, order_of
from pixelmill.triggers.matching import matches, name_of, why_not
from pixelmill.triggers.naming import DATA, destination, facts_of
from pixelmill.triggers.places import place
from pixelmill.triggers.products import products_of
from pixelmill.triggers.rule import Rule, RuleSet

EXAMPLE_SIZE = Size(1200, 800)
EXAMPLE_TASK = "task_example"
MAX_TRIED = 100
"""Events of a document that are tried."""
MAX_VERDICTS = 5_000
"""Rules and events together that are told of."""


def trial(rule_set: RuleSet, parsed: Parsed) -> dict[str, Any]:
    """What the events of a document would lead to, as plain JSON values.

    ``events``: each with its ``rules`` (all that match, and those of the same bucket or of folders that don't, with the
    reason); ``others`` counts the rules of other places. ``left_out`` counts events beyond a bound.
    """
    room = MAX_VERDICTS
    tried: list[dict[str, Any]] = []
    for event in parsed.events[:MAX_TRIED]:
        if room <= 0:
            break
        found = _tried(event, rule_set, room)
        room -= max(1, len(found["rules"]))
        tried.append(found)
    for record, remarks in zip(tried, _remarks(parsed.events), strict=False):
        record["remarks"] = remarks
    return {
        "events": tried,
        "left_out": len(parsed.events) - len(tried),
        "unread": [{"reason": part.reason, "detail": part.detail} for part in parsed.unread[:MAX_TRIED]],
    }


def _tried(event: ObjectEvent, rule_set: RuleSet, room: int) -> dict[str, Any]:
    near = [rule for rule in rule_set.rules.values() if _same_place(rule, event)]
    return {
        "uri": event.uri,
        "kind": event.kind,
        "version": event.version,
        "at": event.at,
        "size": event.size,
        "media_type": event.media_type,
        "provider": event.provider,
        "rules": [_verdict(rule, event, rule_set) for rule in near[:room]],
        "others": len(rule_set.rules) - len(near[:room]),
        "remarks": [],
    }


def _same_place(rule: Rule, event: ObjectEvent) -> bool:
    found = place(rule.watch)
    return event.uri.startswith(f"{found.scheme}://{found.bucket}/")


def _verdict(rule: Rule, event: ObjectEvent, rule_set: RuleSet) -> dict[str, Any]:
    reason = why_not(rule, event)
    verdict: dict[str, Any] = {"rule": rule.name, "matches": reason is None, "why_not": reason}
    if reason is not None:
        return verdict
    try:
        address, error = example_destination(rule, event.uri, event.at), None
    except PixelmillError as problem:
        address, error = None, problem.detail
    leads_to = [] if address is None else _taken_by(address, event, rule_set)
    return verdict | {
        "pipeline": rule.pipeline,
        "destination": address,
        "error": error,
        "owner": rule.owner,
        "priority": rule.priority.value,
        "leads_to": leads_to,
    }


def _taken_by(address: str, event: ObjectEvent, rule_set: RuleSet) -> list[str]:
    """The rules that would take the result in their turn."""
    result = ObjectEvent(address, "created", "result", event.at)
    return [rule.name for rule in rule_set.rules.values() if matches(rule, result)]


def example_destination(rule: Rule, uri: str, at: float) -> str:
    """What a result would be called; raises what :func:`pixelmill.triggers.naming.destination` raises."""
    pipeline = Pipeline.parse(rule.pipeline)
    size = example_size(pipeline)
    facts = facts_of(rule, uri, example_extension(pipeline, name_of(uri)), at, task=EXAMPLE_TASK)
    return destination(rule, replace(facts, width=size.width, height=size.height))


def example_extension(pipeline: Pipeline, source: str) -> str:
    """The extension of a result, the first that may be; without a format of its own it is the source's."""
    products = products_of(pipeline)
    if not products.formats:
        return DATA
    if pipeline.output.format is None:
        return (format_of_name(source) or WRITTEN["png"]).extension
    return products.formats[0].extension


def example_size(pipeline: Pipeline) -> Size:
    """The size that a source of the example's size gets, as far as it can be told without one."""
    size = EXAMPLE_SIZE
    try:
        for operation in pipeline.operations:
            for resolved in operation.resolve(size):
                size = resolved.size(size)
    except PixelmillError:
        return EXAMPLE_SIZE
    return size


def _remarks(events: Sequence[ObjectEvent]) -> list[list[str]]:
    """What is to be said of each event beside its rules: that it is told twice, or that a later one is there."""
    latest: Mapping[str, str] = _latest(events)
    seen: Counter[tuple[str, str]] = Counter()
    remarks: list[list[str]] = []
    for event in events[:MAX_TRIED]:
        said = []
        seen[event.uri, event.version] += 1
        if event.kind == "created" and seen[event.uri, event.version] > 1:
            said.append("It stands in the document before: it is dropped as a duplicate.")
        elif event.kind == "created" and order_of(event) < latest[event.uri]:
            said.append("A later event of this object is in the document: only that one's result is delivered.")
        remarks.append(said)
    return remarks


def _latest(events: Sequence[ObjectEvent]) -> dict[str, str]:
    found: dict[str, str] = {}
    for event in events:
        if event.kind == "created":
            found[event.uri] = max(found.get(event.uri, ""), order_of(event))
    return found
