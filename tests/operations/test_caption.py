"""The operation caption: its data, what is drawn and embedded, estimates, and refusals."""

from __future__ import annotations

import io
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil
from tiny_captioner import PROMPT, drawn, sentence

from pixelmill import Pipeline
from pixelmill.errors import InvalidParameter, ModelMissing, NotApplicable
from pixelmill.images.encode import encode
from pixelmill.images.encode_frames import encode_frames
from pixelmill.images.frames import Frame
from pixelmill.images.image import Image
from pixelmill.models.folder import ModelFolder
from pixelmill.models.sessions import Sessions
from pixelmill.pipelines.lacks import lacks_of
from pixelmill.pipelines.plan import plan
from pixelmill.pipelines.sources import info_of_pixels

pytestmark = pytest.mark.timeout(600)  # the first run of these versions trains

WHAT = (2, "blue", "triangle")
DESCRIPTION = 270
"""EXIF's ImageDescription."""


@pytest.fixture(scope="module")
def models(captioner: Path, tmp_path_factory: pytest.TempPathFactory) -> Sessions:
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(captioner, folder / "shapes")
    return Sessions(ModelFolder(folder), threads=1)


def scene() -> Image:
    return Image(drawn(*WHAT, 5, scale=8))


def test_the_caption_is_data_and_the_image_passes(models: Sessions) -> None:
    outcome = Pipeline.parse("caption:model=shapes").run(scene(), models=models)
    assert outcome.data["caption"] == {"caption": sentence(*WHAT), "complete": True, "model": "shapes"}
    assert outcome.bytes is None, "there is data only"
    passed = Pipeline.parse("caption:model=shapes/format:png").run(scene(), models=models)
    assert np.array_equal(passed.image.pixels, scene().pixels)


def test_a_prompt_begins_it_and_is_told(models: Sessions) -> None:
    text = Pipeline().caption(PROMPT, beams=3, model="shapes").to_text()
    assert text == "caption:a~20photography~20of,beams=3,model=shapes"
    data = Pipeline.parse(text).run(scene(), models=models).data["caption"]
    assert (data["caption"], data["prompt"]) == (f"{PROMPT} {sentence(*WHAT)}", PROMPT)


@pytest.mark.parametrize("kind", ["gray", "rgba", "deep"])
def test_any_kind_of_image_is_looked_at(models: Sessions, kind: str) -> None:
    pixels: Any = scene().pixels
    given = {
        "gray": pixels[..., 0],
        "rgba": np.dstack((pixels, np.full(pixels.shape[:2], 255, np.uint8))),
        "deep": (pixels.astype(np.float32) / 255),
    }[kind]
    said = Pipeline().caption(model="shapes").run(Image(given), models=models).data["caption"]["caption"]
    assert said == sentence(*WHAT) if kind != "gray" else said.split()[0] == "two"


def test_it_is_drawn_where_it_is_asked_for(models: Sessions) -> None:
    before = scene().pixels.astype(int)
    for position in ("top", "bottom"):
        text = f"caption:model=shapes,draw=true,position={position},color=ff00ff/format:png"
        after = Pipeline.parse(text).run(scene(), models=models).image.pixels.astype(int)
        rows = np.flatnonzero(np.abs(after - before).any(axis=(1, 2)))
        half = before.shape[0] // 2
        assert len(rows)
        assert (rows < half).all() if position == "top" else (rows > half).all()
        assert (after == (255, 0, 255)).all(axis=2).any(), "letters of that color"
    written = Pipeline().text(sentence(*WHAT), font_size=16, outline="000000", outline_width=1).format("png")
    drawn_ = Pipeline().caption(model="shapes", draw=True).format("png").run(scene(), models=models)
    assert np.array_equal(drawn_.image.pixels, written.run(scene()).image.pixels), "as the operation text writes it"


def description_in(packet: bytes) -> str:
    """What an XML parser finds as dc:description."""
    found = ET.fromstring(re.sub(rb"<\?xpacket.*?\?>", b"", packet))
    rdf = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
    items = found.findall(f".//{{http://purl.org/dc/elements/1.1/}}description/{rdf}Alt/{rdf}li")
    assert len(items) == 1
    return items[0].text or ""


def embedded(body: bytes) -> tuple[str, str]:
    """EXIF's and XMP's description of the picture, as Pillow reads them."""
    picture = Pil.open(io.BytesIO(body))
    picture.load()
    packet = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or b""
    if picture.format == "TIFF":
        packet = picture.getexif()[700]
    packet = packet.encode() if isinstance(packet, str) else packet
    return str(picture.getexif().get(DESCRIPTION, "")), description_in(packet)


@pytest.mark.parametrize("fmt", ["jpeg", "png", "webp", "tiff", "avif"])
def test_it_is_embedded_where_other_programs_read_it(models: Sessions, fmt: str) -> None:
    outcome = Pipeline().caption(PROMPT, model="shapes", embed=True).format(fmt).run(scene(), models=models)
    assert outcome.bytes is not None
    said = f"{PROMPT} {sentence(*WHAT)}"
    assert embedded(outcome.bytes) == (said, said)
    plain = Pipeline().format(fmt).run(scene())
    assert np.array_equal(outcome.image.pixels, plain.image.pixels), "no pixel is touched"


