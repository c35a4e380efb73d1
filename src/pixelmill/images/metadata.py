"""What of a file's metadata goes into the result: the choice.

Pixels never depend on it, but for ``icc``: then they keep the profile's numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class MetadataOptions(BaseModel):
    """What is kept. Equality and hash are those of the values."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, defer_build=True)

    policy: Literal["strip", "keep", "copyright"] = Field(
        default="strip",
        description="Nothing; EXIF, XMP and IPTC, as far as the format can hold them; or author and copyright alone",
    )
    gps: bool = Field(default=False, description="With keep, the place too, which is dropped otherwise")
    icc: bool = Field(default=False, description="Keep the color profile, and the pixels in its numbers")


STRIPPED = MetadataOptions.model_construct()  # without a validator, which is built when first something is given
"""Nothing is kept: the default."""

HOLDS: Mapping[str, frozenset[str]] = {
    "jpeg": frozenset({"exif", "xmp", "iptc"}),
    "png": frozenset({"exif", "xmp"}),
    "webp": frozenset({"exif", "xmp"}),
    "avif": frozenset({"exif", "xmp"}),
    "tiff": frozenset({"exif", "xmp", "iptc"}),
    "gif": frozenset({"xmp"}),
}
"""Which kinds a format is given; one that is not here holds nothing."""
