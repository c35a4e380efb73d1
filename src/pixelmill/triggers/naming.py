"""Where a result goes: the address that a rule's template makes of what is known of the result. Pure; no I/O.

Whatever the source's name holds, the address begins with the fixed start of the template, and is one that every store
takes: no ``.`` or ``..`` as a part, no control character, nothing that is kept for the store. See ``template.py`` for
the names.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import takewhile

from pixelmill.errors import InvalidURI
from pixelmill.images.formats import FORMATS
from pixelmill.storage.keys import RESERVED, check_key, split_name
from pixelmill.storage.uris import URI
from pixelmill.triggers.places import path_in, place
from pixelmill.triggers.rule import Rule
from pixelmill.triggers.template import CONSTANT, Piece, Template, parse_template

DATA = ".json"
"""The extension of results that are data."""
_FORMAT_OF = {extension: fmt for fmt in FORMATS.values() for extension in fmt.extensions}
_LAST_MOMENT = 253_402_300_799.0  # of the year 9999
_UNSAFE = frozenset({"Cc", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class ResultFacts:
    """What names are made of. ``uri`` is the source's, ``path`` its decoded path below what the rule watches.

    ``extension`` is that of the result's format, with or without a dot; ``.json`` where it is data. ``at`` is when the
    source appeared, in seconds since the epoch: so a second run gives the same name. ``rule`` is the rule's name.
    """

    uri: str
    path: str
    extension: str
    media_type: str = ""
    width: int | None = None
    height: int | None = None
    task: str = ""
    at: float = 0.0
    rule: str = ""


def facts_of(rule: Rule, uri: str, extension: str, at: float, *, task: str = "") -> ResultFacts:
    """Facts without a size, of a source that the rule watches; raises :class:`InvalidURI` for one elsewhere."""
    return ResultFacts(uri, path_in(rule.watch, uri), extension, task=task, at=at, rule=rule.name)


def destination(rule: Rule, facts: ResultFacts) -> str:
    """The canonical address of the result. Data gets the same name with ``.json``.

    Raises :class:`ConfigError` for a template that can't be used, and :class:`InvalidURI` where the name gets longer
    than stores take.
    """
    template = template_of(rule)
    values = _values(template, facts)
    path = _joined("".join(values[piece.text] if piece.is_name else piece.text for piece in template.path))
    if _dotted(facts.extension) == DATA:
        path = _with_json(path)
    path = _safe_path(path)
    _check_length(path)
    bucket = "".join(piece.text for piece in template.bucket)
    return str(URI(template.scheme, bucket, f"/{path}" if template.scheme == "file" else path))


def data_destination(uri: str) -> str:
    """The address of the data that came beside an image: its own with ``.json`` in place of the extension."""
    folder, slash, name = uri.rpartition("/")
    return folder + slash + _with_json(name)


def template_of(rule: Rule) -> Template:
    """The rule's template with what is the same for all its results put in."""
    template = parse_template(rule.output)
    if not template.names & CONSTANT:
        return template
    values = {"rule": rule.name, "bucket": place(rule.watch).bucket}
    return replace(template, bucket=_filled(template.bucket, values), path=_filled(template.path, values))


def check_template(output: str) -> None:
    """Raise :class:`ConfigError` unless the template can be used; the message says what to write instead."""
    parse_template(output)


def fixed_start(output: str) -> str:
    """What every address begins with that the template makes, in canonical form; raises :class:`ConfigError`."""
    return start_of(parse_template(output))


def start_of(template: Template) -> str:
    """The same of a template that is read."""
    bucket = "".join(piece.text for piece in takewhile(_is_text, template.bucket))
    if any(piece.is_name for piece in template.bucket):
        return f"{template.scheme}://{bucket}"
    path = "".join(piece.text for piece in takewhile(_is_text, template.path))
    # A name may be empty, and slashes that meet there become one.
    path = _joined(path)
    return str(URI(template.scheme, bucket, f"/{path}" if template.scheme == "file" else path))


def _is_text(piece: Piece) -> bool:
    return not piece.is_name


def _filled(pieces: tuple[Piece, ...], values: dict[str, str]) -> tuple[Piece, ...]:
    return tuple(
        Piece(values[piece.text]) if piece.is_name and piece.text in values else piece
        for piece in pieces
        if not (piece.is_name and values.get(piece.text) == "")
    )


def _values(template: Template, facts: ResultFacts) -> dict[str, str]:
    folder, _, name = facts.path.rpartition("/")
    stem, own = split_name(name)
    extension = own_spelling(facts.extension, own)
    values = {
        "stem": stem,
        "name": name,
        "path": facts.path,
        "dir": folder,
        "ext": extension.removeprefix("."),
        "format": format_of(extension),
        "width": str(facts.width or 0),
        "height": str(facts.height or 0),
        "task": facts.task,
    }
    if template.names & {"date", "year", "month", "day", "hour"}:
        at = datetime.fromtimestamp(min(max(facts.at, 0.0), _LAST_MOMENT), UTC)
        date = at.strftime("%Y-%m-%d")
        values |= {"date": date, "year": date[:4], "month": date[5:7], "day": date[8:], "hour": f"{at.hour:02}"}
    return {name: _printable(value) for name, value in values.items()}


def own_spelling(extension: str, own: str) -> str:
    """The source's ``own`` extension where it is one of the result's format, so that ``.jpeg`` stays ``.jpeg``."""
    dotted = _dotted(extension)
    fmt = _FORMAT_OF.get(dotted)
    return own if fmt is not None and own.lower() in fmt.extensions else dotted


def format_of(extension: str) -> str:
    """The name of the format of an extension, or the extension itself, without its dot."""
    fmt = _FORMAT_OF.get(extension.lower())
    return fmt.name if fmt is not None else extension.removeprefix(".").lower()


def is_image_extension(extension: str) -> bool:
    """Whether an extension, with its dot, is one of a format."""
    return extension.lower() in _FORMAT_OF


def _dotted(extension: str) -> str:
    lowered = extension.lower()
    return lowered if not lowered or lowered.startswith(".") else f".{lowered}"


def _printable(value: str) -> str:
    if value.isascii() and value.isprintable() and "\\" not in value:
        return value
    return "".join("_" if c == "\\" or unicodedata.category(c) in _UNSAFE else c for c in value)


def _joined(path: str) -> str:
    """Slashes that meet where a name is empty become one, and none leads."""
    return re.sub("/+", "/", path).removeprefix("/")


def _safe_path(path: str) -> str:
    """``.`` and ``..`` as parts, and what is kept for stores, get a ``_`` behind: what stands before stays as it is."""
    parts = path.split("/")
    safe = [f"{part}_" if part in {"", ".", ".."} else part for part in parts]
    if safe[0] == RESERVED:
        safe[0] = f"{RESERVED}_"
    return "/".join(safe)


def _with_json(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    stem, extension = split_name(name)
    return f"{folder}{slash}{stem if is_image_extension(extension) else name.removesuffix(DATA)}{DATA}"


def _check_length(path: str) -> None:
    try:
        check_key(path)
    except InvalidURI as error:
        raise InvalidURI(
            f"The result can't get the name that the rule's template makes. {error}", **error.context
        ) from error
