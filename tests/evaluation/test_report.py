"""The page: whole, escaped, small, without a script, and right in a real browser, light and dark, wide and narrow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import browser as browsers
import pytest
from evaluation_tools import HOSTILE, a_document, a_load
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser

from pixelmill.evaluation.charts import Line, area, bars, lines, ranking
from pixelmill.evaluation.document import Document
from pixelmill.evaluation.figures import METRICS
from pixelmill.evaluation.observation import Resolution
from pixelmill.evaluation.report import render
from pixelmill.evaluation.series import histogram
from pixelmill.evaluation.wording import milliseconds, number, percent, ratio, seconds, size

VOID = {"meta", "br", "img", "link"}
values = st.lists(st.one_of(st.none(), st.floats(0, 1e9, allow_nan=False)), min_size=1, max_size=8)


class Checker(HTMLParser):
    """Notes tags that are not closed in order, and every attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(html: str) -> Checker:
    found = Checker()
    found.feed(html)
    assert not found.open
    assert not found.wrong
    return found


def test_the_page_has_every_metric_and_is_closed_and_small() -> None:
    html = render(a_document(sizes=(10, 50, 100, 500, 1000), resolutions=[Resolution(n, 800) for n in (1, 2, 3)]))
    page = checked(html)
    assert len(html.encode()) < 400_000
    otherwise = {"events sent", "events received", "events dropped", "megapixels/s", "sending"}
    shown = {metric.title for metric in METRICS} - otherwise
    for title in (*shown, "sent", "received", "dropped", "MP/s"):
        assert title in page.text, title
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert not re.search(r"https?://", html)


def test_all_text_from_outside_is_escaped() -> None:
    made = a_document(text=HOSTILE, labels=(HOSTILE, HOSTILE * 2), failed=1, rounds=3)
    errors = {HOSTILE: 3}
    cells = tuple(
        replace(cell, resolution=HOSTILE, rounds=tuple(replace(one, errors=errors) for one in cell.rounds))
        for cell in made.cells
    )
    hostile = replace(made, cells=cells, images=HOSTILE, command=HOSTILE, made=HOSTILE, partial=True, why=HOSTILE)
    load = a_load(text=HOSTILE)
    assert load.load is not None
    users = tuple(replace(user, name=HOSTILE) for user in load.load.users)
    for document in (hostile, replace(load, load=replace(load.load, users=users, resolution=HOSTILE))):
        page = checked(render(document))
        assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img"})
        assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_a_partial_report_says_so_also_when_it_is_empty() -> None:
    html = render(replace(a_document(sizes=()), partial=True, why="It was ended by Ctrl-C.", planned=8))
    assert "Partial." in checked(html).text
    assert "0 of 8 batches" in html


def test_a_busy_machine_is_told() -> None:
    made = a_document()
    assert "kept this machine busy" not in render(made)
    assert "kept this machine busy" in render(replace(made, load_before=(2.0, 1.0, 1.0)))


def test_tables_have_captions_and_heads_and_pictures_have_names() -> None:
    page = checked(render(a_document(rounds=3, labels=("one", "two"))))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption")
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")
    for tag, attributes in page.tags:
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


@given(values, values)
def test_lines_are_drawn_within_their_picture(some: list[float | None], other: list[float | None]) -> None:
    count = min(len(some), len(other))
    drawn = lines("a", [str(n) for n in range(count)], [Line("x", some[:count]), Line("y", other[:count], 1)], "size")
    page = checked(drawn)
    heights = [float(attributes["cy"] or 0) for tag, attributes in page.tags if tag == "circle"]
    assert len(heights) == sum(value is not None for value in some[:count])
    assert all(0 <= height <= 200 for height in heights)
    assert "nan" not in drawn
    assert "inf" not in drawn


@given(st.lists(st.floats(0, 1e9, allow_nan=False), max_size=60))
def test_small_pictures_are_drawn_of_anything(some: list[float]) -> None:
    for drawn in (area("a", some, 0.1), bars("b", histogram(some)), ranking("c", ["x"] * len(some), some, "s")):
        checked(drawn)
        assert "nan" not in drawn


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (number(None), "–"),
        (number(0), "0"),
        (number(9.999), "10.0"),
        (number(0.01234), "0.0123"),
        (number(1234.5), "1,234"),
        (milliseconds(12.34), "12.3 ms"),
        (milliseconds(2055), "2.06 s"),
        (seconds(125), "2 min 5 s"),
        (size(1_500_000), "1.50 MB"),
        (percent(99.99), "99.9 %"),
        (percent(100), "100 %"),
        (ratio(1.5), "1.50×"),
        (ratio(None), "–"),
    ],
)
def test_numbers_are_written_for_people(shown: str, text: str) -> None:
    assert shown == text


# -- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Absent on a user's machine its tests skip, in CI they fail."""
    missing = browsers.missing()
    if missing is not None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"{missing}; `make servers` brings it")
    with browsers.chromium() as started:
        yield started


KINDS = {
    "evaluate": lambda: a_document(sizes=(10, 100, 1000), failed=1, rounds=3),
    "against": lambda: a_document(sizes=(10, 100), labels=("one", "two"), rounds=3),
    "partial": lambda: replace(a_document(sizes=()), partial=True, why="It was ended by Ctrl-C.", planned=8),
    "load": lambda: a_load(12),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_right_in_a_browser(kind: str, browser: Browser, tmp_path: Path) -> None:
    made: Document = KINDS[kind]()
    path = tmp_path / "report.html"
    path.write_text(render(made), encoding="utf-8")
    for scheme in ("light", "dark"):
        # The page works without scripts; axe is one, so only its window may run them.
        with browsers.window(browser, "file://", color_scheme=scheme, bypass_csp=True) as watched:
            watched.page.goto(path.as_uri())
            assert browsers.accessibility_faults(watched.page) == []
    narrow = {"width": 360, "height": 740}
    with browsers.window(browser, "file://", viewport=narrow, java_script_enabled=True) as watched:
        watched.page.goto(path.as_uri())
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_page_needs_no_script(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(a_document()), encoding="utf-8")
    with browsers.window(browser, "file://", java_script_enabled=False) as watched:
        watched.page.goto(path.as_uri())
        assert watched.page.get_by_role("table").count() >= 8
        assert watched.page.get_by_role("img", name="Throughput by batch size, manual trigger").is_visible()
