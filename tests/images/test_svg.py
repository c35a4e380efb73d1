"""SVG: drawn at its nominal size, from nothing but its own bytes, within bounds."""

from __future__ import annotations

import base64
import gzip
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelmill.errors import CorruptImage, InputError, LimitExceeded, PixelmillError, UnsupportedFormat
from pixelmill.images import svg
from pixelmill.images.decode import decode
from pixelmill.images.formats import identify, sniff
from pixelmill.images.image import Need, Size
from pixelmill.images.limits import Limits
from pixelmill.images.probe import probe

RED = '<rect width="100%" height="100%" fill="#f00"/>'


def document(body: str = RED, root: str = 'width="20" height="10"', before: str = "") -> bytes:
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f"{before}<svg {spaces} {root}>{body}</svg>".encode()


def embedding(address: str) -> bytes:
    return document(f'<image href="{address}" width="20" height="10"/>')


def drawn(data: bytes) -> bool:
    """Whether anything is in the picture."""
    return bool(decode(data).pixels[..., 3].any())


@pytest.mark.parametrize(
    ("root", "size"),
    [
        ('width="20" height="10"', (20, 10)),
        ('width="20px" height="1e1"', (20, 10)),
        ('width="10.4" height="10.6"', (10, 11)),
        ('width="1in" height="25.4mm"', (96, 96)),
        ('width="72pt" height="6pc"', (96, 96)),
        ('width="2.54cm" height="1in"', (96, 96)),
        ('viewBox="0 0 33.3 20"', (33, 20)),
        ('viewBox="5,5,30,20" width="100%" height="100%"', (30, 20)),
        ('viewBox="0 0 30 20" width="60"', (60, 40)),
        ('viewBox="0 0 30 20" height="60"', (90, 60)),
        ('viewBox="0 0 30 20" width="50%" height="50%"', (30, 20)),
        ('width="1" height="1"', (1, 1)),
        ('width="300" height="1"', (300, 1)),
        ('width="1" height="300"', (1, 300)),
    ],
)
def test_the_size_is_that_of_the_root_in_css_pixels(root: str, size: tuple[int, int]) -> None:
    data = document(root=root)
    assert probe(data).size == size
    assert decode(data).size == size


def test_shapes_are_drawn_with_straight_alpha() -> None:
    pixels = decode(document('<rect x="5" width="10" height="10" fill="#f00" fill-opacity="0.5"/>')).pixels
    assert pixels.dtype == np.uint8
    assert np.abs(pixels[5, 10].astype(int) - [255, 0, 0, 128]).max() <= 1
    assert pixels[5, 2, 3] == 0
    assert probe(document()).has_alpha


def test_a_smaller_need_is_drawn_at_the_nominal_size() -> None:
    assert decode(document(), Need(least=Size(2, 1))).size == Size(20, 10)


@pytest.mark.parametrize(
    "data",
    [
        document(before='<?xml version="1.0" encoding="UTF-8"?>\n<!-- made by <svg> hand -->\n'),
        document(
            before='<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/x.dtd">'
        ),
        document(
            before='<!DOCTYPE svg [<!ENTITY color "red">\n] >', body='<rect width="20" height="10" fill="&color;"/>'
        ),
        b"\xef\xbb\xbf" + document(),
        document(before='<?xml version="1.0" encoding="UTF-16"?>').decode().encode("utf-16"),
        b"<?xml version='1.0' encoding='ISO-8859-1'?>" + document("<desc>\xe4</desc>" + RED).decode().encode("latin-1"),
        b'<s:svg xmlns:s="http://www.w3.org/2000/svg" width="20" height="10"><s:rect width="20" height="10"/></s:svg>',
    ],
)
def test_every_way_to_begin_a_document_is_read(data: bytes) -> None:
    assert sniff(data) is not None
    assert drawn(data)


@pytest.mark.parametrize("data", [b"<html><svg></svg></html>", b"<svgx/>", b"<!-- <svg>", b"<?xml version='1.0'?><a/>"])
def test_other_documents_are_no_svg(data: bytes) -> None:
    with pytest.raises(UnsupportedFormat):
        identify(data)


def test_a_packed_document_is_refused() -> None:
    with pytest.raises(UnsupportedFormat, match="SVGZ"):
        decode(gzip.compress(document()))


