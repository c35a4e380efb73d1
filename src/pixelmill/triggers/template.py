"""Templates of names, such as ``s3://out/{dir}/{stem}-{width}.{ext}``: read, checked, and cut at their names.

A template is an address with names in braces; ``{{`` and ``}}`` are braces. One that ends in ``/``, or is only a
bucket, names a folder, in which results keep the path and stem of their source. Pure text; no I/O.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from pixelmill.errors import ConfigError, InvalidURI
from pixelmill.storage.keys import RESERVED, is_key
from pixelmill.storage.uris import decoded
from pixelmill.triggers.places import WATCHED

NAMES: Mapping[str, str] = {
    "stem": "the source's name without its extension",
    "name": "the source's name with its extension",
    "path": "the source's path below what is watched, with its extension",
    "dir": "the folders of that path; may be empty",
    "ext": "the extension of the result, without a dot",
    "format": "the format of the result, such as jpeg",
    "width": "the width of the result in pixels (0 where there is none)",
    "height": "its height",
    "rule": "the name of the rule",
    "bucket": "the bucket that is watched",
    "task": "the id of the task",
    "date": "the day when the object appeared (UTC), such as 2026-11-28",
    "year": "its year",
    "month": "its month, 01 to 12",
    "day": "its day, 01 to 31",
    "hour": "its hour, 00 to 23",
}
"""Every name that may stand in braces."""
DISTINCT = frozenset({"stem", "name", "path", "task"})
"""Names by which results of two objects differ."""
CONSTANT = frozenset({"rule", "bucket"})
"""Names that are the same for all results of a rule, and may stand in the place of the bucket."""
FOLDER = "{dir}/{stem}.{ext}"
"""What a template that names a folder goes on with."""
MAX_TEMPLATE = 2_000

_START = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)(.*)", re.DOTALL)
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|([{}])")
_BUCKET_TEXT = re.compile(r"[a-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Piece:
    """Literal text, decoded; or a name from ``NAMES``."""

    text: str
    is_name: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """A template in pieces: its bucket (empty for files) and its path."""

    scheme: str
    bucket: tuple[Piece, ...]
    path: tuple[Piece, ...]

    @property
    def names(self) -> frozenset[str]:
        """The names that occur in it."""
        return frozenset(piece.text for piece in (*self.bucket, *self.path) if piece.is_name)


@lru_cache(maxsize=2_048)
def parse_template(output: str) -> Template:
    """The pieces of a template; raises :class:`ConfigError` that says what is wrong with it and what to do."""
    if len(output) > MAX_TEMPLATE:
        raise _wrong(output, f"it has {len(output):,} characters, the limit is {MAX_TEMPLATE:,}")
    start = _START.fullmatch(output)
    if start is None or start[1].lower() not in WATCHED:
        raise _wrong(output, "it must start with s3://BUCKET/, gs://BUCKET/, az://CONTAINER/ or file:///")
    scheme, host, path = start[1].lower(), start[2], start[3].removeprefix("/")
    if scheme == "file" and host not in {"", "localhost"}:
        raise _wrong(output, "addresses of files name no host: file:///folder/{stem}.{ext}")
    if not path or path.endswith("/"):
        path += FOLDER
    bucket = () if scheme == "file" else _pieces(host, output)
    _check_bucket(scheme, bucket, output)
    return Template(scheme, bucket, _checked_path(_pieces(path, output), output))


def _pieces(text: str, output: str) -> tuple[Piece, ...]:
    found: list[Piece] = []
    literal, end = "", 0

    def close() -> None:
        if literal:
            found.append(Piece(_decoded(literal, output)))

    for token in _TOKEN.finditer(text):
        literal += text[end : token.start()]
        end = token.end()
        if token[0] in {"{{", "}}"}:
            literal += token[0][0]
        elif token[2]:
            raise _wrong(output, f"a {token[2]} stands alone; write {token[2] * 2} for the character itself")
        else:
            close()
            literal = ""
            found.append(Piece(_name(token[1], output), is_name=True))
    literal += text[end:]
    close()
    return tuple(found)


def _decoded(literal: str, output: str) -> str:
    try:
        return decoded(literal, output)
    except InvalidURI as error:
        raise ConfigError(str(error)) from error


def _name(text: str, output: str) -> str:
    if text in NAMES:
        return text
    nearest = difflib.get_close_matches(text.strip().lower(), NAMES, n=1)
    hint = f" Did you mean {{{nearest[0]}}}?" if nearest else ""
    known = ", ".join(f"{{{name}}}" for name in NAMES)
    raise ConfigError(
        f"The name template {output[:200]!r} has an unknown name {{{text[:40]}}}.{hint} Known are {known}."
    )


def _check_bucket(scheme: str, bucket: tuple[Piece, ...], output: str) -> None:
    if scheme == "file":
        return
    if not bucket:
        raise _wrong(output, "it names no bucket")
    for piece in bucket:
        if piece.is_name and piece.text not in CONSTANT:
            raise _wrong(
                output, f"{{{piece.text}}} can't stand in the place of the bucket; {{bucket}} and {{rule}} can"
            )
        if not piece.is_name and not _BUCKET_TEXT.fullmatch(piece.text):
            raise _wrong(output, f"{piece.text[:80]!r} can't be (part of) a bucket's name")


def _checked_path(path: tuple[Piece, ...], output: str) -> tuple[Piece, ...]:
    """The path, if its literal text can stand in a key, and two objects can get different names."""
    # Names count as one letter here: then what remains wrong is so whatever they stand for.
    shown = re.sub("/+", "/", "".join("x" if piece.is_name else piece.text for piece in path))
    if not is_key(shown):
        reason = f"it has '.', '..', a backslash, or {RESERVED} (kept for the store itself) as a part of its path"
        raise _wrong(output, f"{reason}, or a part that is too long")
    if not any(piece.is_name and piece.text in DISTINCT for piece in path):
        wanted = ", ".join(f"{{{name}}}" for name in NAMES if name in DISTINCT)
        raise _wrong(output, f"the results of two objects would get one name. Add one of {wanted}")
    return path


def _wrong(output: str, reason: str) -> ConfigError:
    return ConfigError(f"The name template {output[:200]!r} can't be used: {reason}.")
