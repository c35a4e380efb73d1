"""What metadata a result has: kept where asked for, rewritten, without the place; and never at the picture's cost."""

from __future__ import annotations

import io
import random
import re
import struct
import zlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import tifffile
from PIL import Image as Pil
from PIL import ImageCms
from PIL.TiffImagePlugin import IFDRational

from pixelmill import Pipeline
from pixelmill.images import exif_block, iptc, metadata_read, xmp
from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.image import Image, Size
from pixelmill.images.metadata import MetadataOptions
from pixelmill.images.metadata_keep import carry
from pixelmill.images.metadata_look import describe

HOLDING = ("jpeg", "png", "webp", "avif", "tiff")
LATITUDE = (IFDRational(4711, 97), IFDRational(4513, 89), IFDRational(4127, 83))
LATITUDE_BYTES = [struct.pack(order + "II", 4711, 97) for order in "<>"]
MAKER_NOTE = b"MAKERNOTE-with-offsets-4711"
PACKET = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="some tool">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="uuid:4711" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
    xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:drone="http://www.dji.com/drone-dji/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
    tiff:Orientation="6" exif:GPSLatitude="48,34.0713N" drone:GpsLongtitude="11.4711" xmp:Rating="4"
    photoshop:Credit="Agency" photoshop:City="Graz">
   <exif:GPSLongitude>11,34.4711E</exif:GPSLongitude>
   <xmp:Thumbnails><rdf:Alt><rdf:li>QUJDRA==</rdf:li></rdf:Alt></xmp:Thumbnails>
   <xmpRights:UsageTerms><rdf:Alt><rdf:li xml:lang="x-default">Ask &amp; pay</rdf:li></rdf:Alt></xmpRights:UsageTerms>
   <dc:creator><rdf:Seq><rdf:li>J\xc3\xb6rg \xf0\x9f\x93\xb7</rdf:li></rdf:Seq></dc:creator>
   <dc:rights><rdf:Alt><rdf:li xml:lang="x-default">\xc2\xa9 2024</rdf:li></rdf:Alt></dc:rights>
   <dc:subject><rdf:Bag><rdf:li>mill</rdf:li></rdf:Bag></dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""
SETS = (
    iptc.Dataset((1, 90), b"\x1b%G"),
    iptc.Dataset((2, 80), "Jörg".encode()),
    iptc.Dataset((2, 90), b"Graz"),
    iptc.Dataset((2, 110), b"Agency"),
    iptc.Dataset((2, 116), b"(c) 2024"),
)


def picture(width: int = 48, height: int = 32) -> Pil.Image:
    y, x = np.mgrid[0:height, 0:width]
    return Pil.fromarray(np.dstack([x * 5, y * 7, (x + y) * 3]).astype(np.uint8))


def exif_of_pillow(orientation: int = 1, order: str = "<") -> Pil.Exif:
    exif = Pil.Exif()
    exif.endian = order
    main = {271: "Maker", 272: "Model X", 305: "Tool", 306: "2024:05:06 07:08:09", 315: "Joan", 33432: "(c) Joan"}
    exif.update({**main, 274: orientation, 282: IFDRational(300, 1), 270: "Windmill"})
    photo = exif.get_ifd(exif_block.PHOTO)
    photo.update({33434: IFDRational(1, 250), 36867: "2024:05:06 07:08:09", 40961: 65535, 40962: 4000, 40963: 3000})
    photo.update({37500: MAKER_NOTE, 41729: b"\1", 42036: "Lens 50 mm", 37510: b"ASCII\0\0\0a comment"})
    exif.get_ifd(exif_block.PLACE).update({1: "N", 2: LATITUDE, 3: "E", 4: LATITUDE, 29: "2024:05:06"})
    return exif


