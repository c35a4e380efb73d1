"""Pictures that the tests of this room share, drawn by the program."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pil

Array = NDArray[Any]
Writer = Callable[..., bytes]


def draw(width: int, height: int) -> NDArray[np.uint8]:
    """A smooth RGB picture that no turn or mirror leaves as it is."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    red = 255 * x / max(1, width - 1)
    green = 255 * y / max(1, height - 1)
    blue = 127 + 120 * np.sin(x / 9) * np.cos(y / 7)
    return np.stack([red, green, blue], axis=-1).round().astype(np.uint8)


def write(pixels: Array | Pil.Image, fmt: str, **options: Any) -> bytes:
    """Bytes by Pillow, the independent writer."""
    picture = pixels if isinstance(pixels, Pil.Image) else Pil.fromarray(pixels)
    buffer = io.BytesIO()
    picture.save(buffer, fmt, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(width: int, height: int, depth: int, color: int, rows: bytes, *before: bytes, adam7: bool = False) -> bytes:
    """A PNG from rows as they are packed (each with its filter byte), with chunks before the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, adam7))
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(before) + pixels + chunk(b"IEND", b"")


def exif_block(orientation: int, order: str = "<") -> bytes:
    """A minimal EXIF block with one tag."""
    mark = b"II" if order == "<" else b"MM"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return mark + struct.pack(order + "HIH", 42, 8, 1) + entry + b"\0\0\0\0"


class Pictures:
    """The helpers above, for tests: a fixture instead of an import between test files."""

    draw = staticmethod(draw)
    write = staticmethod(write)
    chunk = staticmethod(chunk)
    raw_png = staticmethod(raw_png)
    exif_block = staticmethod(exif_block)


@pytest.fixture(scope="session")
def pictures() -> type[Pictures]:
    return Pictures
