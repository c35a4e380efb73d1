"""ICC profiles made from named color spaces: JPEG XL and HEIF can name one by numbers instead of embedding a profile.

Numbers are those of ITU-T H.273 (coding-independent code points), which JPEG XL shares for transfer functions. What
is brighter than reference white in the two functions for high dynamic range is clipped: 203 cd/m² is white (ITU-R
BT.2408, 2.1). Sources: ICC.1:2022 (sections 7 to 10, annex F), Bradford adaptation by Lam as in annex E.3.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_D50 = (0.9642, 1.0, 0.8249)  # XYZ of the profile connection space, ICC.1 7.2.16
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_SAMPLES = 4_096
_WHITE_NITS = 203.0

D65, DCI, EQUAL = (0.3127, 0.3290), (0.314, 0.351), (1 / 3, 1 / 3)
Points = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
BT709: Points = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
BT601_625: Points = ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060))
BT601_525: Points = ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070))
BT2020: Points = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
P3: Points = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
LINEAR, SRGB = 8, 13
TRANSFERS = frozenset({1, 4, 5, LINEAR, SRGB, 16, 17, 18})
"""Transfer functions that are known, by their number."""


@dataclass(frozen=True, slots=True)
class ColorSpace:
    """A color space in chromaticities (x, y); ``primaries`` None is gray.

    ``transfer`` is a number of ``TRANSFERS``, or ``gamma`` (above 0) the power that makes light of samples.
    """

    white: tuple[float, float] = D65
    primaries: Points | None = BT709
    transfer: int = SRGB
    gamma: float = 0.0

    @property
    def is_srgb(self) -> bool:
        """Whether samples are those of sRGB, or gray with its curve (the white of gray is what it is)."""
        return self.gamma == 0 and self.transfer == SRGB and (self.primaries in (None, BT709) and self.white == D65)


@functools.lru_cache(maxsize=32)
def profile_of(space: ColorSpace) -> bytes | None:
    """The profile of a color space: None for sRGB, and for points that span no triangle."""
    if space.is_srgb:
        return None
    curve = _curve(space)
    white = _xyz(space.white)
    if white is None:
        return None
    tags = {b"desc": _text("named color space"), b"cprt": _text("none"), b"wtpt": _point(_D50)}
    if space.primaries is None:
        return _assemble(b"GRAY", {**tags, b"kTRC": curve})
    columns = _columns(space.primaries, white)
    if columns is None:
        return None
    for name, column in zip(b"rgb", columns.T, strict=True):
        tags[bytes((name,)) + b"XYZ"] = _point(column)
        tags[bytes((name,)) + b"TRC"] = curve
    return _assemble(b"RGB ", tags)


def _xyz(point: tuple[float, float]) -> Floats | None:
    x, y = point
    return np.array([x / y, 1.0, (1 - x - y) / y]) if 1e-3 < y < 1 and 0 <= x < 1 else None


def _columns(primaries: Points, white: Floats) -> Floats | None:
    """XYZ of red, green and blue, adapted to D50; None where they make no usable matrix."""
    points = np.array([[x, y, 1 - x - y] for x, y in primaries]).T
    if abs(np.linalg.det(points)) < 1e-4:
        return None
    unadapted = points * np.linalg.solve(points, white)
    cones = _BRADFORD @ np.array(_D50) / (_BRADFORD @ white)
    columns: Floats = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD @ unadapted
    return columns if np.isfinite(columns).all() and np.abs(columns).max() < 4 else None


def _curve(space: ColorSpace) -> bytes:
    x = np.linspace(0, 1, _SAMPLES)
    light = np.clip(x**space.gamma if space.gamma else _light(space.transfer, x), 0, 1)
    return b"curv" + struct.pack(">II", 0, _SAMPLES) + np.rint(light * 65_535).astype(">u2").tobytes()


def _light(transfer: int, x: Floats) -> Floats:
    """Light of samples by H.273 table 3, 1 is white."""
    match transfer:
        case 1:
            return np.where(x < 0.081, x / 4.5, ((x + 0.099) / 1.099) ** (1 / 0.45))
        case 4 | 5 | 17:
            return np.asarray(x ** {4: 2.2, 5: 2.8, 17: 2.6}[transfer])
        case 8:
            return x
        case 16:
            power = x ** (32 / 2523)
            ratio: Floats = np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)
            return 10_000 / _WHITE_NITS * ratio ** (8192 / 1305)
        case 18:
            bright = (np.exp((np.maximum(x, 0.5) - 0.55991073) / 0.17883277) + 0.28466892) / 12
            return np.where(x <= 0.5, x * x / 3, bright) / 0.26496256  # that of 75 %, which is reference white
        case _:
            return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65_536))


def _point(xyz: Floats | tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(_fixed(float(value)) for value in xyz)


def _text(text: str) -> bytes:
    body = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">III2s2sII", 0, 1, 12, b"en", b"US", len(body), 28) + body


def _assemble(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A display profile of version 4 (ICC.1, 7.2 and 7.3); tags of the same bytes share them."""
    start = 128 + 4 + 12 * len(tags)
    places: dict[bytes, int] = {}
    body = b""
    for data in tags.values():
        if data not in places:
            places[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
    table = b"".join(struct.pack(">4sII", name, places[data], len(data)) for name, data in tags.items())
    dated = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    illuminant = b"".join(_fixed(value) for value in _D50)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"", 0x04300000, b"mntr", space, b"XYZ ") + dated + b"acsp"
    return (head + bytes(28) + illuminant).ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