def test_it_takes_the_place_of_the_sources_own_description_and_the_rest_is_kept(models: Sessions) -> None:
    exif = Pil.Exif()
    exif[DESCRIPTION], exif[315] = "an old one", "A. Person"
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>'
        b'<rdf:li xml:lang="x-default">an old one</rdf:li></rdf:Alt></dc:description>'
        b"<dc:creator><rdf:Seq><rdf:li>A. Person</rdf:li></rdf:Seq></dc:creator></rdf:Description></rdf:RDF>"
        b"</x:xmpmeta>"
    )
    buffer = io.BytesIO()
    Pil.fromarray(scene().pixels).save(buffer, "JPEG", exif=exif, xmp=packet, quality=95)
    for policy, kept in (("keep", True), ("strip", False)):
        text = f"caption:model=shapes,embed=true/metadata:{policy}/format:jpeg"
        body = Pipeline.parse(text).run(buffer.getvalue(), models=models).bytes
        assert body is not None
        assert embedded(body) == (sentence(*WHAT), sentence(*WHAT))
        assert b"an old one" not in body
        assert (b"A. Person" in body) == kept


def test_embedding_alone_gives_an_image(models: Sessions) -> None:
    source = encode(scene(), "webp")
    outcome = Pipeline().caption(model="shapes", embed=True).run(source, models=models)
    assert outcome.format == "webp"
    assert outcome.bytes is not None
    assert embedded(outcome.bytes)[1] == outcome.data["caption"]["caption"]


def test_a_format_without_metadata_is_refused_before_anything_runs(tmp_path: Path) -> None:
    nothing = Sessions(ModelFolder(tmp_path))
    pipeline = Pipeline().caption(model="shapes", embed=True).format("bmp")
    with pytest.raises(NotApplicable, match="Step 1: caption is to be embedded, and bmp is written without metadata"):
        plan(pipeline, info_of_pixels(scene(), None))
    with pytest.raises(NotApplicable):
        pipeline.run(scene(), models=nothing)


def test_frames_of_an_animation_have_the_caption_of_the_first(models: Sessions) -> None:
    frames = [Frame(Image(drawn(1, color, "circle", 5, 4)), 50.0) for color in ("red", "blue")]
    source = encode_frames(frames, 2, 0, "png")
    outcome = Pipeline.parse("caption:model=shapes,draw=true,embed=true/format:png").run(source, models=models)
    assert outcome.frames == 2
    assert outcome.data["caption"]["caption"] == "a red circle"
    assert outcome.bytes is not None
    assert embedded(outcome.bytes)[1] == "a red circle"
    picture = Pil.open(io.BytesIO(outcome.bytes))
    picture.seek(1)
    second = np.array(picture.convert("RGB")).astype(int)
    assert np.abs(second - frames[1].image.pixels).max() > 50, "it stands on the second frame"


def test_a_model_that_is_asked_for_twice_is_loaded_once(models: Sessions) -> None:
    outcome = Pipeline.parse(f"caption:model=shapes/caption:{PROMPT.replace(' ', '~20')},model=shapes,embed=true").run(
        scene(), models=models
    )
    assert outcome.data["caption"]["caption"] == sentence(*WHAT)
    assert outcome.data["caption-2"]["caption"] == f"{PROMPT} {sentence(*WHAT)}"


@pytest.mark.parametrize(
    "text",
    [
        "caption:beams=0",
        "caption:beams=11",
        "caption:length=0",
        "caption:length=101",
        f"caption:{'x' * 201}",
        "caption:a~0Ab",
        "caption:device=gpu",
        "caption:font_size=1001",
        "caption:model=",
    ],
)
def test_parameters_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        Pipeline.parse(text)


def test_a_picture_that_shows_a_model_nothing_is_refused(models: Sessions) -> None:
    with pytest.raises(NotApplicable, match=r"200×31 pixels.*less than 32 a side"):
        Pipeline.parse("caption:model=shapes").run(Image(np.zeros((31, 200, 3), np.uint8)), models=models)


def test_a_missing_model_names_its_command_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="pixelmill models pull blip-base --from PLACE"):
        Pipeline.parse("caption").run(scene(), models=Sessions(ModelFolder(tmp_path)))


def test_the_estimate_knows_models_and_beams() -> None:
    info = info_of_pixels(scene(), None)
    base, large, wide = (
        plan(Pipeline.parse(text), info) for text in ("caption", "caption:model=blip-large", "caption:beams=5")
    )
    assert base.seconds < wide.seconds < large.seconds
    assert base.memory < large.memory
    assert plan(Pipeline.parse("caption:length=1"), info).seconds < base.seconds


def test_what_it_lacks_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pixelmill.models.blip.is_installed", lambda: False)
    told = [lack.to_dict() for lack in lacks_of(Pipeline.parse("caption"), ModelFolder(tmp_path))]
    assert told == [
        {"what": "caption needs the extra caption", "command": "pip install 'pixelmill[caption]'"},
        {"what": "the weights of blip-base", "command": "pixelmill models pull blip-base --from PLACE"},
    ]


def test_another_font_stands_in_for_letters_that_the_built_in_one_lacks() -> None:
    pipeline = Pipeline().caption(draw=True, font="arabic.ttf")
    assert pipeline.font_references == ("arabic.ttf",)
    assert Pipeline().caption(font="arabic.ttf").font_references == (), "nothing is drawn, so none is needed"
