"""What can be chosen when an image is written: one frozen model of options a format, and the table of them.

The pipeline's ``format:`` step takes its parameters from these models: field order is the order of positional
arguments, and ranges, units and descriptions go into schema, help and error messages. Nothing is encoded here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from pixelmill.errors import InvalidParameter
from pixelmill.images.formats import ALIASES, written_format

Subsampling: TypeAlias = Literal["420", "422", "444"]


def as_text(value: Any) -> Any:
    """A number, which JSON or a parser made of digits, as the text it was."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def as_hex(value: Any) -> Any:
    """A color as people write it: ``#FFFFFF``, ``fff``; and a number where JSON or a parser made one of digits."""
    text = as_text(value)
    if not isinstance(text, str):
        return value
    text = text.removeprefix("#").lower()
    return "".join(digit * 2 for digit in text) if len(text) == 3 else text


MaxBytes: TypeAlias = Annotated[int, Field(ge=100, le=1_000_000_000)] | SkipJsonSchema[None]


class EncodeOptions(BaseModel):
    """Base of all options. Equality and hash are those of the values."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, defer_build=True)


class JpegOptions(EncodeOptions):
    """How a JPEG is written."""

    quality: int = Field(default=80, ge=1, le=100, description="Quality, 1 to 100; above 95 files grow, not quality")
    progressive: bool = Field(
        default=False, description="Several passes: about 7 % smaller, five times the CPU time to write"
    )
    subsampling: Annotated[Subsampling, BeforeValidator(as_text)] = Field(
        default="420", description="Resolution of color: 420 a quarter of luma's, 422 half, 444 full"
    )
    background: Annotated[str, BeforeValidator(as_hex)] = Field(
        default="ffffff", pattern="^[0-9a-f]{6}$", description="Color below transparent pixels, as hex RRGGBB"
    )
    optimize: bool = Field(
        default=False, description="Huffman tables made for the picture: 2 % smaller, 2.5 times the CPU time"
    )
    max_bytes: MaxBytes = Field(
        default=None,
        description="Lower the quality, down to 1, until the file has no more bytes; up to 8 times the time",
    )


Loop: TypeAlias = Annotated[int, Field(ge=0, le=65_535)] | SkipJsonSchema[None]
_LOOP = "How often an animation is shown, 0 for ever; by default as often as the source"


class PngOptions(EncodeOptions):
    """How a PNG is written. Lossless, 16 bits a sample are kept; but for ``colors``, which gives 8 bits."""

    compression: int = Field(
        default=3, ge=0, le=9, description="Effort, 0 to 9; 6 is 5 % smaller than 3, at over twice the CPU time"
    )
    colors: Annotated[int, Field(ge=2, le=256)] | SkipJsonSchema[None] = Field(
        default=None,
        description="Size of a palette; pixels that have no more colors stay as they are, others are reduced",
    )
    dither: bool = Field(
        default=True,
        description="With colors, mix them in fine patterns (Floyd and Steinberg) where they must be reduced and the "
        "picture is opaque",
    )
    filter: Literal["adaptive", "none"] = Field(
        default="adaptive",
        description="How rows are packed, without colors; none takes 6 to 14 % off some drawings, adds to photographs",
    )
    loop: Loop = Field(default=None, description=_LOOP)


class WebpOptions(EncodeOptions):
    """How a WebP is written."""

    quality: int = Field(
        default=80, ge=1, le=100, description="Quality, 1 to 100; with lossless, the effort to make it smaller"
    )
    lossless: bool = Field(default=False, description="Keep every pixel as it is")
    effort: int = Field(default=4, ge=0, le=6, description="Slower and smaller, 0 to 6; 6 takes twice the time of 4")
    alpha_quality: int = Field(default=100, ge=0, le=100, description="Quality of transparency, 100 is lossless")
    max_bytes: MaxBytes = Field(
        default=None,
        description="Lower the quality, down to 1, until the file has no more bytes; up to 8 times the time",
    )
    loop: Loop = Field(default=None, description=_LOOP)

    @model_validator(mode="after")
    def _lossless_has_no_limit(self) -> WebpOptions:
        if self.lossless and self.max_bytes is not None:
            raise PydanticCustomError(
                "exclusive", "lossless and max_bytes exclude each other: a lossless file can't be made smaller"
            )
        return self


class AvifOptions(EncodeOptions):
    """How an AVIF is written, with 8 bits a sample."""

    quality: int = Field(default=65, ge=1, le=100, description="Quality, 1 to 100, on a scale of its own")
    speed: int = Field(
        default=8,
        ge=0,
        le=10,
        description="Faster and larger, 0 to 10; 6 takes over three times the CPU time of 8, 9 a third",
    )
    subsampling: Annotated[Subsampling, BeforeValidator(as_text)] = Field(
        default="420", description="Resolution of color: 420 a quarter of luma's, 422 half, 444 full"
    )
    max_bytes: MaxBytes = Field(
        default=None,
        description="Lower the quality, down to 1, until the file has no more bytes; up to 8 times the time",
    )


class JxlOptions(EncodeOptions):
    """How a JPEG XL is written, with 8 bits a sample; it needs the extra ``jxl``."""

    quality: int = Field(
        default=85, ge=1, le=100, description="Quality, 1 to 100: 90 is a distance of 1, where no eye sees a difference"
    )
    lossless: bool = Field(default=False, description="Keep every pixel as it is; quality and distance don't count")
    effort: int = Field(
        default=4, ge=1, le=9, description="Slower and smaller, 1 to 9; 7 takes over ten times the CPU time of 4"
    )
    distance: float = Field(
        default=0,
        ge=0,
        le=15,
        description="Butteraugli distance in place of quality, 0.05 to 15, lower is better; 0: as quality says",
    )


class TiffOptions(EncodeOptions):
    """How a TIFF is written. Lossless; 16-bit and float samples are kept."""

    compression: Literal["deflate", "lzw", "packbits", "none"] = Field(
        default="lzw",
        description="How pixels are packed; deflate is 12 % smaller than lzw, at over three times the CPU time",
    )
    predictor: Literal["horizontal", "none"] = Field(
        default="horizontal",
        description="With deflate and lzw, pack differences of neighbors; none is smaller for drawings with few colors",
    )


class GifOptions(EncodeOptions):
    """How a GIF is written: at most 256 colors a frame, pixels transparent or opaque."""

    colors: int = Field(default=256, ge=2, le=256, description="Size of the palette, 2 to 256, transparency included")
    dither: bool = Field(
        default=True, description="Mix the colors of the palette in fine patterns (Floyd and Steinberg)"
    )
    loop: Loop = Field(default=None, description=_LOOP)


class BmpOptions(EncodeOptions):
    """How a BMP is written: 8 bits a sample, not compressed, opaque."""

    background: Annotated[str, BeforeValidator(as_hex)] = Field(
        default="ffffff", pattern="^[0-9a-f]{6}$", description="Color below transparent pixels, as hex RRGGBB"
    )


Acceptable: TypeAlias = Literal["jpeg", "png", "webp", "avif", "gif"]
SAFE: tuple[Acceptable, ...] = ("jpeg", "png", "webp")
"""What every browser and mail program of the last years takes."""


def _as_accepted(value: Any) -> Any:
    """Names and aliases in one order, each once, so that one choice has one form."""
    if not isinstance(value, list | tuple):
        return value
    known = get_args(Acceptable)
    names = tuple(ALIASES.get(name, name) if isinstance(name, str) else name for name in value)
    return tuple(name for name in known if name in names) if all(name in known for name in names) else names


class AutoOptions(EncodeOptions):
    """How a format is chosen for the final pixels, and written. 8 bits a sample."""

    accept: (
        Annotated[tuple[Acceptable, ...], Field(min_length=1), BeforeValidator(_as_accepted)] | SkipJsonSchema[None]
    ) = Field(
        default=None,
        description="Formats that may be chosen, with colons between them; by default jpeg, png and webp, or what a "
        "synchronous request says in its Accept header",
    )
    quality: int = Field(
        default=80,
        ge=1,
        le=100,
        description="Quality, 1 to 100, as of JPEG; other formats get the one that looks alike",
    )
    background: Annotated[str, BeforeValidator(as_hex)] = Field(
        default="ffffff",
        pattern="^[0-9a-f]{6}$",
        description="Color below transparent pixels where only JPEG is accepted, as hex RRGGBB",
    )

    @property
    def accepted(self) -> tuple[Acceptable, ...]:
        """The formats that may be chosen."""
        return self.accept or SAFE


OPTIONS: Mapping[str, type[EncodeOptions]] = {
    "jpeg": JpegOptions,
    "png": PngOptions,
    "webp": WebpOptions,
    "avif": AvifOptions,
    "jxl": JxlOptions,
    "tiff": TiffOptions,
    "gif": GifOptions,
    "bmp": BmpOptions,
}
"""The model of each format's options."""

