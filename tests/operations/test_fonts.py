"""Text in fonts of files: written with them, the same everywhere, and broken files are refused with the reason."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ImageFont

from pixelmill.errors import InvalidParameter, NotApplicable, ObjectNotFound
from pixelmill.images.image import Image
from pixelmill.operations.fonts import MAX_FONT_BYTES, font_of
from pixelmill.operations.lettering import Text
from pixelmill.pipelines.spec import Pipeline


@pytest.fixture(scope="module")
def font_bytes() -> bytes:
    """A real TrueType font: the one that Pillow ships."""
    body = ImageFont.load_default(20).path  # type: ignore[union-attr]  # a FreeTypeFont, as a size is given
    assert isinstance(body, BytesIO)
    return body.getvalue()


def blank() -> Image:
    return Image(np.zeros((60, 200), np.uint8))


def test_a_file_gives_the_letters_of_its_font(font_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "own.ttf"
    path.write_bytes(font_bytes)
    built_in = Pipeline().text("Sunday", font_size=24).run(blank()).image
    pipeline = Pipeline().text("Sunday", font_size=24, font=str(path))
    assert pipeline.font_references == (str(path),)
    assert pipeline.images() == ()
    own = pipeline.run(blank()).image
    assert own.pixels.max() > 200
    assert np.array_equal(own.pixels, built_in.pixels)  # it is the same font
    assert np.array_equal(pipeline.run(blank(), images={str(path): font_bytes}).image.pixels, own.pixels)
    text = Text(text="Sunday", font_size=24, font=font_of(font_bytes, "own"))
    assert np.array_equal(text.apply(blank()).image.pixels, own.pixels)


def test_the_written_forms_name_the_font_and_leave_out_the_default() -> None:
    assert Pipeline.parse("text:a,font=aileron").to_text() == "text:a"
    named = Pipeline.parse("text:a,font=own.ttf")
    assert named.to_text() == "text:a,font=own.ttf"
    assert named.with_fonts({"own.ttf": "sha256:00"}).font_references == ("sha256:00",)
    assert Pipeline.parse("text:a").hash == Pipeline.parse("text:a,font=aileron").hash


def test_a_pipeline_that_holds_a_font_has_no_written_form(font_bytes: bytes) -> None:
    held = Pipeline.parse("text:a,font=own.ttf").with_fonts({"own.ttf": font_of(font_bytes, "own")})
    assert held.holds_pixels
    with pytest.raises(InvalidParameter, match="font holds a font"):
        held.to_json()


def broken(font_bytes: bytes) -> list[tuple[bytes, str]]:
    return [
        (b"", "no TrueType"),
        (b"wOF2" + font_bytes[4:], "no TrueType or OpenType font"),
        (b"%!PS-AdobeFont-1.0", "no TrueType"),
        (font_bytes[:100], "FreeType can't read it"),
        (font_bytes[:4] + b"\xff" * 5_000, "FreeType can't read it"),
        (font_bytes + b"\0" * MAX_FONT_BYTES, "more than 20,000,000 bytes"),
    ]


@pytest.mark.parametrize("index", range(6))
def test_a_font_that_cannot_be_used_is_refused_with_the_reason(index: int, font_bytes: bytes) -> None:
    data, reason = broken(font_bytes)[index]
    with pytest.raises(InvalidParameter, match=reason) as caught:
        Pipeline.parse("text:a,font=own.ttf").run(blank(), images={"own.ttf": data})
    assert "own.ttf" in str(caught.value)
    assert "aileron" in str(caught.value)


def test_damaged_fonts_give_letters_or_an_error_of_ours(font_bytes: bytes) -> None:
    rng = np.random.default_rng(7)
    for _ in range(60):
        data = bytearray(font_bytes)
        for at in rng.integers(4, len(data), 40):
            data[at] = int(rng.integers(0, 256))
        try:
            result: Any = Pipeline.parse("text:Ag~C3~84,font=f").run(blank(), images={"f": bytes(data)})
        except (InvalidParameter, NotApplicable):
            continue
        assert result.size == (200, 60)


def test_a_font_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFound, match=r"'arial' of the pipeline is neither a built-in family \(aileron\)"):
        Pipeline.parse("text:a,font=arial").run(blank())
    with pytest.raises(ObjectNotFound, match="was not given to the run"):
        Pipeline.parse("text:a,font=arial").run(blank(), images={})
    large = tmp_path / "large.ttf"
    with large.open("wb") as file:
        file.truncate(MAX_FONT_BYTES + 1)
    with pytest.raises(Exception, match="20,000,000"):
        Pipeline().text("a", font=str(large)).run(blank())
    with pytest.raises(NotApplicable, match="not loaded"):
        Text(text="a", font="arial").apply(blank())


@pytest.mark.parametrize("letter", ["ä", "é", "ß", "Ω", "日"])
def test_a_letter_that_the_font_lacks_is_refused_and_named(letter: str) -> None:
    """An empty box in its place would be a wrong picture that nobody is told of."""
    with pytest.raises(NotApplicable, match=letter) as caught:
        Pipeline().text(f"a {letter} b").run(blank())
    assert caught.value.context["parameter"] == "font"
    assert "font=FILE" in str(caught.value)


def test_every_letter_of_ascii_and_every_blank_is_there() -> None:
    written = "".join(map(chr, range(33, 127)))
    for text in (written[:50], written[50:], "two\nlines", "no\u00a0break", "\u201cquoted\u201d\u2026"):
        if text.replace("\n", "").isprintable():
            assert Pipeline().text(text, font_size=8).run(blank()).image.pixels.any()
