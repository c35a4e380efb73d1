"""What stands around every page: documents, policy, navigation, theme, the lost connection."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from browser import OpenWindow, accessibility_faults, visit
from playwright.sync_api import expect
from service_process import ServiceProcess, submit, wait_until

PATHS = ["/", "/jobs", "/dashboard"]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """One for all tests that leave nothing there."""
    started = ServiceProcess(tmp_path_factory.mktemp("shell") / "data", "--workers", "1")
    started.start()
    yield started
    started.end()


def test_documents_are_under_a_strict_policy_and_scripts_keep_for_good(empty: ServiceProcess) -> None:
    answer = httpx.get(f"{empty.url}/jobs", headers={"accept": "text/html"})
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self'")
    script = next(part.split('"')[0] for part in answer.text.split('src="')[1:] if part.startswith("/assets/main"))
    found = httpx.get(empty.url + script, headers={"accept-encoding": "br"})
    assert "immutable" in found.headers["cache-control"]
    assert found.headers["content-encoding"] == "br"
    assert found.headers["content-type"].startswith("text/javascript")
    again = httpx.get(empty.url + script, headers={"if-none-match": found.headers["etag"]})
    assert again.status_code == 304
    assert httpx.get(f"{empty.url}/assets/other.js").status_code == 404
    # Scripts still get the routes as JSON.
    assert httpx.get(empty.url).json()["name"] == "Pixelmill"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible(empty: ServiceProcess, open_window: OpenWindow, path: str, scheme: str) -> None:
    page = open_window(empty.url, color_scheme=scheme).page
    visit(page, path)
    assert accessibility_faults(page) == []


def test_navigation_changes_the_page_without_loading_anew(empty: ServiceProcess, open_window: OpenWindow) -> None:
    page = open_window(empty.url).page
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
    # Who uses the keyboard or listens begins at the content of the new page.
    expect(page.locator("main")).to_be_focused()


def test_who_comes_back_finds_the_list_where_they_left_it(
    service: ServiceProcess, open_window: OpenWindow, pictures: list[bytes]
) -> None:
    for _ in range(30):
        submit(service.url, "grayscale", {"a.jpg": pictures[0]})
    page = open_window(service.url, viewport={"width": 1200, "height": 600}).page
    visit(page, "/jobs")
    page.get_by_role("list", name="Jobs").get_by_role("link").first.wait_for()
    page.mouse.move(600, 400)
    page.mouse.wheel(0, 1_200)
    wait_until(lambda: bool(page.evaluate("scrollY") > 1_000), "the list is scrolled")
    left = page.evaluate("scrollY")
    link = page.locator('[role=listitem][aria-posinset="22"] a')
    name = link.inner_text()
    link.click()
    page.get_by_role("heading", level=1, name=name).wait_for()
    assert page.title() == f"{name} · Pixelmill"
    assert page.evaluate("scrollY") == 0
    page.go_back()
    wait_until(lambda: bool(abs(page.evaluate("scrollY") - left) < 2), "the list stands where it was left")


def test_pages_that_were_not_visited_yet_are_there_without_the_service(
    service: ServiceProcess, open_window: OpenWindow
) -> None:
    watched = open_window(service.url)
    watched.may_fail_to_load = True
    page = watched.page
    fetched: list[str] = []
    page.on("requestfinished", lambda request: fetched.append(request.url))
    visit(page, "/")
    while not all(any(f"/assets/{name}-" in url for url in fetched) for name in ("jobs", "dashboard")):
        page.wait_for_event("requestfinished")
    service.kill()
    page.get_by_role("link", name="Jobs").click()
    page.get_by_role("heading", level=1, name="Jobs").wait_for()
    expect(page.get_by_role("searchbox")).to_be_visible()


def test_what_is_not_ours_in_the_storage_does_no_harm(empty: ServiceProcess, open_window: OpenWindow) -> None:
    page = open_window(empty.url).page
    visit(page, "/")
    page.evaluate(
        """() => {
          localStorage.setItem("pixelmill.theme", '"neon"');
          localStorage.setItem("pixelmill.draft-text", "5");
          localStorage.setItem("pixelmill.draft", '{"steps": 3}');
          localStorage.setItem("pixelmill.studio.run", '{"job": 5}');
        }"""
    )
    page.reload()
    expect(page.get_by_text("Drop images or folders anywhere on this page")).to_be_visible()
    expect(page.get_by_role("button", name="Theme: as the system")).to_be_visible()


def test_a_chosen_theme_stays(empty: ServiceProcess, open_window: OpenWindow) -> None:
    page = open_window(empty.url, color_scheme="light").page
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


def test_states_are_seen_where_colors_are_forced(empty: ServiceProcess, open_window: OpenWindow) -> None:
    page = open_window(empty.url, forced_colors="active").page
    visit(page, "/")
    page.get_by_role("textbox", name="As text").fill("invert/resize:100")
    switch = page.get_by_role("switch").first
    on = switch.screenshot()
    switch.focus()
    page.keyboard.press("Space")
    expect(switch).not_to_be_checked()
    page.get_by_role("textbox", name="As text").focus()
    assert switch.screenshot() != on
    background = "element => getComputedStyle(element).backgroundColor"
    here, there = (page.get_by_role("link", name=name) for name in ("Studio", "Jobs"))
    assert here.evaluate(background) != there.evaluate(background)
    tabs = page.get_by_role("tablist", name="Preview and results").get_by_role("tab")
    edge = "element => getComputedStyle(element).borderBottomColor"
    assert tabs.nth(0).evaluate(edge) != tabs.nth(1).evaluate(edge)


def test_an_answer_of_another_form_costs_one_page_and_not_the_others(
    service: ServiceProcess, open_window: OpenWindow, pictures: list[bytes]
) -> None:
    job = submit(service.url, "grayscale", {"a.jpg": pictures[0]})["id"]
    watched = open_window(service.url)
    page = watched.page
    page.route("**/v1/tasks/*", lambda route: route.fulfill(json={"id": "task_1", "name": "a.jpg"}))
    visit(page, f"/jobs/{job}")
    page.get_by_role("list", name="Tasks").get_by_role("button").click()
    expect(page.get_by_role("heading", level=1, name="Something went wrong here")).to_be_visible()
    assert any("console" in fault for fault in watched.faults)  # whoever develops is told more
    watched.faults.clear()
    page.get_by_role("link", name="Studio").click()
    expect(page.get_by_text("Drop images or folders anywhere on this page")).to_be_visible()
    page.get_by_role("link", name="Jobs").click()
    expect(page.get_by_role("list", name="Jobs").get_by_role("listitem")).to_have_count(1)
