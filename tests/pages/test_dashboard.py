"""The dashboard: machines with their gates, what happens each second, the last hour and day, overflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import OpenWindow, accessibility_faults, visit
from live_service import LiveService
from playwright.sync_api import expect
from service_process import ServiceProcess, submit

SLOW = "sketch:denoise=full/format:jpeg"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_fleet_is_shown_and_its_numbers_move_without_loading_anew(
    service: ServiceProcess, open_window: OpenWindow, pictures: list[bytes], scheme: str
) -> None:
    page = open_window(service.url, color_scheme=scheme).page
    visit(page, "/dashboard")
    machine = page.get_by_role("article")
    expect(machine).to_have_count(1)
    expect(machine.get_by_text("gate open")).to_be_visible()
    page.evaluate("window.stays = true")
    submit(service.url, SLOW, {**{f"{i}.jpg": pictures[i % 8] for i in range(40)}, "bad.jpg": b"no image"})
    expect(machine.get_by_role("progressbar")).not_to_have_attribute("aria-valuenow", "0")
    expect(page.locator(".tile", has_text="Failed").locator("b")).to_have_text("1")
    expect(page.get_by_role("heading", name="Failures by reason")).to_be_visible()
    expect(page.get_by_role("link", name="unsupported-format")).to_be_visible()
    expect(page.get_by_role("progressbar", name="Share of local")).to_be_visible()
    assert page.evaluate("window.stays")
    assert accessibility_faults(page) == []


def test_the_ranges_show_the_last_minutes_hour_and_day(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = open_window(service.url).page
    visit(page, "/dashboard")
    for name in ("Hour", "Day", "5 minutes"):
        page.get_by_role("button", name=name, exact=True).click()
        expect(page.get_by_role("button", name=name, exact=True)).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".charts figure").first).to_be_visible()


def test_overflow_is_shown_with_its_gate_and_budget(
    open_window: OpenWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = {"name": "cloud", "url": "http://127.0.0.1:9", "price_per_second": 0.0001}
    monkeypatch.setenv("PIXELMILL_OVERFLOW", json.dumps([target]))
    monkeypatch.setenv("PIXELMILL_OVERFLOW_BUDGET_HOUR", "0.5")
    service = ServiceProcess(tmp_path / "data", "--workers", "1")
    service.start()
    try:
        page = open_window(service.url).page
        visit(page, "/dashboard")
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="cloud"))
        expect(row.get_by_text("closed")).to_be_visible()
        expect(row.get_by_text("0.5000")).to_be_visible()
        assert accessibility_faults(page) == []
    finally:
        service.end()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[LiveService]:
    owners = [{"owner": "ann", "scopes": ["process", "jobs:read", "jobs:write"]}]
    with LiveService(tmp_path / "data", api={"require_tokens": True}, tokens=owners) as service:
        yield service
        assert service.stop() == 0


def test_who_is_no_admin_is_told_what_it_takes(guarded: LiveService, open_window: OpenWindow) -> None:
    page = open_window(guarded.url).page
    visit(page, "/dashboard")
    page.get_by_label("Token").fill(guarded.tokens[0])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("The dashboard needs the scope admin")).to_be_visible()


def test_eight_tabs_of_one_browser_all_stay_live(service: ServiceProcess, open_window: OpenWindow) -> None:
    """A browser opens six connections to a host: with a stream in each tab, the seventh would get nothing."""
    watched = open_window(service.url)
    pages = [watched.page, *(watched.page.context.new_page() for _ in range(7))]
    for page in pages:
        visit(page, "/dashboard")
        expect(page.get_by_role("article")).to_have_count(1)
    submit(service.url, "grayscale", {"bad.jpg": b"no image"})
    for page in pages:
        expect(page.locator(".tile", has_text="Failed").locator("b")).to_have_text("1")
