"""The contact sheet: many pictures as thumbnails in rows of cells, with the names of their sources below.

Owns the arithmetic of the grid (pure) and the painting of cells; it is no operation, for it makes one image of many. It
knows no jobs and no files: who asks brings pixels and names.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from pixelmill.errors import LimitExceeded, NotApplicable
from pixelmill.images import color
from pixelmill.images.image import Image, Size
from pixelmill.images.limits import Limits
from pixelmill.images.samples import color_of_hex, flatten, to_uint8
from pixelmill.operations.fonts import built_in_font
from pixelmill.operations.geometry import Resize

MAX_CELLS = 10_000
MAX_COLUMNS = 1_000
MAX_PIXELS = 50_000_000
"""Of a sheet, where the limits allow more: it is held twice while it is written, beside all of its thumbnails."""
_LEAST_CELL = 16
_LABEL = 1.5
"""Height of the room for a label, in sizes of its font."""
_DEFAULT_LIMITS = Limits()


def _opaque_hex(value: object) -> object:
    text = value.removeprefix("#").lower() if isinstance(value, str) else value
    return "".join(2 * digit for digit in text) if isinstance(text, str) and len(text) == 3 else text


Columns = Annotated[int, Field(ge=1, le=MAX_COLUMNS)]
Most = Annotated[int, Field(ge=1, le=MAX_CELLS)]
CellSide = Annotated[int, Field(ge=_LEAST_CELL, le=4_096, json_schema_extra={"unit": "pixels"})]


class Montage(BaseModel):
    """How a contact sheet is laid out, and which results it shows."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    columns: Columns | SkipJsonSchema[None] = Field(
        default=None, description="Cells in a row, by default what makes the sheet about square"
    )
    cell_width: CellSide = Field(default=256, description="Width of a cell; pictures are scaled down to fit")
    cell_height: CellSide = Field(default=256, description="Height of a cell, without its label")
    gap: int = Field(
        default=8,
        ge=0,
        le=256,
        description="Distance between cells, and around them",
        json_schema_extra={"unit": "pixels"},
    )
    background: Annotated[str, BeforeValidator(_opaque_hex)] = Field(
        default="ffffff",
        pattern="^[0-9a-f]{6}$",
        description="Color behind the cells",
        json_schema_extra={"unit": "hex RRGGBB"},
    )
    labels: bool = Field(default=True, description="Write the source's name below each picture")
    font_size: int = Field(
        default=14, ge=8, le=64, description="Size of the labels' font", json_schema_extra={"unit": "pixels"}
    )
    failed: Literal["skip", "mark"] = Field(
        default="skip", description="Leave out what gave no image, or give it a cell that is crossed out and says why"
    )
    limit: Most | SkipJsonSchema[None] = Field(
        default=None, description="Most cells, in the order of the tasks; by default all"
    )


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One picture of a sheet, or in place of one (``image`` None) the ``note`` that says why there is none."""

    name: str
    image: Image | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the cells of a sheet lie. Sizes in pixels; ``label`` is the height below each picture, 0 without labels."""

    columns: int
    rows: int
    cell: Size
    label: int
    gap: int

    @property
    def size(self) -> Size:
        """The whole sheet."""
        return Size(
            self.gap + self.columns * (self.cell.width + self.gap),
            self.gap + self.rows * (self.cell.height + self.label + self.gap),
        )

    def corner(self, index: int) -> tuple[int, int]:
        """The upper left corner of a cell; rows are filled from the left, from the top."""
        row, column = divmod(index, self.columns)
        return (
            self.gap + column * (self.cell.width + self.gap),
            self.gap + row * (self.cell.height + self.label + self.gap),
        )


# -- planning -----------------------------------------------------------------------------------------------------


def grid(count: int, montage: Montage, *, limits: Limits = _DEFAULT_LIMITS) -> Grid:
    """The grid for ``count`` cells, on a sheet of at most :data:`MAX_PIXELS` within ``limits``.

    Raises :class:`LimitExceeded`, which says what would fit, and :class:`NotApplicable` for a sheet of nothing.
    """
    if count < 1:
        raise NotApplicable("A contact sheet needs at least one picture.", operation="montage")
    if count > MAX_CELLS:
        raise LimitExceeded(
            f"The sheet would have {count:,} cells; at most {MAX_CELLS:,} are shown. Give limit={MAX_CELLS}, or less, "
            "for the first ones.",
            limit="cells of a sheet",
            value=count,
            maximum=MAX_CELLS,
        )
    bounds = _Bounds(limits.max_side, min(limits.max_pixels, MAX_PIXELS))
    cell = Size(montage.cell_width, montage.cell_height)
    columns = min(montage.columns, count) if montage.columns else _best_columns(count, montage, cell, bounds)
    wanted = _grid(count, montage, cell, columns or _square(count))
    if columns is None or not bounds.hold(wanted.size):
        raise _too_large(wanted, count, montage, bounds)
    return wanted


