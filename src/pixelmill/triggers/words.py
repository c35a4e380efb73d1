"""Automata of words, and the shortest word of one that has a given beginning and end. Pure.

Serves ``overlap.py``: the names that a template can make are the words of a small automaton. It runs beside what a rule
asks for (a prefix, then anything, ending in a suffix in any case); where both come to their end together, the way there
spells an example.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pixelmill.errors import ConfigError

MAX_STEPS = 3_000_000
"""States that are looked at for one set of rules: some seconds."""


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
DIGIT = Chars("0123456789")
DATE = Chars("0123456789-")


class Steps:
    """How many states may still be looked at."""

    def __init__(self, left: int = MAX_STEPS) -> None:
        self._left = left

    def take(self, count: int) -> None:
        """Raise :class:`ConfigError` where they are used up."""
        self._left -= count
        if self._left < 0:
            raise ConfigError(
                "The rules watch and write so many places that overlap that it can't be told whether they form a loop. "
                "Begin output with a folder or bucket that no rule watches."
            )


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


def shared_word(words: Words, prefix: str, suffix: str, steps: Steps) -> str | None:
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
        steps.take(1)
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
