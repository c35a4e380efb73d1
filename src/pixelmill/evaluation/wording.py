"""Numbers for people: three digits that count, units that fit. Pure functions."""

from __future__ import annotations


def number(value: float | None) -> str:
    """Three significant digits; whole numbers as they are; a dash for what is not known."""
    if value is None:
        return "–"
    if value == round(value) and abs(value) < 1e15:
        return f"{round(value):,}"
    size = abs(value)
    # By what it is when rounded: 9.999 is 10.0, not 10.00.
    if size >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}" if size >= 0.095 else f"{value:.3g}"


def tick(value: float) -> str:
    """A number at an axis: no more digits than it has."""
    return f"{value:,.10g}"


def milliseconds(value: float | None) -> str:
    """A time in its best unit."""
    if value is None:
        return "–"
    if value < 1_000:
        return f"{number(value)} ms"
    return seconds(value / 1_000)


def seconds(value: float) -> str:
    """A time in seconds, or in minutes and seconds."""
    if value < 120:
        return f"{number(value)} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def size(count: float | None) -> str:
    """Bytes in decimal units."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if count < 1_000:
            return f"{number(count)} {unit}"
        count /= 1_000
    return f"{number(count)} GB"


def percent(value: float | None) -> str:
    """With one place behind the point where it isn't whole; never rounded up to 100."""
    if value is None:
        return "–"
    return f"{value:.0f} %" if value == round(value) else f"{min(value, 99.9):.1f} %"


def ratio(value: float | None) -> str:
    """How many times."""
    return "–" if value is None else f"{value:.2f}×" if value < 100 else f"{value:,.0f}×"
