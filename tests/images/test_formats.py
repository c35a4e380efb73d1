"""Formats are told by their bytes."""

from __future__ import annotations

import pytest

from pixelmill.errors import UnknownOperation, UnsupportedFormat
from pixelmill.images.formats import FORMATS, WRITTEN, describe, format_named, format_of_name, identify, sniff


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "jpeg"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "png"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "webp"),
        (b"GIF89a\x01\0", "gif"),
        (b"BM\x36\0", "bmp"),
        (b"II*\0\x08\0\0\0", "tiff"),
        (b"MM\0*\0\0\0\x08", "tiff"),
        (b"II+\0\x08\0\0\0", "tiff"),
        (b"\0\0\x01\0\x01\0", "ico"),
        (b"qoif\0\0", "qoi"),
        (b"P6\n4 4\n255\n", "pnm"),
        (b"\0\0\0\x1cftypavif\0\0", "avif"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1avifmiaf", "avif"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg2000"),
        (b"\xff\x4f\xff\x51", "jpeg2000"),
        (b"\xff\x0a\x00", "jxl"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
        (b"\0\0\0\x18ftypheic\0\0", "heic"),
        (b"\0\0\0\x18ftypheix\0\0", "heic"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1heicmiaf", "heic"),
        (b"\0\0\0\x20ftypmsf1\0\0\0\0msf1hevcheic", "heic"),
        (b"\0\0\0\x20ftypavif\0\0\0\0mif1heic", "avif"),
        (b"<svg xmlns='x'/>", "svg"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg/>", "svg"),
    ],
)
def test_the_first_bytes_tell_the_format(head: bytes, name: str) -> None:
    found = sniff(head)
    assert found is not None
    assert found.name == name
    assert identify(memoryview(head)) is found


def test_a_riff_file_that_is_no_webp_is_none() -> None:
    assert sniff(b"RIFF\x10\0\0\0WAVEfmt ") is None


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x18ftyphevc\0\0", "HEIF"),
        (b"\0\0\0\x18ftypmif1\0\0", "HEIF"),
        (b"\0\0\0\x18ftypisom\0\0", "ISO media"),
        (b"%PDF-1.7", "PDF"),
        (b"<?xml version='1.0'?><a/>", "XML"),
        (b"\x1f\x8b\x08", "SVGZ"),
        (b"<!DOCTYPE html><p>404", "HTML"),
        (b"8BPS\0\x01", "Photoshop"),
        (b"PK\x03\x04", "ZIP"),
    ],
)
def test_a_known_format_that_is_not_read_is_named_in_the_refusal(head: bytes, kind: str) -> None:
    with pytest.raises(UnsupportedFormat, match=kind) as caught:
        identify(head)
    assert "jpeg, png, webp" in caught.value.detail


@pytest.mark.parametrize("data", [b"hello", b"\xff", b"\0" * 64, b"PNG"])
def test_bytes_of_no_format_are_refused_without_a_guess(data: bytes) -> None:
    assert describe(data) is None
    with pytest.raises(UnsupportedFormat, match="known format"):
        identify(data)


def test_an_empty_file_is_called_empty() -> None:
    with pytest.raises(UnsupportedFormat, match="empty"):
        identify(b"")


@pytest.mark.parametrize("name", ["jpg", "JPEG", ".jpg", "jfif"])
def test_names_have_aliases(name: str) -> None:
    assert format_named(name).name == "jpeg"


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(UnknownOperation, match="jpeg") as caught:
        format_named("jpge")
    assert "jpeg" in caught.value.context["nearest"]


def test_every_extension_belongs_to_one_format() -> None:
    seen = [suffix for fmt in FORMATS.values() for suffix in fmt.extensions]
    assert len(seen) == len(set(seen))
    for fmt in FORMATS.values():
        wanted = fmt if fmt.name in WRITTEN else None
        assert format_of_name(f"a/b.c{fmt.extension.upper()}") is wanted
    assert format_of_name("a.svg") is None
