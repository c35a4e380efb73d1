"""Fetches the weights of a model into the models folder: resumes, checks the sum, and shows nothing before it is whole.

What has come so far lies in ``FILE.part``; the next attempt, of this run or of a later one, asks for the rest. Where no
sum would tell that the rest is of another version, the server must: by the ETag, which lies beside the part. Files come
from where the registry says, or from a folder or an address that has files of their names. What has no sum in the
registry must at least be of its kind.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx

from pixelmill.errors import ModelError, ModelRefused, StorageDenied, StorageFull
from pixelmill.models.checkpoint import header_of
from pixelmill.models.folder import ModelFolder, digest_of
from pixelmill.models.registry import Entry, Weights

ATTEMPTS = 4
"""In a row that bring nothing new; one that brings bytes and breaks is followed by another."""
MAX_ATTEMPTS = 100
_TIMEOUT = httpx.Timeout(30.0, connect=15.0)
_MAX_REDIRECTS = 5
_SLACK = 1_000_000
_CHUNK = 1 << 20
_ENOSPC = 28

Progress = Callable[[str, int, int], None]
"""Told the file, the bytes of it that are here, and how many there will be."""


def pull(
    entry: Entry,
    folder: ModelFolder,
    *,
    offline: bool = False,
    force: bool = False,
    place: str = "",
    progress: Progress = lambda _file, _done, _size: None,
    client: httpx.Client | None = None,
) -> list[Path]:
    """Bring all files of a model; gives those that were fetched. ``force`` fetches what is here already.

    ``place``: a folder, or the address of one, that has files of the names in the registry, in place of its addresses.

    Raises :class:`ModelError`: offline, the server does not answer or has something else; :class:`StorageFull`,
    :class:`StorageDenied`.
    """
    wanted = [_at(place, item) for item in entry.files if force or not _is_here(folder, item)]
    nowhere = [item for item in wanted if not item.url]
    if nowhere:
        raise ModelError(
            f"The registry knows no address of {entry.name}, which {entry.origin} publishes as a folder of several "
            f"files. Say where they are, `pixelmill models pull {entry.name} --from FOLDER-OR-URL`, or copy "
            f"{', '.join(Path(item.file).name for item in entry.files)} into {folder.path / entry.place}.",
            model=entry.name,
        )
    if offline and any(_is_remote(item.url) for item in wanted):
        raise ModelError(
            f"The weights of {entry.name} are not here, and the network may not be used (setting `offline`). Copy "
            f"{', '.join(item.file for item in wanted)} into {folder.path}, or unset PIXELMILL_OFFLINE.",
            model=entry.name,
        )
    fetched: list[Path] = []
    with _own_or(client) as http, _writable(folder.path):
        for item in wanted:
            try:
                fetched.append(_fetched(http, entry, folder.path, item, progress))
            except ModelError as error:
                if not item.also or not error.context.get("absent"):
                    raise
                newer = _at(place, replace(item, file=item.also))
                fetched.append(_fetched(http, entry, folder.path, newer, progress))
    return fetched


def _fetched(http: httpx.Client, entry: Entry, folder: Path, item: Weights, progress: Progress) -> Path:
    with _part_of(folder, item, entry.name) as part:
        _bring(http, entry, item, part, progress)
        target = folder / item.file
        part.replace(target)
        _tag_of(part).unlink(missing_ok=True)
        target.with_name(f".{target.name}.checked").unlink(missing_ok=True)
    return target


def _is_here(folder: ModelFolder, item: Weights) -> bool:
    path = folder.path / item.file
    if item.also and (folder.path / item.also).is_file():
        return True
    return path.is_file() and (not item.digest or digest_of(path, item.digest.partition(":")[0]) == item.digest)


def _at(place: str, item: Weights) -> Weights:
    """The same file, at that place."""
    name = item.file.rpartition("/")[2]
    if not place:
        return item
    return replace(item, url=f"{place.rstrip('/')}/{name}" if _is_remote(place) else str(Path(place).absolute() / name))


def _tag_of(part: Path) -> Path:
    """The file that keeps which version a part without a known sum is of."""
    return part.with_name(f".{part.name}.tag")


def _is_remote(url: str) -> bool:
    return url.startswith(("http://", "https://"))


@contextmanager
def _own_or(client: httpx.Client | None) -> Iterator[httpx.Client]:
    if client is not None:
        yield client
        return
    with httpx.Client(timeout=_TIMEOUT, follow_redirects=True, max_redirects=_MAX_REDIRECTS) as own:
        yield own


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    """The folder, made; what the disk refuses as errors of the tree."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except PermissionError as error:
        raise StorageDenied(f"The models folder {path} can't be written. Grant write permission.") from error
    except OSError as error:
        if error.errno == _ENOSPC:
            raise StorageFull(f"There is no space left in the models folder {path}.") from error
        raise ModelError(f"The models folder {path} can't be used: {error.strerror or error}.") from error