@pytest.mark.parametrize("form", ["red.png", "{folder}/red.png", "file://{folder}/red.png", "./red.png", "red.svg"])
@pytest.mark.parametrize("element", ["image href", "image xlink:href", "use href", "feImage href"])
def test_no_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: Any, form: str, element: str
) -> None:
    (tmp_path / "red.png").write_bytes(pictures.write(np.full((9, 9, 3), 200, np.uint8), "png"))
    (tmp_path / "red.svg").write_bytes(document('<rect id="a" width="20" height="10"/>'))
    monkeypatch.chdir(tmp_path)
    address = form.format(folder=tmp_path)
    if element == "use href":
        address += "#a"
    name, attribute = element.split()
    body = f'<{name} {attribute}="{address}" width="20" height="10"/>'
    if name == "feImage":
        body = f'<filter id="f">{body}</filter><rect width="20" height="10" fill="none" filter="url(#f)"/>'
    assert not drawn(document(body))


@pytest.mark.parametrize(
    "body",
    [
        "<style>@import url('file://{folder}/a.css'); @import 'a.css';</style><rect width='20' height='10'/>",
        "<xi:include xmlns:xi='http://www.w3.org/2001/XInclude' href='a.css'/><rect width='20' height='10'/>",
        "<script href='a.css'/><script>document.documentElement.innerHTML=''</script><rect width='20' height='10'/>",
    ],
)
def test_no_style_sheet_inclusion_or_script_changes_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    (tmp_path / "a.css").write_text("rect { fill: #0f0 }")
    monkeypatch.chdir(tmp_path)
    data = document(body.format(folder=tmp_path), before='<?xml-stylesheet href="a.css" type="text/css"?>')
    assert decode(data).pixels[5, 5].tolist() == [0, 0, 0, 255]


def test_an_external_entity_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("red")
    before = f'<!DOCTYPE svg [<!ENTITY x SYSTEM "file://{secret}">]>'
    for body in ('<text y="9">&x;</text>', '<rect width="20" height="10" fill="&x;"/>'):
        with pytest.raises(CorruptImage):
            decode(document(body, before=before))


def test_no_address_is_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a"
        before = f'<?xml-stylesheet href="{address}.css"?><!DOCTYPE svg SYSTEM "{address}.dtd">'
        body = f'<style>@import "{address}.css";</style><image href="{address}.png" width="20" height="10"/>'
        assert not drawn(document(body, before=before))
        with pytest.raises(BlockingIOError):
            server.accept()


def test_entities_may_not_explode() -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    before = f'<!DOCTYPE svg [<!ENTITY e0 "lollollollol">{entities}]>'
    with pytest.raises(CorruptImage, match="amplification"):
        decode(document("<text>&e9;</text>", before=before))


def test_references_may_not_explode() -> None:
    groups = "".join(f'<g id="g{n}">{f"""<use href="#g{n - 1}"/>""" * 10}</g>' for n in range(1, 8))
    with pytest.raises(CorruptImage, match="referenced"):
        decode(document(f'<defs><g id="g0"/>{groups}</defs><use href="#g7"/>', 'width="2" height="2"'))


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (document("<g>" * 300 + "</g>" * 300), "inside each other"),
        (document("<g/>" * (svg.MAX_ELEMENTS + 1)), "elements"),
        (document(" " * svg.MAX_BYTES), "bytes"),
        (document(root='width="20000" height="10"'), "pixels a side"),
        (document(root='width="16000" height="16000"'), "pixels in all"),
        (document(root='viewBox="0 0 1e8 1e8"'), "pixels a side"),
    ],
)
def test_what_is_too_large_is_refused_before_it_is_drawn(data: bytes, limit: str) -> None:
    with pytest.raises(LimitExceeded, match=limit):
        decode(data)


@pytest.mark.parametrize(
    ("root", "error", "why"),
    [
        ("", UnsupportedFormat, "no size"),
        ('width="20"', UnsupportedFormat, "no size"),
        ('width="100%" height="100%"', UnsupportedFormat, "no size"),
        ('width="20em" height="10"', UnsupportedFormat, "em"),
        ('width="20vw" height="10"', UnsupportedFormat, "vw"),
        ('width="0" height="10"', CorruptImage, "0×10"),
        ('width="-5" height="10"', CorruptImage, "-5"),
        ('width="calc(1px)" height="10"', CorruptImage, "calc"),
        ('width="20" height="10" style="width:5000px"', UnsupportedFormat, "style"),
    ],
)
def test_a_size_that_is_not_known_beforehand_is_refused(root: str, error: type[PixelmillError], why: str) -> None:
    with pytest.raises(error, match=why):
        decode(document(root=root))


