"""What results are called."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pixelmill.errors import ConfigError, InvalidURI
from pixelmill.storage.keys import is_key
from pixelmill.storage.uris import URI, parse_uri
from pixelmill.triggers.naming import (
    ResultFacts,
    check_template,
    data_destination,
    destination,
    facts_of,
    fixed_start,
    start_of,
    template_of,
)
from pixelmill.triggers.rule import Rule
from pixelmill.triggers.template import NAMES

RULE = Rule("thumbs", "s3://photos/in/", "grayscale", "s3://thumbs/{dir}/{stem}-{width}.{ext}")
AT = datetime(2026, 11, 28, 12, 10, tzinfo=UTC).timestamp()


def named(output: str, key: str = "in/sea/beach.jpeg", extension: str = "webp", **more: object) -> str:
    rule = replace(RULE, output=output)
    facts = facts_of(rule, str(URI("s3", "photos", key)), extension, AT, task="task_1")
    return destination(rule, replace(facts, width=320, height=200, **more))  # type: ignore[arg-type] # as above


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ("s3://thumbs/{dir}/{stem}-{width}.{ext}", "s3://thumbs/sea/beach-320.webp"),
        ("s3://thumbs/{stem}-{width}x{height}.{ext}", "s3://thumbs/beach-320x200.webp"),
        ("s3://thumbs/{name}.{ext}", "s3://thumbs/beach.jpeg.webp"),
        ("s3://thumbs/{path}", "s3://thumbs/sea/beach.jpeg"),
        ("s3://thumbs/{format}/{stem}", "s3://thumbs/webp/beach"),
        ("s3://thumbs/{date}/{year}/{month}/{day}/{hour}/{stem}", "s3://thumbs/2026-11-28/2026/11/28/12/beach"),
        ("s3://thumbs/{task}.{ext}", "s3://thumbs/task_1.webp"),
        ("s3://{bucket}-{rule}/{stem}.{ext}", "s3://photos-thumbs/beach.webp"),
        ("s3://thumbs/{bucket}/{rule}/{stem}", "s3://thumbs/photos/thumbs/beach"),
        ("s3://thumbs/{{a}}/{stem}", "s3://thumbs/%7Ba%7D/beach"),
        ("s3://thumbs/a%20b/{stem}", "s3://thumbs/a%20b/beach"),
        # A folder, or a bucket: path and stem of the source.
        ("s3://thumbs/small/", "s3://thumbs/small/sea/beach.webp"),
        ("s3://thumbs", "s3://thumbs/sea/beach.webp"),
        ("file:///data/out/", "file:///data/out/sea/beach.webp"),
        ("gs://thumbs/{stem}.{ext}", "gs://thumbs/beach.webp"),
    ],
)
def test_names_in_braces_are_filled_in(output: str, wanted: str) -> None:
    check_template(output)
    assert named(output) == wanted


def test_every_name_can_be_used() -> None:
    assert "{" not in named("s3://thumbs/" + "/".join(f"{{{name}}}" for name in NAMES))


@pytest.mark.parametrize("key", ["in/beach.jpg", "beach.jpg"])
def test_an_empty_folder_leaves_no_empty_part(key: str) -> None:
    rule = replace(RULE, watch="s3://photos", output="s3://thumbs/a/{dir}/{stem}.{ext}")
    folder = key.rpartition("/")[0]
    found = destination(rule, facts_of(rule, f"s3://photos/{key}", "png", AT))
    assert found == f"s3://thumbs/a/{folder}{'/' if folder else ''}beach.png"
    whole = replace(rule, output="s3://thumbs/{dir}/{stem}.{ext}")
    assert "//" not in destination(whole, facts_of(whole, "s3://photos/beach.jpg", "png", AT)).partition("://")[2]


@pytest.mark.parametrize(
    ("source", "extension", "wanted"),
    [
        ("a.jpeg", ".jpg", "a.jpeg"),
        ("a.JPG", "jpg", "a.JPG"),
        ("a.tif", ".tiff", "a.tif"),
        ("a.png", ".jpg", "a.jpg"),
        ("a", ".jpg", "a.jpg"),
        ("a.b.c", ".jpg", "a.b.jpg"),
    ],
)
def test_the_sources_spelling_of_the_extension_stays_where_the_format_does(
    source: str, extension: str, wanted: str
) -> None:
    assert named("s3://thumbs/{stem}.{ext}", f"in/{source}", extension) == f"s3://thumbs/{wanted}"


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ("s3://thumbs/{stem}.{ext}", "s3://thumbs/beach.json"),
        ("s3://thumbs/{stem}-small.webp", "s3://thumbs/beach-small.json"),
        ("s3://thumbs/{name}", "s3://thumbs/beach.json"),
        ("s3://thumbs/{stem}", "s3://thumbs/beach.json"),
        ("s3://thumbs/{stem}.data", "s3://thumbs/beach.data.json"),
        ("s3://thumbs/{stem}.{format}", "s3://thumbs/beach.json"),
    ],
)
def test_data_gets_the_same_name_with_json(output: str, wanted: str) -> None:
    assert named(output, extension=".json") == wanted
    if "{format}" not in output:
        assert data_destination(named(output)) == wanted


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("s3://thumbs/{stm}.{ext}", "{stem}?"),
        ("s3://thumbs/{Stem}.{ext}", "{stem}?"),
        ("s3://thumbs/{stem!r}", "unknown name"),
        ("s3://thumbs/{}", "unknown name"),
        ("s3://thumbs/{width}.{ext}", "two objects"),
        ("s3://thumbs/all.jpg", "two objects"),
        ("s3://thumbs/{dir}/{date}.{ext}", "two objects"),
        ("s3://thumbs/{stem", "stands alone"),
        ("s3://thumbs/stem}", "stands alone"),
        ("s3://{stem}/{stem}", "place of the bucket"),
        ("s3:///{stem}", "no bucket"),
        ("s3://Thumbs/{stem}", "bucket's name"),
        ("s3://thumbs/../{stem}", "'..'"),
        ("s3://thumbs/.pixelmill/{stem}", ".pixelmill"),
        ("s3://thumbs/a%2e%2e/%2E%2E/{stem}", "'..'"),
        ("s3://thumbs/%zz{stem}", "hexadecimal"),
        ("file://host/{stem}", "no host"),
        ("key:{stem}", "must start with"),
        ("out/{stem}", "must start with"),
        ("ftp://thumbs/{stem}", "must start with"),
        ("s3://thumbs/{stem}" + "x" * 3_000, "characters"),
    ],
)
def test_a_template_that_cant_be_used_is_refused_with_what_to_write(output: str, says: str) -> None:
    with pytest.raises(ConfigError, match="(?s)" + "".join(f"[{c}]" if c not in "\\^" else c for c in says)):
        check_template(output)


def test_a_name_that_grows_too_long_is_an_error_of_that_result() -> None:
    with pytest.raises(InvalidURI, match="255 bytes"):
        named("s3://thumbs/{stem}{stem}{stem}.{ext}", f"in/{'x' * 100}.jpg")


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ("s3://thumbs/a/{stem}", "s3://thumbs/a/"),
        ("s3://thumbs/a b/c-{stem}", "s3://thumbs/a%20b/c-"),
        ("s3://thumbs", "s3://thumbs/"),
        ("file:///data/out/", "file:///data/out/"),
        ("s3://thumbs-{bucket}/{stem}", "s3://thumbs-"),
    ],
)
def test_the_fixed_start_is_all_up_to_the_first_name(output: str, wanted: str) -> None:
    assert fixed_start(output) == wanted


# -- laws ------------------------------------------------------------------------------------------------------------

LITERALS = st.sampled_from(["a", "-", ".", "..", "/", "out/", "_", " ", "é", "%2e", "{{", "x."])
PIECES = st.one_of(LITERALS, st.sampled_from([f"{{{name}}}" for name in NAMES]))
TEMPLATES = st.builds(
    lambda scheme, pieces: f"{scheme}{''.join(pieces)}",
    st.sampled_from(["s3://thumbs/", "s3://thumbs/out/", "file:///data/", "gs://{bucket}-x/"]),
    st.lists(PIECES, min_size=1, max_size=6),
)
# Also what no store would give: the names that hostile events could bring.
WILD = st.text(max_size=30) | st.lists(
    st.sampled_from(["..", ".", "a", "", ".pixelmill", "a.jpg", "...jpg", ".jpg", "b\\c", "\0", "\u202e"]), max_size=4
).map("/".join)


@given(TEMPLATES, WILD, st.sampled_from([".jpg", "webp", "json", "", "tiff"]), WILD)
def test_no_source_makes_a_result_leave_the_fixed_start_of_the_template(
    output: str, path: str, extension: str, task: str
) -> None:
    try:
        check_template(output)
    except ConfigError:
        assume(False)
    rule = replace(RULE, output=output)
    facts = ResultFacts("s3://photos/in/x", path or "x", extension, "", 1, 2, task, AT, rule.name)
    try:
        found = destination(rule, facts)
    except InvalidURI:
        return  # too long, or not text at all: an error of that result
    start = start_of(template_of(rule))
    assert found.startswith(start)
    uri = parse_uri(found)
    assert is_key(uri.path.removeprefix("/") if uri.scheme == "file" else uri.path)
    assert unquote(found).isprintable() or all(not (c < " " or c == "\x7f") for c in unquote(found))
    assert str(uri) == found
