"""The page of jobs: live progress, filters, search, what one can do to a job, and what became of each task."""

from __future__ import annotations

import re

import httpx
import pytest
from browser import OpenWindow, accessibility_faults, sign_in, visit
from live_service import LiveService
from playwright.sync_api import Route, expect
from service_process import ServiceProcess, submit, wait_until

SLOW = "sketch:denoise=full/format:jpeg"


def state_of(url: str, job: str) -> str:
    return str(httpx.get(f"{url}/v1/jobs/{job}").json()["state"])


def ended(url: str, job: str) -> bool:
    return state_of(url, job) in {"succeeded", "failed", "cancelled"}


def named(service: str, name: str, pipeline: str, files: dict[str, bytes], **headers: str) -> str:
    parts = [("files", (file, data, "image/jpeg")) for file, data in files.items()]
    answer = httpx.post(f"{service}/v1/jobs", data={"pipeline": pipeline, "name": name}, files=parts, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_a_job_is_followed_live_in_the_list_and_its_end_is_told(
    service: ServiceProcess, open_window: OpenWindow, pictures: list[bytes]
) -> None:
    page = open_window(service.url).page
    visit(page, "/jobs")
    expect(page.get_by_text("There are no jobs yet")).to_be_visible()
    named(service.url, "holiday", "grayscale/format:png", {f"{i}.jpg": pictures[i] for i in range(4)})
    item = page.get_by_role("listitem").filter(has_text="holiday")
    expect(item.get_by_text("succeeded")).to_be_visible()
    expect(item.get_by_text("4 of 4")).to_be_visible()
    expect(page.get_by_text("holiday is done: 4 images.")).to_be_visible()
    assert accessibility_faults(page) == []


def test_filters_and_search_stand_in_the_address(
    service: ServiceProcess, open_window: OpenWindow, pictures: list[bytes]
) -> None:
    good = named(service.url, "Harbor", "grayscale", {"a.jpg": pictures[0]})
    bad = named(service.url, "broken", "grayscale", {"a.jpg": b"no image"})
    wait_until(lambda: ended(service.url, good) and ended(service.url, bad), "the jobs end")
    page = open_window(service.url).page
    visit(page, "/jobs?state=failed")
    expect(page.get_by_role("link", name="broken")).to_be_visible()
    expect(page.get_by_role("link", name="Harbor")).to_have_count(0)
    page.get_by_label("State").select_option("")
    page.get_by_label("Search by name or id").fill("harb")
    expect(page.get_by_role("link", name="Harbor")).to_be_visible()
    expect(page.get_by_role("link", name="broken")).to_have_count(0)
    expect(page).to_have_url(re.compile(r"/jobs\?q=harb$"))
    page.reload()
    expect(page.get_by_role("link", name="Harbor")).to_be_visible()
    expect(page.get_by_role("link", name="broken")).to_have_count(0)
    page.get_by_label("Search by name or id").fill("nothing like it")
    page.get_by_role("button", name="Show all").click()
    expect(page.get_by_role("link", name="broken")).to_be_visible()


def test_cancel_retry_and_delete(service: ServiceProcess, open_window: OpenWindow, pictures: list[bytes]) -> None:
    job = named(service.url, "long", SLOW, {f"{i}.jpg": pictures[i % 8] for i in range(200)})
    page = open_window(service.url).page
    visit(page, f"/jobs/{job}")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Retry what failed").wait_for()
    assert httpx.get(f"{service.url}/v1/jobs/{job}").json()["state"] == "cancelled"
    page.get_by_role("button", name="Retry what failed").click()
    page.get_by_role("button", name="Cancel", exact=True).wait_for()
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Retry what failed").wait_for()
    delete = page.get_by_role("button", name="Delete")
    delete.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Delete this job?")
    dialog.wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    expect(delete).to_be_focused()
    delete.click()
    dialog.wait_for()
    assert accessibility_faults(page) == []
    dialog.get_by_role("button", name="Keep").click()
    dialog.wait_for(state="detached")
    page.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/jobs")
    assert httpx.get(f"{service.url}/v1/jobs/{job}").status_code == 404


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_task_tells_its_attempts_its_pictures_and_why_it_failed(
    service: ServiceProcess, open_window: OpenWindow, pictures: list[bytes], scheme: str
) -> None:
    job = named(service.url, "mixed", "canny/format:png", {"good.jpg": pictures[0], "bad.jpg": b"no image at all"})
    wait_until(lambda: ended(service.url, job), "the job ends")
    page = open_window(service.url, color_scheme=scheme).page
    visit(page, f"/jobs/{job}")
    page.get_by_role("list", name="Tasks").get_by_role("button", name="good.jpg").click()
    dialog = page.get_by_role("dialog", name="good.jpg")
    picture = dialog.get_by_role("img", name="Result of good.jpg")
    picture.wait_for()
    wait_until(lambda: bool(picture.evaluate("image => image.naturalWidth > 0")), "the result is shown")
    expect(dialog.get_by_text("attempt 1 on local: succeeded")).to_be_visible()
    expect(dialog.get_by_role("link", name="Input as it was sent")).to_be_visible()
    assert accessibility_faults(page) == []
    dialog.get_by_role("button", name="Next").click()
    dialog = page.get_by_role("dialog", name="bad.jpg")
    expect(dialog.get_by_text("What this means")).to_be_visible()
    expect(dialog.get_by_text("failed").first).to_be_visible()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    # Who used the keyboard goes on at the one that was looked at last.
    expect(page.get_by_role("list", name="Tasks").get_by_role("button", name="bad.jpg")).to_be_focused()
    page.get_by_role("button", name=re.compile("^failed")).click()
    expect(page.get_by_role("list", name="Tasks").get_by_role("listitem")).to_have_count(1)
    assert accessibility_faults(page) == []


def test_a_jobs_pipeline_is_opened_in_the_studio_and_that_is_undone(
    service: ServiceProcess, open_window: OpenWindow, pictures: list[bytes]
) -> None:
    job = named(service.url, "again", "resize:99/text:100~25/format:png", {"a.jpg": pictures[0]})
    page = open_window(service.url).page
    visit(page, "/")
    text = page.get_by_role("textbox", name="As text")
    text.fill("invert")
    page.goto(f"/jobs/{job}")
    page.get_by_role("link", name="Open in the Studio").click()
    expect(text).to_have_value("resize:99/text:100~25/format:png")
    assert page.url == f"{service.url}/"
    page.get_by_role("button", name="Undo").first.click()
    expect(text).to_have_value("invert")


def test_a_job_that_is_not_there_says_so(service: ServiceProcess, open_window: OpenWindow) -> None:
    watched = open_window(service.url)
    watched.may_fail_to_load = True
    visit(watched.page, "/jobs/job_nobody")
    expect(watched.page.get_by_text("This job isn't here")).to_be_visible()


def test_an_answer_that_is_older_than_the_events_does_not_stay(
    service: ServiceProcess, open_window: OpenWindow, pictures: list[bytes]
) -> None:
    job = named(service.url, "late", SLOW, {f"{i}.jpg": pictures[i % 8] for i in range(200)})
    wait_until(lambda: state_of(service.url, job) == "running", "the job runs")
    page = open_window(service.url).page
    visit(page, f"/jobs/{job}")
    page.get_by_role("button", name="Cancel", exact=True).wait_for()
    old = httpx.get(f"{service.url}/v1/jobs/{job}").json()
    assert old["state"] == "running"
    held: list[Route] = []
    page.route(f"**/v1/jobs/{job}", lambda route: route.continue_() if held else held.append(route))
    with page.expect_request(f"**/v1/jobs/{job}"):
        page.get_by_role("group", name="Tasks that are shown").get_by_role("button", name="queued").click()
    httpx.post(f"{service.url}/v1/jobs/{job}/cancel").raise_for_status()
    page.get_by_role("button", name="Retry what failed").wait_for()
    (late,) = held
    with page.expect_event("requestfinished", lambda request: request == late.request):
        late.fulfill(json=old)
    page.evaluate("() => new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_have_count(0)
    expect(page.get_by_role("button", name="Retry what failed")).to_be_visible()
    page.get_by_role("group", name="Tasks that are shown").get_by_role("button", name="cancelled").click()
    expect(page.get_by_role("list", name="Tasks").get_by_role("listitem").first).to_be_visible()


def test_what_happened_while_the_service_was_away_is_caught_up(
    service: ServiceProcess, open_window: OpenWindow, pictures: list[bytes]
) -> None:
    job = submit(service.url, SLOW, {f"{i}.jpg": pictures[i % 8] for i in range(30)})["id"]
    watched = open_window(service.url)
    watched.may_fail_to_load = True
    visit(watched.page, f"/jobs/{job}")
    service.kill()
    watched.page.get_by_text("Nothing here is lost").wait_for()
    service.start()
    watched.page.get_by_text("Nothing here is lost").wait_for(state="detached")
    expect(watched.page.get_by_text("30 of 30")).to_be_visible(timeout=60_000)
    expect(watched.page.get_by_role("button", name="Download all")).to_have_count(0)
    expect(watched.page.get_by_role("link", name="Download all")).to_be_visible()


# -- who sees what ---------------------------------------------------------------------------------------------------


def test_each_sees_their_own_jobs_and_an_admin_all(
    guarded: LiveService, open_window: OpenWindow, pictures: list[bytes]
) -> None:
    ann, bob, root = guarded.tokens
    for name, token in (("of-ann", ann), ("of-bob", bob)):
        named(guarded.url, name, "grayscale", {"a.jpg": pictures[0]}, authorization=f"Bearer {token}")
    hers, his, all_of_them = (open_window(guarded.url).page for _ in range(3))
    sign_in(hers, ann)
    sign_in(his, bob)
    sign_in(all_of_them, root)
    expect(hers.get_by_role("link", name="of-ann")).to_be_visible()
    expect(hers.get_by_role("link", name="of-bob")).to_have_count(0)
    expect(hers.get_by_role("link", name="Dashboard")).to_have_count(0)
    expect(his.get_by_role("link", name="of-bob")).to_be_visible()
    expect(his.get_by_role("link", name="of-ann")).to_have_count(0)
    all_of_them.get_by_role("switch", name="Everybody's").check()
    expect(all_of_them.get_by_role("link", name="of-ann")).to_be_visible()
    expect(all_of_them.get_by_role("link", name="of-bob")).to_be_visible()
    # Live, too: a job of hers appears with the admin, and not with him.
    named(guarded.url, "later", "grayscale", {"a.jpg": pictures[0]}, authorization=f"Bearer {ann}")
    expect(hers.get_by_role("link", name="later")).to_be_visible()
    expect(all_of_them.get_by_role("link", name="later")).to_be_visible()
    expect(his.get_by_role("link", name="later")).to_have_count(0)
    his.get_by_role("button", name="Sign out").click()
    expect(his.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_wrong_token_is_told(guarded: LiveService, open_window: OpenWindow) -> None:
    watched = open_window(guarded.url)
    watched.may_fail_to_load = True
    visit(watched.page, "/")
    watched.page.get_by_label("Token").fill("pm_wrong")
    watched.page.get_by_role("button", name="Sign in").click()
    expect(watched.page.get_by_text("This token is not valid here.")).to_be_visible()
    assert accessibility_faults(watched.page) == []
