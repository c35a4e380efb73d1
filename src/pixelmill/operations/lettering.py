"""The operation that writes on a picture: text, in a font of ``fonts.py``.

Pillow renders masks of glyphs; blending is that of marks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from PIL.Image import DecompressionBombError
from pydantic import AfterValidator, Field
from pydantic.json_schema import SkipJsonSchema

from pixelmill.errors import NotApplicable
from pixelmill.images.image import Image, Need, Size
from pixelmill.images.regions import Region
from pixelmill.operations.blending import over
from pixelmill.operations.fit import placed
from pixelmill.operations.fonts import missing_letters, opened
from pixelmill.operations.moves import roomy
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.operations.parameters import BUILT_IN_FONTS, Color, Font, FontParameter, Position
from pixelmill.operations.passes import Array, Form, Map, Pass, Place
from pixelmill.operations.pixels import channels_of_color, channels_with, full_scale, is_gray_color, with_room_for

MAX_CHARACTERS = 500
MAX_FONT = 1_000
_MAX_MASK = 1 << 28
"""Pixels that all lines may cover; letters of a font that was made to do harm cover any number."""
_LINE = 1.2
"""From one baseline to the next, in sizes of the font."""


def _written(value: str) -> str:
    """Refuse what no glyph is for: control characters but the new line."""
    if not all(character.isprintable() or character == "\n" for character in value) or not value.strip():
        raise ValueError("not printable")
    return value


Words = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_CHARACTERS,
        json_schema_extra={"unit": f"1 to {MAX_CHARACTERS} printable characters and new lines"},
    ),
    AfterValidator(_written),
]


class Text(Operation):
    """Write text on the image, in the built-in font (Aileron, the letters of ASCII) or in that of a file.

    Text with a letter that the font lacks, such as ä in the built-in one, is refused.

    The file is TrueType or OpenType, of at most 20 MB: a path on the command line and in Python, the name of a file in
    the folder PIXELMILL_FONTS in the service. Letters stand one after the other as in Latin, Greek or Cyrillic; scripts
    that join letters come out unjoined.

    New lines in the text are kept; wrap breaks lines between words, and words that are longer than the image. What
    doesn't fit is cut off at the right and at the bottom. Color gives its alpha, and makes a gray image RGB.
    """

    name: ClassVar[str] = "text"
    family: ClassVar[str] = "composition"
    summary: ClassVar[str] = "Write on the image"
    example: ClassVar[str] = "Sunday~20morning"

    text: Words = Field(description="What to write")
    position: Position = Field(default="bottom", description="Where the text stands; lines are aligned likewise")
    font_size: int = Field(
        default=32, ge=1, le=MAX_FONT, description="Size of the font", json_schema_extra={"unit": "pixels"}
    )
    color: Color = Field(default="ffffff", description="Color of the letters")
    outline: Color | SkipJsonSchema[None] = Field(default=None, description="Color of a line around the letters")
    outline_width: int = Field(
        default=2, ge=1, le=100, description="Thickness of the outline", json_schema_extra={"unit": "pixels"}
    )
    wrap: bool = Field(default=True, description="Break lines that are longer than the image")
    margin: float = Field(
        default=0.02,
        ge=0,
        le=0.4,
        description="Distance from the edges",
        json_schema_extra={"unit": "of the image's shorter side"},
    )
    font: FontParameter = Field(default=BUILT_IN_FONTS[0], description="A built-in family, or a font file")

    def facts(self) -> Facts:
        """A copy, and blending where the text is."""
        return Facts("pointwise", "self-exact", ns_per_pixel=0.2, memory_factor=1.3)

    def _colors(self) -> tuple[str, ...]:
        return (self.color,) if self.outline is None else (self.outline, self.color)

    def channels(self, channels: int) -> int:
        """RGB where colored letters stand on gray."""
        for color in self._colors():
            channels = channels_with(color, channels)
        return channels

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel; in color where the letters have one."""
        del size
        return Need(color=after.color or not all(map(is_gray_color, self._colors())))

    def fonts(self) -> tuple[str, ...]:
        """The font's reference, unless it is built in or there already."""
        return (self.font,) if isinstance(self.font, str) and self.font not in BUILT_IN_FONTS else ()

    def with_fonts(self, fonts: Mapping[str, Font | str]) -> Operation:
        """With another reference, or a font, for the font."""
        if isinstance(self.font, Font) or self.font not in fonts:
            return self
        return self.model_copy(update={"font": fonts[self.font]})

    def apply(self, image: Image) -> Step:
        """Render masks, and lay colors over the image through them.

        Raises :class:`NotApplicable` while the font is a mere reference, where its letters are immense, and where it
        lacks one.
        """
        written = self._rendered(image.size)
        for color in self._colors():
            image = with_room_for(image, color)
        return Step(image.with_pixels(_laid(image.pixels, written, Region(0, 0, *image.size))))

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Render once, and lay colors over what a tile sees of it."""
        written = self._rendered(form.size)

        def draw(pixels: Array, place: Place) -> Array:
            return _laid(pixels, written, place.extended)

        return (*roomy(form, *self._colors()), Map(self.name, draw, ns_per_pixel=0.2, memory_factor=1.3))

    def _rendered(self, size: Size) -> _Written:
        if self.fonts():
            raise NotApplicable(f"text: the font {self.font!r} was not loaded.", operation="text")
        try:
            return self._written(size)
        except (OSError, ValueError, DecompressionBombError) as error:  # of FreeType, and of Pillow's bounds
            raise NotApplicable(
                f"text: the letters can't be drawn in this font at this size ({error}); is the font file broken? Use "
                "another font, or a smaller font_size.",
                operation="text",
            ) from error

    def _written(self, size: Size) -> _Written:
        stroke = self.outline_width if self.outline is not None else 0
        margin = round(self.margin * min(size))
        room = Size(max(1, size.width - 2 * margin), max(1, size.height - 2 * margin))
        self._check_letters()
        font = opened(self.font, self.font_size)
        lines = self._lines(font, room, stroke)
        box = _box(lines, font, self._align, stroke)
        if (box[2] - box[0]) * (box[3] - box[1]) > _MAX_MASK:
            raise ValueError("they are immense")
        extent = Size(max(1, box[2] - box[0]), max(1, box[3] - box[1]))
        x, y = placed(size, extent, self.position, margin)
        # Too long a text starts where the image starts.
        x = max(x, min(margin, size.width - 1)) if extent.width > room.width else x
        y = max(y, min(margin, size.height - 1)) if extent.height > room.height else y
        left, top = max(0, x), max(0, y)
        width, height = min(size.width, x + extent.width) - left, min(size.height, y + extent.height) - top
        origin = (x - box[0] - left, y - box[1] - top)
        masks = [
            (color, _mask(Size(width, height), lines, font, self._align, around, origin))
            for color, around in zip(self._colors(), (stroke, 0) if stroke else (0,), strict=True)
        ]
        return _Written(Region(left, top, width, height), masks)

    def _check_letters(self) -> None:
        """Refuse what would come out as empty boxes."""
        missing = missing_letters(self.text, self.font)
        if missing:
            used = "the built-in font, which has the letters of ASCII," if isinstance(self.font, str) else "the font"
            raise NotApplicable(
                f"text: {used} has no {' '.join(missing[:20])}. Give a font file that has: font=FILE.",
                operation="text",
                parameter="font",
                missing="".join(missing[:20]),
            )

    @property
    def _align(self) -> str:
        return "left" if "left" in self.position else "right" if "right" in self.position else "center"

    def _lines(self, font: ImageFont.FreeTypeFont, room: Size, stroke: int) -> list[str]:
        """At most as many lines as the room shows a part of, each at most a little wider than it."""
        width = max(1, room.width - 2 * stroke)
        most = room.height // _pitch(font) + 1
        lines: list[str] = []
        for line in self.text.split("\n"):
            lines.extend(_wrapped(line, font, width) if self.wrap else [line[: _fitting(line, font, width) + 1]])
        return lines[:most]


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> int:
    """How many characters of ``text`` fit into ``width`` pixels, by halving."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle]) <= width:
            low = middle
        else:
            high = middle - 1
    return low


