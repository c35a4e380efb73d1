"""From the addresses in a request to the files that it may read, wild cards included.

Only ``file://`` below the configured source roots is served here; buckets are in ``named.py``. Symbolic links are
resolved, and what lies outside every root is refused in the same words whether it is there or not. Blocking: call it
in a thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from pixelmill.errors import InvalidURI, LimitExceeded, ObjectNotFound, SourceRefused
from pixelmill.storage.faults import translated
from pixelmill.storage.uris import split_raw
from pixelmill.storage.wildcards import Part, after, is_end, split_pattern, through_deep

MAX_FILES = 1_000_000
MAX_VISITED = 10_000_000
"""Folder entries looked at for one request: a wild card over a whole disk ends here."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that may be read. ``name`` is relative to where the wild cards began; ``path`` has its links resolved."""

    name: str
    path: Path
    size: int


def expand_sources(
    uris: Iterable[str], roots: Sequence[Path], *, max_files: int = MAX_FILES, max_visited: int = MAX_VISITED
) -> Iterator[SourceFile]:
    """The files behind ``uris``, in the order of the addresses, and by name within one.

    ``*`` and ``?`` and ``[a-z]`` match within one part of the path, ``**`` any number of folders; hidden names must
    be named. A wild card that matches nothing gives nothing. Raises :class:`SourceRefused`, :class:`InvalidURI`,
    :class:`ObjectNotFound` for an address without wild cards, and :class:`LimitExceeded` beyond ``max_files``.
    """
    search = _Search(roots, max_visited)
    count = 0
    for uri in uris:
        for found in search.expand(uri):
            count += 1
            if count > max_files:
                raise LimitExceeded(
                    f"The sources are more than {max_files:,} files. Submit them in several jobs.",
                    limit="files",
                    value=count,
                    maximum=max_files,
                )
            yield found


def look_again(uri: str, roots: Sequence[Path]) -> SourceFile:
    """The file of an address that :func:`expand_sources` gave out (``SourceFile.path.as_uri()``), checked anew.

    Since then a link may have taken its place, or the roots may be others. Any name of a file system is understood,
    UTF-8 or not. Raises as :func:`expand_sources` does.
    """
    path = Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))
    return _Search(roots, max_visited=1).one(path, uri)


class _Search:
    """One request's walk over the file system."""

    def __init__(self, roots: Sequence[Path], max_visited: int) -> None:
        self._roots = [root.resolve() for root in roots]
        self._max_visited = max_visited
        self._visited = 0

    def expand(self, uri: str) -> Iterator[SourceFile]:
        """The files behind one address."""
        base, pattern = self._understood(uri)
        if pattern:
            yield from self._matching(self._inside(base, uri), pattern, uri)
        else:
            yield self.one(base, uri)

    def _understood(self, uri: str) -> tuple[Path, list[Part]]:
        """The path up to the first wild card, and the parts from there."""
        scheme, _, raw = split_raw(uri)
        if scheme != "file":
            raise SourceRefused(
                f"This server can't read {scheme}: addresses: no such store is configured. Upload the files instead.",
                uri=uri,
            )
        if not self._roots:
            raise SourceRefused(
                "This server can't read file:// addresses: no source root is configured. Upload the files instead, "
                "or start the service with --source-root FOLDER.",
                uri=uri,
            )
        fixed, pattern = split_pattern(raw, uri)
        return Path("/", *fixed), pattern

    def _inside(self, path: Path, uri: str) -> Path:
        """``path`` with its links resolved, if that is at or below a root."""
        try:
            real = path.resolve()
        except (OSError, RuntimeError) as error:  # links in a circle, names too long
            raise SourceRefused(f"{uri!a} can't be resolved: {error}.", uri=uri) from error
        if any(real.is_relative_to(root) for root in self._roots):
            return real
        raise SourceRefused(
            f"{uri!a} leads outside the folders that this server may read. Upload the file instead, or have the "
            "service started with a --source-root that covers it.",
            uri=uri,
        )

    def one(self, path: Path, uri: str) -> SourceFile:
        """The file at ``path``, if it is one and lies below a root."""
        real = self._inside(path, uri)
        try:
            facts = real.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ObjectNotFound(f"There is no file {uri!a}.", uri=uri) from error
        except OSError as error:
            raise translated(error, "read", uri) from error
        if stat.S_ISDIR(facts.st_mode):
            raise InvalidURI(f"{uri!a} is a folder. Add /* for its files, or /** for all below it.", uri=uri)
        if not stat.S_ISREG(facts.st_mode):
            raise SourceRefused(f"{uri!a} is not a regular file.", uri=uri)
        return SourceFile(path.name, real, facts.st_size)

    def _matching(self, base: Path, pattern: Sequence[Part], uri: str) -> Iterator[SourceFile]:
        """Depth first, each folder once: it carries the set of places in the pattern that its entries may match."""
        start = through_deep(frozenset({0}), pattern)
        stack = [(self._entries(base, uri), "", start)]
        while stack:
            entries, prefix, places = stack[-1]
            entry = next(entries, None)
            if entry is None:
                stack.pop()
                continue
            exact, deep = after(entry.name, places, pattern)
            wanted = is_end(exact, deep, pattern)
            # "**" doesn't follow links: they may lead in circles.
            below = through_deep(exact if entry.is_symlink() else exact | deep, pattern) - {len(pattern)}
            if not wanted and not below:
                continue
            try:
                facts = entry.stat()
            except OSError:  # vanished, or a link to nothing
                continue
            is_folder = stat.S_ISDIR(facts.st_mode)
            if not (below if is_folder else wanted and stat.S_ISREG(facts.st_mode)):
                continue
            path = self._inside(Path(entry.path), uri) if entry.is_symlink() else Path(entry.path)
            if is_folder:
                stack.append((self._entries(path, uri), f"{prefix}{entry.name}/", below))
            else:
                yield SourceFile(prefix + entry.name, path, facts.st_size)

    def _entries(self, folder: Path, uri: str) -> Iterator[os.DirEntry[str]]:
        """What is in a folder, by name; empty where it can't be read, for a wild card asks for what can."""
        found: list[os.DirEntry[str]] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._visited += 1
                    if self._visited > self._max_visited:
                        raise LimitExceeded(
                            f"{uri!a} looks at more than {self._max_visited:,} files. Name folders closer to them.",
                            limit="files looked at",
                            value=self._visited,
                            maximum=self._max_visited,
                        )
                    found.append(entry)
        except OSError:
            return iter(())
        return iter(sorted(found, key=lambda entry: entry.name))
