"""What can be chosen when a result is written by regions: one frozen model of options a format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from pixelmill.errors import UnknownOperation
from pixelmill.images.encoders import EncodeOptions, JpegOptions, PngOptions, Subsampling, as_hex, as_text, invalid
from pixelmill.images.formats import format_of_name

Level: TypeAlias = Annotated[int, Field(ge=1, le=9, description="Effort of packing, 1 (fast) to 9 (small)")]
Tile: TypeAlias = Annotated[
    int, Field(ge=64, le=4096, multiple_of=16, description="Side of a tile in pixels, a multiple of 16")
]


class TileTiffOptions(EncodeOptions):
    """How a TIFF of tiles is written. A BigTIFF where a TIFF could not hold it."""

    compression: Literal["deflate", "lzw", "zstd", "jpeg", "none"] = Field(
        default="deflate", description="How tiles are packed; zstd and lzw need the extra tiles; jpeg loses detail"
    )
    predictor: Literal["horizontal", "none"] = Field(
        default="horizontal", description="Pack differences of neighbors (of floats, byte by byte), or samples"
    )
    tile: Tile = 512
    level: Level = 6
    quality: int = Field(default=85, ge=1, le=100, description="With jpeg: quality, 1 to 100")
    pyramid: bool = Field(default=False, description="With smaller copies, each of half the size, down to one tile")
    cog: bool = Field(
        default=False,
        description="A cloud-optimized GeoTIFF in its layout: a pyramid, what a reader needs first in front",
    )
    big: Literal["auto", "always"] = Field(
        default="auto", description="BigTIFF where more than 4 GB may come, or always"
    )

    @model_validator(mode="before")
    @classmethod
    def _cog_is_a_pyramid(cls, given: Any) -> Any:
        return {**given, "pyramid": True} if isinstance(given, dict) and given.get("cog") else given


class DeepZoomOptions(EncodeOptions):
    """How a Deep Zoom image is written: a .dzi file, a folder of tiles at every scale, and a page that shows them."""

    tiles: Literal["jpeg", "png"] = Field(default="jpeg", description="Format of the tiles; jpeg has no transparency")
    tile: Tile = 512
    quality: int = Field(default=85, ge=1, le=100, description="Of JPEG tiles, 1 to 100")
    subsampling: Annotated[Subsampling, BeforeValidator(as_text)] = Field(
        default="420", description="Of JPEG tiles: resolution of color, 420, 422 or 444"
    )
    background: Annotated[str, BeforeValidator(as_hex)] = Field(
        default="ffffff", pattern="^[0-9a-f]{6}$", description="Color below transparent pixels in JPEG, as hex RRGGBB"
    )
    viewer: bool = Field(default=True, description="With a page (.html) that pans and zooms, without a server")


class ZarrOptions(EncodeOptions):
    """How a Zarr array is written: one file (or object) a chunk."""

    version: Literal[2, 3] = Field(default=3, description="Of the Zarr format")
    compression: Literal["gzip", "zstd", "none"] = Field(
        default="gzip", description="How chunks are packed; zstd needs the extra tiles"
    )
    tile: Tile = 512
    level: Level = 6


REGION_FORMATS: Mapping[str, type[EncodeOptions]] = {
    "tiff": TileTiffOptions,
    "deepzoom": DeepZoomOptions,
    "zarr": ZarrOptions,
    "png": PngOptions,
    "jpeg": JpegOptions,
}
"""The model of each format that is written by regions."""

_EXTENSIONS = {
    ".tif": "tiff",
    ".tiff": "tiff",
    ".btf": "tiff",
    ".tf8": "tiff",
    ".dzi": "deepzoom",
    ".zarr": "zarr",
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
}


def region_format(name: str) -> str:
    """The format of a result by the extension of its name; raises :class:`UnknownOperation`."""
    found = _EXTENSIONS.get(PurePath(name).suffix.lower())
    if found is None:
        raise UnknownOperation(
            f"Nothing known is written in tiles to the name {PurePath(name).name!r}. End it in "
            f"{', '.join(sorted(_EXTENSIONS))}.",
            known=sorted(REGION_FORMATS),
        )
    return found


def is_regions_only(name: str) -> bool:
    """Whether a result of that name is only written by regions: no format of whole images has its extension."""
    found = _EXTENSIONS.get(PurePath(name).suffix.lower())
    return found is not None and format_of_name(PurePath(name)) is None


def region_options(fmt: str, options: EncodeOptions | Mapping[str, Any] | None = None) -> EncodeOptions:
    """The options of a format from what was given: nothing, names and values, or options as they are.

    Raises :class:`UnknownOperation` for a format that is not written by regions, :class:`InvalidParameter`.
    """
    model = REGION_FORMATS.get(fmt)
    if model is None:
        raise UnknownOperation(
            f"{fmt} is not written in tiles. What is: {', '.join(sorted(REGION_FORMATS))}.",
            known=sorted(REGION_FORMATS),
        )
    if isinstance(options, model):
        return options
    given = options.model_dump() if isinstance(options, EncodeOptions) else dict(options or {})
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise invalid(fmt, model, error) from error
