"""Links that the service signs itself: what was signed holds, anything else is refused."""

from __future__ import annotations

import stat
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill.errors import ConfigError, Forbidden
from pixelmill.service.signing import KEY_FILE, PATH, Grant, LinkSigner

NOW = 1_800_000_000
OLD, NEW = "old:0123456789abcdef", "new:fedcba9876543210"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
GRANTS = st.builds(
    Grant,
    st.sampled_from(["GET", "PUT"]),
    TEXT.filter(bool),
    st.integers(NOW + 1, NOW + 10**6),
    st.integers(0, 10**12),
    TEXT,
    TEXT,
)


def signer(keys: str = NEW, now: float = NOW) -> LinkSigner:
    return LinkSigner(keys, Path("never-made"), lambda: now)


def parts(link: str) -> tuple[str, dict[str, str]]:
    split = urlsplit(link)
    return unquote(split.path.removeprefix(PATH)), dict(parse_qsl(split.query, keep_blank_values=True))


@given(GRANTS)
def test_a_link_grants_what_was_signed(grant: Grant) -> None:
    key, query = parts(signer().sign(grant))
    assert signer().check(grant.method, key, query) == grant


@given(GRANTS, st.sampled_from(["method", "expires", "max_bytes", "name", "type", "key_id", "signature"]), TEXT)
def test_nothing_of_it_can_be_changed(grant: Grant, name: str, value: str) -> None:
    key, query = parts(signer(f"{NEW},{OLD}").sign(grant))
    if query.get(name, {"max_bytes": "0"}.get(name, "")) in {value, value.lstrip("0")}:
        return  # the same link in other words
    with pytest.raises(Forbidden):
        signer(f"{NEW},{OLD}").check(grant.method, key, {**query, name: value})
    with pytest.raises(Forbidden):
        signer().check(grant.method, f"{key}x", query)


def test_values_can_t_run_into_each_other() -> None:
    key, query = parts(signer().sign(Grant("GET", "a", NOW + 9, 0, "b\nc", "d")))
    with pytest.raises(Forbidden):
        signer().check("GET", key, {**query, "name": "b", "type": "c\nd"})


def test_a_link_is_for_its_method_and_its_time() -> None:
    key, query = parts(signer().sign(Grant("GET", "a", NOW + 10)))
    assert signer(now=NOW + 9.9).check("HEAD", key, query).key == "a"
    with pytest.raises(Forbidden, match="for GET"):
        signer().check("PUT", key, query)
    with pytest.raises(Forbidden, match="expired"):
        signer(now=NOW + 10).check("GET", key, query)
    with pytest.raises(Forbidden):
        signer().check("GET", key, {})


def test_keys_are_rotated_without_breaking_links() -> None:
    key, query = parts(signer(OLD).sign(Grant("GET", "a", NOW + 10)))
    both = signer(f"{NEW}, {OLD}")
    assert both.check("GET", key, query).key == "a"
    assert parts(both.sign(Grant("GET", "a", NOW + 10)))[1]["key_id"] == "new"
    with pytest.raises(Forbidden):
        signer(NEW).check("GET", key, query)


@pytest.mark.parametrize("keys", ["short:abc", "noid", ":0123456789abcdef", f"{NEW},{NEW}", "a b:0123456789abcdef"])
def test_bad_keys_are_refused_without_showing_them(keys: str) -> None:
    with pytest.raises(ConfigError) as caught:
        signer(keys)
    assert "0123456789abcdef" not in str(caught.value)


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    link = LinkSigner("", folder).sign(Grant("GET", "a", 10**11))
    key, query = parts(link)
    assert LinkSigner("", folder).check("GET", key, query).key == "a"
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [KEY_FILE]
    with pytest.raises(Forbidden):
        LinkSigner("", tmp_path / "other").check("GET", key, query)
