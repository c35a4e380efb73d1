"""Addresses of sources and objects: ``file:///abs/path``, ``s3://bucket/key``, ``gs://``, ``az://`` and ``key:KEY``.

Pure text; no I/O. Which of them a server may read is decided in :mod:`pixelmill.storage.sources` and by its stores.
An address has no query and no fragment: ``?`` and ``#`` belong to the path. ``%HH`` is decoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from pixelmill.errors import InvalidURI
from pixelmill.storage.keys import check_key

MAX_URI_CHARACTERS = 8192
BUCKET_SCHEMES = frozenset({"s3", "gs", "az"})
SCHEMES = ("file", "key", *sorted(BUCKET_SCHEMES))

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL).fullmatch
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]").fullmatch  # the union of what the clouds allow
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SAFE_IN_PATHS = "/!$&'()+,;=:@~"  # not "*", "?" and "[": in files they are wild cards


@dataclass(frozen=True, slots=True)
class URI:
    """A parsed address. ``path`` is decoded: absolute for ``file``, a key otherwise. ``bucket`` is empty for both."""

    scheme: str
    bucket: str
    path: str

    def __str__(self) -> str:
        if self.scheme == "key":
            return f"key:{quote(self.path, safe=_SAFE_IN_PATHS)}"
        slash = "" if self.scheme == "file" else "/"
        return f"{self.scheme}://{self.bucket}{slash}{quote(self.path, safe=_SAFE_IN_PATHS)}"


def parse_uri(text: str) -> URI:
    """Read an address; raises :class:`InvalidURI`. Wild cards are taken as they stand: see :func:`split_raw`."""
    scheme, bucket, raw = split_raw(text)
    path = decoded(raw, text)
    if scheme == "file":
        if ".." in path.split("/"):
            raise _invalid(text, "it contains '..'")
        return URI(scheme, "", path)
    check_key(path)
    return URI(scheme, bucket, path)


def split_raw(text: str) -> tuple[str, str, str]:
    """Scheme, bucket and the path that is not decoded yet, so that ``%2A`` can be told from ``*``."""
    if len(text) > MAX_URI_CHARACTERS:
        raise _invalid(text, f"it has {len(text):,} characters, the limit is {MAX_URI_CHARACTERS:,}")
    found = _SCHEME(text)
    if not found:
        raise _invalid(text, "it names no scheme")
    scheme, rest = found[1].lower(), found[2]
    if scheme == "key":
        return scheme, "", rest
    if scheme not in SCHEMES:
        raise _invalid(text, f"the scheme {scheme!r} is unknown; known are {', '.join(SCHEMES)}")
    if not rest.startswith("//"):
        raise _invalid(text, f"'//' must follow '{scheme}:'")
    host, slash, path = rest[2:].partition("/")
    if scheme == "file":
        if host not in {"", "localhost"} or not slash:
            raise _invalid(text, "file addresses are absolute and name no host: file:///folder/name.jpg")
        return scheme, "", f"/{path}"
    if not _BUCKET(host):
        raise _invalid(text, f"it names no bucket; write {scheme}://bucket/key")
    return scheme, host, path


def decoded(raw: str, text: str) -> str:
    """``raw`` with ``%HH`` decoded; ``text`` is the whole address, for the message."""
    if _BAD_ESCAPE.search(raw):
        raise _invalid(text, "a '%' must be followed by two hexadecimal digits (a percent sign itself is %25)")
    try:
        path = unquote_to_bytes(raw).decode()
    except UnicodeError:
        raise _invalid(text, "it is not UTF-8") from None
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in path):
        raise _invalid(text, "it contains a control character")
    return path


def _invalid(text: str, reason: str) -> InvalidURI:
    shown = ascii(text[:200])
    return InvalidURI(
        f"The address {shown} can't be understood: {reason}.", uri=text[:200].encode(errors="replace").decode()
    )