def huge_png(side: int) -> bytes:
    """A gray PNG of many pixels and few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes((1 + -(-side // 8)) * side), 9))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("start", ["data:", "  DATA:", "da&#10;ta:", "&#9;data:"])
def test_pictures_inside_may_not_explode(start: str) -> None:
    text = base64.b64encode(huge_png(6_000)).decode()
    with pytest.raises(LimitExceeded, match="embedded"):
        decode(embedding(f"{start}image/png;base64,{text}"))


def test_pictures_inside_count_together() -> None:
    text = base64.b64encode(huge_png(3_000)).decode()
    image = f'<image href="data:image/png;base64,{text}" width="2" height="2"/>'
    assert drawn(document(image * 2))
    with pytest.raises(LimitExceeded, match="embedded"):
        decode(document(image * 3))


@pytest.mark.parametrize("fmt", ["png", "jpeg"])
def test_a_small_picture_inside_is_drawn(pictures: Any, fmt: str) -> None:
    text = base64.b64encode(pictures.write(np.full((4, 4, 3), 200, np.uint8), fmt)).decode()
    assert drawn(embedding(f"data:image/{fmt};base64,{text}"))


@pytest.mark.parametrize(
    "address",
    [
        "data:image/svg+xml,%3Csvg/%3E",
        "data:image/gif;base64,R0lGODdh",
        "data:image/png,abc",
        "data:,x",
        "data:image/png;charset=x;base64,AAAA",
    ],
)
def test_other_things_inside_are_refused(address: str) -> None:
    with pytest.raises(UnsupportedFormat, match="embeds"):
        decode(embedding(address))


def test_a_picture_inside_that_is_none_is_refused() -> None:
    with pytest.raises(CorruptImage, match="damaged"):
        decode(embedding("data:image/png;base64,AAAA"))


RICH = document(
    '<defs><linearGradient id="g"><stop offset="0" stop-color="red"/><stop offset="1"/></linearGradient></defs>'
    '<style>.a { stroke: blue; fill: url(#g) }</style><path class="a" d="M1 1h8v8z"/><use href="#g"/>'
    '<circle cx="14" cy="5" r="4" fill="#0a0" transform="rotate(3)"/><text x="1" y="9" font-size="5">a</text>',
    before='<?xml version="1.0"?><!-- c -->',
)


def test_a_truncated_document_is_never_half_a_picture() -> None:
    assert drawn(RICH)
    for cut in range(len(RICH)):
        with pytest.raises(InputError):
            decode(RICH[:cut])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_changed_letters_give_a_picture_or_a_named_error(data: st.DataObject) -> None:
    broken = bytearray(RICH)
    letters = st.one_of(st.sampled_from(b"<>/\"'&;#0 19aeE%:.-()"), st.integers(0, 255))
    for at, letter in data.draw(st.lists(st.tuples(st.integers(0, len(RICH) - 1), letters), min_size=1, max_size=4)):
        broken[at] = letter
    limits = Limits(max_pixels=1_000_000)
    try:
        image = decode(bytes(broken), limits=limits)
    except InputError:
        return  # every other exception fails the test
    assert image.size.pixels <= limits.max_pixels


def test_the_library_prints_nothing_and_names_missing_memory() -> None:
    script = """
import resource, sys
from pixelmill.errors import InputError, OutOfMemory
from pixelmill.images.decode import decode
data = sys.stdin.buffer.read()
for cut in range(0, len(data), 7):
    for broken in (data[:cut], data[:cut] + b"x" + data[cut + 1:], data[:cut] + b'"' + data[cut:]):
        try:
            decode(broken)
        except InputError:
            pass
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 20_000_000, used + 20_000_000))
try:
    decode(data.replace(b'"20"', b'"3000"', 1).replace(b'"10"', b'"3000"', 1))
except OutOfMemory as error:
    print(error.type)
"""
    done = subprocess.run([sys.executable, "-c", script], input=RICH, capture_output=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (b"out-of-memory", b"")


def test_variants_are_drawn(assets: Path) -> None:
    paths = sorted((assets / "variants").rglob("*.svg"))
    for path in paths:
        data = path.read_bytes()
        if b"data:application/xml" in data:
            with pytest.raises(UnsupportedFormat, match="embeds"):
                decode(data)
        else:
            assert decode(data).size == probe(data).size
    assert paths
