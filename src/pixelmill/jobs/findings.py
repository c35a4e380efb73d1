"""What of a task's data can be searched for: labels with scores, words of captions, the number of faces. Pure.

Data come from operations, and from machines elsewhere: whatever they hold, nothing here raises, and what a task gives
has a bound. :mod:`pixelmill.jobs.search` looks the terms up; both must make them alike.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_LABEL_TERMS = 64
MAX_CAPTION_WORDS = 64
MAX_LABELS = 100
"""Labels of one task that are looked at, in the order the data have them: the surest first."""
MAX_TEXT = 2_000
"""Characters of a caption or label that are looked at."""
MAX_WORD = 64
"""Characters of a word that count; longer ones are cut, in data and in what is searched for."""
MAX_PHRASE_BYTES = 512
"""UTF-8 bytes of a label that count: it stands in an index, where PostgreSQL takes no more than 2,704 bytes a row."""
FACES = "faces"
"""The term of tasks in which faces were counted; its score is the number."""

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Findings:
    """Terms of one task, each with a score (of words in captions 1), and the labels that describe it for its job."""

    terms: Mapping[str, float] = field(default_factory=dict)
    labels: Sequence[str] = ()


NOTHING = Findings()


def words_of(text: str) -> list[str]:
    """The words of a text in order: letters and digits, of one case and one form (NFKC)."""
    folded = unicodedata.normalize("NFKC", text[:MAX_TEXT]).casefold()
    return [word[:MAX_WORD] for word in _WORD.findall(folded)]


def phrase_of(words: Sequence[str]) -> str:
    """A label as one text; what is too long is cut, in data and in what is searched for."""
    return " ".join(words).encode()[:MAX_PHRASE_BYTES].decode(errors="ignore").rstrip()


def label_term(words: Sequence[str]) -> str:
    """The term of a label, or of one word of labels."""
    return f"label:{phrase_of(words)}"


def caption_term(word: str) -> str:
    """The term of a word in captions."""
    return f"caption:{word}"


def findings_of(outcome: Mapping[str, Any] | None) -> Findings:
    """What the data of an outcome hold that can be searched for."""
    data = (outcome or {}).get("data")
    if not isinstance(data, Mapping) or not data:
        return NOTHING
    labels: list[tuple[str, float]] = []
    tags: list[str] = []
    words: list[str] = []
    faces: list[float] = []
    for step, found in data.items():
        if not isinstance(found, Mapping):
            continue
        match str(step).partition("-")[0]:  # a second step of a name is NAME-2
            case "classify":
                labels += _scored(found.get("labels"))
            case "auto_tag":
                mine = _texts(found.get("tags"))
                labels += zip(mine, _scores(found.get("scores"), len(mine)), strict=True)
                tags += mine
            case "caption":
                words += [word for text in _captions(found) for word in words_of(text)]
            case "faces":
                faces += [count] if (count := _number(found.get("count"))) is not None else []
    terms = _label_terms(labels)
    terms |= dict.fromkeys(map(caption_term, list(dict.fromkeys(words))[:MAX_CAPTION_WORDS]), 1.0)
    if faces:
        terms[FACES] = max(faces)
    described = dict.fromkeys(phrase for tag in tags if (phrase := phrase_of(words_of(tag))))
    return Findings(terms, tuple(described))


def _label_terms(labels: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Each synonym of each label ("tabby, tabby cat") as a whole, and each of its words, with the best score."""
    terms: dict[str, float] = {}
    for text, score in labels:
        for synonym in text.split(","):
            words = words_of(synonym)
            for term in (label_term(words), *(label_term([word]) for word in words)) if words else ():
                if term in terms:
                    terms[term] = max(terms[term], score)
                elif len(terms) < MAX_LABEL_TERMS:
                    terms[term] = score
    return terms


def _scored(items: Any) -> list[tuple[str, float]]:
    if not isinstance(items, Sequence) or isinstance(items, str):
        return []
    pairs = [
        (item.get("label"), _number(item.get("score"))) for item in items[:MAX_LABELS] if isinstance(item, Mapping)
    ]
    return [(label, 1.0 if score is None else score) for label, score in pairs if isinstance(label, str)]


def _texts(items: Any) -> list[str]:
    if not isinstance(items, Sequence) or isinstance(items, str):
        return []
    return [item for item in items[:MAX_LABELS] if isinstance(item, str)]


def _scores(items: Any, count: int) -> list[float]:
    """As many scores; 1 where none are told: whoever only names tags is sure of them."""
    told = [_number(item) for item in items] if isinstance(items, list) and len(items) == count else [None] * count
    return [1.0 if score is None else score for score in told]


def _captions(found: Mapping[str, Any]) -> list[str]:
    one = [found[name] for name in ("caption", "text") if isinstance(found.get(name), str)]
    return one + _texts(found.get("captions"))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
        return None
    return float(value) if math.isfinite(value) else None
