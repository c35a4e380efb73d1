"""Where `pixelmill run` puts results: names that are planned before the work, files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pixelmill.cli.inputs import STDIN, Input, Inputs
from pixelmill.errors import ConfigError, ObjectExists, StorageDenied, StorageError, StorageFull
from pixelmill.images.formats import FORMATS, WRITTEN, format_of_name
from pixelmill.images.region_options import is_regions_only

Clash = Literal["refuse", "overwrite", "skip"]
"""What to do about a file that is there already."""


@dataclass(frozen=True, slots=True)
class Destination:
    """What ``-o`` means. ``path`` is a file or a folder; None with ``kind`` ``stdout`` or ``none`` (data only)."""

    kind: Literal["file", "folder", "stdout", "none"]
    path: Path | None = None
    uri: str = ""
    """As it was written, where it is in a bucket; the path is a key then."""

    @property
    def format(self) -> str | None:
        """The format that a file's extension asks for."""
        if self.kind != "file" or self.path is None:
            return None
        found = format_of_name(self.path)
        return found.name if found else None


def understand(text: str | None, inputs: Inputs) -> Destination:
    """Decide between a file, a folder and standard output; raises :class:`ConfigError` where neither can be meant."""
    if text is None:
        return Destination("none")
    if text == STDIN:
        if inputs.many:
            raise ConfigError("`-o -` writes one image to standard output; there are several sources. Name a folder.")
        return Destination("stdout")
    path = Path(text)
    if is_regions_only(path.name) and not inputs.many and not text.endswith(("/", os.sep)):
        return Destination("file", path)  # of Zarr it is a folder
    if path.is_dir() or text.endswith(("/", os.sep)):
        return Destination("folder", path)
    if inputs.many:
        if path.exists() or format_of_name(path) is not None:
            raise ConfigError(
                f"There are several sources, so -o must be a folder; {text} is a file (or looks like one)."
            )
        return Destination("folder", path)
    is_file = path.exists() or format_of_name(path) is not None
    if not is_file and path.suffix:
        writable = ", ".join(extension for fmt in WRITTEN.values() for extension in fmt.extensions)
        raise ConfigError(
            f"-o {text}: no format that is written has the extension {path.suffix!r}; known are {writable}. "
            f"For a folder of that name write {text}/."
        )
    return Destination("file" if is_file else "folder", path)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a result goes: to ``path`` exactly, or to ``stem`` and an extension; or nowhere, if both are None.

    ``name`` is the source's, whose extension is kept where it fits.
    """

    name: str
    stem: str | None = None
    path: str | None = None

    @property
    def nowhere(self) -> bool:
        """True for standard output, and where only data is asked for."""
        return self.stem is None


def plan(inputs: Sequence[Input], destination: Destination) -> tuple[list[Target], list[str]]:
    """A distinct place for every input, and sentences on the names that had to be changed."""
    if destination.path is None:
        return [Target(item.relative) for item in inputs], []
    if destination.kind == "file":
        stem, path = str(destination.path.with_suffix("")), str(destination.path)
        return [Target(item.relative, stem, path) for item in inputs], []
    taken: Counter[str] = Counter()
    targets: list[Target] = []
    told: list[str] = []
    planned: set[str] = set()
    base = f"{destination.path}/"
    for item in inputs:
        relative = os.path.splitext(item.relative)[0]  # noqa: PTH122 -- text, not Path: there may be a million
        name = _distinct(relative, planned, taken)
        if name != relative:
            told.append(f"{item.name} is written as {name} because another source has the name {relative}.")
        targets.append(Target(item.relative, base + name))
    return targets, told


def _distinct(relative: str, planned: set[str], taken: Counter[str]) -> str:
    # Some file systems hold no two names that differ in case only.
    key = relative.casefold()
    name = relative
    while name.casefold() in planned:
        taken[key] += 1
        name = f"{relative}-{taken[key] + 1}"
    planned.add(name.casefold())
    return name


def extension(format_name: str, source: str) -> str:
    """The extension of a result: the source's own where it fits the format, so that ``.jpeg`` stays ``.jpeg``."""
    known = FORMATS[format_name]
    own = os.path.splitext(source)[1]  # noqa: PTH122 -- as above
    return own if own.lower() in known.extensions else known.extension


def exists_error(path: str) -> ObjectExists:
    """The refusal to write over a file."""
    return ObjectExists(f"{path} exists already. Use --overwrite or --skip-existing, or another -o.")


_made: set[str] = set()
"""Folders that were made, or seen, by this command."""


def write(path: str, data: bytes, clash: Clash, part_name: str) -> None:
    """Write a file whole or not at all, by way of ``part_name`` beside it, a name that nobody else uses.

    Raises :class:`ObjectExists` or another :class:`StorageError`.

    Without ``overwrite`` the file appears by a hard link, which fails where the name is taken, also by another process.
    """
    folder = os.path.dirname(path)  # noqa: PTH120 -- as above
    part = Path(part_name)
    try:
        if folder not in _made:
            _make_folder(part.parent)
            _made.add(folder)
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
            finally:
                os.close(descriptor)
            if clash == "overwrite":
                part.replace(path)
            else:
                _publish(part, path)
        except BaseException:
            # It was never made, or has its name already: the error on its way is the one to tell.
            with suppress(OSError):
                part.unlink()
            raise
    except FileExistsError as error:
        raise exists_error(path) from error
    except PermissionError as error:
        raise StorageDenied(f"{path} can't be written: permission denied.") from error
    except OSError as error:
        kind = StorageFull if error.errno in _FULL else StorageError
        raise kind(f"{path} can't be written: {error.strerror or error}.") from error


def _make_folder(folder: Path) -> None:
    """Make it with its parents. Raises OSError; :class:`StorageError` where a file has its name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageError(
            f"Results can't be written to {folder}: a file is in the place of that folder. Choose another -o."
        ) from error


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})


def _publish(part: Path, path: str) -> None:
    """Give the file its name unless that is taken."""
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # No hard links here (FAT, some network mounts): between the look and the move another process may slip in.
        if Path(path).exists():
            raise FileExistsError(errno.EEXIST, "exists", path) from None
        part.replace(path)
    else:
        part.unlink()
