"""Rules that lead back to themselves are found; set-ups that don't are left alone."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pixelmill.errors import ConfigError
from pixelmill.images.formats import FORMATS, WRITTEN
from pixelmill.pipelines.spec import Pipeline
from pixelmill.storage.uris import URI
from pixelmill.triggers.event import ObjectEvent
from pixelmill.triggers.loops import check_loops, find_loop, links
from pixelmill.triggers.matching import matches
from pixelmill.triggers.naming import destination, facts_of
from pixelmill.triggers.products import products_of
from pixelmill.triggers.rule import Rule
from pixelmill.triggers.rule_fields import rule_from_dict


def rule(watch: str, output: str, pipeline: str = "grayscale", name: str = "a", **more: object) -> Rule:
    return rule_from_dict({"name": name, "watch": watch, "output": output, "pipeline": pipeline, **more})


LEGAL = [
    rule("s3://photos/in/", "s3://photos/out/{stem}.{ext}"),
    rule("s3://photos/in/", "s3://photos/inner/{stem}.{ext}"),
    rule("s3://photos/", "s3://thumbs/{path}"),
    rule("s3://photos/", "gs://photos/{path}"),
    rule("s3://photos/", "s3://{bucket}-resized/{name}"),
    rule("s3://photos/in/", "s3://photos/in/{stem}.webp", suffixes=[".jpg", ".JPEG"]),
    rule("s3://photos/in/", "s3://photos/in/{stem}.{ext}", "format:webp", suffixes=[".jpg"]),
    rule("s3://photos/in/", "s3://photos/in/{stem}.{ext}", "format:webp", types=["jpeg", "png"]),
    rule("s3://photos/in/", "s3://photos/in/{stem}.{ext}", "format:auto,accept=webp:png", suffixes=[".jpg"]),
    rule("s3://photos/in/", "s3://photos/in/{stem}-small.jpg", suffixes=["-full.jpg"]),
    rule("s3://photos/in/", "s3://photos/in/{stem}.{ext}", "faces:data", suffixes=[".jpg"]),
    rule("s3://photos/in/img-", "s3://photos/in/thumb-{stem}.{ext}"),
    rule("s3://photos/in/a/", "s3://photos/in/{date}/{stem}.{ext}"),
    rule("file:///data/in", "file:///data/inbox/{dir}/{stem}.{ext}"),
    rule("s3://photos/in/", "s3://photos/in/{stem}.{ext}", enabled=False),
]
LOOPS = [
    rule("s3://photos/in/", "s3://photos/in/{stem}.{ext}"),
    rule("s3://photos", "s3://photos/out/{stem}.{ext}"),
    rule("s3://photos/", "s3://{bucket}/out/{stem}"),
    rule("s3://photos/in/", "s3://photos/{dir}/{stem}.{ext}"),
    rule("s3://photos/in/", "s3://photos/{path}"),
    rule("s3://photos/in/", "s3://photos/in/{stem}.{ext}", suffixes=[".jpeg"]),
    rule("s3://photos/in/", "s3://photos/in/{stem}.{ext}", "format:jpeg", suffixes=[".JPE"]),
    rule("s3://photos/in/", "s3://photos/in/{stem}.{ext}", "format:auto,accept=webp:png", suffixes=[".png"]),
    rule("s3://photos/in/", "s3://photos/in/{name}", "format:webp", suffixes=[".jpg"]),
    rule("s3://photos/in/", "s3://photos/in/{stem}", "format:webp", suffixes=[".jpg"]),
    rule("s3://photos/in/img-", "s3://photos/in/{stem}.{ext}"),
    rule("s3://photos/2", "s3://photos/{date}/{stem}.{ext}"),
    rule("s3://photos/in/", "s3://photos/in/{stem}.{ext}", "faces:data"),
    rule("s3://photos/in/", "s3://photos/in/{stem}.{ext}", "faces:data", suffixes=[".json", ".jpg"]),
    rule("s3://photos/in/", "s3://photos/in/{task}/x.{format}", "faces:data", suffixes=["x.json"]),
    rule("s3://photos/in/", "s3://photos/in/{task}/x.json", "faces:data", suffixes=["x.json"]),
    rule("s3://photos/in/", "s3://photos/in/{stem}.{ext}", "format:webp", types=["image/*"]),
    rule("s3://photos/in/sub/", "s3://photos/in//{dir}//{stem}.png"),
    rule("s3://photos/in/", "s3://photos/in/{stem}.jpg.json", types=["application/json"]),
    rule("file:///data/in", "file:///data/in/out/{stem}.{ext}"),
    rule("file:///data/in", "file:///data/{dir}/{stem}.{ext}"),
]


@pytest.mark.parametrize("one", LEGAL, ids=lambda one: f"{one.watch} {one.suffixes} {one.output}")
def test_a_rule_whose_results_it_does_not_watch_is_legal(one: Rule) -> None:
    check_loops([one], "rules.toml")


@pytest.mark.parametrize("one", LOOPS, ids=lambda one: f"{one.watch} {one.suffixes} {one.output}")
def test_a_rule_that_watches_its_own_results_is_refused_with_an_example(one: Rule) -> None:
    with pytest.raises(ConfigError, match="a → a") as caught:
        check_loops([one], "rules.toml")
    assert str(caught.value).startswith("rules.toml: the rules form a loop")
    found = find_loop([one])
    assert found is not None
    (link,) = found
    assert takes(one, link.example)
    assert link.example in str(caught.value)


def test_a_loop_over_several_stores_is_shown_with_what_overlaps_at_each_step() -> None:
    rules = [
        rule("s3://photos/in/", "gs://second/{dir}/{stem}.png", name="first"),
        rule("gs://second/", "file:///data/third/{stem}.{ext}", name="second", suffixes=[".png"]),
        rule("file:///data/third", "s3://photos/in/back/{stem}.{ext}", name="third"),
        rule("s3://photos/out/", "s3://photos/last/{stem}.{ext}", name="apart"),
    ]
    with pytest.raises(ConfigError) as caught:
        check_loops(rules, "")
    assert caught.value.context["loop"] == ["first", "second", "third"]
    text = str(caught.value)
    assert "first → second → third → first" in text
    assert "second (watch = gs://second/) takes what first writes, such as gs://second/" in text
    check_loops([rules[0], replace(rules[1], suffixes=(".jpg",)), *rules[2:]], "")


def test_the_shortest_of_several_loops_is_shown() -> None:
    rules = [
        rule("s3://one/", "s3://two/{path}", name="one"),
        rule("s3://two/", "s3://three/{path}", name="two"),
        rule("s3://three/", "s3://one/{path}", name="three"),
        rule("s3://four/", "s3://five/{path}", name="four"),
        rule("s3://five/", "s3://four/{path}", name="five"),
    ]
    with pytest.raises(ConfigError, match="four → five → four"):
        check_loops(rules, "")


def test_a_thousand_rules_of_one_bucket_are_looked_at_at_once() -> None:
    """Each of them leads to the next: a million pairs, of which few are more than a look."""
    rules = [
        rule(f"s3://photos/{n}/", f"s3://photos/{n + 1}/{{dir}}/{{stem}}.{{ext}}", name=f"r{n}") for n in range(300)
    ]
    graph = links(rules)
    assert [len(found) for found in graph.values()] == [1] * 299 + [0]


# -- against a search through concrete keys --------------------------------------------------------------------------

FOLDERS = ["".join(parts) for depth in range(4) for parts in itertools.product(("a/", "b/"), repeat=depth)]
KEYS = [
    f"{folder}{stem}{end}" for folder in FOLDERS for stem in ("x", "as") for end in (".jpg", ".png", ".webp", ".json")
]
PREFIXES = ["", "a/", "b/", "a/a", "a/x"]
SHAPES = ["{dir}/", "a/", "b/", "a", "a/{dir}/b/", "{dir}/a/", ""]
NAMES = [
    "{stem}.{ext}",
    "{name}",
    "{stem}",
    "{stem}s.png",
    "a{stem}.{ext}",
    "{path}",
    "{stem}-{width}.{ext}",
    "{ext}{stem}",
]
PIPELINES = [
    "grayscale",
    "format:webp",
    "format:png",
    "format:jpeg",
    "faces:data",
    "faces:draw/format:png",
    "format:auto",
]
RULES = st.builds(
    lambda prefix, shape, name, pipeline, suffixes, types: {
        "watch": f"s3://bucket/{prefix}",
        "output": f"s3://bucket/{shape}{name}",
        "pipeline": pipeline,
        "suffixes": suffixes,
        "types": types,
    },
    st.sampled_from(PREFIXES),
    st.sampled_from(SHAPES),
    st.sampled_from(NAMES),
    st.sampled_from(PIPELINES),
    st.sampled_from([[], [], [".jpg"], [".png"], ["s.png", ".webp"], [".json"]]),
    st.sampled_from([[], [], ["image/jpeg"], ["image/png"], ["image/*"], ["application/json"]]),
)


def results(one: Rule) -> set[tuple[str, str]]:
    """Every address that a source in ``KEYS`` may lead to, with its media type."""
    found = products_of(Pipeline.parse(one.pipeline))
    kinds = [(fmt.extension, fmt.media_type) for fmt in found.formats]
    if found.data:
        kinds.append((".json", "application/json"))
    made: set[tuple[str, str]] = set()
    for key, (extension, media_type) in itertools.product(KEYS, kinds):
        uri = str(URI("s3", "bucket", key))
        if matches(replace(one, types=()), ObjectEvent(uri, "created", "1", 1.0)):  # some store tells a type that fits
            facts = facts_of(one, uri, extension, 1.0, task="t")
            made.add((destination(one, replace(facts, width=1, height=1)), media_type))
    return made


TOLD = ["", *(fmt.media_type for fmt in WRITTEN.values())]


def takes(one: Rule, uri: str, media_type: str = "") -> bool:
    """Whether an event of that result matches, from a store that tells the type, or from one that doesn't."""
    told = {media_type, ""} if media_type else {"", *TOLD, "application/json"}
    return any(matches(one, ObjectEvent(uri, "created", "1", 1.0, media_type=kind)) for kind in told)


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(RULES, RULES)
def test_what_leads_from_rule_to_rule_is_what_a_search_through_keys_finds(
    one: dict[str, object], two: dict[str, object]
) -> None:
    try:
        first, second = rule_from_dict({"name": "one", **one}), rule_from_dict({"name": "two", **two})
    except ConfigError:
        return  # the template asks for another format than the pipeline
    found = {(link.start, link.end): link.example for way in links([first, second]).values() for link in way}
    written = {one.name: results(one) for one in (first, second)}
    for start, end in itertools.product((first, second), repeat=2):
        searched = [uri for uri, media_type in written[start.name] if takes(end, uri, media_type)]
        example = found.get((start.name, end.name))
        assert not searched or example is not None, f"missed: {start} leads to {end} by {searched[0]}"
        if example is not None:
            assert takes(end, example), f"{end} does not take {example}"
            # Where a place ends within a name, values are not taken to begin as it does: more is refused then.
            # And a stem may hold dots, of which the searched keys have none.
            if start.watch.endswith("/") and end.watch.endswith("/") and not start.output.endswith("{stem}"):
                assert searched, f"{start} never writes what {end} takes, such as {example}"


def test_the_table_of_formats_has_the_types_that_the_search_tells() -> None:
    assert {"image/jpeg", "image/png"} <= {fmt.media_type for fmt in FORMATS.values()} & set(TOLD)
