"""Whether a name that one rule's template can make is one that another rule takes, with an example.

The names that a template can make are the words of a small automaton: literal text, and for each name in braces what
its value may look like. It runs beside what the other rule asks for (a prefix, then anything, ending in a suffix);
where both come to their end together, the way there spells an example. Suffixes don't care about case.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pixelmill.images.formats import Format
from pixelmill.pipelines.spec import Pipeline
from pixelmill.storage.keys import split_name
from pixelmill.storage.uris import URI
from pixelmill.triggers.matching import has_type, type_of_name
from pixelmill.triggers.naming import DATA, is_image_extension, template_of
from pixelmill.triggers.places import place
from pixelmill.triggers.products import products_of
from pixelmill.triggers.rule import Rule
from pixelmill.triggers.template import Piece

MAX_STEPS = 200_000
"""Pairs of states that are looked at for two rules; beyond, they count as overlapping."""
DATA_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Chars:
    """Characters that may stand at a place: those of ``some``, or where that is empty all but those of ``none``."""

    some: str = ""
    none: str = ""

    def holds(self, character: str) -> bool:
        """Whether it may stand there."""
        return character in self.some if self.some else character not in self.none

    def shared_with(self, other: Chars) -> str | None:
        """A character that both hold, or None."""
        for character in self.some or other.some or "x":
            if self.holds(character) and other.holds(character):
                return character
        return None


ANY = Chars()
IN_NAME = Chars(none="/")
_NAME_PART = Piece("name part", is_name=True)
_PATH_PART = Piece("path part", is_name=True)
DIGIT = Chars("0123456789")
DATE = Chars("0123456789-")


class Words:
    """An automaton of words; state 0 is its start, and ``last`` its end. ``None`` on an edge takes no character."""

    def __init__(self) -> None:
        self.edges: list[list[tuple[Chars | None, int]]] = [[]]
        self.last = 0

    def then(self, chars: Chars | None) -> None:
        """One character more."""
        self.edges.append([])
        self.edges[self.last].append((chars, len(self.edges) - 1))
        self.last = len(self.edges) - 1

    def some(self, chars: Chars, *, least: int = 1) -> None:
        """Any number of characters, at least 0 or 1."""
        self.then(chars if least else None)
        self.edges[self.last].append((chars, self.last))

    def perhaps(self, first: Chars, others: Chars) -> None:
        """Nothing, or a character and any number of others."""
        start = self.last
        self.then(first)
        self.edges[self.last].append((others, self.last))
        self.then(None)
        self.edges[start].append((None, self.last))

    def text(self, text: str, *, any_case: bool = False) -> None:
        """These characters."""
        for character in text:
            self.then(either_case(character) if any_case else Chars(character))

    def one_of(self, texts: Iterable[str]) -> None:
        """One of these texts, in any case."""
        start, ends = self.last, []
        for text in texts:
            self.last = start
            self.text(text, any_case=True)
            ends.append(self.last)
        self.edges.append([])
        self.last = len(self.edges) - 1
        for end in ends:
            self.edges[end].append((None, self.last))


def either_case(character: str) -> Chars:
    """A character in its cases; beyond ASCII, where cases are many, any character of a name."""
    return Chars("".join(dict.fromkeys((character.lower(), character.upper())))) if character.isascii() else IN_NAME


class Reach:
    """The names that the results of one rule may get."""

    def __init__(self, rule: Rule) -> None:
        self._template = template_of(rule)
        self._suffixes = rule.suffixes
        products = products_of(Pipeline.parse(rule.pipeline))
        self._formats, self._data = products.formats, products.data
        self._bucket = "".join(piece.text for piece in self._template.bucket)
        self._root = "/" if self._template.scheme == "file" else ""
        first = self._template.path[0]
        self._start = self._root + ("" if first.is_name else _collapsed(first.text).removeprefix("/"))

    def may_touch(self, other: Rule) -> bool:
        """A quick look: the same bucket, and no difference in what the names begin with."""
        watched = place(other.watch)
        if (watched.scheme, watched.bucket) != (self._template.scheme, self._bucket):
            return False
        return watched.path.startswith(self._start) or self._start.startswith(watched.path)

    def example_for(self, other: Rule) -> str | None:
        """The address of a result that ``other`` takes, or None where there can't be one."""
        watched = place(other.watch)
        for words in self._words(other):
            for suffix in other.suffixes or ("",):
                found = shared_word(words, watched.path, suffix)
                if found is not None:
                    return str(URI(watched.scheme, watched.bucket, found))
        return None

    def _words(self, other: Rule) -> Iterator[Words]:
        """One automaton for results that are images, one for data; each with and without folders in ``{dir}``."""
        formats = [fmt for fmt in self._formats if self._type_fits(fmt.media_type, other)]
        shapes = [(tuple(self._template.path), formats)] if formats else []
        if self._data and (not other.types or has_type(DATA_TYPE, other.types)):
            shapes.append((_as_data(self._template.path), []))
        for pieces, kinds in shapes:
            for folder in (True, False) if Piece("dir", is_name=True) in pieces else (True,):
                yield self._automaton(pieces if folder else _without_folder(pieces), kinds)

    def _type_fits(self, media_type: str, other: Rule) -> bool:
        """Whether the other rule may take a result of that type, by what its store tells or by its name."""
        if not other.types or has_type(media_type, other.types):
            return True
        last = self._template.path[-1]
        if not last.is_name:
            return not split_name(f"x{last.text}")[1]
        if last.text in {"ext", "format"}:
            return False
        # The source's own extension, which need not be the result's: a store that tells no type goes by that.
        own = [type_of_name(f"x{suffix}") for suffix in self._suffixes] if last.text in {"name", "path"} else []
        return not own or any(not found or has_type(found, other.types) for found in own)

    def _automaton(self, pieces: Sequence[Piece], formats: Sequence[Format]) -> Words:
        words = Words()
        words.text(self._root)
        for piece in pieces:
            if piece.is_name:
                self._value(words, piece.text, formats)
            else:
                words.text(piece.text)
        return words

    def _value(self, words: Words, name: str, formats: Sequence[Format]) -> None:
        """What the value of a name may look like."""
        match name:
            case "ext":
                words.one_of(ext.removeprefix(".") for fmt in formats for ext in fmt.extensions)
            case "format":
                words.one_of(fmt.name for fmt in formats)
            case "path" | "name":
                words.perhaps(IN_NAME, ANY if name == "path" else IN_NAME)
                if self._suffixes:
                    words.one_of(self._suffixes)
                else:
                    words.then(IN_NAME)
            case "name part" | "path part":
                words.perhaps(IN_NAME, ANY if name == "path part" else IN_NAME)
            case "dir":
                words.then(IN_NAME)
                words.some(ANY, least=0)
            case "width" | "height" | "year" | "month" | "day" | "hour":
                words.some(DIGIT)
            case "date":
                words.some(DATE)
            case _:
                words.some(IN_NAME)


