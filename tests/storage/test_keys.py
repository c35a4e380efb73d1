from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill.errors import InvalidURI
from pixelmill.storage.keys import MAX_NAME_BYTES, check_key, check_prefix, distinct, is_key, safe_name

HOSTILE = st.text(
    st.one_of(
        st.characters(),  # any code point, lone surrogates included
        st.sampled_from('./\\ -~:*?"<>|\0\n\x1b\u202e\u200d\ufeffé\u0301\u0131\u0130ß\u212a\uff0e\uff0f'),
    ),
    max_size=400,
)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../x", "x"),
        ("..\\..\\windows\\x.png", "x.png"),
        ("/etc/passwd", "passwd"),
        ("a\0b.jpg", "ab.jpg"),
        ("folder/", "folder"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("\0", "unnamed"),
        ("/", "unnamed"),
        (".htaccess", "htaccess"),
        ("...dots...", "dots"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("Com1 .jpg", "_Com1 .jpg"),
        ("COM¹", "_COM¹"),
        ("console.jpg", "console.jpg"),
        ("-rf", "_-rf"),
        ("annual\u202egpj.exe", "annualgpj.exe"),
        ("zero\u200bwidth\ufeff.png", "zerowidth.png"),
        ("e\u0301te\u0301.jpg", "été.jpg"),
        ("no\u00a0break\u3000space.jpg", "no break space.jpg"),
        ('a<b>c:d"e|f?g*h.jpg', "a_b_c_d_e_f_g_h.jpg"),
        ("\x1b[31mred.jpg", "[31mred.jpg"),
        ("lone\ud800.jpg", "lone.jpg"),
        ("日本語 🎨.png", "日本語 🎨.png"),
    ],
)
def test_hostile_names_become_safe_ones(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_long_names_keep_their_extension() -> None:
    assert safe_name("x" * 300 + ".jpeg") == "x" * 235 + ".jpeg"
    assert safe_name("ü" * 300 + ".png") == "ü" * 118 + ".png"
    assert safe_name("x." + "y" * 300) == "x." + "y" * 238


@given(HOSTILE)
def test_every_name_becomes_one_that_is_safe_everywhere(name: str) -> None:
    safe = safe_name(name)
    assert 1 <= len(safe.encode()) <= MAX_NAME_BYTES
    assert not set(safe) & set('/\\<>:"|?*\0')
    assert all(unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for character in safe)
    assert unicodedata.is_normalized("NFC", safe)
    assert safe[0] not in ".- "
    assert safe[-1] not in ". "
    assert is_key(safe)
    assert safe_name(safe) == safe


@given(st.lists(st.one_of(HOSTILE, st.sampled_from(["a.jpg", "A.JPG", "a (2).jpg", "ß", "SS", "É", "e\u0301"]))))
def test_distinct_names_differ_without_regard_to_case_and_form(names: list[str]) -> None:
    given_names = distinct(names)
    assert len(given_names) == len(names)
    folded = {unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold()) for name in given_names}
    assert len(folded) == len(names)
    assert all(safe_name(name) == name for name in given_names)


def test_distinct_names_are_numbered_before_the_extension() -> None:
    assert distinct(["a.jpg", "b/A.JPG", "a.jpg", "a (2).jpg", "x"]) == [
        "a.jpg",
        "A (2).JPG",
        "a (3).jpg",
        "a (2) (2).jpg",
        "x",
    ]
    long = distinct(["x" * 300 + ".jpg"] * 2)
    assert long[1] == "x" * 232 + " (2).jpg"


def test_many_equal_names_are_numbered_in_linear_time() -> None:
    names = distinct(["photo.jpg"] * 20_000)
    assert names[-1] == "photo (20000).jpg"
    assert len(set(names)) == 20_000


@given(HOSTILE)
def test_what_is_a_key_can_be_walked_safely(text: str) -> None:
    if not is_key(text):
        with pytest.raises(InvalidURI) as caught:
            check_key(text)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400
        return
    check_key(text)
    check_prefix(f"{text}/")
    assert all(segment not in {"", ".", ".."} for segment in text.split("/"))
    assert not set(text) & set("\0\\\n")
