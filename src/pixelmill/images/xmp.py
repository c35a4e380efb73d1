"""XMP packets rewritten: what is to go is left out while the packet is read, and nothing is copied as bytes.

Read by expat, as UTF-8 (which XMP in image files is), without a document type: no entity but XML's own five is ever
expanded, and none is fetched. Bounded in bytes, elements and depth; a packet that is no XML, or no RDF, is None.
Comments and processing instructions go. Sources: ISO 16684-1 (data model, RDF/XML); XMP specification part 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

MAX_BYTES = 1_000_000
_MAX_ELEMENTS = 50_000
_MAX_DEPTH = 64
_MAX_PREFIXES = 256
_NO_XML = re.compile("[\ud800-\udfff\ufffe\uffff]")
_BREAK = "\n"  # between namespace, name and prefix; expat refuses namespaces that hold it

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "http://purl.org/dc/elements/1.1/"
RIGHTS = "http://ns.adobe.com/xap/1.0/rights/"
PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
_META = "adobe:ns:meta/"
_XML = "http://www.w3.org/XML/1998/namespace"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_XAP = "http://ns.adobe.com/xap/1.0/"
_NOTE = "http://ns.adobe.com/xmp/note/"

_START = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_END = b'\n<?xpacket end="r"?>'
_EMPTY = f'<x:xmpmeta xmlns:x="{_META}"><rdf:RDF xmlns:rdf="{RDF}"/></x:xmpmeta>'.encode()

# A place by any name, of any maker (one of drones writes "GpsLongtitude").
_PLACE = re.compile(r"gps|latitude|longt?itude|altitude|geolocation|geotag", re.IGNORECASE)
# Untrue of a new picture: how its pixels lie, thumbnails, pictures and films behind the first one that are not kept.
_UNTRUE = {
    _TIFF: re.compile(
        r"Orientation|Image(Width|Length)|BitsPerSample|Compression|Photometric.*|SamplesPerPixel|Planar.*|YCbCr.*"
    ),
    _EXIF: re.compile(r"Pixel[XY]Dimension|ColorSpace|CompressedBitsPerPixel|MakerNote"),
    _XAP: re.compile(r"Thumbnails"),
    PHOTOSHOP: re.compile(r"ICCProfile|ColorMode"),
    _NOTE: re.compile(r".*"),
    "http://ns.google.com/photos/1.0/container/": re.compile(r".*"),
    "http://ns.google.com/photos/1.0/image/": re.compile(r".*"),
    "http://ns.google.com/photos/1.0/depthmap/": re.compile(r".*"),
    "http://ns.google.com/photos/1.0/camera/": re.compile(r"Micro|Motion.*"),
    "http://ns.adobe.com/hdr-gain-map/1.0/": re.compile(r".*"),
}
_CREDITS = {DC: re.compile(r"creator|rights"), RIGHTS: re.compile(r".*"), PHOTOSHOP: re.compile(r"Credit")}

Policy = Literal["keep", "copyright"]


@dataclass(frozen=True, slots=True)
class Credits:
    """Author and rights from elsewhere, for a file that can hold them in XMP alone.

    ``description``: one of the picture, which takes the place of the packet's own.
    """

    creators: tuple[str, ...] = ()
    rights: str = ""
    credit: str = ""
    description: str = ""


NO_CREDITS = Credits()


@dataclass(frozen=True, slots=True)
class Found:
    """What a packet tells people; ``place`` says whether it names one."""

    creator: str = ""
    rights: str = ""
    place: bool = False


def rewritten(
    packet: bytes | None, policy: Policy, *, gps: bool = False, credits_: Credits = NO_CREDITS
) -> bytes | None:
    """The packet with what the policy keeps; ``credits_`` are added where it has none of its own.

    None: nothing is left, or it can't be read.
    """
    known = packet if packet is not None and len(packet) <= MAX_BYTES else None
    for source in (known, _EMPTY):
        if source is None or (source is _EMPTY and credits_ == NO_CREDITS):
            continue
        writer = _Writer(policy, gps, credits_)
        try:
            return writer.run(source)
        except (expat.ExpatError, _RefusedError):
            continue
    return None


def look(packet: bytes) -> Found:
    """Author, rights and place; nothing where it can't be read."""
    if len(packet) > MAX_BYTES:
        return Found()
    writer = _Writer("keep", gps=True, credits_=NO_CREDITS)
    try:
        writer.run(packet)
    except (expat.ExpatError, _RefusedError):
        return Found()
    texts = {key: " ".join("".join(parts).split()) for key, parts in writer.texts.items()}
    return Found(texts.get("creator", ""), texts.get("rights", ""), writer.place)


