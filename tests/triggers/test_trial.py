"""Dry runs: what is said of the documents of every provider, without running anything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pixelmill.triggers.book import parse_rules
from pixelmill.triggers.documents import read_events
from pixelmill.triggers.event import ObjectEvent, Parsed
from pixelmill.triggers.rule import RuleSet
from pixelmill.triggers.trial import MAX_TRIED, example_destination, trial

EVENTS = sorted((Path(__file__).parent / "events").glob("*.json"))


def rules(*records: dict[str, Any]) -> RuleSet:
    return parse_rules({"rules": list(records)})


def record(name: str, **more: Any) -> dict[str, Any]:
    found = {"watch": "s3://photos/in/", "pipeline": "resize:64", "output": "s3://photos/out/{dir}/{stem}.{ext}"}
    return {"name": name, **found, **more}


EVENT = ObjectEvent("s3://photos/in/sea/beach.jpeg", "created", "v1", 1_795_867_800.0, size=5_000, sequencer="1A")


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_every_kind_of_document_can_be_tried(path: Path) -> None:
    document = json.loads(path.read_text())
    parsed = read_events(document)
    found = trial(rules(record("thumbs")), parsed)
    assert len(found["events"]) == len(parsed.events)
    assert len(found["unread"]) == len(parsed.unread)
    assert json.loads(json.dumps(found)) == found


def test_a_rule_says_what_it_would_do_or_why_not() -> None:
    found = trial(
        rules(
            record("thumbs"),
            record("tiny", pipeline="preset:thumbnail", output="s3://photos/out/{stem}-{width}x{height}.{ext}"),
            record("big", min_bytes="1MB"),
            record("pngs", suffixes=[".png"]),
            record("off", enabled=False),
            record("elsewhere", watch="gs://photos/in/"),
        ),
        Parsed((EVENT,)),
    )
    (tried,) = found["events"]
    verdicts = {verdict["rule"]: verdict for verdict in tried["rules"]}
    assert verdicts["thumbs"]["destination"] == "s3://photos/out/sea/beach.jpeg"
    assert verdicts["tiny"]["destination"] == "s3://photos/out/beach-256x256.jpeg"
    assert verdicts["thumbs"]["pipeline"] == "resize:64"
    assert "1,000,000 or more" in verdicts["big"]["why_not"]
    assert "none of .png" in verdicts["pngs"]["why_not"]
    assert "switched off" in verdicts["off"]["why_not"]
    assert tried["others"] == 1


def test_a_result_that_the_next_rule_takes_is_told() -> None:
    chain = rules(
        record("first"),
        record("second", watch="s3://photos/out/", output="s3://photos/last/"),
    )
    (verdict,) = [v for v in trial(chain, Parsed((EVENT,)))["events"][0]["rules"] if v["matches"]]
    assert (verdict["rule"], verdict["leads_to"]) == ("first", ["second"])


def test_duplicates_and_earlier_events_of_an_object_are_remarked() -> None:
    later = replace(EVENT, version="v2", sequencer="1B")
    found = trial(rules(record("thumbs")), Parsed((later, EVENT, later)))
    assert [len(one["remarks"]) for one in found["events"]] == [0, 1, 1]
    assert "later event" in found["events"][1]["remarks"][0]
    assert "duplicate" in found["events"][2]["remarks"][0]


def test_only_so_many_events_are_tried() -> None:
    many = Parsed(tuple(replace(EVENT, uri=f"s3://photos/in/{n}.jpg") for n in range(MAX_TRIED + 7)))
    found = trial(rules(record("thumbs")), many)
    assert (len(found["events"]), found["left_out"]) == (MAX_TRIED, 7)


@pytest.mark.parametrize(
    ("pipeline", "source", "wanted"),
    [
        ("resize:64", "a.PNG", "a-64x43.PNG"),
        ("resize:64", "a.heic", "a-64x43.png"),
        ("resize:64/format:webp", "a.jpg", "a-64x43.webp"),
        ("rotate:90", "a.jpg", "a-800x1200.jpg"),
        ("faces:data", "a.jpg", "a-1200x800.json"),
        ("crop:0,0,9000,9000", "a.jpg", "a-1200x800.jpg"),
    ],
)
def test_examples_have_the_size_and_extension_of_a_result(pipeline: str, source: str, wanted: str) -> None:
    one = rules(record("thumbs", pipeline=pipeline, output="s3://x.y/{stem}-{width}x{height}.{ext}")).rules["thumbs"]
    assert example_destination(one, f"s3://photos/in/{source}", 0.0) == f"s3://x.y/{wanted}"
