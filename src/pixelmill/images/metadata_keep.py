"""From a source's metadata to what its result is given: the policies ``keep`` and ``copyright``.

``keep`` rewrites what it keeps: pixels are upright, of another size, and perhaps of another color space. The place
(GPS) goes unless asked for; thumbnails and the maker's own notes (whose offsets would break) always go.
"""

from __future__ import annotations

from dataclasses import replace

from pixelmill.images import exif_block, iptc, metadata_read, metadata_write, xmp
from pixelmill.images.exif_block import Directory, Exif, Value
from pixelmill.images.formats import Data
from pixelmill.images.image import Size
from pixelmill.images.metadata import HOLDS, MetadataOptions
from pixelmill.images.metadata_read import Blocks
from pixelmill.images.metadata_write import Kept

_COPYRIGHT = frozenset({exif_block.ARTIST, exif_block.COPYRIGHT})
_UNTRUE = frozenset({exif_block.MAKER_NOTE, exif_block.WIDTH, exif_block.HEIGHT})
_SRGB = 1


def carry(
    body: bytes,
    target: str,
    source: Data,
    fmt: str,
    options: MetadataOptions,
    size: Size,
    *,
    converted: bool = False,
    description: str = "",
) -> bytes:
    """``body``, a file of format ``target``, with what ``options`` keep of ``source``, a file of format ``fmt``.

    ``size`` is that of the result; ``converted``: its colors were brought from the source's profile to sRGB. Never
    raises for what is in ``source``: broken metadata is dropped. ``description`` stands in place of the source's own.
    """
    strips = options.policy == "strip" or not source
    if target not in HOLDS or (strips and not description):
        return body
    what = Kept() if strips else kept(metadata_read.read(source, fmt), target, options, size, converted)
    return metadata_write.write(body, target, described(what, target, description) if description else what)


def described(what: Kept, target: str, description: str) -> Kept:
    """The same with a description of the picture: EXIF's ImageDescription, and XMP's dc:description."""
    holds, exif = HOLDS[target], what.exif or Exif("<")
    text = description.encode("utf-8", "replace") + b"\0"
    main = {**exif.main, exif_block.DESCRIPTION: Value(exif_block.ASCII, len(text), text)}
    packet = xmp.rewritten(what.xmp, "keep", gps=True, credits_=xmp.Credits(description=description))
    return replace(
        what,
        exif=replace(exif, main=main) if "exif" in holds else None,
        xmp=packet if "xmp" in holds else None,
    )


def kept(blocks: Blocks, target: str, options: MetadataOptions, size: Size, converted: bool) -> Kept:
    """What of the blocks goes into a file of format ``target``."""
    holds = HOLDS.get(target, frozenset())
    only_rights = options.policy == "copyright"
    sets = tuple(item for item in blocks.iptc if not only_rights or item.key in iptc.CREDITS)
    if {item.key for item in sets} <= {iptc.CHARACTER_SET}:
        sets = ()
    exif = blocks.exif
    if exif is not None:
        exif = _rights(exif) if only_rights else _true(exif, size, options, converted)
    packet = xmp.rewritten(
        blocks.xmp,
        "copyright" if only_rights else "keep",
        gps=options.gps,
        credits_=_credits(blocks, holds),
    )
    return Kept(
        exif if exif and "exif" in holds else None,
        packet if "xmp" in holds else None,
        sets if "iptc" in holds else (),
    )


def _rights(exif: Exif) -> Exif | None:
    main = {tag: value for tag, value in exif.main.items() if tag in _COPYRIGHT and value.data.strip(b"\0 ")}
    return Exif(exif.order, main) if main else None


def _true(exif: Exif, size: Size, options: MetadataOptions, converted: bool) -> Exif | None:
    """Without what is not true of the new picture, and with what is."""
    main = _without(exif.main, exif_block.NOT_EXIF | {exif_block.ORIENTATION})
    photo = _without(exif.photo, _UNTRUE)
    place = exif.place if options.gps else {}
    interoperability = {} if converted else exif.interoperability
    if not (main or photo or place):
        return None
    main[exif_block.ORIENTATION] = exif.number(1)
    if photo:
        photo[exif_block.WIDTH] = exif.number(size.width, exif_block.LONG)
        photo[exif_block.HEIGHT] = exif.number(size.height, exif_block.LONG)
        if converted and exif_block.COLOR_SPACE in photo:
            photo[exif_block.COLOR_SPACE] = exif.number(_SRGB)
    return replace(exif, main=main, photo=photo, place=place, interoperability=interoperability)


def _without(tags: Directory, dropped: frozenset[int]) -> dict[int, exif_block.Value]:
    return {tag: value for tag, value in tags.items() if tag not in dropped}


def _credits(blocks: Blocks, holds: frozenset[str]) -> xmp.Credits:
    """Author and rights that would be lost with a block that the format can't hold; XMP takes them."""
    creators: list[str] = []
    rights = [blocks.texts.get("Copyright", "")]
    credit: list[str] = []
    if "iptc" not in holds:
        creators += iptc.text_of(blocks.iptc, iptc.BY_LINE)
        rights += iptc.text_of(blocks.iptc, iptc.COPYRIGHT)
        credit += iptc.text_of(blocks.iptc, iptc.CREDIT)
    if "exif" not in holds and blocks.exif is not None:
        creators.append(blocks.exif.text(exif_block.ARTIST))
        rights.append(blocks.exif.text(exif_block.COPYRIGHT))
    creators.append(blocks.texts.get("Author", ""))
    named = tuple(dict.fromkeys(name for name in creators if name))
    return xmp.Credits(named, next(filter(None, rights), ""), next(iter(credit), ""))
