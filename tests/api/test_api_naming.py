"""Names that clients chose are shown, never believed."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill.api.naming import clean_name, content_disposition, result_name

HOSTILE = [
    "../../etc/passwd",
    "a\0b.jpg",
    "x" * 300 + ".jpg",
    'q"uo\\te.jpg',
    "a\r\nSet-Cookie: x=1",
    "日本.png",
    "..",
    "",
]


@given(st.text(max_size=400))
def test_a_header_from_any_name_is_one_line_of_ascii_in_the_right_form(name: str) -> None:
    header = content_disposition(name, inline=False)
    assert header.isascii()
    assert header.isprintable()
    match = re.fullmatch(
        r"""attachment; filename="([^"\\%]+)"(?:; filename\*=UTF-8''([A-Za-z0-9!#$&+.^_`|~%-]+))?""", header
    )
    assert match, header
    shown = unquote(match[2] or match[1])
    assert "/" not in shown
    assert shown not in {"", ".", ".."}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_clean_name_is_one_short_line(name: str) -> None:
    cleaned = clean_name(name)
    assert cleaned
    assert len(cleaned) <= 1_000
    assert cleaned.isprintable()


def test_a_clean_name_keeps_folders_and_its_end() -> None:
    assert clean_name("trip\\day 1/beach.jpg") == "trip/day 1/beach.jpg"
    assert clean_name("x" * 2_000 + ".jpg").endswith(".jpg")


def test_a_name_in_unicode_comes_in_both_forms() -> None:
    header = content_disposition("Größe 日.jpg", inline=True)
    assert header.startswith('inline; filename="Gro')
    assert unquote(header.partition("UTF-8''")[2]) == "Größe 日.jpg"


def test_a_plain_name_needs_one_form_only() -> None:
    assert content_disposition("beach-1.jpg", inline=True) == 'inline; filename="beach-1.jpg"'


@pytest.mark.parametrize(
    ("source", "name"), [("a/b/photo.JPEG", "photo.png"), ("noext", "noext.png"), ("x.tar.gz", "x.tar.png")]
)
def test_a_result_has_its_source_s_stem(source: str, name: str) -> None:
    assert result_name(source, ".png") == name