def app(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def full_jpeg(orientation: int = 1, order: str = "<", **options: Any) -> bytes:
    """A JPEG with all three blocks, by Pillow and by hand."""
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG", quality=95, exif=exif_of_pillow(orientation, order).tobytes(), **options)
    plain = buffer.getvalue()
    resource = iptc.resource(iptc.write(SETS))
    blocks = app(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + PACKET) + app(0xED, b"Photoshop 3.0\0" + resource)
    return plain[:2] + blocks + plain[2:]


def full_file(fmt: str, orientation: int = 1) -> bytes:
    """A file with all that the format can hold; by Pillow, the independent writer."""
    if fmt == "jpeg":
        return full_jpeg(orientation)
    buffer, exif = io.BytesIO(), exif_of_pillow(orientation)
    if fmt == "tiff":
        exif[700] = PACKET
        exif[33723] = iptc.write(SETS)
        picture().save(buffer, "TIFF", exif=exif.tobytes())
    elif fmt == "png":
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", PACKET.decode())
        picture().save(buffer, "PNG", exif=exif.tobytes(), pnginfo=text)
    else:
        options = {"lossless": True} if fmt == "webp" else {"quality": 90}
        picture().save(buffer, fmt.upper(), exif=exif.tobytes(), xmp=PACKET, **options)
    return buffer.getvalue()


def run(data: bytes, text: str) -> bytes:
    body = Pipeline.parse(text).run(data).bytes
    assert body is not None
    return body


def opened(data: bytes) -> Pil.Image:
    image = Pil.open(io.BytesIO(data))
    image.load()
    return image


def exif_in(data: bytes) -> Pil.Exif:
    """By Pillow, while the file is open: it closes a TIFF that it has loaded."""
    with Pil.open(io.BytesIO(data)) as image:
        exif = image.getexif()
        for directory in (exif_block.PHOTO, exif_block.PLACE):
            exif.get_ifd(directory)
        return exif


def xmp_of(image: Pil.Image) -> str:
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    return found.decode() if isinstance(found, bytes) else found


def assert_upright(exif: Pil.Exif, size: tuple[int, int]) -> None:
    photo = exif.get_ifd(exif_block.PHOTO)
    assert exif[274] == 1
    assert (photo[40962], photo[40963]) == size


@pytest.mark.parametrize("source", HOLDING)
@pytest.mark.parametrize("target", HOLDING)
def test_keep_takes_what_is_true_from_every_format_to_every_format(source: str, target: str) -> None:
    data = full_file(source)
    body = run(data, f"resize:24,16/metadata:keep/format:{target}")
    image, exif = opened(body), exif_in(body)
    photo = exif.get_ifd(exif_block.PHOTO)
    assert_upright(exif, (24, 16))
    assert {tag: exif[tag] for tag in (271, 272, 305, 306, 315, 33432, 270)} == {
        271: "Maker",
        272: "Model X",
        305: "Tool",
        306: "2024:05:06 07:08:09",
        315: "Joan",
        33432: "(c) Joan",
        270: "Windmill",
    }
    assert (photo[33434], photo[36867], photo[42036]) == (IFDRational(1, 250), "2024:05:06 07:08:09", "Lens 50 mm")
    assert photo[37510] == b"ASCII\0\0\0a comment"
    assert photo[40961] == 65535  # no profile was converted: what it says is as true as it was
    packet = xmp_of(image)
    assert 'xmp:Rating="4"' in packet
    assert "Jörg 📷" in packet
    assert "Ask &amp; pay" in packet
    assert 'photoshop:City="Graz"' in packet
    for gone in ("Orientation", "Thumbnails", "QUJDRA"):
        assert gone not in packet
    if "iptc" in metadata_read.read(data, source).sizes and target in ("jpeg", "tiff"):
        assert metadata_read.read(body, target).iptc == SETS


@pytest.mark.parametrize("source", HOLDING)
@pytest.mark.parametrize("target", [*HOLDING, "gif", "bmp"])
@pytest.mark.parametrize("policy", ["strip", "keep", "copyright", "copyright,gps=true"])
def test_the_place_is_absent_as_bytes_unless_asked_for(source: str, target: str, policy: str) -> None:
    body = run(full_file(source), f"metadata:{policy}/format:{target}")
    for needle in (*LATITUDE_BYTES, b"34.0713", b"34.4711", b"11.4711", b"GPS", b"Gps", MAKER_NOTE):
        assert needle not in body
    assert not exif_in(body).get_ifd(exif_block.PLACE)


@pytest.mark.parametrize("source", HOLDING)
@pytest.mark.parametrize("target", HOLDING)
def test_the_place_is_kept_on_request(source: str, target: str) -> None:
    body = run(full_file(source), f"metadata:keep,gps=true/format:{target}")
    image, place = opened(body), exif_in(body).get_ifd(exif_block.PLACE)
    assert tuple(place[2]) == LATITUDE
    assert place[1] == "N"
    assert "11,34.4711E" in xmp_of(image)
    assert "11.4711" in xmp_of(image)


@pytest.mark.parametrize("target", [*HOLDING, "gif", "bmp"])
def test_strip_is_the_default_and_leaves_nothing(target: str) -> None:
    body = run(full_jpeg(), f"format:{target}")
    assert body == encode(decode(full_jpeg()), target)
    assert describe(body, target) == {}


@pytest.mark.parametrize("target", HOLDING)
def test_copyright_keeps_author_and_rights_alone(target: str) -> None:
    body = run(full_jpeg(), f"metadata:copyright/format:{target}")
    image, exif = opened(body), exif_in(body)
    assert (exif[315], exif[33432]) == ("Joan", "(c) Joan")
    if target != "tiff":
        assert set(exif) == {315, 33432}
    assert not exif.get_ifd(exif_block.PHOTO)
    assert set(exif) & {271, 272, 305, 306, 270, 274} == set()
    packet = xmp_of(image)
    for kept in ("Jörg 📷", "© 2024", "Ask &amp; pay", 'photoshop:Credit="Agency"'):
        assert kept in packet
    for gone in ("Graz", "Rating", "mill<", "uuid:4711", "some tool", "Maker", "Windmill"):
        assert gone not in packet
    names = set(re.findall(r"[ <]([a-zA-Z]+:[a-zA-Z]+)[=> /]", packet)) - {"xml:lang"}
    assert {name for name in names if not name.startswith(("rdf:", "xmlns:", "x:"))} == {
        "dc:creator",
        "dc:rights",
        "xmpRights:UsageTerms",
        "photoshop:Credit",
    }
    if target in ("jpeg", "tiff"):
        assert metadata_read.read(body, target).iptc == tuple(item for item in SETS if item.key != (2, 90))


@pytest.mark.parametrize("target", ["png", "webp", "avif", "gif"])
def test_rights_that_only_iptc_names_go_into_xmp_where_iptc_has_no_place(target: str) -> None:
    plain = encode(decode(full_jpeg()), "jpeg")
    data = plain[:2] + app(0xED, b"Photoshop 3.0\0" + iptc.resource(iptc.write(SETS))) + plain[2:]
    for policy in ("copyright", "keep"):
        packet = metadata_read.read(run(data, f"metadata:{policy}/format:{target}"), target).xmp
        assert packet is not None
        text = packet.decode()
        assert "<rdf:li>Jörg</rdf:li>" in text
        assert "(c) 2024" in text
        assert "<photoshop:Credit>Agency</photoshop:Credit>" in text


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("target", HOLDING)
def test_a_turned_picture_is_upright_once(order: str, orientation: int, target: str) -> None:
    data = full_jpeg(orientation, order)
    kept, stripped = run(data, f"metadata:keep/format:{target}"), run(data, f"format:{target}")
    image = opened(kept)
    assert_upright(exif_in(kept), image.size)
    assert image.size == opened(stripped).size == ((32, 48) if orientation > 4 else (48, 32))
    np.testing.assert_array_equal(decode(kept).pixels, decode(stripped).pixels)


@pytest.mark.parametrize("target", [*HOLDING, "gif"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_metadata_never_changes_a_pixel(target: str, mode: str) -> None:
    source = opened(full_jpeg()).convert(mode)
    if mode == "RGBA":
        source.putalpha(Pil.linear_gradient("L").resize(source.size))
    buffer = io.BytesIO()
    source.save(buffer, "PNG", exif=exif_of_pillow().tobytes())
    kept = run(buffer.getvalue(), f"metadata:keep/format:{target}")
    stripped = run(buffer.getvalue(), f"format:{target}")
    assert len(kept) > len(stripped)
    np.testing.assert_array_equal(np.asarray(opened(kept)), np.asarray(opened(stripped)))
    np.testing.assert_array_equal(decode(kept).pixels, decode(stripped).pixels)


def test_a_tiff_is_read_by_tifffile_with_its_metadata() -> None:
    with tifffile.TiffFile(io.BytesIO(run(full_jpeg(), "metadata:keep,gps=true/format:tiff"))) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        tags = page.tags
        assert tags["Artist"].value == "Joan"
        assert tags["ExifTag"].value["PixelXDimension"] == 48
        assert tags["GPSTag"].value["GPSLatitude"] == (4711, 97, 4513, 89, 4127, 83)
        assert b"Rating" in tags["XMP"].value
        np.testing.assert_array_equal(file.asarray(), decode(full_jpeg()).pixels)


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_exif_block_is_written_as_it_was_read(order: str) -> None:
    block = exif_block.read(exif_of_pillow(6, order).tobytes())
    assert block is not None
    assert block.order == order
    assert exif_block.read(exif_block.write(block)) == block
    other = exif_block.reordered(block, "<" if order == ">" else ">")
    assert other != block
    assert exif_block.reordered(other, order) == block
    read = Pil.Exif()
    read.load(exif_block.write(other))
    assert tuple(read.get_ifd(exif_block.PLACE)[2]) == LATITUDE


def test_no_other_tag_shows_the_bytes_of_the_place() -> None:
    block = bytearray(exif_of_pillow().tobytes()[6:])
    (at,) = struct.unpack_from("<I", block, 4)
    (count,) = struct.unpack_from("<H", block, at)
    artist = next(i for i in range(at + 2, at + 2 + 12 * count, 12) if block[i : i + 2] == struct.pack("<H", 315))
    place = block.find(LATITUDE_BYTES[0])
    for start, length in ((place, 24), (place - 3, 9), (place + 16, 40)):
        struct.pack_into("<II", block, artist + 4, length, start)
        found = exif_block.read(bytes(block))
        assert found is not None
        assert found.place
        assert 315 not in found.main


def test_a_comment_in_unicode_follows_the_byte_order_of_the_block() -> None:
    comment = exif_block.Value(7, 12, b"UNICODE\0" + "é½".encode("utf-16-le"))
    block = exif_block.Exif("<", photo={exif_block.USER_COMMENT: comment})
    assert exif_block.reordered(block, ">").photo[exif_block.USER_COMMENT].data[8:].decode("utf-16-be") == "é½"


def test_the_thumbnail_is_not_kept() -> None:
    buffer = io.BytesIO()
    picture(160, 120).save(buffer, "JPEG")
    thumbnail, main = buffer.getvalue(), exif_of_pillow().tobytes()[6:]
    head = bytearray(main)
    at = struct.unpack_from("<I", head, 4)[0]
    count = struct.unpack_from("<H", head, at)[0]
    following = len(head) + (len(head) & 1)
    struct.pack_into("<I", head, at + 2 + 12 * count, following)
    head += bytes(following - len(head))
    head += struct.pack("<HHHIIHHIII", 2, 513, 4, 1, following + 30, 514, 4, 1, len(thumbnail), 0) + thumbnail
    plain = encode(decode(full_jpeg()), "jpeg")
    data = plain[:2] + app(0xE1, b"Exif\0\0" + bytes(head)) + plain[2:]
    assert thumbnail[-200:] in data
    body = run(data, "metadata:keep/format:jpeg")
    assert opened(body).getexif()[315] == "Joan"
    assert thumbnail[-200:] not in body


def test_an_exif_block_too_long_for_a_jpeg_loses_its_longest_values_only() -> None:
    exif = exif_of_pillow()
    exif[270] = "x" * 90_000
    buffer = io.BytesIO()
    picture().save(buffer, "PNG", exif=exif.tobytes())
    kept = opened(run(buffer.getvalue(), "metadata:keep/format:jpeg")).getexif()
    assert 270 not in kept
    assert (kept[315], kept[272]) == ("Joan", "Model X")
    assert len(opened(run(buffer.getvalue(), "metadata:keep")).getexif()[270]) == 90_000


def test_xmp_too_long_for_a_jpeg_is_dropped_and_the_rest_stays() -> None:
    long = PACKET.replace(b"mill", b"mill" * 20_000)
    buffer = io.BytesIO()
    picture().save(buffer, "WEBP", exif=exif_of_pillow().tobytes(), xmp=long)
    image = opened(run(buffer.getvalue(), "metadata:keep/format:jpeg"))
    assert xmp_of(image) == ""
    assert image.getexif()[315] == "Joan"
    assert len(xmp_of(opened(run(buffer.getvalue(), "metadata:keep/format:png")))) > 80_000


def test_legacy_texts_of_a_png_are_read() -> None:
    def text(kind: bytes, body: bytes) -> bytes:
        whole = kind + body
        return struct.pack(">I", len(body)) + whole + struct.pack(">I", zlib.crc32(whole))

    block = exif_of_pillow().tobytes()
    raw = f"\nexif\n{len(block):8}\n{block.hex()}\n".encode()
    sets = iptc.write(SETS)
    iim = f"\niptc\n{len(sets):8}\n{sets.hex()}\n".encode()
    plain = encode(decode(full_jpeg()), "png")
    chunks = text(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw))
    chunks += text(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(iim))
    chunks += text(b"tEXt", b"Author\0Andr\xe9") + text(b"tEXt", b"Copyright\0free")
    blocks = metadata_read.read(plain[:33] + chunks + plain[33:], "png")
    assert blocks.exif is not None
    assert blocks.exif.text(exif_block.ARTIST) == "Joan"
    assert blocks.iptc == SETS
    assert blocks.texts == {"Author": "André", "Copyright": "free"}
    only = plain[:33] + text(b"tEXt", b"Author\0Andr\xe9") + plain[33:]
    assert "André" in xmp_of(opened(run(only, "metadata:copyright/format:webp")))
    bomb = text(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n1\n" + b"00" * 20_000_000, 9))
    assert metadata_read.read(plain[:33] + bomb + plain[33:], "png").sizes == {}


def test_a_jpeg_2000_gives_its_uuid_boxes() -> None:
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG2000")
    block = exif_of_pillow().tobytes()[6:]
    name = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
    parts = [(b"JpgTiffExif->JP2", block), (name, PACKET)]
    boxes = b"".join(struct.pack(">I4s", 24 + len(part), b"uuid") + key + part for key, part in parts)
    image = opened(run(buffer.getvalue() + boxes, "metadata:keep/format:webp"))
    assert image.getexif()[315] == "Joan"
    assert "Rating" in xmp_of(image)


def test_gif_holds_xmp_and_stays_a_gif() -> None:
    body = run(full_jpeg(), "metadata:keep/format:gif")
    assert body.startswith(b"GIF89a")
    packet = metadata_read.read(body, "gif").xmp
    assert packet is not None
    assert b"Rating" in packet
    assert opened(body).size == (48, 32)
    again = metadata_read.read(run(body, "metadata:keep"), "gif").xmp
    assert again == packet


def test_the_format_of_pixels_without_a_file_has_no_metadata() -> None:
    outcome = Pipeline.parse("metadata:keep/format:jpeg").run(Image(np.asarray(picture())))
    assert outcome.bytes is not None
    assert describe(outcome.bytes, "jpeg") == {}


# -- XMP ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"<",
        b"\0" * 100,
        b"no xml at all",
        b'<!DOCTYPE x [<!ENTITY a "b">]>' + PACKET.split(b"?>", 1)[1],
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd">' + PACKET.split(b"?>", 1)[1],
        PACKET.replace(b"mill", b"&undefined;"),
        PACKET.replace(b"</dc:subject>", b""),
        PACKET.replace(b"mill", b"\xff\xfe"),
        PACKET.replace(b"mill", b"<a>" * 2_000 + b"</a>" * 2_000),
        PACKET.replace(b"mill", b"<a/>" * 60_000),
        PACKET.replace(b"mill", b"a" * 1_100_000),
        b"<html><body/></html>",
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/&#10;x"/>',
    ],
)
def test_a_packet_that_is_no_sound_xmp_is_dropped(packet: bytes) -> None:
    assert xmp.rewritten(packet, "keep") is None
    assert xmp.look(packet) == xmp.Found()
    added = xmp.rewritten(packet, "keep", credits_=xmp.Credits(("A & B",), "\0<c>"))
    assert added is not None
    assert xmp.look(added) == xmp.Found("A & B", "<c>")


def test_entities_are_never_expanded() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a0 "ha">' + b"".join(
        f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">'.encode() for i in range(1, 12)
    )
    assert xmp.rewritten(bomb + b"]><x>&a11;</x>", "keep") is None


