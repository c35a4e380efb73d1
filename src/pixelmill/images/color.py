"""ICC profiles to sRGB, by littleCMS through Pillow.

A transform costs milliseconds to build and kilobytes to keep, so the last few are kept, by digest of the profile. A
profile that maps every probe color to itself within one level is sRGB by another name and costs nothing from then on.
A broken profile, or one for another color space than the pixels', is ignored: the pixels are taken as sRGB.

The rendering intent is relative colorimetric with black point compensation, as browsers and image services use it.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage
    from PIL.ImageCms import ImageCmsTransform

Bytes: TypeAlias = NDArray[np.uint8]
Space: TypeAlias = Literal["gray", "rgb", "cmyk"]

_MAX_TRANSFORMS = 32
_NEAR = 1  # levels of 255; sRGB profiles of different makers differ by one through rounding
_LEVELS = (0, 32, 64, 96, 128, 160, 192, 224, 255)
_SIGNATURES = {"gray": "GRAY", "rgb": "RGB", "cmyk": "CMYK"}


@dataclass(frozen=True, slots=True)
class _Table:
    """Of a gray profile: the sRGB gray level of each of 256 input levels."""

    levels: NDArray[np.uint8]


class _Transforms:
    """A bounded, thread-safe cache of transforms; the least recently used goes first.

    A value is None where the profile needs no transform: it is sRGB, or broken.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._items: OrderedDict[tuple[bytes, Space], ImageCmsTransform | _Table | None] = OrderedDict()

    def get(self, profile: bytes, space: Space) -> ImageCmsTransform | _Table | None:
        key = (hashlib.blake2b(profile, digest_size=16).digest(), space)
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
        made = _build(profile, space)  # outside the lock: two threads may build the same one, once
        with self._lock:
            self._items[key] = made
            while len(self._items) > self._size:
                self._items.popitem(last=False)
        return made

    def __len__(self) -> int:
        return len(self._items)


_transforms = _Transforms(_MAX_TRANSFORMS)


def is_srgb(profile: bytes | None, space: Space) -> bool:
    """Whether pixels with that profile can be taken as sRGB: no profile, sRGB, broken, or for another color space."""
    return profile is None or _transforms.get(profile, space) is None


def to_srgb(pixels: Bytes, profile: bytes | None, space: Space) -> Bytes:
    """``uint8`` pixels in sRGB.

    ``pixels`` are RGB ``H×W×3`` or RGBA ``H×W×4`` (alpha is kept), gray ``H×W`` or spread over RGBA, or CMYK ``H×W×4``
    (0 is no ink), as ``space`` says. Gray stays gray; CMYK becomes RGB, without a usable profile by the plain formula
    (1 - C)(1 - K).
    """
    transform = None if profile is None else _transforms.get(profile, space)
    if isinstance(transform, _Table):
        turned = np.asarray(cv2.LUT(pixels, transform.levels), dtype=np.uint8)
        if pixels.ndim == 3:
            turned[..., 3] = pixels[..., 3]
        return turned
    if transform is None:
        return _plain_rgb(pixels) if space == "cmyk" else pixels
    if space == "rgb" and pixels.shape[2] == 4:
        rgb = _apply(transform, np.ascontiguousarray(pixels[..., :3]), "RGB")
        return np.dstack((rgb, pixels[..., 3]))
    return _apply(transform, pixels, "CMYK" if space == "cmyk" else "RGB")


def managed(pixels: Bytes, profile: bytes | None, space: Space, *, keep: bool) -> tuple[Bytes, bytes | None]:
    """Pixels in sRGB and no profile; with ``keep``, as they are, and the profile where a file of theirs can hold it."""
    if keep and profile is not None and space != "cmyk" and (space == "rgb" or pixels.ndim == 2):
        return (pixels, profile) if is_usable(profile, space) else (pixels, None)
    return to_srgb(pixels, profile, space), None


def profile_kept(profile: bytes | None, space: Space, *, keep: bool) -> bytes | None:
    """The profile that stays with samples that can't be converted: with ``keep`` that of sRGB, too."""
    if profile is None or (keep and is_usable(profile, space)):
        return profile
    return None if is_srgb(profile, space) else profile


def is_usable(profile: bytes, space: Space) -> bool:
    """Whether it is a profile, and one of that color space."""
    from PIL import ImageCms

    try:
        found = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return False
    return found.profile.xcolor_space.strip() == _SIGNATURES[space]


def lab_to_srgb(picture: PilImage) -> Bytes:
    """RGB ``H×W×3`` of a picture of Pillow in CIELAB (D50, as TIFF has it)."""
    from PIL import ImageCms

    source, target = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(source, target, "LAB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    return np.array(transform.apply(picture))


def _plain_rgb(cmyk: Bytes) -> Bytes:
    """RGB by (1 - ink)(1 - black), rounded."""
    light = 255 - cmyk
    product = cv2.multiply(light[..., :3], cv2.merge([light[..., 3]] * 3), scale=1 / 255)  # rounds
    return np.asarray(product, dtype=np.uint8)


def _apply(transform: ImageCmsTransform, pixels: Bytes, mode: str) -> Bytes:
    from PIL import Image as Pil

    picture = Pil.frombuffer(mode, pixels.shape[1::-1], pixels.tobytes(), "raw", mode, 0, 1)
    return np.array(transform.apply(picture))


def _build(profile: bytes, space: Space) -> ImageCmsTransform | _Table | None:
    """The transform to sRGB; None where none is needed or none can be made."""
    from PIL import Image as Pil
    from PIL import ImageCms

    mode = {"gray": "L", "rgb": "RGB", "cmyk": "CMYK"}[space]
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != _SIGNATURES[space]:
            return None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if space == "gray":
            ramp = np.arange(256, dtype=np.uint8).reshape(1, 256)
            levels = np.array(transform.apply(Pil.fromarray(ramp)))[0, :, 1].copy()
            return None if _close(levels, ramp[0]) else _Table(levels)
        if space == "rgb":
            grid = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS), axis=-1).reshape(1, -1, 3).astype(np.uint8)
            if _close(np.array(transform.apply(Pil.fromarray(grid))), grid):
                return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        return None  # a broken profile: the picture is worth more than its color tag
    return transform


def _close(left: NDArray[Any], right: NDArray[Any]) -> bool:
    return int(np.abs(left.astype(np.int16) - right.astype(np.int16)).max()) <= _NEAR
