"""Parts of results, as RFC 9110 has them."""

from __future__ import annotations

import httpx
import pytest
from live_service import assert_problem
from service_process import wait_until

from pixelmill.api.ranges import Unsatisfiable, understood

ETAG = '"one"'


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 10)),
        ("bytes=3-5", (3, 3)),
        ("bytes=3-99", (3, 7)),
        ("bytes=-4", (6, 4)),
        ("bytes=-99", (0, 10)),
        ("Bytes= 2-3 ", (2, 2)),
        ("bytes=5-3", None),
        ("bytes=0-1,3-4", None),
        ("items=0-1", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=" + "9" * 30 + "-", None),
    ],
)
def test_one_range_is_understood_and_what_is_none_is_ignored(header: str, found: tuple[int, int] | None) -> None:
    assert understood(header, "", ETAG, 10) == found


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_a_range_behind_the_end_can_t_be_satisfied(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        understood(header, "", ETAG, 10)


def test_if_range_must_be_the_strong_etag() -> None:
    assert understood("bytes=0-1", ETAG, ETAG, 10) == (0, 2)
    assert understood("bytes=0-1", '"two"', ETAG, 10) is None
    assert understood("bytes=0-1", "Sat, 21 Nov 2026 07:00:00 GMT", ETAG, 10) is None
    assert understood("bytes=0-1", 'W/"one"', 'W/"one"', 10) is None


@pytest.fixture
def result(client: httpx.Client, pictures: list[bytes]) -> str:
    """The path of a result."""
    files = [("files", ("a.jpg", pictures[0], "image/jpeg"))]
    job = client.post("/v1/jobs", data={"pipeline": "resize:64,64/format:png"}, files=files).json()["id"]
    wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] == "succeeded", "the job ends")
    (task,) = client.get(f"/v1/jobs/{job}/tasks").json()["items"]
    return str(task["links"]["result"])


def test_a_download_can_be_taken_up_where_it_broke_off(client: httpx.Client, result: str) -> None:
    whole = client.get(result)
    assert (whole.status_code, whole.headers["accept-ranges"]) == (200, "bytes")
    size, etag = len(whole.content), whole.headers["etag"]
    rest = client.get(result, headers={"range": "bytes=100-", "if-range": etag})
    assert (rest.status_code, rest.content) == (206, whole.content[100:])
    assert rest.headers["content-range"] == f"bytes 100-{size - 1}/{size}"
    assert rest.headers["content-length"] == str(size - 100)
    assert rest.headers["etag"] == etag
    changed = client.get(result, headers={"range": "bytes=100-", "if-range": '"other"'})
    assert (changed.status_code, changed.content) == (200, whole.content)
    head = client.head(result, headers={"range": "bytes=0-1"})
    assert (head.status_code, head.headers["content-length"]) == (200, str(size))
    assert client.get(result, headers={"range": "bytes=0-1", "if-none-match": etag}).status_code == 304
    beyond = client.get(result, headers={"range": f"bytes={size}-"})
    assert_problem(beyond, 416, "invalid-request")
    assert beyond.headers["content-range"] == f"bytes */{size}"