def test_a_rewritten_packet_stays_the_same_when_it_is_rewritten() -> None:
    for policy in ("keep", "copyright"):
        once = xmp.rewritten(PACKET, policy)
        assert once is not None
        assert xmp.rewritten(once, policy) == once


def test_default_and_rebound_namespaces_keep_their_meaning() -> None:
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><RDF xmlns="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<Description xmlns:p="urn:a" p:x="1"><p:y><p:z xmlns:p="urn:b">2</p:z></p:y>'
        b'<about xmlns="urn:c">3</about></Description></RDF></x:xmpmeta>'
    )
    once = xmp.rewritten(packet, "keep")
    assert once is not None
    body = ET.fromstring(once.decode())
    assert [node.tag for node in body.iter()][3:] == ["{urn:a}y", "{urn:b}z", "{urn:c}about"]
    assert body[0][0].attrib == {"{urn:a}x": "1"}


# -- hostile blocks -----------------------------------------------------------------------------------------------


def loop(order: str = "<") -> bytes:
    """All pointers lead back to the first directory."""
    entries = [(34665, 4, 1, 8), (34853, 4, 1, 8), (40965, 4, 1, 8), (315, 2, 4, 0x00414141)]
    body = struct.pack(order + "H", len(entries))
    body += b"".join(struct.pack(order + "HHII", *entry) for entry in sorted(entries)) + struct.pack(order + "I", 8)
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8) + body


