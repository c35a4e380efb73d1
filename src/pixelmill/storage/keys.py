"""Keys of objects, and file names for people: what is accepted, and how hostile names become safe ones.

Pure text; no I/O. Keys follow the rules in :mod:`pixelmill.storage.store`. File names are for ZIP entries and for
folders of results: they must be harmless on Linux, macOS and Windows, and in a terminal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from pixelmill.errors import InvalidURI

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255
MAX_NAME_BYTES = 240  # leaves room for ".json" and the like within the 255 bytes that file systems allow
RESERVED = ".pixelmill"
"""First segment that stores keep for themselves (temporary files, checks)."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*").fullmatch
_FORBIDDEN_IN_NAMES = re.compile(r'[<>:"|?*]')
_DROPPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # controls, bidi and joiners, surrogates, line ends
_WINDOWS_DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [f"{device}{digit}" for device in ("COM", "LPT") for digit in "0123456789¹²³"]
)
_MAX_SUFFIX_BYTES = 16  # a longer "extension" is part of the name


def check_key(key: str) -> None:
    """Raise :class:`InvalidURI` unless ``key`` follows the rules of object stores."""
    if len(key) <= MAX_SEGMENT_BYTES and _PLAIN_KEY(key):
        return
    reason = _fault(key)
    if reason:
        raise InvalidURI(
            f"The key {_shown(key)} can't be used: {reason}. Keys are relative paths like folder/name.jpg.",
            key=_shown(key),
        )


def check_prefix(prefix: str) -> None:
    """Raise :class:`InvalidURI` unless ``prefix`` is empty or a folder path that ends in ``/``."""
    if not prefix:
        return
    if not prefix.endswith("/"):
        raise InvalidURI(f"The prefix {_shown(prefix)} can't be used: it must end in '/'.", key=_shown(prefix))
    check_key(prefix[:-1])


def is_key(key: str) -> bool:
    """Whether ``key`` follows the rules."""
    return bool(len(key) <= MAX_SEGMENT_BYTES and _PLAIN_KEY(key)) or not _fault(key)


def _fault(key: str) -> str:
    """Why a key can't be used, or an empty string."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if not key:
        return "it is empty"
    if size > MAX_KEY_BYTES:
        return f"it has {size:,} bytes, the limit is {MAX_KEY_BYTES:,}"
    if "\\" in key or any(unicodedata.category(character) == "Cc" for character in key):
        return "it contains a backslash or a control character"
    segments = key.split("/")
    if any(segment in {"", ".", ".."} for segment in segments):
        return "it has an empty segment, '.' or '..'"
    if any(len(segment.encode()) > MAX_SEGMENT_BYTES for segment in segments):
        return f"a part between slashes is longer than {MAX_SEGMENT_BYTES} bytes"
    if segments[0] == RESERVED:
        return f"{RESERVED} is kept for the store itself"
    return ""


def _shown(text: str) -> str:
    """A key for a message: quoted, printable, short."""
    printable = ascii(text) if not text.isprintable() else repr(text)
    return printable if len(printable) <= 120 else f"{printable[:117]}..."


def safe_name(name: str) -> str:
    """A harmless file name made from ``name``, in Unicode NFC, of 1 to 240 bytes of UTF-8.

    Only the part after the last slash or backslash is kept; control, formatting (bidirectional overrides) and
    undecodable characters go, ``<>:"|?*`` become ``_``; no dot, space or dash leads, no dot or space trails, no
    Windows device is named. A short extension survives truncation. Safe names come back unchanged.
    """
    parts = [part for part in re.split(r"[/\\]", name) if part.strip(" .\0")]
    text = unicodedata.normalize("NFC", parts[-1] if parts else "")
    text = "".join(
        " " if unicodedata.category(character) == "Zs" else character
        for character in text
        if unicodedata.category(character) not in _DROPPED_CATEGORIES
    )
    text = unicodedata.normalize("NFC", _FORBIDDEN_IN_NAMES.sub("_", text)).strip(" .") or "unnamed"
    if text.startswith("-") or text.split(".")[0].rstrip(" ").upper() in _WINDOWS_DEVICES:
        text = f"_{text}"
    return _fit(text, "")


def split_name(name: str) -> tuple[str, str]:
    """Stem and extension (with its dot, or empty); only a short extension without spaces counts as one."""
    stem, dot, suffix = name.rpartition(".")
    if not stem or not suffix or " " in suffix or len(suffix.encode()) >= _MAX_SUFFIX_BYTES:
        return name, ""
    return stem, dot + suffix


def _fit(name: str, mark: str) -> str:
    """``name`` with ``mark`` before its extension, the stem cut so that all fits."""
    stem, suffix = split_name(name)
    room = MAX_NAME_BYTES - len(mark.encode()) - len(suffix.encode())
    encoded = stem.encode()
    if len(encoded) > room:
        stem = encoded[:room].decode(errors="ignore").rstrip(" .")
    return stem + mark + suffix


class DistinctNames:
    """Hands out safe names that differ even where case and Unicode form don't count.

    Memory grows with the number of names (about 200 bytes each); make one for each folder or archive.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def add(self, name: str) -> str:
        """The safe form of ``name``, or ``stem (2).ext``, ``stem (3).ext`` ... if that is taken."""
        wanted = safe_name(name)
        folded = _folded(wanted)
        if folded not in self._taken:
            self._taken.add(folded)
            return wanted
        number = self._last.get(folded, 1)
        while True:
            number += 1
            candidate = _fit(wanted, f" ({number})")
            if _folded(candidate) not in self._taken:
                break
        self._last[folded] = number
        self._taken.add(_folded(candidate))
        return candidate


def distinct(names: Iterable[str]) -> list[str]:
    """Safe names for ``names``, in their order, that no file system takes for equal."""
    given = DistinctNames()
    return [given.add(name) for name in names]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
