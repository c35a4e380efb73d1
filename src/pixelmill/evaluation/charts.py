"""Charts as SVG text: lines over batch sizes, areas over time, bars of a histogram. Pure functions.

Colors, dashes and fonts are the style sheet's, by class. What a chart shows stands in a table too: its label is short.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from pixelmill.evaluation.series import Histogram
from pixelmill.evaluation.wording import number, tick

WIDTH, HEIGHT = 340.0, 200.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 10.0, 34.0
SMALL_WIDTH, SMALL_HEIGHT = 220.0, 84.0
LOG_FROM = 30.0
"""A logarithmic axis where the greatest value is that many times the least."""
MOST_TICKS = 6
LEAST = 1e-6
"""What is below it is drawn as nothing."""
TONES = 4


@dataclass(frozen=True, slots=True)
class Line:
    """Values by category; None leaves a gap. ``low`` and ``high`` are drawn as whiskers. ``tone`` chooses the color."""

    name: str
    values: Sequence[float | None]
    tone: int = 0
    dashed: bool = False
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


class _Axis:
    """Values to heights, and where its ticks are."""

    def __init__(self, values: Sequence[float], top: float, bottom: float) -> None:
        self._top, self._bottom = top, bottom
        values = [value if value >= LEAST else 0.0 for value in values]
        positive = [value for value in values if value > 0]
        most = max(values, default=0.0)
        self.logarithmic = bool(positive) and len(positive) == len(values) and most / min(positive) >= LOG_FROM
        if self.logarithmic:
            self._low = math.floor(math.log10(min(positive)))
            self._high = max(self._low + 1, math.ceil(math.log10(most)))
            apart = -(-(self._high - self._low) // MOST_TICKS)
            self.ticks = [10.0**power for power in range(self._low, self._high + 1, apart)]
        else:
            step = _nice(most / 4 if most > 0 else 0.25)
            self.ticks = (
                [step * count for count in range(math.ceil(most / step - 1e-9) + 1)] if most > 0 else [0.0, 1.0]
            )
            self._low, self._high = 0, 0
        self._most = self.ticks[-1]

    def y(self, value: float) -> float:
        """The height of a value in the picture."""
        part = value / self._most
        if self.logarithmic:
            part = (math.log10(max(value, LEAST)) - self._low) / (self._high - self._low)
        return self._bottom - (self._bottom - self._top) * min(1.0, max(0.0, part))


def _nice(step: float) -> float:
    """The least of 1, 2, 2.5 and 5 times a power of ten that is not below ``step``."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))


def lines(label: str, categories: Sequence[str], series: Sequence[Line], axis_title: str) -> str:
    """A line for each of ``series`` over categories at equal distances."""
    every = [
        value
        for line in series
        for values in (line.values, line.low, line.high)
        for value in values
        if value is not None
    ]
    axis = _Axis(every, TOP, HEIGHT - BOTTOM)
    span = WIDTH - LEFT - RIGHT
    at = [LEFT + span * (index + 0.5) / len(categories) for index in range(len(categories))]
    parts = [_grid(axis, WIDTH)]
    parts += [_text(x, HEIGHT - BOTTOM + 15, name, "middle") for x, name in zip(at, categories, strict=True)]
    parts.append(_text(LEFT + span / 2, HEIGHT - 3, axis_title, "middle", "axis"))
    for line in series:
        parts.append(_line(line, at, axis))
    return _svg(label, WIDTH, HEIGHT, parts)


def _line(line: Line, at: Sequence[float], axis: _Axis) -> str:
    tone = f"s{line.tone % TONES}"
    points = [(x, axis.y(value)) for x, value in zip(at, line.values, strict=True) if value is not None]
    path = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points) if points else ""
    dash = " dashed" if line.dashed else ""
    whiskers = "".join(
        f"M{_n(x)} {_n(axis.y(low))}V{_n(axis.y(high))}"
        for x, low, high in zip(at, line.low, line.high, strict=False)
        if low is not None and high is not None and low < high
    )
    marks = "".join(_mark(x, y, line.tone) for x, y in points)
    more = f'<path class="whisker" d="{whiskers}"/>' if whiskers else ""
    return f'<g class="{tone}{dash}"><path class="line" d="{path}"/>{more}<g class="marks">{marks}</g></g>'


def _mark(x: float, y: float, tone: int) -> str:
    """A shape of its own for each tone, so that color is not all that tells lines apart."""
    match tone % TONES:
        case 0:
            return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="3.4"/>'
        case 1:
            return f'<rect x="{_n(x - 3)}" y="{_n(y - 3)}" width="6" height="6"/>'
        case 2:
            return f'<path d="M{_n(x)} {_n(y - 4)}l4 7h-8z"/>'
        case _:
            return f'<path d="M{_n(x)} {_n(y - 4.4)}l4.4 4.4-4.4 4.4-4.4-4.4z"/>'