def overlapping() -> bytes:
    """A thousand values of the same 60 kB."""
    entries = b"".join(struct.pack("<HHII", 50_000 + i, 7, 60_000, 20) for i in range(1_000))
    return b"II" + struct.pack("<HIH", 42, 8, 1_000) + entries + bytes(4) + bytes(60_000 - 12_018)


HOSTILE = [
    b"",
    b"II",
    b"II*\0",
    b"II*\0\xff\xff\xff\xff",
    b"MM\0*\0\0\0\x08\xff\xff",
    loop(),
    loop(">"),
    overlapping(),
    b"II" + struct.pack("<HIHHHII", 42, 8, 1, 315, 2, 0xFFFFFFFF, 20),
    b"II" + struct.pack("<HIHHHII", 42, 8, 1, 315, 5, 0x20000001, 20),
    b"II" + struct.pack("<HIHHHII", 42, 8, 1, 315, 99, 1, 20),
]


@pytest.mark.parametrize("block", HOSTILE)
@pytest.mark.parametrize("target", HOLDING)
def test_a_hostile_exif_block_costs_nothing_but_itself(block: bytes, target: str) -> None:
    plain = encode(decode(full_jpeg()), "jpeg")
    data = plain[:2] + app(0xE1, b"Exif\0\0" + block) + plain[2:]
    for policy in ("keep,gps=true", "copyright"):
        body = run(data, f"metadata:{policy}/format:{target}")
        assert len(body) < len(run(data, f"format:{target}")) + len(block) + 1_000
        assert opened(body).size == (48, 32)
        exif_in(body)


