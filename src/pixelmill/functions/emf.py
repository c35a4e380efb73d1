"""CloudWatch's embedded metric format: one document a call on standard output, from which CloudWatch makes metrics.

The format is that of the "Embedded metric format specification" in Amazon CloudWatch's user guide. Dimensions are
bounded: the function's name, and of errors their type, which is one of the error tree.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

NAMESPACE = "Pixelmill"
MAX_VALUES = 100
"""Values of one metric in one document (the specification's own bound)."""
UNITS: Mapping[str, str] = {
    "Invocations": "Count",
    "Duration": "Milliseconds",
    "ColdStarts": "Count",
    "Errors": "Count",
    "BytesIn": "Bytes",
    "BytesOut": "Bytes",
    "Megapixels": "None",
    "EventAge": "Milliseconds",
    "EventsReceived": "Count",
    "EventsDropped": "Count",
    "Results": "Count",
}
"""Every metric, and its unit in CloudWatch's words."""


def documents(
    function: str,
    at_ms: int,
    values: Mapping[str, float | Sequence[float]],
    errors: Mapping[str, int],
    properties: Mapping[str, Any],
) -> list[str]:
    """The lines of one call: one of its metrics, and one for each type of error that it met.

    ``values`` by names of ``UNITS``; a sequence is a metric with several values. ``properties`` are searchable, and
    make no metrics.
    """
    kept = {name: _bounded(value) for name, value in values.items()}
    lines = [_document(function, at_ms, {**kept, "Errors": sum(errors.values())}, {}, properties)]
    lines += [
        _document(function, at_ms, {"Errors": count}, {"ErrorType": kind}, properties)
        for kind, count in sorted(Counter(errors).items())
    ]
    return lines


def _document(
    function: str,
    at_ms: int,
    values: Mapping[str, Any],
    dimensions: Mapping[str, str],
    properties: Mapping[str, Any],
) -> str:
    named = {"FunctionName": function[:255], **dimensions}
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(named)],
        "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in values],
    }
    return json.dumps(
        {"_aws": {"Timestamp": at_ms, "CloudWatchMetrics": [directive]}, **properties, **named, **values},
        separators=(",", ":"),
    )


def _bounded(value: float | Sequence[float]) -> Any:
    if isinstance(value, Sequence):
        return [round(one, 3) for one in value[:MAX_VALUES]] or 0
    return round(value, 3)
