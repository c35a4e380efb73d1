"""Pieces of the page: tables, figures, legends. All text that comes in is escaped here. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from pixelmill.evaluation.charts import legend_mark


@dataclass(frozen=True, slots=True)
class Markup:
    """Text that is HTML already. Everything else is escaped."""

    html: str


Cell = str | Markup


def inner(cell: Cell) -> str:
    """As HTML."""
    return cell.html if isinstance(cell, Markup) else escape(cell)


def table(
    caption: str,
    header: Sequence[str],
    groups: Iterable[tuple[str | None, Sequence[Sequence[Cell]]]],
    *,
    note: str = "",
    bands: Sequence[tuple[str, int]] = (),
) -> str:
    """A table that scrolls in itself where it is too wide.

    Each group is a body of rows with a name that heads it, or None; the first cell of a row heads the row. ``bands``:
    a row above the header, of titles with how many columns each spans.
    """
    groups = list(groups)
    kind = ' class="grouped"' if any(name for name, _ in groups) else ""
    bodies = "".join(_body(name, rows) for name, rows in groups)
    upper = "".join(
        f'<th scope="colgroup" colspan="{span}">{escape(title)}</th>' if title else f'<td colspan="{span}"></td>'
        for title, span in bands
    )
    head = (f'<tr class="bands">{upper}</tr>' if upper else "") + "".join(
        ["<tr>", *(f'<th scope="col">{escape(name)}</th>' for name in header), "</tr>"]
    )
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table{kind}><caption>{escape(caption)}</caption><thead>{head}</thead>{bodies}</table></div>{below}"
    )


def _body(name: str | None, rows: Sequence[Sequence[Cell]]) -> str:
    parts = ["<tbody>"]
    for index, row in enumerate(rows):
        parts.append("<tr>")
        if name is not None and index == 0:
            parts.append(f'<th scope="rowgroup" rowspan="{len(rows)}">{escape(name)}</th>')
        parts.append(f'<th scope="row">{inner(row[0])}</th>')
        parts += [f"<td>{inner(cell)}</td>" for cell in row[1:]]
        parts.append("</tr>")
    parts.append("</tbody>")
    return "".join(parts)


def figure(title: str, svg: str, note: str = "") -> str:
    """A chart with its title."""
    small = f"<small>{escape(note)}</small>" if note else ""
    return f"<figure><figcaption>{escape(title)} {small}</figcaption>{svg}</figure>"


def legend(entries: Sequence[tuple[str, int, bool]]) -> str:
    """What the lines are: name, tone, dashed."""
    items = "".join(f"<li>{legend_mark(tone, dashed=dashed)}{escape(name)}</li>" for name, tone, dashed in entries)
    return f'<ul class="legend">{items}</ul>'


def tiles(entries: Sequence[tuple[str, str, str]]) -> str:
    """The numbers to see first: value, what it is, and where it was seen."""
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(where)}</small></dd></div>"
        for value, name, where in entries
    )
    return f'<dl class="tiles">{items}</dl>'


def section(name: str, title: str, *parts: str) -> str:
    """A part of the page under a heading; nothing where there are no parts."""
    body = "".join(parts)
    if not body:
        return ""
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(title)}</h2>{body}</section>'


def paragraphs(*texts: str) -> str:
    """Each as a paragraph."""
    return "".join(f"<p>{escape(text)}</p>" for text in texts if text)


def pairs(entries: Iterable[tuple[str, str]], kind: str) -> str:
    """A list of terms and what is said of them."""
    items = "".join(f"<div><dt>{escape(term)}</dt><dd>{escape(text)}</dd></div>" for term, text in entries)
    return f'<dl class="{kind}">{items}</dl>'
