"""What may be handed to ``submit`` and ``process``, and how it is named. No I/O beyond looking at files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

from pixelmill.errors import InvalidURI, ObjectNotFound

Source: TypeAlias = str | Path | bytes | tuple[str, bytes | Path]
"""A file (path or text), an address the *service* reads (``s3://…``), bytes, or a name with bytes or a file."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Local:
    """Bytes on this side that must be uploaded under a name for people."""

    name: str
    body: bytes | Path

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.stat().st_size


@dataclass(frozen=True, slots=True)
class Remote:
    """An address that the service reads itself."""

    uri: str


def understand(source: Source) -> Local | Remote:
    """What a source is; raises :class:`ObjectNotFound` for a file that isn't there."""
    if isinstance(source, tuple):
        name, body = source
        return Local(name, body) if isinstance(body, bytes) else Local(name, _file(body))
    if isinstance(source, bytes):
        return Local("image", source)
    if isinstance(source, str) and "://" in source:
        return Remote(source)
    path = _file(Path(source))
    return Local(path.name, path)


def local(source: Source) -> Local:
    """The same where only bytes of this side will do; raises :class:`InvalidURI` for an address."""
    found = understand(source)
    if isinstance(found, Remote):
        raise InvalidURI(f"{found.uri} is an address; `process` takes a file or bytes. Submit a job for addresses.")
    return found


def _file(path: Path) -> Path:
    if path.is_dir():
        raise ObjectNotFound(f"{path} is a folder; name its files, such as Path({str(path)!r}).rglob('*.jpg').")
    if not path.is_file():
        raise ObjectNotFound(f"There is no file {path}.")
    return path


def pages(items: Iterable[T], size: int) -> Iterator[tuple[Sequence[T], bool]]:
    """Items in lists of at most ``size``, each with whether it is the last; no items make one empty page."""
    page: list[T] = []
    for item in items:
        if len(page) == size:
            yield page, False
            page = []
        page.append(item)
    yield page, True
