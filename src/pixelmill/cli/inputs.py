"""Sources of `pixelmill run`: files, folders, globs and `-` become a list of inputs, each with its relative name.

Looks at names and folders only; nothing is opened but standard input.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pixelmill.errors import ConfigError, LimitExceeded, ObjectNotFound, PixelmillError
from pixelmill.images.formats import FORMATS

STDIN = "-"
EXTENSIONS = tuple(extension for known in FORMATS.values() for extension in known.extensions)


@dataclass(frozen=True, slots=True)
class Input:
    """One source. ``relative`` is its path below the folder or glob it was found by, with its extension and ``/``.

    ``error`` stands where the source can't be used; it is told with the others at the end.
    """

    name: str
    body: Path | bytes
    relative: str
    error: PixelmillError | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was found. ``many``: the sources may be more than one, so results go to a folder.

    ``left_out`` counts files in folders whose extension is not that of an image.
    """

    items: Sequence[Input]
    many: bool
    left_out: int = 0


def expand(arguments: Sequence[str], stdin: BinaryIO, max_bytes: int) -> Inputs:
    """All inputs, in the order of the arguments, folders and globs sorted. Standard input is read here."""
    items: list[Input] = []
    left_out = 0
    many = len(arguments) > 1
    if arguments.count(STDIN) > 1:
        raise ConfigError("`-` (standard input) can be named once.")
    for argument in arguments:
        path = Path(argument)
        if argument == STDIN:
            items.append(Input("standard input", _read(stdin, max_bytes), "stdin"))
        elif path.is_dir():
            many = True
            found, others = _walk(path)
            left_out += others
            items.extend(found or [_missing(argument, f"There is no image file in the folder {argument}.")])
        elif not path.exists() and glob.has_magic(argument):
            many = True
            items.extend(_glob(argument) or [_missing(argument, f"No file matches {argument!r}.")])
        elif path.exists():
            items.append(Input(argument, path, path.name))
        else:
            items.append(_missing(argument, f"There is no file {argument}."))
    return Inputs(items, many, left_out)


def _missing(argument: str, why: str) -> Input:
    return Input(argument, b"", Path(argument).name or "source", ObjectNotFound(why))


def _read(stdin: BinaryIO, max_bytes: int) -> bytes:
    data = stdin.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise LimitExceeded(
            f"Standard input has more than {max_bytes:,} bytes, which is the limit. Raise it with --set max_bytes=…"
        )
    return data


def _walk(root: Path) -> tuple[list[Input], int]:
    """Image files below a folder, sorted, and the number of other files; hidden ones are not looked at."""
    found: list[Input] = []
    others = 0
    # Text, not Path: with many thousands of files the difference is seconds.
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if below == "." else f"{below}/"
        for name in sorted(files):
            if name.startswith("."):
                continue
            if not name.lower().endswith(EXTENSIONS):
                others += 1
                continue
            path = Path(folder, name)
            found.append(Input(str(path), path, prefix + name))
    return found, others


def _glob(pattern: str) -> list[Input]:
    base = _fixed_part(pattern)
    return [
        Input(match, Path(match), os.path.relpath(match, base).replace(os.sep, "/"))
        for match in sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 -- Path.glob takes no absolute patterns
        if Path(match).is_file()
    ]


def _fixed_part(pattern: str) -> str:
    """The folders of a pattern before its first wildcard."""
    parts: list[str] = []
    for part in Path(pattern).parent.parts:
        if re.search(r"[*?\[]", part):
            break
        parts.append(part)
    return str(Path(*parts)) if parts else "."