class _RefusedError(Exception):
    """It is larger, deeper or of another kind than is read."""


@dataclass(slots=True)
class _Writer:
    """Writes anew while expat reads."""

    policy: Policy
    gps: bool
    credits_: Credits
    place: bool = False
    texts: dict[str, list[str]] = field(default_factory=dict)
    _out: list[str] = field(default_factory=list)
    _scopes: list[dict[str, str]] = field(default_factory=list)
    _open: list[tuple[str, str, str]] = field(default_factory=list)
    _skipping: int = 0
    _elements: int = 0
    _properties: int = 0
    _seen: set[str] = field(default_factory=set)

    def run(self, packet: bytes) -> bytes | None:
        """The new packet; None where no property is left."""
        parser = expat.ParserCreate("utf-8", _BREAK)
        parser.namespace_prefixes = True
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.Parse(packet.rstrip(b"\0 \r\n\t"), True)
        body = "".join(self._out).encode("utf-8", "replace")
        return _START + body + _END if self._properties else None

    @staticmethod
    def _refuse(*_: Any) -> None:
        raise _RefusedError

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._elements += 1
        if self._elements > _MAX_ELEMENTS or len(self._open) + self._skipping >= _MAX_DEPTH:
            raise _RefusedError
        uri, local, prefix = _parts(name)
        depth = len(self._open)
        if self._skipping or not self._wanted(uri, local, self._level()):
            self._skipping += 1
            return
        if depth == 0 and (uri, local) not in ((_META, "xmpmeta"), (_META, "xapmeta"), (RDF, "RDF")):
            raise _RefusedError
        if self._level() == 2:
            self._note(uri, local)
        self._open.append((uri, local, prefix))
        self._write_start(uri, local, prefix, attributes)

    def _level(self) -> int:
        """0 outside, 1 inside RDF, 2 inside one of its descriptions, 3 and more inside a property."""
        for index, (uri, local, _) in enumerate(self._open):
            if (uri, local) == (RDF, "RDF"):
                return len(self._open) - index
        return 0

    def _wanted(self, uri: str, local: str, level: int) -> bool:
        """Whether a property (an element or an attribute) stays."""
        if _PLACE.search(local) and uri != RDF:
            self.place = True
            if not self.gps or self.policy == "copyright":
                return False
        if (found := _UNTRUE.get(uri)) and found.fullmatch(local):
            return False
        if self.credits_.description and (uri, local) == (DC, "description"):
            return False
        if self.policy == "copyright" and level == 2:
            return _is_credit(uri, local)
        if self.policy == "copyright" and self._open and level < 2:
            return uri == RDF and local in ("RDF", "Description")
        return True

    def _note(self, uri: str, local: str) -> None:
        self._properties += 1
        self._seen.add(f"{uri}{local}")

    def _write_start(self, uri: str, local: str, prefix: str, attributes: Mapping[str, str]) -> None:
        bound = self._scopes[-1] if self._scopes else {}
        spaces: dict[str, str] = {}
        pieces = [_tag(prefix, local)]
        _bind(prefix, uri, bound, spaces)
        level = self._level()
        for key, value in attributes.items():
            its_uri, its_local, its_prefix = _parts(key)
            if not self._wanted(its_uri, its_local, 3):
                continue
            if its_uri not in (RDF, _XML) and level <= 2:  # a property in short, or a word about the tool
                if self.policy == "copyright" and not _is_credit(its_uri, its_local):
                    continue
                if level == 2:
                    self._note(its_uri, its_local)
            if self.policy == "copyright" and (its_uri, its_local) == (RDF, "about"):
                value = ""  # noqa: PLW2901 - an identifier of the document
            if its_prefix:
                _bind(its_prefix, its_uri, bound, spaces)
            pieces.append(f"{_tag(its_prefix, its_local)}={quoteattr(value)}")
        pieces += [f"xmlns{':' if key else ''}{key}={quoteattr(space)}" for key, space in spaces.items()]
        self._out.append(f"<{' '.join(pieces)}>")
        self._scopes.append({**bound, **spaces} if spaces else bound)
        if len(self._scopes[-1]) > _MAX_PREFIXES:
            raise _RefusedError

    def _end(self, name: str) -> None:
        del name
        if self._skipping:
            self._skipping -= 1
            return
        uri, local, prefix = self._open.pop()
        if (uri, local) == (RDF, "RDF"):
            self._add_credits()
        self._scopes.pop()
        self._out.append(f"</{_tag(prefix, local)}>")

    def _text(self, text: str) -> None:
        if self._skipping or self._level() < 3:  # between properties there is nothing to read
            return
        self._out.append(escape(text))
        for uri, local, _ in self._open:
            if uri == DC and local in ("creator", "rights"):
                self.texts.setdefault(local, []).append(text)

    def _add_credits(self) -> None:
        given, parts = self.credits_, []
        if given.creators and f"{DC}creator" not in self._seen:
            items = "".join(f"<rdf:li>{_clean(name)}</rdf:li>" for name in given.creators)
            parts.append(f"<dc:creator><rdf:Seq>{items}</rdf:Seq></dc:creator>")
        if given.rights and f"{DC}rights" not in self._seen:
            text = f'<rdf:li xml:lang="x-default">{_clean(given.rights)}</rdf:li>'
            parts.append(f"<dc:rights><rdf:Alt>{text}</rdf:Alt></dc:rights>")
        if given.credit and f"{PHOTOSHOP}Credit" not in self._seen:
            parts.append(f"<photoshop:Credit>{_clean(given.credit)}</photoshop:Credit>")
        if given.description:
            text = f'<rdf:li xml:lang="x-default">{_clean(given.description)}</rdf:li>'
            parts.append(f"<dc:description><rdf:Alt>{text}</rdf:Alt></dc:description>")
        if parts:
            self._properties += len(parts)
            spaces = f'xmlns:rdf="{RDF}" xmlns:dc="{DC}" xmlns:photoshop="{PHOTOSHOP}"'
            body = "".join(parts)
            self._out.append(f'<rdf:Description rdf:about="" {spaces}>{body}</rdf:Description>')


def _is_credit(uri: str, local: str) -> bool:
    return (found := _CREDITS.get(uri)) is not None and found.fullmatch(local) is not None


def _parts(name: str) -> tuple[str, str, str]:
    """Namespace, name and prefix; empty where there is none."""
    parts = name.split(_BREAK)
    if len(parts) == 1:
        return "", parts[0], ""
    return parts[0], parts[1], parts[2] if len(parts) > 2 else ""


def _tag(prefix: str, local: str) -> str:
    return f"{prefix}:{local}" if prefix else local


def _bind(prefix: str, uri: str, bound: Mapping[str, str], spaces: dict[str, str]) -> None:
    """Declare the prefix where it is not yet bound to that namespace."""
    if uri != _XML and spaces.get(prefix, bound.get(prefix, "")) != uri:
        spaces[prefix] = uri


def _clean(text: str) -> str:
    """Text without what no XML can hold."""
    return escape("".join(char for char in text if char >= " " and not _NO_XML.match(char)))