def shared_word(words: Words, prefix: str, suffix: str) -> str | None:
    """A word of the automaton that begins with ``prefix`` and ends with ``suffix`` in any case; None if there is none.

    Breadth first, so it is a shortest one.
    """
    ending = [either_case(character) for character in suffix]
    # A state: where the words are, how much of the prefix is there, how much of the suffix, were this its beginning.
    start = (0, 0, 0)
    came_by: dict[tuple[int, int, int], tuple[tuple[int, int, int], str]] = {start: (start, "")}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        at, begun, ended = state
        if at == words.last and begun == len(prefix) and ended == len(ending):
            return _spelled(state, came_by)
        if len(came_by) > MAX_STEPS:
            return prefix + suffix
        for chars, after in words.edges[at]:
            for step, character in _steps(chars, begun, ended, prefix, ending):
                reached = (after, *step)
                if reached not in came_by:
                    came_by[reached] = (state, character)
                    waiting.append(reached)
    return None


def _steps(
    chars: Chars | None, begun: int, ended: int, prefix: str, ending: Sequence[Chars]
) -> Iterator[tuple[tuple[int, int], str]]:
    """Where one edge leads, in prefix and suffix, and the character that it takes."""
    if chars is None:
        yield (begun, ended), ""
        return
    asked = Chars(prefix[begun]) if begun < len(prefix) else ANY
    begun_then = min(begun + 1, len(prefix))
    if ended == 0:  # the suffix has not begun
        character = chars.shared_with(asked)
        if character is not None:
            yield (begun_then, 0), character
    if ended < len(ending):
        character = _shared_by_three(chars, asked, ending[ended])
        if character is not None:
            yield (begun_then, ended + 1), character


def _shared_by_three(one: Chars, two: Chars, three: Chars) -> str | None:
    for character in three.some or one.some or two.some or "x":
        if one.holds(character) and two.holds(character) and three.holds(character):
            return character
    return None


def _spelled(state: tuple[int, int, int], came_by: dict[tuple[int, int, int], tuple[tuple[int, int, int], str]]) -> str:
    letters: list[str] = []
    while state != (0, 0, 0):
        state, letter = came_by[state]
        letters.append(letter)
    return "".join(reversed(letters))


def _collapsed(text: str) -> str:
    while "//" in text:
        text = text.replace("//", "/")
    return text


def _without_folder(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """The template of an object that lies in no folder: slashes that meet become one, and none leads."""
    found: list[Piece] = []
    for piece in pieces:
        if piece == Piece("dir", is_name=True):
            continue
        text = piece.text
        if not piece.is_name:
            before = found[-1] if found else Piece("/")
            text = _collapsed(text)
            if not before.is_name and before.text.endswith("/"):
                text = text.removeprefix("/")
        if text:
            found.append(Piece(text, piece.is_name))
    return tuple(found)


def _as_data(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """The template of the data: its name ends in ``.json``, in place of the extension of an image."""
    head, tail = _split_at_name(pieces)
    head = tuple(_NAME_PART if piece.is_name and piece.text in {"ext", "format"} else piece for piece in head)
    last = tail[-1]
    if last == Piece("ext", is_name=True) and len(tail) > 1 and tail[-2].text.endswith(".") and not tail[-2].is_name:
        return (*head, *tail[:-2], Piece(tail[-2].text + DATA.removeprefix(".")))
    if not last.is_name and "." in last.text:
        # The letter stands for what comes before: a name that only begins with a dot has no extension.
        stem, extension = split_name(f"x{last.text}")
        cut = is_image_extension(extension)
        return (*head, *tail[:-1], Piece((stem[1:] if cut else last.text) + DATA))
    if all(not piece.is_name for piece in tail):
        return (*head, *tail, Piece(DATA))
    # What ends here has an extension of its own, or none: that depends on the source.
    while not tail[-1].is_name:
        tail = tail[:-1]
    value = _PATH_PART if tail[-1].text in {"path", "dir"} else _NAME_PART
    return (*head, *tail[:-1], value, Piece(DATA))


def _split_at_name(pieces: Sequence[Piece]) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """The pieces up to the last literal slash, and those of the name behind it."""
    for index in range(len(pieces) - 1, -1, -1):
        piece = pieces[index]
        if piece.is_name or "/" not in piece.text:
            continue
        before, slash, behind = piece.text.rpartition("/")
        start = (Piece(behind),) if behind else ()
        return (*pieces[:index], Piece(before + slash)), (*start, *pieces[index + 1 :])
    return (), tuple(pieces)
