"""What the metadata of a file tells people, in a few words: which blocks, a place or not, camera, date, rights."""

from __future__ import annotations

from pixelmill.images import exif_block, iptc, metadata_read, xmp
from pixelmill.images.formats import Data

_MAX_TEXT = 200


def describe(data: Data, fmt: str) -> dict[str, int | str | bool]:
    """Of a file of format ``fmt``; what is not there is left out.

    ``exif``, ``xmp``, ``iptc`` are bytes; ``gps`` is True where one of them names a place. ``camera``, ``taken`` (as
    EXIF writes it, local time), ``artist`` and ``copyright`` are texts of at most 200 characters.
    """
    blocks = metadata_read.read(data, fmt)
    told: dict[str, int | str | bool] = {kind: blocks.sizes[kind] for kind in sorted(blocks.sizes)}
    packet = xmp.look(blocks.xmp) if blocks.xmp is not None else xmp.Found()
    exif = blocks.exif or exif_block.Exif("<")
    if exif.place or packet.place:
        told["gps"] = True
    make, model = exif.text(exif_block.MAKE), exif.text(exif_block.MODEL)
    texts = {
        "camera": model if model.startswith(make) else f"{make} {model}",
        "taken": exif.text(exif_block.TAKEN) or exif.text(exif_block.DATE),
        "artist": exif.text(exif_block.ARTIST)
        or packet.creator
        or ", ".join(iptc.text_of(blocks.iptc, iptc.BY_LINE))
        or blocks.texts.get("Author", ""),
        "copyright": exif.text(exif_block.COPYRIGHT)
        or packet.rights
        or ", ".join(iptc.text_of(blocks.iptc, iptc.COPYRIGHT))
        or blocks.texts.get("Copyright", ""),
    }
    return {**told, **{key: _short(text) for key, text in texts.items() if text.strip()}}


def _short(text: str) -> str:
    """One line without control characters: it may end in a terminal."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _MAX_TEXT else line[: _MAX_TEXT - 1] + "…"
