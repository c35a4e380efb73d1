"""Whether a name that one rule's template can make is one that another rule takes, with an example.

What a value of each name in braces may look like stands here; how two patterns are compared, in ``words.py``. Suffixes
don't care about case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
from pixelmill.triggers.words import ANY, DATE, DIGIT, IN_NAME, Steps, Words, shared_word

DATA_TYPE = "application/json"
_NAME_PART = Piece("name part", is_name=True)
_PATH_PART = Piece("path part", is_name=True)


class Reach:
    """The names that the results of one rule may get: all in ``bucket``, all with ``start`` as their beginning."""

    def __init__(self, rule: Rule) -> None:
        self._template = template_of(rule)
        self._suffixes = rule.suffixes
        products = products_of(Pipeline.parse(rule.pipeline))
        self._formats, self._data = products.formats, products.data
        self.bucket = (self._template.scheme, "".join(piece.text for piece in self._template.bucket))
        self._root = "/" if self._template.scheme == "file" else ""
        self._ends = self._fixed_ends()
        first = self._template.path[0]
        self.start = self._root + ("" if first.is_name else _collapsed(first.text).removeprefix("/"))

    def _fixed_ends(self) -> list[str] | None:
        """What the names of all results end in, in small letters; None where that depends on the source."""
        last = self._template.path[-1]
        if last == Piece("ext", is_name=True):
            images = [extension.removeprefix(".") for fmt in self._formats for extension in fmt.extensions]
        elif not last.is_name and "." in last.text:
            images = [last.text.lower()]
        else:
            return None
        return [*images, *([DATA] if self._data else [])]

    def may_end_in(self, suffixes: Sequence[str]) -> bool:
        """A quick look at suffixes in small letters: False where no result can have one of them."""
        ends = self._ends
        return not suffixes or ends is None or any(_meet(end, suffix) for end in ends for suffix in suffixes)

    def example_for(self, other: Rule, steps: Steps) -> str | None:
        """The address of a result that ``other`` takes, or None where there can't be one.

        Raises :class:`ConfigError` where ``steps`` are used up.
        """
        watched = place(other.watch)
        for words in self._words(other):
            for suffix in other.suffixes or ("",):
                found = shared_word(words, watched.path, suffix, steps)
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
            # A store that tells no type goes by the name, whatever the result is.
            name = f"x{last.text.rpartition('/')[2]}"
            return not split_name(name)[1] or has_type(type_of_name(name), other.types)
        if last.text in {"ext", "format"}:
            return False
        # The source's own extension, which need not be the result's: a store that tells no type goes by that.
        own = self._suffixes if last.text in {"name", "path"} else ()
        return all(_may_have_type(suffixes, other.types) for suffixes in (own, other.suffixes))

    def _automaton(self, pieces: Sequence[Piece], formats: Sequence[Format]) -> Words:
        words = Words()
        words.text(self._root)
        for number, piece in enumerate(pieces):
            if piece.is_name:
                self._value(words, piece.text, formats)
            else:
                text = _collapsed(piece.text)
                words.text(text if number else text.removeprefix("/"))
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


def _may_have_type(suffixes: Sequence[str], types: Sequence[str]) -> bool:
    """Whether a name with one of these suffixes (none: any name) may stand for one of these types."""
    found = [type_of_name(f"x{suffix}") for suffix in suffixes]
    return not found or any(not one or has_type(one, types) for one in found)


def _meet(one: str, two: str) -> bool:
    return one.endswith(two) or two.endswith(one)


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
    head, tail = _split_at_name([*map(_of_data, pieces[:-1]), pieces[-1]])
    last = tail[-1]
    kind = last.is_name and last.text in {"ext", "format"}
    if kind and len(tail) > 1 and tail[-2].text.endswith(".") and not tail[-2].is_name:
        return (*head, *tail[:-2], Piece(tail[-2].text + DATA.removeprefix(".")))
    if not last.is_name and "." in last.text:
        # The letter stands for what comes before: a name that only begins with a dot has no extension.
        stem, extension = split_name(f"x{last.text}")
        cut = is_image_extension(extension)
        return (*head, *tail[:-1], Piece((stem[1:] if cut else last.text.removesuffix(DATA)) + DATA))
    if all(not piece.is_name for piece in tail):
        return (*head, *tail, Piece(DATA))
    # What ends here has an extension of its own, or none: that depends on the source.
    while not tail[-1].is_name:
        tail = tail[:-1]
    value = _PATH_PART if tail[-1].text in {"path", "dir"} else _NAME_PART
    return (*head, *tail[:-1], value, Piece(DATA))


def _of_data(piece: Piece) -> Piece:
    """Extension and format are ``json``, or those of the image that the data came beside."""
    return _NAME_PART if piece.is_name and piece.text in {"ext", "format"} else piece


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
