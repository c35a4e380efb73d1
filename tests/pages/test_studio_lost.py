"""The Studio while the service goes away, answers get lost, uploads expire, the page is loaded anew."""

from __future__ import annotations

import sqlite3
from typing import Any

import httpx
from browser import OpenWindow, visit
from playwright.sync_api import Page, Route, expect
from service_process import ServiceProcess, all_tasks
from studio import LONG_MS, drop, expect_end, photographs, results, run, write_pipeline

WIDE: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}}


def _jobs(service: ServiceProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{service.url}/v1/jobs").json()["items"]
    return found


def test_nothing_is_lost_when_the_service_dies_in_uploads_and_in_a_run(
    service: ServiceProcess, open_window: OpenWindow
) -> None:
    watched = open_window(service.url, **WIDE)
    watched.may_fail_to_load = True
    page = watched.page
    visit(page, "/")
    write_pipeline(page, "gaussian:9/format:png")
    seen = []

    def kill_at_the_tenth(route: Route) -> None:
        seen.append(route.request.url)
        if len(seen) == 10:
            service.kill()
        route.continue_()

    page.route("**/v1/uploads/**", kill_at_the_tenth)
    drop(page, photographs(40, 640, 480))
    expect(page.get_by_text("Nothing here is lost")).to_be_visible()
    # Asked for now, the run begins by itself when everything is there.
    run(page)
    expect(page.get_by_label("Run", exact=True)).to_contain_text("Waiting for the service")
    page.unroute("**/v1/uploads/**")
    service.start()
    expect(page.get_by_text("40 images stored")).to_be_visible(timeout=LONG_MS)
    results(page).get_by_text("done").first.wait_for(timeout=LONG_MS)
    service.kill()
    expect(page.get_by_text("Nothing here is lost")).to_be_visible()
    service.start()
    expect_end(page, "40 done")
    (job,) = _jobs(service)
    assert job["state"] == "succeeded"
    assert sorted(task["name"] for task in all_tasks(service.url, job["id"])) == sorted(photographs(40))


def test_a_lost_answer_does_not_double_the_job(service: ServiceProcess, open_window: OpenWindow) -> None:
    watched = open_window(service.url, **WIDE)
    watched.may_fail_to_load = True
    page = watched.page
    visit(page, "/")
    drop(page, photographs(4))
    write_pipeline(page, "invert/format:png")
    keys = []

    def lose_the_first_answer(route: Route) -> None:
        if route.request.method != "POST":
            return route.fallback()
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            route.fetch()
            return route.abort()
        return route.continue_()

    page.route("**/v1/jobs", lose_the_first_answer)
    run(page)
    expect_end(page, "4 done")
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert len(_jobs(service)) == 1


def test_a_reload_finds_the_run_again(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = open_window(service.url, **WIDE).page
    visit(page, "/")
    drop(page, photographs(12, 800, 600))
    write_pipeline(page, "gaussian:9/format:png")
    run(page)
    results(page).first.wait_for()
    page.reload()
    expect_end(page, "12 done")
    expect(results(page).first).to_contain_text("photo-000.jpg")
    expect(page.get_by_role("button", name="Choose images")).to_be_visible()
    results(page).first.get_by_role("button").click()
    expect(page.get_by_role("img", name="Input: photo-000.jpg")).to_be_visible()


def test_uploads_that_have_expired_are_sent_again(service: ServiceProcess, open_window: OpenWindow) -> None:
    watched = open_window(service.url, **WIDE)
    watched.may_fail_to_load = True
    page = watched.page
    visit(page, "/")
    drop(page, photographs(6))
    write_pipeline(page, "invert/format:png")
    expect(page.get_by_text("6 images stored")).to_be_visible()
    service.stop()
    with sqlite3.connect(service.data / "state.sqlite") as database:
        assert database.execute("delete from uploads").rowcount == 6
    service.start()
    run(page)
    expect_end(page, "6 done")
    assert len(_jobs(service)) == 1


def test_a_run_is_cancelled_and_retried(service: ServiceProcess, open_window: OpenWindow) -> None:
    page = open_window(service.url, **WIDE).page
    visit(page, "/")
    drop(page, photographs(30, 1200, 900))
    write_pipeline(page, "gaussian:20/gaussian:20/format:png")
    expect(page.get_by_text("30 images stored")).to_be_visible(timeout=LONG_MS)
    run(page)
    page.get_by_role("button", name="Cancel").click()
    bar = page.get_by_label("Run", exact=True)
    expect(bar).to_contain_text("cancelled")
    page.get_by_role("button", name="Retry").click()
    expect_end(page, "30 done")
    _no_badge_but_done(page)


def _no_badge_but_done(page: Page) -> None:
    expect(page.get_by_role("list", name="Images").get_by_text("done").first).to_be_visible()
    expect(page.get_by_role("list", name="Images").get_by_text("cancelled")).to_have_count(0)
