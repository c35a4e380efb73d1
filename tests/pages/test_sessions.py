"""Several people at one browser, sessions that end, and a service that doesn't say who is here."""

from __future__ import annotations

import httpx
import pytest
from browser import OpenWindow, sign_in, visit
from live_service import LiveService
from playwright.sync_api import Page, Route, expect
from service_process import ServiceProcess, submit
from studio import drop, expect_end, images, photographs, run, write_pipeline


def submit_as(guarded: LiveService, token: str, name: str, picture: bytes) -> None:
    files = [("files", ("a.jpg", picture, "image/jpeg"))]
    with guarded.client(token) as client:
        assert client.post("/v1/jobs", data={"pipeline": "grayscale", "name": name}, files=files).status_code == 202


def end_session(page: Page, url: str) -> None:
    """As an administrator or time does it: the page isn't told."""
    cookies = {str(cookie.get("name")): str(cookie.get("value")) for cookie in page.context.cookies()}
    assert httpx.delete(f"{url}/v1/session", cookies=cookies, headers={"origin": url}).status_code == 204


def sign_in_again(page: Page, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()


def test_who_signs_in_next_gets_their_own_events_and_nothing_of_the_one_before(
    guarded: LiveService, open_window: OpenWindow, pictures: list[bytes]
) -> None:
    ann, bob, _ = guarded.tokens
    watched = open_window(guarded.url)
    watched.may_fail_to_load = True
    first = watched.page
    sign_in(first, ann)
    second = first.context.new_page()
    visit(second, "/jobs")
    submit_as(guarded, ann, "hers", pictures[0])
    expect(second.get_by_role("link", name="hers")).to_be_visible()
    first.get_by_role("button", name="Sign out").click()
    expect(second.get_by_label("Token")).to_be_visible()
    sign_in_again(first, bob)
    expect(second.get_by_text("bob", exact=True)).to_be_visible()
    expect(second.get_by_role("link", name="hers")).to_have_count(0)
    visit(first, "/jobs")
    submit_as(guarded, ann, "secret", pictures[1])
    submit_as(guarded, bob, "his", pictures[2])
    expect(first.get_by_role("link", name="his")).to_be_visible()
    expect(first.get_by_text("his is done: 1 image.")).to_be_visible()
    expect(first.locator(".toast")).to_have_count(1)


def test_what_was_built_stays_with_who_built_it(guarded: LiveService, open_window: OpenWindow) -> None:
    ann, bob, _ = guarded.tokens
    watched = open_window(guarded.url)
    watched.may_fail_to_load = True
    page = watched.page
    sign_in(page, ann, "/")
    drop(page, photographs(2))
    write_pipeline(page, "resize:123")
    run(page)
    expect_end(page, "2 done")
    page.get_by_role("button", name="Sign out").click()
    sign_in_again(page, ann)
    text = page.get_by_role("textbox", name="As text")
    expect(text).to_have_value("resize:123")
    end_session(page, guarded.url)
    page.reload()
    expect(page.get_by_label("Token")).to_be_visible()
    sign_in_again(page, bob)
    expect(text).to_have_value("")
    assert "resize" not in page.evaluate("JSON.stringify([localStorage, sessionStorage])")
    assert "job_" not in page.evaluate("JSON.stringify([localStorage, sessionStorage])")


def test_work_goes_on_after_a_session_ended(guarded: LiveService, open_window: OpenWindow) -> None:
    ann, *_ = guarded.tokens
    watched = open_window(guarded.url)
    watched.may_fail_to_load = True
    page = watched.page
    sign_in(page, ann, "/")
    drop(page, photographs(3))
    expect(page.get_by_text("3 images stored")).to_be_visible()
    write_pipeline(page, "grayscale/invert")
    end_session(page, guarded.url)
    page.get_by_role("link", name="Jobs").click()
    expect(page.get_by_label("Token")).to_be_visible()
    sign_in_again(page, ann)
    page.get_by_role("link", name="Studio", exact=True).click()
    expect(images(page)).to_have_count(3)
    run(page)
    expect_end(page, "3 done")


@pytest.mark.parametrize("refusal", [None, 503])
def test_who_is_here_is_asked_until_the_service_says(
    service: ServiceProcess, open_window: OpenWindow, pictures: list[bytes], refusal: int | None
) -> None:
    watched = open_window(service.url)
    watched.may_fail_to_load = True
    page = watched.page
    asked = []

    def once(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) > 1:
            route.continue_()
        elif refusal is None:
            route.abort()
        else:
            route.fulfill(status=refusal, body="a proxy's words")

    page.route("**/v1/session", once)
    page.goto("/jobs")
    expect(page.get_by_text("There are no jobs yet")).to_be_visible()
    submit(service.url, "grayscale", {"a.jpg": pictures[0]})
    # It is followed live, too.
    expect(page.get_by_role("list", name="Jobs").get_by_text("succeeded")).to_be_visible()
