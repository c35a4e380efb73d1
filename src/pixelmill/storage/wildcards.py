"""Wild cards in paths: ``*``, ``?`` and ``[a-z]`` within one part, ``**`` for any number of folders. Pure text.

A pattern is a list of parts. A place is an index into it: the part that the next name must match.
"""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Callable, Sequence

from pixelmill.errors import InvalidURI
from pixelmill.storage.uris import decoded

WILD = re.compile(r"[*?\[]").search
Part = Callable[[str], bool] | None
"""A matcher of one part; None for ``**``."""

_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ESCAPE_IN_BRACKETS = re.compile(r"\[[^\]]*%").search


def split_pattern(raw: str, uri: str) -> tuple[list[str], list[Part]]:
    """The decoded parts before the first wild card, and matchers from there on; raises :class:`InvalidURI`."""
    parts = raw.strip("/").split("/")
    texts = [decoded(part, uri) for part in parts]
    if any(text in {"", ".", ".."} or "/" in text for text in texts):
        raise InvalidURI(f"{uri!a} can't be understood: a part of it is empty, '.', '..' or has %2F.", uri=uri)
    wild = next((index for index, part in enumerate(parts) if WILD(part)), len(parts))
    return texts[:wild], [_part(part, uri) for part in parts[wild:]]


def matches(names: Sequence[str], pattern: Sequence[Part]) -> bool:
    """Whether a path of those names matches the whole pattern."""
    places = through_deep(frozenset({0}), pattern)
    for name in names[:-1]:
        exact, deep = after(name, places, pattern)
        places = through_deep(exact | deep, pattern) - {len(pattern)}
    exact, deep = after(names[-1], places, pattern)
    return is_end(exact, deep, pattern)


def is_end(exact: frozenset[int], deep: frozenset[int], pattern: Sequence[Part]) -> bool:
    """Whether what :func:`after` gave is the end of the pattern."""
    return len(pattern) in exact or len(pattern) - 1 in deep


def after(name: str, places: frozenset[int], pattern: Sequence[Part]) -> tuple[frozenset[int], frozenset[int]]:
    """The places after an entry of that name: those it reached by its name, and those where ``**`` swallowed it."""
    exact: set[int] = set()
    deep: set[int] = set()
    for place in places:
        part = pattern[place]
        if part is None:
            if not name.startswith("."):
                deep.add(place)
        elif part(name):
            exact.add(place + 1)
    return frozenset(exact), frozenset(deep)


def through_deep(places: frozenset[int], pattern: Sequence[Part]) -> frozenset[int]:
    """``places`` and those reached from them by ``**`` standing for no folder; the end is none of them."""
    reached = set(places)
    for place, part in enumerate(pattern[:-1]):
        if part is None and place in reached:
            reached.add(place + 1)
    return frozenset(reached)


def _part(raw: str, uri: str) -> Part:
    """A matcher for one part of a pattern; None for ``**``."""
    if raw == "**":
        return None
    if _ESCAPE_IN_BRACKETS(raw):
        raise InvalidURI(f"{uri!a} can't be understood: write characters in [...] as they are, not as %HH.", uri=uri)
    literal = _ESCAPES.sub(lambda run: glob.escape(decoded(run[0], uri)), raw)
    matches_name = re.compile(fnmatch.translate(literal)).match
    names_hidden = literal.startswith(".")
    return lambda name: bool(matches_name(name)) and (names_hidden or not name.startswith("."))
