"""Rules files: what is read, what is refused, and how that is said."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelmill.errors import ConfigError
from pixelmill.jobs.model import Priority
from pixelmill.pipelines.presets import BUILT_IN
from pixelmill.storage.options import StoreSpec
from pixelmill.triggers.book import MAX_RULES, combine, load_rules, parse_rules, rule_from_dict, rule_to_dict
from pixelmill.triggers.reach import check_stores
from pixelmill.triggers.rule import RuleLimits, RuleSet
from pixelmill.triggers.rules_file import MAX_FILE
from pixelmill.triggers.source_fields import shown_source

FULL = """
[[sources]]
name = "uploads"
kind = "sqs"
queue = "https://sqs.eu-central-1.amazonaws.com/123456789012/uploads"
wait = 10

[[sources]]
name = "hook"
kind = "http"
auth = "token"
token = "env:HOOK_TOKEN"

[[rules]]
name = "thumbs"
watch = "s3://photos/in/"
suffixes = [".jpg", ".png"]
types = ["jpeg", "image/png"]
min_bytes = "1KB"
max_bytes = "20MB"
pipeline = "preset:thumbnail"
output = "s3://photos/out/{dir}/{stem}-{width}.{ext}"
priority = "batch"
owner = "ann"
cache_control = "public, max-age=86400"

[rules.tags]
album = "sea"

