"""The libraries of extras: imported when the first file of their format comes, named where they are missing.

Nothing else in this room imports them.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from pixelmill.errors import MissingExtra, UnsupportedFormat
from pixelmill.images.formats import HEIC, JXL, SVG, Format

LIBRARIES = {JXL.name: "imagecodecs", HEIC.name: "pillow_heif", SVG.name: "pyvips"}
"""The module that reads (and writes) each format."""


def is_installed(fmt: Format) -> bool:
    """Whether the library of a format is there; it is not imported, so whether it works is not known."""
    return importlib.util.find_spec(LIBRARIES[fmt.name]) is not None


def to_read(fmt: Format, module: str | None = None) -> Any:
    """The library of a format, or another module that its extra brings.

    Raises :class:`UnsupportedFormat`, with the command, where it is not installed.
    """
    try:
        return importlib.import_module(module or LIBRARIES[fmt.name])
    except (ImportError, OSError) as error:  # OSError: the module is there, the shared library it opens is not
        raise UnsupportedFormat(
            f"Reading {fmt.name} files needs an extra that is not installed here. "
            f"{_command(fmt)}, or convert the file.",
            format=fmt.name,
            extra=fmt.extra,
        ) from error


def to_write(fmt: Format) -> Any:
    """The library of a format; raises :class:`MissingExtra`, with the command, where it is not installed."""
    try:
        return importlib.import_module(LIBRARIES[fmt.name])
    except (ImportError, OSError) as error:
        raise MissingExtra(
            f"Writing {fmt.name} needs an extra that is not installed here. {_command(fmt)}, or choose another format.",
            extra=fmt.extra,
        ) from error


def _command(fmt: Format) -> str:
    return f"Install it: pip install 'pixelmill[{fmt.extra}]'"


def for_tiles(module: str) -> Any:
    """A module of the extra ``tiles``; raises :class:`MissingExtra`, with the command, where it is not installed."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise MissingExtra(
            f"Reading this image in parts needs {module}, which is not installed here. "
            "Install it: pip install 'pixelmill[tiles]', or convert the file to a TIFF with tiles.",
            extra="tiles",
        ) from error
