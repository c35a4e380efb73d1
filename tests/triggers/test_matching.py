"""Which events a rule is for."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill.errors import InvalidURI
from pixelmill.storage.uris import URI
from pixelmill.triggers.event import ObjectEvent
from pixelmill.triggers.matching import matches, why_not
from pixelmill.triggers.places import canonical, path_in
from pixelmill.triggers.rule import Rule

RULE = Rule("thumbs", "s3://photos/in/", "grayscale", "s3://photos/out/{stem}.{ext}")


def event(uri: str = "s3://photos/in/beach.jpg", **more: object) -> ObjectEvent:
    return replace(ObjectEvent(uri, "created", "v1", 1.0), **more)  # type: ignore[arg-type] # a test's own words


@pytest.mark.parametrize(
    ("changes", "uri", "wanted"),
    [
        ({}, "s3://photos/in/beach.jpg", True),
        ({}, "s3://photos/in/2026/beach.jpg", True),
        ({}, "s3://photos/other/beach.jpg", False),
        ({}, "s3://photos2/in/beach.jpg", False),
        ({}, "gs://photos/in/beach.jpg", False),
        ({}, "s3://photos/in/folder/", False),
        ({"watch": "s3://photos"}, "s3://photos/anything", True),
        ({"watch": "s3://photos/in/img-"}, "s3://photos/in/img-1.jpg", True),
        ({"watch": "s3://photos/in/img-"}, "s3://photos/in/scan-1.jpg", False),
        # A folder is whole, whether or not it was written with a slash behind.
        ({"watch": "file:///data/in"}, "file:///data/in/a.jpg", True),
        ({"watch": "file:///data/in"}, "file:///data/inbox/a.jpg", False),
        # Both are understood in whatever way they were escaped.
        ({"watch": "s3://photos/f%C3%AAte d'été/"}, "s3://photos/f%C3%AAte%20d'%C3%A9t%C3%A9/a+b%20c.jpg", True),
        ({"suffixes": (".jpg", ".jpeg")}, "s3://photos/in/beach.JPG", True),
        ({"suffixes": (".jpg", ".jpeg")}, "s3://photos/in/beach.png", False),
        ({"suffixes": ("-raw.jpg",)}, "s3://photos/in/beach-raw.jpg", True),
        ({"suffixes": (" (1).jpg",)}, "s3://photos/in/beach%20(1).jpg", True),
        ({"enabled": False}, "s3://photos/in/beach.jpg", False),
    ],
)
def test_place_and_suffix_decide(changes: dict[str, object], uri: str, wanted: bool) -> None:
    rule = replace(RULE, **changes)  # type: ignore[arg-type] # a test's own words
    assert matches(rule, event(uri)) is wanted
    assert (why_not(rule, event(uri)) is None) is wanted


@pytest.mark.parametrize(
    ("told", "name", "types", "wanted"),
    [
        ("image/jpeg", "a.jpg", ("image/jpeg",), True),
        ("image/jpeg; q=1", "a", ("image/*",), True),
        ("image/png", "a.jpg", ("image/jpeg",), False),
        # S3 tells no type, and writers that say nothing get a meaningless one: the extension tells.
        ("", "a.JPEG", ("image/jpeg",), True),
        ("binary/octet-stream", "a.png", ("image/png",), True),
        ("application/octet-stream", "a.txt", ("image/*",), False),
        ("", "a.json", ("*/*",), True),
        ("", "a", ("*/*",), False),
    ],
)
def test_the_media_type_is_the_stores_or_the_extensions(
    told: str, name: str, types: tuple[str, ...], wanted: bool
) -> None:
    assert matches(replace(RULE, types=types), event(f"s3://photos/in/{name}", media_type=told)) is wanted


def test_sizes_are_bounds_included_and_an_unknown_size_passes() -> None:
    rule = replace(RULE, min_bytes=10, max_bytes=20)
    assert [matches(rule, event(size=size)) for size in (9, 10, 20, 21, None)] == [False, True, True, False, True]
    assert "9 bytes" in str(why_not(rule, event(size=9)))
    assert "max_bytes" in str(why_not(rule, event(size=21)))


@pytest.mark.parametrize("kind", ["removed", "test"])
def test_only_creations_match(kind: str) -> None:
    assert not matches(RULE, event(kind=kind))
    assert why_not(RULE, event(kind=kind))


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20),
)
def test_a_key_is_below_a_prefix_exactly_where_its_text_begins_with_it(prefix: str, rest: str) -> None:
    key = prefix + rest
    uri = str(URI("s3", "photos", key))
    try:
        watch = canonical(f"s3://photos/{quote(prefix)}")
    except InvalidURI:
        return  # a prefix that no key can have
    assert matches(replace(RULE, watch=watch), event(uri)) is not uri.endswith("/")
    assert key.endswith(path_in(watch, uri))


def test_a_handler_that_only_matches_and_names_loads_nothing_heavy() -> None:
    """Cold starts: matching, naming, events and rules need neither pydantic nor a network library."""
    code = (
        "import sys\n"
        "import pixelmill.triggers.matching, pixelmill.triggers.naming, pixelmill.triggers.event\n"
        "print({name.partition('.')[0] for name in sys.modules} & "
        "{'pydantic', 'sqlalchemy', 'numpy', 'cv2', 'httpx', 'obstore', 'asyncio', 'ssl', 'socket', 'yaml'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
