"""What stands around every page: documents, policy, navigation, theme, the lost connection."""

from __future__ import annotations

import httpx
import pytest
from browser import OpenWindow, accessibility_faults, visit
from service_process import ServiceProcess

PATHS = ["/", "/jobs", "/dashboard"]


def test_documents_are_under_a_strict_policy_and_scripts_keep_for_good(service: ServiceProcess) -> None:
    answer = httpx.get(f"{service.url}/jobs", headers={"accept": "text/html"})
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self'")
    script = next(part.split('"')[0] for part in answer.text.split('src="')[1:] if part.startswith("/assets/main"))
    found = httpx.get(service.url + script, headers={"accept-encoding": "br"})
    assert "immutable" in found.headers["cache-control"]
    assert found.headers["content-encoding"] == "br"
    assert found.headers["content-type"].startswith("text/javascript")
    again = httpx.get(service.url + script, headers={"if-none-match": found.headers["etag"]})
    assert again.status_code == 304
    assert httpx.get(f"{service.url}/assets/other.js").status_code == 404
    # Scripts still get the routes as JSON.
    assert httpx.get(service.url).json()["name"] == "Pixelmill"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible(service: ServiceProcess, open_window: OpenWindow, path: str, scheme: str) -> None:
    page = open_window(service.url, color_scheme=scheme).page
    visit(page, path)
    assert accessibility_faults(page) == []


def test_navigation_changes_the_page_without_loading_anew(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = open_window(service.url).page
    visit(page, "/")
    page.evaluate("window.stays = true")
    page.get_by_role("link", name="Jobs").click()
    page.wait_for_url("**/jobs")
    page.get_by_role("heading", level=1, name="Jobs").wait_for()
    page.get_by_role("link", name="Dashboard").click()
    page.get_by_role("heading", level=1, name="Dashboard").wait_for()
    page.go_back()
    page.get_by_role("heading", level=1, name="Jobs").wait_for()
    assert page.title() == "Jobs · Pixelmill"
    assert page.evaluate("window.stays")


def test_a_chosen_theme_stays(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = open_window(service.url, color_scheme="light").page
    visit(page, "/")
    page.get_by_role("button", name="Theme: as the system").click()
    page.get_by_role("button", name="Theme: light").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.reload()
    page.wait_for_selector("main")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"


def test_a_lost_service_is_told_and_found_again(service: ServiceProcess, open_window: OpenWindow) -> None:
    watched = open_window(service.url)
    watched.may_fail_to_load = True
    visit(watched.page, "/jobs")
    service.kill()
    watched.page.get_by_text("Nothing here is lost").wait_for()
    service.start()
    watched.page.get_by_text("Nothing here is lost").wait_for(state="detached")