AUTO = "auto"
ENDS: Mapping[str, type[EncodeOptions]] = {**OPTIONS, AUTO: AutoOptions}
"""What ``format:`` takes: every format, and the choice of one by the pixels."""


def options_for(fmt: str, options: EncodeOptions | Mapping[str, Any] | None = None) -> EncodeOptions:
    """The options of a format from what was given: nothing (the defaults), names and values, or options as they are.

    Raises :class:`UnknownOperation` for a format that is not there, :class:`InvalidParameter` for options that are
    unknown, out of range or of another format.
    """
    name = written_format(fmt).name
    model = OPTIONS[name]
    if isinstance(options, model):
        return options
    if isinstance(options, EncodeOptions):
        raise InvalidParameter(
            f"format:{name} takes {model.__name__}, not {type(options).__name__}.",
            operation="format",
            parameter="options",
            allowed=", ".join(model.model_fields),
        )
    try:
        return model.model_validate(dict(options or {}))
    except ValidationError as error:
        raise invalid(name, model, error) from error


def invalid(name: str, model: type[EncodeOptions], error: ValidationError) -> InvalidParameter:
    """What a failed validation says, in the words of a step ``format:NAME``."""
    first = error.errors(include_url=False, include_context=False)[0]
    parameter = str(first["loc"][0]) if first["loc"] else "options"
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(model.model_fields)
        message = f"format:{name} has no parameter {parameter!r}. It has: {allowed}."
    else:
        allowed = str(model.model_fields[parameter].description) if parameter in model.model_fields else ""
        message = f"format:{name}: {parameter}={first['input']!r} is not possible: {first['msg']}. {allowed}."
    return InvalidParameter(message, operation="format", parameter=parameter, allowed=allowed)