@pytest.mark.parametrize("lie", [b"\x1c\x02\x50\xff\xff", b"\x1c\x02\x50\x80\x04\xff\xff\xff\xff", b"\x1c\x02\x50\xff"])
def test_iptc_that_lies_about_a_length_keeps_what_came_before(lie: bytes) -> None:
    assert iptc.read(iptc.write(SETS) + lie + b"abc") == SETS
    long = iptc.Dataset((2, 120), b"x" * 40_000)
    assert iptc.read(iptc.write((*SETS, long))) == (*SETS, long)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Bytes changed, cut or doubled."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 12)):
        at = chance.randrange(len(changed))
        kind = chance.random()
        if kind < 0.6:
            changed[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        elif kind < 0.8 and len(changed) > 64:
            del changed[at : at + chance.randint(1, 40)]
        else:
            changed[at:at] = changed[at : at + chance.randint(1, 40)]
    return bytes(changed)


@pytest.mark.parametrize("seed", range(60))
def test_mutated_blocks_never_cost_the_picture(seed: int) -> None:
    chance = random.Random(seed)
    plain = encode(decode(full_jpeg()), "jpeg")
    exif, packet = mutated(exif_of_pillow().tobytes()[6:], chance), mutated(PACKET, chance)
    resource = mutated(iptc.resource(iptc.write(SETS)), chance)
    blocks = app(0xE1, b"Exif\0\0" + exif) + app(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)
    data = plain[:2] + blocks + app(0xED, b"Photoshop 3.0\0" + resource) + plain[2:]
    options = MetadataOptions(policy=chance.choice(("keep", "copyright")), gps=chance.random() < 0.5)
    pixels = Image(np.asarray(picture()))
    for target in (*HOLDING, "gif"):
        body = carry(encode(pixels, target), target, data, "jpeg", options, Size(48, 32))
        np.testing.assert_array_equal(decode(body).pixels, decode(encode(pixels, target)).pixels)
        assert opened(body).size == (48, 32)
        if not options.gps:
            assert not any(needle in body for needle in LATITUDE_BYTES)
        describe(data, "jpeg")


@pytest.mark.parametrize("source", [*HOLDING, "gif"])
def test_files_cut_or_changed_anywhere_are_read_without_an_error(source: str) -> None:
    chance = random.Random(source)
    data = full_file(source) if source != "gif" else run(full_jpeg(), "metadata:keep/format:gif")
    body = encode(Image(np.asarray(picture())), "jpeg")
    for _ in range(40):
        broken = mutated(data, chance)
        carried = carry(body, "jpeg", broken, source, MetadataOptions(policy="keep"), Size(48, 32))
        assert opened(carried).size == (48, 32)


# -- profiles -----------------------------------------------------------------------------------------------------


def wide_profile() -> bytes:
    """Of sRGB, with red and green exchanged for wider ones: another RGB space."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    for index in range(count):
        name, at, _ = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        if name == b"rXYZ":
            struct.pack_into(">iii", profile, at + 8, 33_750, 15_800, -70)
        elif name == b"gXYZ":
            struct.pack_into(">iii", profile, at + 8, 19_150, 45_400, 2_750)
    return bytes(profile)


def gray_profile(gamma: float = 1.8) -> bytes:
    """A display profile of gray: white point and one curve."""
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", 63_190, 65_536, 54_061)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"gray\0" + bytes(79)
    tags, at, bodies = b"", 128 + 4 + 36, b""
    for name, body in ((b"desc", text), (b"wtpt", white), (b"kTRC", curve)):
        tags += struct.pack(">4sII", name, at + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    head = struct.pack(">I4sI4s4s4s", at + len(bodies), b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">iii", 63_190, 65_536, 54_061)
    return head.ljust(128, b"\0") + struct.pack(">I", 3) + tags + bodies


def with_profile(fmt: str, profile: bytes, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    options = {"lossless": True} if fmt == "webp" else {"quality": 95} if fmt in ("jpeg", "avif") else {}
    picture().convert(mode).save(buffer, fmt.upper(), icc_profile=profile, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("source", HOLDING)
@pytest.mark.parametrize("target", ["png", "tiff"])
def test_with_icc_pixels_are_those_of_the_file_and_the_profile_is_the_same_bytes(source: str, target: str) -> None:
    profile = wide_profile()
    data = with_profile(source, profile)
    image = opened(run(data, f"metadata:strip,icc=true/format:{target}"))
    assert image.info["icc_profile"] == profile
    np.testing.assert_array_equal(np.asarray(image), np.asarray(opened(data).convert("RGB")))
    plain = opened(run(data, f"format:{target}"))
    assert not plain.info.get("icc_profile")
    assert np.abs(np.asarray(plain).astype(int) - np.asarray(image)).max() > 5


@pytest.mark.parametrize("target", HOLDING)
def test_every_format_that_holds_a_profile_gets_it(target: str) -> None:
    profile = wide_profile()
    body = run(with_profile("png", profile), f"resize:20,20/metadata:keep,icc=true/format:{target}")
    assert opened(body).info["icc_profile"] == profile


@pytest.mark.parametrize("source", ["png", "jpeg", "tiff"])
def test_a_profile_of_gray_stays_with_gray(source: str) -> None:
    profile = gray_profile()
    data = with_profile(source, profile, "L")
    image = opened(run(data, "metadata:strip,icc=true/format:png"))
    assert image.mode == "L"
    assert image.info["icc_profile"] == profile
    np.testing.assert_array_equal(np.asarray(image), np.asarray(opened(data)))


def test_the_profile_of_srgb_stays_too() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert opened(run(with_profile("jpeg", profile), "metadata:strip,icc=true")).info["icc_profile"] == profile
    assert "icc_profile" not in opened(run(with_profile("jpeg", profile), "metadata:keep")).info


@pytest.mark.parametrize("source", ["png", "jpeg", "tiff", "webp"])
@pytest.mark.parametrize("steps", ["grayscale", "canny", "grayscale/resize:20,20"])
def test_where_color_becomes_gray_the_way_leads_through_srgb(source: str, steps: str) -> None:
    data = with_profile(source, wide_profile())
    asked, plain = run(data, f"{steps}/metadata:strip,icc=true/format:png"), run(data, f"{steps}/format:png")
    assert asked == plain
    assert "icc_profile" not in opened(asked).info


def test_where_gray_becomes_color_the_way_leads_through_srgb() -> None:
    data = with_profile("png", gray_profile(), "L")
    asked, plain = run(data, "tint:ff0000/metadata:strip,icc=true"), run(data, "tint:ff0000")
    assert opened(asked).mode == "RGB"
    assert asked == plain


@pytest.mark.parametrize("profile", [b"", b"no profile", b"\0" * 200, gray_profile()])
def test_a_profile_that_is_none_or_of_another_space_is_not_embedded(profile: bytes) -> None:
    data = with_profile("png", profile)
    image = opened(run(data, "metadata:strip,icc=true"))
    assert "icc_profile" not in image.info
    np.testing.assert_array_equal(np.asarray(image), np.asarray(picture()))


@pytest.mark.parametrize("target", ["gif", "bmp"])
def test_formats_without_profiles_get_srgb(target: str) -> None:
    data = with_profile("png", wide_profile())
    assert run(data, f"metadata:strip,icc=true/format:{target}") == run(data, f"format:{target}")


def test_cmyk_goes_to_srgb_also_with_icc() -> None:
    buffer = io.BytesIO()
    picture().convert("CMYK").save(buffer, "JPEG", quality=95, icc_profile=wide_profile())
    asked = run(buffer.getvalue(), "metadata:strip,icc=true/format:png")
    assert "icc_profile" not in opened(asked).info
    assert asked == run(buffer.getvalue(), "format:png")


def test_exif_says_srgb_where_colors_were_brought_there() -> None:
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG", exif=exif_of_pillow().tobytes(), icc_profile=wide_profile())
    converted = opened(run(buffer.getvalue(), "metadata:keep")).getexif().get_ifd(exif_block.PHOTO)
    assert converted[40961] == 1
    untouched = opened(run(buffer.getvalue(), "metadata:keep,icc=true")).getexif().get_ifd(exif_block.PHOTO)
    assert untouched[40961] == 65535


def test_orientation_that_only_xmp_names_turns_nothing() -> None:
    plain = encode(decode(full_jpeg()), "jpeg")
    data = plain[:2] + app(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + PACKET) + plain[2:]
    body = run(data, "metadata:keep")
    assert opened(body).size == (48, 32)
    assert "Orientation" not in xmp_of(opened(body))


# -- looking ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", HOLDING)
def test_a_look_tells_kinds_place_camera_date_and_rights(source: str) -> None:
    told = describe(full_file(source), source)
    kinds = {"exif", "xmp", "iptc"} if source in ("jpeg", "tiff") else {"exif", "xmp"}
    assert {key for key, value in told.items() if isinstance(value, int) and value is not True} == kinds
    assert told["gps"] is True
    assert {key: told[key] for key in ("camera", "taken", "artist", "copyright")} == {
        "camera": "Maker Model X",
        "taken": "2024:05:06 07:08:09",
        "artist": "Joan",
        "copyright": "(c) Joan",
    }
    assert "gps" not in describe(run(full_file(source), "metadata:keep"), source)


def test_info_tells_of_the_files_metadata() -> None:
    found = Pipeline.parse("info").run(full_jpeg()).data["info"]
    assert found["metadata"] == describe(full_jpeg(), "jpeg")
    assert "metadata" not in Pipeline.parse("info").run(Image(np.asarray(picture()))).data["info"]
    assert Pipeline.parse("info/grayscale/info").run(full_jpeg()).data["info-2"]["metadata"] == found["metadata"]


def test_photographs_keep_what_they_tell_but_the_place(assets: Path) -> None:
    seen = 0
    for path in sorted((assets / "photos").glob("*.jpg")):
        before = describe(path.read_bytes(), "jpeg")
        if not before:
            continue
        seen += 1
        for target in HOLDING:
            after = describe(run(path.read_bytes(), f"resize:64,64/metadata:keep/format:{target}"), target)
            texts = ("camera", "taken", "artist", "copyright")
            assert {key: after.get(key) for key in texts} == {key: before.get(key) for key in texts}
            assert "gps" not in after
    assert seen


def test_a_photograph_of_a_phone_becomes_a_jpeg_with_its_metadata() -> None:
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    heif.from_pillow(picture(64, 64)).save(buffer, quality=80, exif=exif_of_pillow().tobytes(), xmp=PACKET)
    body = run(buffer.getvalue(), "metadata:keep/format:jpeg")
    assert exif_in(body)[315] == "Joan"
    assert not exif_in(body).get_ifd(exif_block.PLACE)
    assert "Rating" in xmp_of(opened(body))


def test_boxes_of_a_jpeg_xl_are_read() -> None:
    block = exif_of_pillow().tobytes()[6:]
    parts = [(b"JXL ", b"\r\n\x87\n"), (b"Exif", bytes(4) + block), (b"xml ", PACKET)]
    data = b"".join(struct.pack(">I4s", 8 + len(part), kind) + part for kind, part in parts)
    assert describe(data, "jxl")["artist"] == "Joan"
    assert describe(data, "jxl")["xmp"] == len(PACKET)


@pytest.mark.parametrize("target", ["avif", "webp", "png", "gif"])
def test_every_frame_of_an_animation_stays_as_it_was(target: str) -> None:
    frames = [picture().rotate(90 * turn) for turn in range(4)]
    buffer = io.BytesIO()
    frames[0].save(buffer, target.upper(), save_all=True, append_images=frames[1:], duration=50)
    kept = carry(buffer.getvalue(), target, full_jpeg(), "jpeg", MetadataOptions(policy="keep"), Size(48, 32))
    assert b"Rating" in kept
    if target != "avif":  # of a sequence libavif reads what its track holds, not what the file does
        assert "xmp" in metadata_read.read(kept, target).sizes
    with Pil.open(io.BytesIO(kept)) as after, Pil.open(buffer) as before:
        assert getattr(after, "n_frames", 1) == getattr(before, "n_frames", 1) == 4
        for index in range(4):
            after.seek(index)
            before.seek(index)
            np.testing.assert_array_equal(np.asarray(after.convert("RGBA")), np.asarray(before.convert("RGBA")))