def _wrapped(line: str, font: ImageFont.FreeTypeFont, width: int) -> Iterable[str]:
    """Parts of a line: broken behind the last space that fits, else within the word, after at least one character."""
    while line:
        count = _fitting(line, font, width)
        if count == len(line):
            break
        space = line.rfind(" ", 0, count + 1)
        cut = space if space > 0 else max(1, count)
        yield line[:cut].rstrip(" ")
        line = line[cut:].lstrip(" ")
    yield line


def _pitch(font: ImageFont.FreeTypeFont) -> int:
    """Pixels from one baseline to the next; Pillow's own would depend on the outline."""
    return max(1, round(font.size * _LINE))


def _starts(lines: list[str], font: ImageFont.FreeTypeFont, align: str) -> list[tuple[int, int]]:
    """Where each line starts on its baseline, the first at y = 0."""
    lengths = [font.getlength(line) for line in lines]
    share = {"left": 0.0, "center": 0.5, "right": 1.0}[align]
    widest = max(lengths)
    return [(round(share * (widest - length)), index * _pitch(font)) for index, length in enumerate(lengths)]


def _box(lines: list[str], font: ImageFont.FreeTypeFont, align: str, stroke: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of lines that start as :func:`_starts` says, side bearings included."""
    starts = _starts(lines, font, align)
    boxes = [font.getbbox(line, anchor="ls", stroke_width=stroke) for line in lines]
    placed_boxes = [(x + box[0], y + box[1], x + box[2], y + box[3]) for (x, y), box in zip(starts, boxes, strict=True)]
    lefts, tops, rights, bottoms = zip(*placed_boxes, strict=True)
    return math.floor(min(lefts)), math.floor(min(tops)), math.ceil(max(rights)), math.ceil(max(bottoms))


def _mask(
    size: Size, lines: list[str], font: ImageFont.FreeTypeFont, align: str, stroke: int, origin: tuple[int, int]
) -> NDArray[np.float32]:
    """How much of each pixel the letters cover, from 0 to 1; ``stroke`` pixels thicker on each side."""
    canvas = PillowImage.new("L", size)
    draw = ImageDraw.Draw(canvas)
    for line, (x, y) in zip(lines, _starts(lines, font, align), strict=True):
        draw.text((x + origin[0], y + origin[1]), line, 255, font, anchor="ls", stroke_width=stroke)
    return np.asarray(np.asarray(canvas) / np.float32(255), np.float32)


class _Written(NamedTuple):
    """Where the letters stand, and how much of each pixel there each color covers."""

    region: Region
    masks: list[tuple[str, NDArray[np.float32]]]


def _laid(pixels: NDArray[Any], written: _Written, region: Region) -> NDArray[Any]:
    """A copy of the pixels of ``region`` with the letters over them."""
    result = pixels.copy()
    part = written.region.overlap(region)
    if part.pixels:
        view = part.of(result, region)
        for color, mask in written.masks:
            view[...] = _through(part.of(mask, written.region), color, view)
    return result


def _through(mask: NDArray[np.float32], color: str, base: NDArray[Any]) -> NDArray[Any]:
    *samples, alpha = channels_of_color(color, base.dtype)
    channels = samples[: 1 if base.ndim == 2 else 3]
    weight = mask[..., np.newaxis] * np.float32(alpha / full_scale(base.dtype))
    return over(np.array(channels, np.float32).reshape(1, 1, -1), weight, base)