[rules.limits]
max_bytes = "20MB"
max_pixels = 40_000_000
timeout = "10s"
max_attempts = 2
"""
RULE: dict[str, Any] = {
    "name": "thumbs",
    "watch": "s3://photos/in/",
    "pipeline": "resize:320",
    "output": "s3://photos/out/{stem}.{ext}",
}
VARIABLES = {"HOOK_TOKEN": "a-long-secret"}


def written(tmp_path: Path, text: str, name: str = "rules.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_toml_file_gives_rules_and_sources(tmp_path: Path) -> None:
    found = load_rules(written(tmp_path, FULL), environ=VARIABLES)
    rule = found.rules["thumbs"]
    assert rule.pipeline == "grayscale/resize:256,256,fit=fill/format:jpeg"
    assert (rule.suffixes, rule.types) == ((".jpg", ".png"), ("image/jpeg", "image/png"))
    assert (rule.min_bytes, rule.max_bytes) == (1_000, 20_000_000)
    assert (rule.priority, rule.owner, rule.tags) == (Priority.BATCH, "ann", {"album": "sea"})
    assert rule.limits == RuleLimits(20_000_000, 40_000_000, None, 10.0, 2)
    assert (rule.cache_control, rule.enabled, rule.origin) == ("public, max-age=86400", True, "file")
    assert list(found.sources) == ["uploads", "hook"]
    assert found.sources["uploads"].options["wait"] == "10"


def test_yaml_says_the_same_as_toml(tmp_path: Path) -> None:
    text = yaml.safe_dump(tomllib.loads(FULL))
    toml = load_rules(written(tmp_path, FULL), environ=VARIABLES)
    for name in ("rules.yaml", "rules.yml"):
        assert load_rules(written(tmp_path, text, name), environ=VARIABLES) == toml


def test_an_empty_file_has_no_rules(tmp_path: Path) -> None:
    for name in ("rules.toml", "rules.yaml"):
        assert load_rules(written(tmp_path, "", name)) == RuleSet({}, {})


def test_plain_paths_are_relative_to_the_files_folder_and_bring_their_source(tmp_path: Path) -> None:
    text = '[[rules]]\nname = "a"\nwatch = "in box/"\npipeline = "grayscale"\noutput = "out/"\n'
    found = load_rules(written(tmp_path, text))
    rule = found.rules["a"]
    assert rule.watch == f"file://{tmp_path}/in%20box/"
    assert rule.output == f"file://{tmp_path}/out/"
    (source,) = found.sources.values()
    assert (source.name, source.kind, source.options) == ("folder-a", "folder", {"path": f"{tmp_path}/in box/"})


def test_a_folder_that_a_source_watches_needs_no_other(tmp_path: Path) -> None:
    text = (
        '[[rules]]\nname = "a"\nwatch = "in/a"\npipeline = "grayscale"\noutput = "out/"\n'
        '[[rules]]\nname = "b"\nwatch = "in/b"\npipeline = "grayscale"\noutput = "out/"\n'
        '[[sources]]\nname = "all"\nkind = "folder"\npath = "in"\nsettle = "5"\n'
    )
    assert list(load_rules(written(tmp_path, text)).sources) == ["all"]


def test_secrets_come_from_variables_and_are_never_shown(tmp_path: Path) -> None:
    found = load_rules(written(tmp_path, FULL), environ=VARIABLES)
    hook = found.sources["hook"]
    assert hook.options["token"] == "a-long-secret"
    assert "a-long-secret" not in repr(found) + json.dumps(shown_source(hook))
    with pytest.raises(ConfigError, match=r"HOOK_TOKEN.*not set"):
        load_rules(written(tmp_path, FULL), environ={})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": None}, "rule: name is missing"),
        ({"name": "a/b"}, "can't be used"),
        ({"name": "redrive"}, "can't be used"),
        ({"name": 7}, "must be text"),
        ({"watch": None}, "rule thumbs: watch is missing"),
        ({"watch": "ftp://x/y"}, "rule thumbs: watch can't be used"),
        ({"watch": "in/"}, "no address"),
        ({"watch": "s3://photos/a//b"}, "rule thumbs: watch"),
        ({"watch": "s3://photos/../b"}, "rule thumbs: watch"),
        ({"watches": "s3://photos/in/"}, "unknown field 'watches'. Did you mean watch?"),
        ({"on": "s3://photos/in/"}, "unknown field 'on'"),
        ({"suffixes": [7]}, "rule thumbs: suffixes must be text"),
        ({"suffixes": ["in/.jpg"]}, "Use watch for folders"),
        ({"types": ["jpg2"]}, "no media type"),
        ({"min_bytes": -1}, "min_bytes must be a size"),
        ({"min_bytes": True}, "min_bytes must be a size"),
        ({"max_bytes": "20 megs"}, "max_bytes must be a size such as 1000000, 20MB"),
        ({"min_bytes": "2MB", "max_bytes": "1MB"}, "less than min_bytes"),
        ({"pipeline": None}, "pipeline must be the text form"),
        ({"pipeline": "  "}, "pipeline must be the text form"),
        ({"pipeline": "resise:320"}, "pipeline can't be used: .*resize"),
        ({"pipeline": "preset:thumb"}, "pipeline can't be used: .*thumbnail"),
        ({"output": "s3://photos/out/{stem}.png", "pipeline": "format:webp"}, "Change one of them"),
        ({"output": "s3://photos/out/{stem}.heic"}, "read, not written"),
        ({"output": "s3://photos/out/all.png"}, "output can't be used: .*two objects"),
        ({"watch": "file:///in", "output": "s3://{bucket}/{stem}"}, "folder is watched"),
        ({"output": "s3://photos/in/{stem}.png"}, "thumbs → thumbs"),
        ({"priority": "urgent"}, "interactive, normal, batch"),
        ({"tags": {"a": 1}}, "tags have"),
        ({"tags": {str(n): "" for n in range(33)}}, "at most 32"),
        ({"tags": "a=b"}, "tags must be a table"),
        ({"owner": "a/b"}, "owner can't be used"),
        ({"limits": {"timeout": "soon"}}, "rule thumbs: limits: timeout must be a time"),
        ({"limits": {"timeout": 0}}, "timeout must be a time"),
        ({"limits": {"max_side": 0}}, "max_side must be a whole number"),
        ({"limits": {"max_sides": 9}}, "Did you mean max_side?"),
        ({"cache_control": "a\nb"}, "cache_control must be"),
        ({"cache_control": "é"}, "cache_control must be"),
        ({"enabled": "yes"}, "enabled must be true or false"),
    ],
)
def test_a_field_that_cant_be_is_named_with_file_and_rule(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse_rules({"rules": [{**RULE, **changes}]}, where="rules.toml")
    assert str(caught.value).startswith("rules.toml: ")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"name": "a"}, "source a: kind is missing"),
        ({"name": "a", "kind": "sqz"}, "sqs"),
        ({"name": "a", "kind": "sqs"}, "queue"),
        ({"name": "a", "kind": "sqs", "queue": "q", "regoin": "x"}, "region"),
        ({"name": "a/b", "kind": "sqs", "queue": "q"}, "letters"),
        ({"name": "a", "kind": "folder", "path": "in"}, "absolute"),
        ({"name": "a", "kind": "sqs", "queue": {"x": 1}}, "queue must be text, not a table"),
    ],
)
def test_a_source_that_cant_be_is_named(source: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse_rules({"sources": [source]}, where="rules.toml")
    assert str(caught.value).startswith("rules.toml: ")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("rules.toml", "[[rules]", "not valid TOML"),
        ("rules.yaml", "rules: [", "not valid YAML"),
        ("rules.yaml", "rules: []\nrules: []\n", "stands twice"),
        ("rules.yaml", "- a\n- b\n", "must hold a table"),
        ("rules.yaml", "? [a]\n: b\n", "not valid YAML"),
        ("rules.yaml", "rules: !!python/object/apply:os.system [id]\n", "not valid YAML"),
        ("rules.yaml", "[" * 100_000, "nested too deep"),
        ("rules.toml", "x = " + "[" * 100_000, "not valid TOML|nested too deep"),
        ("rules.yaml", f"rules: [{{name: a, max_bytes: 0x{'9' * 5_000}}}]", "more than 64 bits"),
        ("rules.toml", f"sources = [{{ name = 'a', kind = 0x{'9' * 5_000} }}]", "more than 64 bits"),
        ("rules.toml", "rule = 1", "Did you mean rules?"),
        ("rules.toml", "rules = 1", "must be a list of tables"),
        ("rules.toml", "# " + "x" * MAX_FILE, "more than"),
        ("rules.yaml", "on: x", "unknown field 'True'"),
    ],
)
def test_a_file_that_cant_be_read_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    path = written(tmp_path, text, name)
    with pytest.raises(ConfigError, match=says) as caught:
        load_rules(path)
    assert str(path) in str(caught.value)


def test_aliases_that_would_grow_without_bound_are_harmless(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40))]
    with pytest.raises(ConfigError, match="unknown field 'a0'"):
        load_rules(written(tmp_path, "\n".join(lines), "rules.yaml"))
    text = "\n".join(["x: &x [y]", *lines]).replace("a0:", "rules:", 1)
    with pytest.raises(ConfigError):
        load_rules(written(tmp_path, text, "rules.yaml"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load_rules(tmp_path / "none.toml")


def test_names_differ_also_where_case_does_not_count() -> None:
    with pytest.raises(ConfigError, match="Thumbs stands twice"):
        parse_rules({"rules": [RULE, {**RULE, "name": "Thumbs"}]})


def test_there_are_bounds_on_the_number_of_rules() -> None:
    with pytest.raises(ConfigError, match="1,000"):
        parse_rules({"rules": [{**RULE, "name": f"r{n}"} for n in range(MAX_RULES + 1)]})


def test_the_extension_of_the_name_asks_for_the_format() -> None:
    rule = rule_from_dict({**RULE, "output": "s3://photos/out/{stem}.avif"})
    assert rule.pipeline == "resize:320/format:avif"
    auto = rule_from_dict({**RULE, "output": "s3://photos/out/{stem}.webp", "pipeline": "preset:web"})
    assert auto.pipeline == "resize:1600,1600,fit=inside/format:auto,accept=webp"
    assert rule_from_dict({**RULE, "pipeline": {"operations": [{"name": "grayscale"}]}}).pipeline == "grayscale"


def test_presets_of_the_user_are_known() -> None:
    presets = BUILT_IN.with_users({"small": "resize:99"})
    assert rule_from_dict({**RULE, "pipeline": "preset:small"}, presets=presets).pipeline == "resize:99"


# -- the API's beside the file's -------------------------------------------------------------------------------------


def test_rules_of_the_api_stand_behind_the_files() -> None:
    file = parse_rules({"rules": [RULE]})
    other = rule_from_dict({**RULE, "name": "other"})
    assert list(combine(file, [other]).rules) == ["thumbs", "other"]
    assert other.origin == "api"
    with pytest.raises(ConfigError, match="stands in the rules file"):
        combine(file, [rule_from_dict(RULE)])
    back = rule_from_dict({**RULE, "name": "back", "watch": "s3://photos/out/", "output": "s3://photos/in/{name}"})
    with pytest.raises(ConfigError, match="thumbs → back → thumbs"):
        combine(file, [back])


STORES = {"photos": StoreSpec("s3://photos/in"), "out": StoreSpec("s3://photos/out/"), "folder": StoreSpec("/data")}


@pytest.mark.parametrize(
    ("changes", "origin", "says"),
    [
        ({}, "api", None),
        ({"watch": "s3://photos/"}, "file", "stores"),
        ({"watch": "gs://photos/in/"}, "file", "stores"),
        ({"output": "s3://photos/{stem}.png"}, "file", "stores"),
        ({"output": "s3://photos/o{stem}.png"}, "file", "stores"),
        ({"output": "file:///out/{stem}.png"}, "file", None),
        ({"output": "file:///out/{stem}.png"}, "api", "rules file"),
        ({"watch": "file:///nowhere"}, "file", "--source-root"),
        ({"output": "s3://{bucket}/out/{rule}/{stem}.png"}, "api", None),
    ],
)
def test_stores_must_be_configured_for_what_rules_watch_and_write(
    changes: dict[str, Any], origin: Any, says: str | None, tmp_path: Path
) -> None:
    rule = rule_from_dict({**RULE, **changes}, origin=origin)
    rules = RuleSet({rule.name: rule})
    if says is None:
        check_stores(rules, STORES, [tmp_path])
        return
    with pytest.raises(ConfigError, match=says):
        check_stores(rules, STORES, [tmp_path])


def test_a_folder_is_watched_below_a_source_root_wherever_links_lead(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to("/")
    for name, good in (("root/in", True), ("link/in", False)):
        rule = rule_from_dict({**RULE, "watch": f"file://{tmp_path}/{name}"})
        try:
            check_stores(RuleSet({rule.name: rule}), STORES, [tmp_path / "root"])
        except ConfigError:
            assert not good
        else:
            assert good


# -- laws ------------------------------------------------------------------------------------------------------------

RECORDS = st.fixed_dictionaries(
    {"name": st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True).filter(lambda name: name != "test")},
    optional={
        "suffixes": st.lists(st.sampled_from([".jpg", "-x.png", ".TIF"]), max_size=3),
        "types": st.lists(st.sampled_from(["image/*", "png", "image/jpeg"]), max_size=3),
        "min_bytes": st.integers(0, 10**12) | st.sampled_from(["1KB", "2MiB"]),
        "priority": st.sampled_from(["interactive", "normal", "batch"]),
        "tags": st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3),
        "limits": st.fixed_dictionaries({}, optional={"timeout": st.integers(1, 99), "max_side": st.integers(1, 99)}),
        "enabled": st.booleans(),
        "pipeline": st.sampled_from(["resize:9", "preset:web", {"operations": [{"name": "grayscale"}]}]),
        "output": st.sampled_from(["s3://photos/out/", "s3://photos/out/{stem}.png", "gs://x.y/{task}"]),
    },
)


@settings(deadline=None)
@given(RECORDS)
def test_writing_a_rule_and_reading_it_again_are_inverse(record: dict[str, Any]) -> None:
    rule = rule_from_dict({**RULE, **record})
    plain = json.loads(json.dumps(rule_to_dict(rule)))
    assert rule_from_dict(plain) == rule
    assert rule_to_dict(rule_from_dict(plain)) == plain


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from([*RULE, "suffixes", "types", "limits", "tags", "min_bytes", "enabled", "x"])


@settings(deadline=None)
@given(st.dictionaries(KEYS, JUNK, max_size=4))
def test_whatever_stands_in_a_file_is_a_rule_or_a_clear_refusal(changes: dict[str, Any]) -> None:
    said = ""
    try:
        parse_rules({"rules": [{**RULE, **changes}]}, where="rules.toml")
    except ConfigError as error:
        said = str(error)
    assert not said or said.startswith("rules.toml: ")
