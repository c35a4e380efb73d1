from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill.errors import InvalidURI
from pixelmill.storage.keys import is_key
from pixelmill.storage.uris import URI, parse_uri

KEYS = st.text(min_size=1, max_size=60).filter(is_key)


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("file:///data/a%20b.jpg", URI("file", "", "/data/a b.jpg")),
        ("file://localhost/data/x.jpg", URI("file", "", "/data/x.jpg")),
        ("FILE:///x", URI("file", "", "/x")),
        ("s3://my-bucket/folder/ü.jpg", URI("s3", "my-bucket", "folder/ü.jpg")),
        ("gs://b.c/k#1?x=2", URI("gs", "b.c", "k#1?x=2")),
        ("az://container/%C3%BC", URI("az", "container", "ü")),
        ("key:uploads/owner/1", URI("key", "", "uploads/owner/1")),
        ("s3://bucket/100%25.jpg", URI("s3", "bucket", "100%.jpg")),
    ],
)
def test_addresses_are_read(text: str, uri: URI) -> None:
    assert parse_uri(text) == uri


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no scheme"),
        ("photo.jpg", "no scheme"),
        ("/data/photo.jpg", "no scheme"),
        ("http://169.254.169.254/latest", "unknown"),
        ("javascript:alert(1)", "unknown"),
        ("file:/data/x", "'//'"),
        ("file://host/data/x", "no host"),
        ("file://relative", "no host"),
        ("file:///a/../b", "'..'"),
        ("file:///a/%2e%2e/b", "'..'"),
        ("file:///a%00b", "control"),
        ("file:///a\nb", "control"),
        ("file:///100%", "hexadecimal"),
        ("file:///%zz", "hexadecimal"),
        ("file:///%ff", "UTF-8"),
        ("file:///" + "x" * 9000, "characters"),
        ("s3:///key", "bucket"),
        ("s3://B@D/key", "bucket"),
        ("s3://user:secret@bucket/key", "bucket"),
        ("s3://bucket", "empty"),
        ("s3://bucket/a/../b", "'..'"),
        ("key:../x", "'..'"),
        ("key:", "empty"),
        ("key:a%5Cb", "backslash"),
        ("key:\ud800", "Unicode|UTF-8"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidURI, match=reason) as caught:
        parse_uri(text)
    assert str(caught.value).isprintable()


@given(st.sampled_from(["s3", "gs", "az"]), KEYS)
def test_reading_inverts_writing(scheme: str, key: str) -> None:
    for uri in (URI(scheme, "bucket", key), URI("key", "", key), URI("file", "", f"/{key}")):
        assert parse_uri(str(uri)) == uri
        assert str(uri).isascii()


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for candidate in (text, f"file:///{text}", f"s3://bucket/{text}", f"key:{text}"):
        try:
            uri = parse_uri(candidate)
        except InvalidURI:
            continue
        assert parse_uri(str(uri)) == uri