@dataclass(frozen=True, slots=True)
class _Bounds:
    side: int
    pixels: int

    def hold(self, size: Size) -> bool:
        return max(size) <= self.side and size.pixels <= self.pixels


def _grid(count: int, montage: Montage, cell: Size, columns: int) -> Grid:
    label = round(_LABEL * montage.font_size) if montage.labels else 0
    return Grid(columns, -(-count // columns), cell, label, montage.gap)


def _square(count: int) -> int:
    """The least number of columns that makes no more rows than columns."""
    return int(np.ceil(np.sqrt(count)))


def _best_columns(count: int, montage: Montage, cell: Size, bounds: _Bounds) -> int | None:
    """The columns that fit and give the sheet with the shortest long side; None where none fit."""
    one = _grid(1, montage, cell, 1)
    columns = np.arange(1, min(count, MAX_COLUMNS) + 1)
    rows = -(-count // columns)
    widths = montage.gap + columns * (cell.width + montage.gap)
    heights = montage.gap + rows * (cell.height + one.label + montage.gap)
    longest = np.maximum(widths, heights)
    fits = (longest <= bounds.side) & (widths * heights <= bounds.pixels)
    if not fits.any():
        return None
    return int(columns[np.argmin(np.where(fits, longest, np.iinfo(longest.dtype).max))])


def _too_large(wanted: Grid, count: int, montage: Montage, bounds: _Bounds) -> LimitExceeded:
    size, by_side = wanted.size, max(wanted.size) > bounds.side
    most = f"{bounds.side:,} pixels a side" if by_side else f"{bounds.pixels:,} pixels"
    rows = f"{wanted.columns:,} columns" if wanted.columns > 1 else "one column"
    return LimitExceeded(
        f"The sheet would have {size.width:,}×{size.height:,} pixels ({count:,} cells of {wanted.cell.width:,}×"
        f"{wanted.cell.height:,} in {rows}); it may have {most}. {_advice(count, montage, bounds)}",
        limit="pixels a side" if by_side else "pixels of a sheet",
        value=max(size) if by_side else size.pixels,
        maximum=bounds.side if by_side else bounds.pixels,
    )


def _advice(count: int, montage: Montage, bounds: _Bounds) -> str:
    """What would fit: other columns, else smaller cells of the same shape, else fewer of them."""
    cell = Size(montage.cell_width, montage.cell_height)
    columns = _best_columns(count, montage, cell, bounds)
    if columns is not None:
        return f"columns={columns} would fit."

    def scaled(width: int) -> Size:
        return Size(width, max(_LEAST_CELL, cell.height * width // cell.width))

    width = _largest(
        _LEAST_CELL, cell.width, lambda side: _best_columns(count, montage, scaled(side), bounds) is not None
    )
    if width is not None:
        fit = scaled(width)
        columns = _best_columns(count, montage, fit, bounds)
        return f"cell_width={fit.width} and cell_height={fit.height} with columns={columns} would fit."
    fewer = _largest(1, count, lambda part: _best_columns(part, montage, cell, bounds) is not None)
    return f"limit={fewer} would fit." if fewer else "Give smaller cells."


def _largest(low: int, high: int, holds: Callable[[int], bool]) -> int | None:
    """The largest number from ``low`` to ``high`` for which it holds, by halving; None where it holds for none."""
    if not holds(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


# -- painting -----------------------------------------------------------------------------------------------------


def compose(cells: Sequence[Cell], montage: Montage, *, limits: Limits = _DEFAULT_LIMITS) -> Image:
    """The sheet as an 8-bit sRGB image. Pictures are scaled down to their cells, never up, and stand in the middle.

    Cells without an image are left out where ``montage.failed`` is ``skip``; ``montage.limit`` counts what is left.
    Raises what :func:`grid` raises.
    """
    shown = [cell for cell in cells if cell.image is not None or montage.failed == "mark"][: montage.limit]
    return paint(grid(len(shown), montage, limits=limits), montage, shown)


def paint(places: Grid, montage: Montage, cells: Iterable[Cell]) -> Image:
    """Like :func:`compose` on a grid that is known; cells are taken one at a time, so they may be made on the way."""
    back = color_of_hex(montage.background)
    sheet = np.empty((places.size.height, places.size.width, 3), np.uint8)
    sheet[:] = back
    for index, cell in enumerate(cells):
        x, y = places.corner(index)
        part = sheet[y : y + places.cell.height, x : x + places.cell.width]
        if cell.image is not None:
            _lay(part, _thumbnail(cell.image, places.cell, back))
        else:
            _mark(part, cell.note, montage)
        if places.label:
            top = y + places.cell.height
            _write(sheet[top : top + places.label, x : x + places.cell.width], label_of(cell.name), montage)
    return Image(sheet)


def _lay(part: NDArray[np.uint8], picture: NDArray[np.uint8]) -> None:
    """Put a picture in the middle of its cell."""
    height, width = picture.shape[:2]
    y, x = (part.shape[0] - height) // 2, (part.shape[1] - width) // 2
    part[y : y + height, x : x + width] = picture


def _thumbnail(image: Image, cell: Size, back: tuple[int, int, int]) -> NDArray[np.uint8]:
    """8-bit sRGB, opaque, no larger than the cell."""
    image = Resize(width=cell.width, height=cell.height).apply(image).image
    pixels = color.to_srgb(to_uint8(image.pixels), image.icc, "gray" if image.channels == 1 else "rgb")
    if pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    return flatten(pixels, back) if pixels.shape[2] == 4 else pixels


def _ink(montage: Montage) -> int:
    """Black or white, whichever is farther from the background's luma (Rec. 601)."""
    red, green, blue = color_of_hex(montage.background)
    return 0 if 299 * red + 587 * green + 114 * blue > 127_500 else 255


def _mark(part: NDArray[np.uint8], note: str, montage: Montage) -> None:
    """A cell that is crossed out, with a note on a clear strip across its middle."""
    ink = _ink(montage)
    back = np.array(color_of_hex(montage.background), np.float32)
    faint = tuple(int(value) for value in back + (ink - back) * 0.08)
    line = tuple(int(value) for value in back + (ink - back) * 0.35)
    height, width = part.shape[:2]
    drawn = np.full(part.shape, faint, np.uint8)
    corners = ((0, 0), (width - 1, height - 1)), ((0, height - 1), (width - 1, 0))
    for start, end in corners:
        cv2.line(drawn, start, end, line, 1, cv2.LINE_AA)
    cv2.rectangle(drawn, (0, 0), (width - 1, height - 1), line, 1)
    part[:] = drawn
    strip = min(height, round(_LABEL * montage.font_size))
    if note:
        top = (height - strip) // 2
        middle = part[top : top + strip, 1 : width - 1]
        middle[:] = faint
        _write(middle, label_of(note), montage)


def _write(part: NDArray[np.uint8], text: str, montage: Montage) -> None:
    """One line in the middle of a strip, shortened to its width."""
    height, width = part.shape[:2]
    font = built_in_font(montage.font_size)
    canvas = PillowImage.new("L", (width, height))
    line = shortened(text, width - 4, montage.font_size)
    ImageDraw.Draw(canvas).text((width / 2, height / 2), line, 255, font, anchor="mm")
    weight = np.asarray(canvas, np.float32)[..., np.newaxis] / 255
    part[:] = np.rint(part + (_ink(montage) - part.astype(np.float32)) * weight).astype(np.uint8)


def label_of(name: str) -> str:
    """A name in the letters that the built-in font has: ASCII. Accents are dropped, other letters become ``?``."""
    plain = unicodedata.normalize("NFKD", PurePosixPath(name.replace("\\", "/")).name or name)
    letters = (letter for letter in plain if not unicodedata.combining(letter))
    return "".join(letter if " " <= letter <= "~" else "?" for letter in letters)


def shortened(text: str, width: int, font_size: int) -> str:
    """The text, or its start and its end around ``…``, at most ``width`` pixels wide; empty where not even that fits.

    The end is kept, for names that start alike end in a number and an extension.
    """
    font = built_in_font(font_size)
    if font.getlength(text) <= width:
        return text
    kept = _largest(0, len(text) - 1, lambda count: font.getlength(_around(text, count)) <= width)
    return "" if kept is None else _around(text, kept)


def _around(text: str, count: int) -> str:
    """``count`` characters of the text, the later half from its end."""
    tail = count // 2
    return text[: count - tail] + "…" + (text[-tail:] if tail else "")
