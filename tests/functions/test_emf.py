"""Metric documents against the specification of CloudWatch's embedded metric format, written as a JSON schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixelmill.errors import ERROR_TYPES
from pixelmill.functions.emf import MAX_VALUES, UNITS, documents

jsonschema = pytest.importorskip("jsonschema")

# "Specification: Embedded metric format", Amazon CloudWatch user guide: its root node, metadata and directives.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "properties": {
                "Timestamp": {"type": "integer", "minimum": 1},
                "CloudWatchMetrics": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["Namespace", "Dimensions", "Metrics"],
                        "properties": {
                            "Namespace": {"type": "string", "minLength": 1, "maxLength": 1024},
                            "Dimensions": {
                                "type": "array",
                                "minItems": 1,
                                "items": {
                                    "type": "array",
                                    "minItems": 1,
                                    "maxItems": 30,
                                    "items": {"type": "string", "minLength": 1, "maxLength": 250},
                                },
                            },
                            "Metrics": {
                                "type": "array",
                                "minItems": 1,
                                "maxItems": 100,
                                "items": {
                                    "type": "object",
                                    "required": ["Name"],
                                    "properties": {
                                        "Name": {"type": "string", "minLength": 1, "maxLength": 1024},
                                        "Unit": {"enum": ["Milliseconds", "Bytes", "Count", "None", "Seconds"]},
                                        "StorageResolution": {"enum": [1, 60]},
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def check(line: str) -> dict[str, Any]:
    """The document of a line, valid, with every member that its directives refer to."""
    assert "\n" not in line
    document: dict[str, Any] = json.loads(line)
    jsonschema.validate(document, SCHEMA)
    for directive in document["_aws"]["CloudWatchMetrics"]:
        for name in (name for names in directive["Dimensions"] for name in names):
            assert isinstance(document[name], str)
            assert 0 < len(document[name]) <= 1024
        for metric in directive["Metrics"]:
            value = document[metric["Name"]]
            values = value if isinstance(value, list) else [value]
            assert 0 < len(values) <= 100
            assert all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
    assert len(line) <= 256 * 1024
    return document


# A busy machine may pause for a second while values are drawn.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.one_of(
                st.floats(0, 1e12, allow_nan=False), st.integers(0, 10**9), st.lists(st.floats(0, 1e9), min_size=1)
            )
            for name in UNITS
            if name != "Errors"
        },
    ),
    st.dictionaries(st.sampled_from(sorted(ERROR_TYPES)), st.integers(1, 1000), max_size=5),
)
def test_every_document_is_one_that_cloudwatch_takes(values: dict[str, Any], errors: dict[str, int]) -> None:
    lines = documents("f" * 300, 1_795_860_000_000, values, errors, {"RequestId": "x"})
    first, *others = [check(line) for line in lines]
    assert first["Errors"] == sum(errors.values())
    assert {one["ErrorType"]: one["Errors"] for one in others} == errors
    for name, value in values.items():
        if isinstance(value, list):
            assert len(first[name]) == min(len(value), MAX_VALUES)