def legend_mark(tone: int, *, dashed: bool = False) -> str:
    """The line of a legend, with its mark."""
    dash = " dashed" if dashed else ""
    return (
        f'<svg class="key" viewBox="0 0 26 12" width="26" height="12" aria-hidden="true">'
        f'<g class="s{tone % TONES}{dash}"><path class="line" d="M1 6H25"/>'
        f'<g class="marks">{_mark(13, 6, tone)}</g></g></svg>'
    )


def area(label: str, values: Sequence[float], step_s: float, tone: int = 0) -> str:
    """A small picture of values over time, as steps: each is that of its bin."""
    if not values:
        return ""
    left, bottom = 34.0, SMALL_HEIGHT - 16
    axis = _Axis([0.0, *values], 6, bottom)
    width = (SMALL_WIDTH - left - 6) / len(values)
    path = f"M{_n(left)} {_n(bottom)}"
    for index, value in enumerate(values):
        path += f"V{_n(axis.y(value))}H{_n(left + width * (index + 1))}"
    top = axis.ticks[-1]
    parts = [
        f'<path class="gridline" d="M{_n(left)} {_n(axis.y(top))}H{_n(SMALL_WIDTH - 6)}"/>',
        f'<path class="base" d="M{_n(left)} {_n(bottom)}H{_n(SMALL_WIDTH - 6)}"/>',
        _text(left - 4, axis.y(top) + 4, tick(top), "end"),
        _text(left - 4, bottom + 1, "0", "end"),
        _text(SMALL_WIDTH - 6, SMALL_HEIGHT - 3, f"{number(step_s * len(values))} s", "end"),
        f'<path class="area s{tone % TONES}" d="{path}V{_n(bottom)}z"/>',
    ]
    return _svg(label, SMALL_WIDTH, SMALL_HEIGHT, parts)


def bars(label: str, found: Histogram, tone: int = 0) -> str:
    """A small picture of a histogram: bins side by side, whatever their width."""
    if not found.counts:
        return ""
    left, bottom = 34.0, SMALL_HEIGHT - 16
    axis = _Axis([0.0, *map(float, found.counts)], 6, bottom)
    width = (SMALL_WIDTH - left - 6) / max(6, len(found.counts))
    path = "".join(
        f"M{_n(left + width * index + 0.6)} {_n(bottom)}V{_n(axis.y(count))}h{_n(width - 1.2)}V{_n(bottom)}z"
        for index, count in enumerate(found.counts)
        if count
    )
    end = left + width * len(found.counts)
    parts = [
        f'<path class="base" d="M{_n(left)} {_n(bottom)}H{_n(SMALL_WIDTH - 6)}"/>',
        _text(left - 4, axis.y(axis.ticks[-1]) + 4, tick(axis.ticks[-1]), "end"),
        _text(left - 4, bottom + 1, "0", "end"),
        _text(left, SMALL_HEIGHT - 3, tick(found.bounds[0]), "start"),
        _text(max(end, left + 60), SMALL_HEIGHT - 3, f"{tick(found.bounds[-1])} ms", "end"),
        f'<path class="bar s{tone % TONES}" d="{path}"/>',
    ]
    return _svg(label, SMALL_WIDTH, SMALL_HEIGHT, parts)


def ranking(label: str, names: Sequence[str], values: Sequence[float], unit: str) -> str:
    """A bar for each name, one below the other, with its value behind it."""
    row, left, width = 20.0, 96.0, 460.0
    most = max(values, default=0.0) or 1.0
    parts = []
    for index, (name, value) in enumerate(zip(names, values, strict=True)):
        y, length = 4 + row * index, (width - left - 70) * value / most
        parts.append(_text(left - 6, y + 13, name if len(name) <= 14 else f"{name[:13]}…", "end"))
        parts.append(
            f'<rect class="bar s0" x="{_n(left)}" y="{_n(y + 2)}" width="{_n(max(1.0, length))}" height="14"/>'
        )
        parts.append(_text(left + length + 5, y + 13, f"{number(value)} {unit}", "start", "value"))
    return _svg(label, width, row * len(names) + 8, parts, "chart wide")


def _grid(axis: _Axis, width: float) -> str:
    rows = [
        f'<path class="{"gridline" if index else "base"}" d="M{_n(LEFT)} {_n(axis.y(value))}H{_n(width - RIGHT)}"/>'
        + _text(LEFT - 6, axis.y(value) + 4, tick(value), "end")
        for index, value in enumerate(axis.ticks)
    ]
    return "".join(rows)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(label: str, width: float, height: float, parts: Sequence[str], kind: str = "chart") -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {_n(width)} {_n(height)}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
