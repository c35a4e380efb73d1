"""Contact sheets over HTTP: what they show and tell, what is refused, and that they hold nobody up."""

from __future__ import annotations

import io
import json
import socket
import threading
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from live_service import LiveService, assert_problem

from pixelmill.images.decode import decode
from pixelmill.images.image import EVERYTHING
from pixelmill.images.limits import Limits
from pixelmill.operations.montage import Cell, Montage, compose

PIPELINE = "grayscale/format:png"
TORN = b"\xff\xd8\xff\xe0\x00\x10JFIF"
LARGE = "resize:2500,2500,fit=fill,enlarge=true/format:png"
"""Results whose thumbnails take a while."""


def submit(client: httpx.Client, files: dict[str, bytes], pipeline: str = PIPELINE, **fields: str) -> str:
    """A job by form; its id."""
    answer = client.post(
        "/v1/jobs", data={"pipeline": pipeline, **fields}, files=[("files", item) for item in files.items()]
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def follow(client: httpx.Client, job: str, *, until_first: bool = False) -> None:
    """Read the job's events to its end, or to its first result."""
    with client.stream("GET", f"/v1/jobs/{job}/events", params={"after": 0}) as stream:
        for line in stream.iter_lines():
            if until_first and line.startswith("data:") and json.loads(line[5:]).get("state") == "succeeded":
                return


def made(client: httpx.Client, files: dict[str, bytes], pipeline: str = PIPELINE, **fields: str) -> str:
    """A job that has ended."""
    job = submit(client, files, pipeline, **fields)
    follow(client, job)
    return job


def told(answer: httpx.Response) -> dict[str, int]:
    """What came beside the sheet."""
    assert answer.status_code == 200, answer.text
    record: dict[str, int] = json.loads(answer.headers["x-pixelmill-data"])["montage"]
    return record


def results(client: httpx.Client, job: str) -> list[Cell]:
    """The cells that a person would make of the results."""
    tasks = client.get(f"/v1/jobs/{job}/tasks").json()["items"]
    cells = []
    for task in tasks:
        answer = client.get(f"/v1/tasks/{task['id']}/result")
        image = decode(answer.content, EVERYTHING, Limits()) if answer.status_code == 200 else None
        cells.append(Cell(task["name"], image, "corrupt-image"))
    return cells


def test_a_sheet_shows_the_results_in_the_order_of_the_tasks(client: httpx.Client, pictures: list[bytes]) -> None:
    job = made(client, {f"{index}.jpg": data for index, data in enumerate(pictures)}, name="six")
    answer = client.get(f"/v1/jobs/{job}/montage", params={"format": "png", "columns": 3, "cell_width": 200})
    assert told(answer) == {"cells": 6, "columns": 3, "rows": 2, "marked": 0, "left_out": 0, "unfinished": 0}
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == 'inline; filename="six-montage.png"'
    expected = compose(results(client, job), Montage(columns=3, cell_width=200))
    assert (decode(answer.content, EVERYTHING, Limits()).pixels == expected.pixels).all()


def test_what_failed_is_left_out_or_marked(client: httpx.Client, pictures: list[bytes]) -> None:
    job = made(client, {"a.jpg": pictures[0], "torn.jpg": TORN, "c.jpg": pictures[1]})
    at = f"/v1/jobs/{job}/montage"
    skipped = told(client.get(at))
    assert (skipped["cells"], skipped["marked"], skipped["left_out"]) == (2, 0, 1)
    answer = client.get(at, params={"failed": "mark", "format": "png"})
    marked = told(answer)
    assert (marked["cells"], marked["marked"], marked["left_out"]) == (3, 1, 0)
    expected = compose(results(client, job), Montage(failed="mark"))
    assert (decode(answer.content, EVERYTHING, Limits()).pixels == expected.pixels).all()
    limited = told(client.get(at, params={"limit": "1"}))
    assert (limited["cells"], limited["left_out"]) == (1, 2)


def test_data_alone_has_nothing_to_show_but_a_mark(client: httpx.Client, photo: bytes) -> None:
    job = made(client, {"a.jpg": photo}, "info")
    assert_problem(client.get(f"/v1/jobs/{job}/montage"), 409, "illegal-transition")
    assert told(client.get(f"/v1/jobs/{job}/montage", params={"failed": "mark"}))["marked"] == 1


def test_a_result_that_is_gone_costs_its_cell_alone(start: Any, pictures: list[bytes]) -> None:
    service: LiveService = start()
    with service.client() as client:
        job = made(client, {"a.jpg": pictures[0], "b.jpg": pictures[1], "c.jpg": pictures[2]})
        first, second, _ = client.get(f"/v1/jobs/{job}/tasks").json()["items"]
        kept = {path.name: path for path in (service.data / "objects").rglob("task_*")}
        kept[first["id"]].unlink()
        kept[second["id"]].write_bytes(TORN)
        assert told(client.get(f"/v1/jobs/{job}/montage"))["cells"] == 1
        marked = told(client.get(f"/v1/jobs/{job}/montage", params={"failed": "mark"}))
        assert (marked["cells"], marked["marked"]) == (3, 2)


def test_a_running_job_shows_what_is_there(start: Any, pictures: list[bytes]) -> None:
    service: LiveService = start()
    noise = np.random.default_rng(1).integers(0, 256, (3000, 3000, 3), np.uint8)
    slow = bytes(cv2.imencode(".jpg", noise)[1])
    with service.client() as client:
        job = submit(client, {"quick.jpg": pictures[0], "slow.jpg": slow, "slower.jpg": slow}, "sketch:full/format:png")
        follow(client, job, until_first=True)
        found = told(client.get(f"/v1/jobs/{job}/montage"))
        assert (found["cells"], found["unfinished"]) == (1, 2)
        assert client.post(f"/v1/jobs/{job}/cancel").status_code == 200


@pytest.mark.parametrize(
    ("query", "slug", "says"),
    [
        ("columns=0", "invalid-parameter", "from 1 to 1,000"),
        ("colums=2", "invalid-parameter", "Did you mean columns"),
        ("background=red", "invalid-parameter", "hex RRGGBB"),
        ("format=jpge", "unknown-operation", "jpeg"),
        ("format=jpeg,quality=0", "invalid-parameter", "quality"),
        ("cell_width=2000&cell_height=4096&columns=1", "limit-exceeded", "columns=4 would fit"),
    ],
)
def test_what_can_not_be_is_refused_with_what_can(
    client: httpx.Client, pictures: list[bytes], query: str, slug: str, says: str
) -> None:
    job = made(client, {f"{index}.jpg": pictures[0] for index in range(4)})
    document = assert_problem(client.get(f"/v1/jobs/{job}/montage?{query}"), 422, slug)
    assert says in str(document["detail"])


def test_a_job_that_is_not_there_has_no_sheet(client: httpx.Client) -> None:
    assert_problem(client.get("/v1/jobs/unknown/montage"), 404, "not-found")


def test_sheets_share_the_memory_for_images(start: Any, pictures: list[bytes]) -> None:
    service: LiveService = start(api={"max_body_memory": 1_000_000})
    with service.client() as client:
        job = made(client, {"a.jpg": pictures[0]})
        assert told(client.get(f"/v1/jobs/{job}/montage"))["cells"] == 1
        big = {"cell_width": 1000, "cell_height": 1000}
        assert_problem(client.get(f"/v1/jobs/{job}/montage", params=big), 429, "busy")
        assert told(client.get(f"/v1/jobs/{job}/montage"))["cells"] == 1


def answers(service: LiveService) -> dict[str, int]:
    """How often a sheet was answered, by status."""
    found: dict[str, int] = {}
    with service.client() as client:
        for line in io.StringIO(client.get("/metrics").text):
            if line.startswith("pixelmill_http_requests_total") and "montage" in line:
                status = line.partition('status="')[2].partition('"')[0]
                found[status] = int(float(line.rpartition(" ")[2]))
    return found


def busy(service: LiveService) -> bool:
    with service.client() as client:
        return b'pixelmill_slots_busy{target="local"} 0' not in client.get("/metrics").content


def test_a_client_that_hangs_up_ends_the_work_for_its_sheet(start: Any, pictures: list[bytes]) -> None:
    service: LiveService = start()
    with service.client() as client:
        job = made(client, {f"{index}.jpg": data for index, data in enumerate(pictures)}, LARGE)
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(f"GET /v1/jobs/{job}/montage HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n\r\n".encode())
        while not busy(service):
            pass  # each question is a request; the bound is the test's
    while not (seen := answers(service)):
        pass
    assert seen == {"409": 1}  # cancelled; a sheet that was finished for nobody would be a 200
    assert not busy(service)


def test_a_sheet_leaves_room_for_others(start: Any, pictures: list[bytes]) -> None:
    service: LiveService = start()
    with service.client() as client:
        job = made(client, {f"{index}.jpg": data for index, data in enumerate(pictures[:4])}, LARGE)
    seen: list[dict[str, int]] = []

    def look() -> None:
        with service.client() as own:
            seen.append(told(own.get(f"/v1/jobs/{job}/montage")))

    watchers = [threading.Thread(target=look) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    while not busy(service):
        pass
    with service.client() as client:
        # All sheets together hold one of the two slots.
        for data in pictures[:4]:
            answer = client.post("/v1/process", params={"pipeline": PIPELINE}, content=data)
            assert answer.status_code == 200, answer.text
        done = answers(service).get("200", 0)
    for watcher in watchers:
        watcher.join()
    assert done < 2, "the images were processed while sheets were being made"
    assert [record["cells"] for record in seen] == [4, 4]