@contextmanager
def _part_of(folder: Path, item: Weights, name: str) -> Iterator[Path]:
    """The file that grows; held against a second pull of the same."""
    part = folder / f"{item.file}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ModelError(f"Another process is fetching {name} into {folder}. Wait for it.", model=name) from error
        try:
            yield part
        finally:
            if part.is_file() and not part.stat().st_size:
                part.unlink()


def _bring(http: httpx.Client, entry: Entry, item: Weights, part: Path, progress: Progress) -> None:
    """Fill the part, over as many attempts as it takes within the bounds, and check it."""
    if not _is_remote(item.url):
        _copy(entry, item, part, progress)
        _check(entry, item, part)
        return
    fruitless, resumed = 0, part.stat().st_size > 0
    for _ in range(MAX_ATTEMPTS):
        before = part.stat().st_size
        try:
            _receive(http, item, part, progress)
        except httpx.HTTPError as error:
            fruitless = 0 if part.stat().st_size > before else fruitless + 1
            if fruitless < ATTEMPTS:
                continue
            raise ModelError(
                f"{item.file} could not be fetched from {item.url}: {str(error) or type(error).__name__}. Check the "
                "network, and run the command again: it goes on where it stopped.",
                model=entry.name,
            ) from error
        try:
            _check(entry, item, part)
        except ModelError:
            if not resumed:
                raise
            resumed = False  # what was there may have been of another version: once more from the start
        else:
            return
    raise ModelError(f"{item.file} did not come from {item.url} in {MAX_ATTEMPTS} attempts.", model=entry.name)


def _copy(entry: Entry, item: Weights, part: Path, progress: Progress) -> None:
    source = Path(item.url)
    if not source.is_file():
        raise ModelError(f"There is no {source.name} in {str(source.parent)!r}.", model=entry.name, absent=source.name)
    size = source.stat().st_size
    with source.open("rb") as given, part.open("wb") as file:
        shutil.copyfileobj(given, file, _CHUNK)
        file.flush()
        os.fsync(file.fileno())
    progress(item.file, size, size)


def _check(entry: Entry, item: Weights, part: Path) -> None:
    """Throw away what has another sum, or, where none is known, what is not of its kind; raises :class:`ModelError`."""
    if item.digest:
        if digest_of(part, item.digest.partition(":")[0]) == item.digest:
            return
        what = f"with another sum than the registry knows ({item.digest})"
    else:
        try:
            if item.file.endswith(".safetensors"):
                header_of(part, entry.name)
            elif item.file.endswith(".json"):
                json.loads(part.read_bytes())
        except (ModelRefused, ValueError, RecursionError) as error:
            what = f"and is not what it is called ({str(error)[:200]})"
        else:
            return
    part.write_bytes(b"")
    raise ModelError(
        f"{item.file} came from {item.url} {what}. It was thrown away. The file was replaced there, or something "
        "between changes it.",
        model=entry.name,
    )


def _receive(http: httpx.Client, item: Weights, part: Path, progress: Progress) -> None:
    """What is still missing of the file, appended; raises httpx's errors and :class:`ModelError`."""
    have, tag = part.stat().st_size, ""
    if have and not item.digest:
        tag = _tag_of(part).read_text() if _tag_of(part).is_file() else ""
        have = have if tag else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    headers |= {"If-Range": tag} if tag else {}
    with http.stream("GET", item.url, headers=headers) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # all of it is here, or more than there is: the sum tells
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise httpx.HTTPStatusError(f"HTTP status {answer.status_code}", request=answer.request, response=answer)
        if answer.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise ModelError(
                f"{item.url} answers with HTTP status {answer.status_code}: it does not give the file.",
                absent=item.file if answer.status_code == httpx.codes.NOT_FOUND else None,
            )
        if answer.status_code == httpx.codes.OK:
            have = 0  # the server does not do ranges, or has another version by now
        tag = answer.headers.get("ETag", "")
        if not item.digest:
            _tag_of(part).write_text(tag if tag.startswith('"') and tag.isascii() else "")  # weak ones promise nothing
        most = item.size + item.size // 5 + _SLACK
        size = have + int(answer.headers.get("Content-Length") or 0) or item.size
        with part.open("r+b") as file:
            file.truncate(have)
            file.seek(have)
            for chunk in answer.iter_bytes():
                have += len(chunk)
                if have > most:
                    raise ModelError(f"{item.url} sends more than {most:,} bytes; {item.size:,} were expected.")
                file.write(chunk)
                progress(item.file, have, size)
            file.flush()
            os.fsync(file.fileno())
