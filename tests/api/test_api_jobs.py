"""Jobs over HTTP: by form or JSON, grown, listed, cancelled, retried, deleted; results one by one and in a ZIP."""

from __future__ import annotations

import base64
import io
import json
import socket
import zipfile
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from live_service import LiveService, assert_problem

from pixelmill.api.schemas import JobBody, JobList, TaskDetailBody, TaskList, UploadBody

PIPELINE = "grayscale/resize:32,24,fit=fill/format:png"
SLOW = "resize:1600,1200,fit=fill,enlarge=true/sketch:denoise=full/format:jpeg"


def submit(client: httpx.Client, pictures: dict[str, bytes], pipeline: str = PIPELINE, **fields: str) -> dict[str, Any]:
    """A job by form; its body."""
    answer = client.post(
        "/v1/jobs",
        data={"pipeline": pipeline, **fields},
        files=[("files", (name, data, "image/jpeg")) for name, data in pictures.items()],
    )
    assert answer.status_code == 202, answer.text
    body = JobBody.model_validate(answer.json())
    assert answer.headers["location"] == f"/v1/jobs/{body.id}"
    return dict(answer.json())


def ended(client: httpx.Client, job: str) -> dict[str, Any]:
    """The job once it has ended: its event stream says when."""
    with client.stream("GET", f"/v1/jobs/{job}/events", params={"after": 0}) as stream:
        for _ in stream.iter_lines():
            pass
    body: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
    assert body["ended"], body
    return body


def tasks(client: httpx.Client, job: str, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = client.get(f"/v1/jobs/{job}/tasks", params={**params, **({"cursor": cursor} if cursor else {})})
        page = TaskList.model_validate(answer.json())
        found += answer.json()["items"]
        cursor = page.next
    return found


def upload(client: httpx.Client, name: str, data: bytes) -> str:
    answer = client.put(f"/v1/uploads/{name}", content=data)
    assert answer.status_code == 201, answer.text
    body = UploadBody.model_validate(answer.json())
    assert body.size == len(data)
    return body.id


def test_a_form_becomes_a_job_whose_results_can_be_fetched(client: httpx.Client, pictures: list[bytes]) -> None:
    files = {f"{number}.jpg": data for number, data in enumerate(pictures)}
    job = submit(client, files, name="small ones", tags="album=sea,year=2026", priority="batch")
    assert (job["name"], job["priority"], job["tags"]) == ("small ones", "batch", {"album": "sea", "year": "2026"})
    assert job["pipeline"] == PIPELINE
    body = ended(client, job["id"])
    assert body["state"] == "succeeded"
    assert body["counts"] == {
        "queued": 0, "running": 0, "succeeded": 6, "failed": 0, "cancelled": 0, "total": 6
    }  # fmt: skip
    found = tasks(client, job["id"], limit=4)
    assert [task["name"] for task in found] == list(files)
    for task, picture in zip(found, pictures, strict=True):
        result = client.get(task["links"]["result"])
        assert result.headers["content-type"] == "image/png"
        assert result.headers["content-disposition"] == f'inline; filename="{Path(task["name"]).stem}.png"'
        assert result.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in result.headers["content-security-policy"]
        assert len(result.content) == task["outcome"]["bytes"] == int(result.headers["content-length"])
        pixels = cv2.imdecode(np.frombuffer(result.content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert pixels is not None
        assert pixels.shape == (24, 32)
        given = client.get(task["links"]["input"])
        assert given.content == picture
        assert given.headers["content-type"] == "image/jpeg"
    detail = TaskDetailBody.model_validate(client.get(f"/v1/tasks/{found[0]['id']}").json())
    assert detail.state == "succeeded"
    assert detail.lost_attempts == []


def test_a_result_is_not_sent_again_to_who_has_it(client: httpx.Client, pictures: list[bytes]) -> None:
    job = submit(client, {"a.jpg": pictures[0]})
    ended(client, job["id"])
    links = tasks(client, job["id"])[0]["links"]
    for link in (links["result"], links["input"]):
        first = client.get(link)
        again = client.get(link, headers={"if-none-match": f'"x", {first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        assert client.get(link, headers={"if-none-match": '"other"'}).content == first.content
        head = client.head(link)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["etag"] == first.headers["etag"]
        assert client.get(link, params={"download": "1"}).headers["content-disposition"].startswith("attachment")


def test_uploads_and_sources_become_a_job(client: httpx.Client, pictures: list[bytes], source_root: Path) -> None:
    folder = source_root / "trip"
    folder.mkdir(exist_ok=True)
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(pictures[number])
    body = {
        "pipeline": {"operations": [{"name": "grayscale"}], "output": {"format": "png"}},
        "uploads": [upload(client, "one.jpg", pictures[0]), upload(client, "folder/two.jpg", pictures[1])],
        "sources": [f"file://{folder}/*.jpg"],
        "tags": {"album": "sea"},
    }
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["pipeline"] == "grayscale/format:png"
    assert ended(client, answer.json()["id"])["counts"]["succeeded"] == 5
    found = tasks(client, answer.json()["id"])
    assert [Path(task["source"]["name"]).name for task in found] == ["one.jpg", "two.jpg", "0.jpg", "1.jpg", "2.jpg"]
    assert [bool(task["source"]["uri"]) for task in found] == [False, False, True, True, True]


def test_the_input_of_a_source_comes_back_whatever_its_name(
    client: httpx.Client, pictures: list[bytes], source_root: Path
) -> None:
    folder = source_root / "odd names"
    folder.mkdir(exist_ok=True)
    (folder / "my photo é%20.jpg").write_bytes(pictures[0])
    answer = client.post("/v1/jobs", json={"pipeline": PIPELINE, "sources": [f"file://{folder}/*".replace(" ", "%20")]})
    assert ended(client, answer.json()["id"])["state"] == "succeeded"
    (task,) = tasks(client, answer.json()["id"])
    assert client.get(f"/v1/tasks/{task['id']}/input").content == pictures[0]


def test_a_link_that_takes_the_place_of_a_source_opens_nothing(
    client: httpx.Client, pictures: list[bytes], source_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    source = source_root / "swapped.jpg"
    source.write_bytes(pictures[0])
    answer = client.post("/v1/jobs", json={"pipeline": PIPELINE, "sources": [f"file://{source}"]})
    ended(client, answer.json()["id"])
    (task,) = tasks(client, answer.json()["id"])
    source.unlink()
    source.symlink_to(tmp_path / "secret.txt")
    assert_problem(client.get(f"/v1/tasks/{task['id']}/input"), 403, "source-refused")


def test_an_image_parameter_never_walks_through_a_tree(
    client: httpx.Client, pictures: list[bytes], source_root: Path
) -> None:
    folder = source_root / "marks"
    folder.mkdir(exist_ok=True)
    (folder / "1.jpg").write_bytes(pictures[1])
    for mark, status in (("1.jpg", 200), ("?.jpg", 200), ("none*", 422)):
        pipeline = {"operations": [{"name": "watermark", "image": f"file://{folder}/{mark}"}]}
        params = {"pipeline": json.dumps(pipeline)}
        assert client.post("/v1/process", params=params, content=pictures[0]).status_code == status
    for number in range(10_001):
        (folder / f"{number}.txt").touch()
    for mark in ("1.jp*", "**"):
        pipeline = {"operations": [{"name": "watermark", "image": f"file://{folder}/{mark}"}]}
        params = {"pipeline": json.dumps(pipeline)}
        assert_problem(client.post("/v1/process", params=params, content=pictures[0]), 422, "invalid-parameter")


@pytest.mark.parametrize("image", ["/etc/hostname", "file:///etc/hostname", "http://127.0.0.1:1/", "logo.png", "key:x"])
def test_no_image_parameter_names_a_file_or_an_address(client: httpx.Client, pictures: list[bytes], image: str) -> None:
    pipeline = {"operations": [{"name": "watermark", "image": image}]}
    answers = [
        client.post("/v1/process", params={"pipeline": json.dumps(pipeline)}, content=pictures[0]),
        client.post("/v1/jobs", json={"pipeline": pipeline, "uploads": [upload(client, "a.jpg", pictures[0])]}),
    ]
    for answer in answers:
        assert answer.status_code in {403, 422}, answer.text


@pytest.mark.parametrize(
    ("source", "status", "slug"),
    [
        ("file:///etc/passwd", 403, "source-refused"),
        ("file:///etc/*", 403, "source-refused"),
        ("http://127.0.0.1/x.jpg", 422, "invalid-uri"),
        ("nonsense", 422, "invalid-uri"),
    ],
)
def test_sources_outside_the_source_roots_are_refused(
    client: httpx.Client, source: str, status: int, slug: str
) -> None:
    answer = client.post("/v1/jobs", json={"pipeline": PIPELINE, "sources": [source]})
    document = assert_problem(answer, status, slug)
    assert "root:" not in str(document)


def test_a_large_job_grows_by_pages_until_it_is_sealed(client: httpx.Client, pictures: list[bytes]) -> None:
    first = upload(client, "1.jpg", pictures[0])
    job = client.post("/v1/jobs", json={"pipeline": PIPELINE, "uploads": [first], "sealed": False}).json()
    assert job["sealed"] is False
    page = client.post(f"/v1/jobs/{job['id']}/tasks", json={"uploads": [upload(client, "2.jpg", pictures[1])]})
    assert (page.status_code, page.json()["counts"]["total"], page.json()["sealed"]) == (202, 2, False)
    by_form = client.post(f"/v1/jobs/{job['id']}/tasks", files=[("files", ("3.jpg", pictures[2]))])
    assert by_form.json()["counts"]["total"] == 3
    sealed = client.post(f"/v1/jobs/{job['id']}/seal")
    assert (sealed.status_code, sealed.json()["sealed"]) == (200, True)
    assert ended(client, job["id"])["counts"]["succeeded"] == 3
    answer = client.post(f"/v1/jobs/{job['id']}/tasks", json={"uploads": [upload(client, "4.jpg", pictures[3])]})
    assert_problem(answer, 409, "illegal-transition")


def test_the_last_page_can_seal(client: httpx.Client, pictures: list[bytes]) -> None:
    for seal in ({"json": {"seal": True}}, {"data": {"seal": "true"}, "files": [("files", ("b.jpg", pictures[1]))]}):
        ids = [upload(client, "1.jpg", pictures[0])]
        job = client.post("/v1/jobs", json={"pipeline": PIPELINE, "uploads": ids, "sealed": False}).json()
        assert client.post(f"/v1/jobs/{job['id']}/tasks", **seal).json()["sealed"] is True
        ended(client, job["id"])


def test_the_same_key_gives_the_same_job_and_refuses_another_request(
    client: httpx.Client, pictures: list[bytes]
) -> None:
    def by_form(data: bytes, key: str) -> httpx.Response:
        files = [("files", ("a.jpg", data))]
        return client.post("/v1/jobs", data={"pipeline": PIPELINE}, files=files, headers={"idempotency-key": key})

    first, again = by_form(pictures[0], "form-key"), by_form(pictures[0], "form-key")
    assert first.json()["id"] == again.json()["id"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert_problem(by_form(pictures[1], "form-key"), 409, "idempotency-conflict")
    body = {"pipeline": PIPELINE, "uploads": [upload(client, "a.jpg", pictures[0])]}
    one, two = (client.post("/v1/jobs", json=body, headers={"idempotency-key": "json-key"}) for _ in range(2))
    assert one.json()["id"] == two.json()["id"]
    other = client.post("/v1/jobs", json={**body, "name": "x"}, headers={"idempotency-key": "json-key"})
    assert_problem(other, 409, "idempotency-conflict")
    assert_problem(by_form(pictures[0], "k" * 300), 400, "invalid-request")


def test_lists_come_in_pages_and_by_state(client: httpx.Client, pictures: list[bytes]) -> None:
    made = [submit(client, {"a.jpg": pictures[0]}, name=f"page {number}")["id"] for number in range(3)]
    for job in made:
        ended(client, job)
    seen: list[str] = []
    cursor: str | None = None
    while len(seen) < 3:
        params = {"limit": "2", "state": "succeeded", **({"cursor": cursor} if cursor else {})}
        page = JobList.model_validate(client.get("/v1/jobs", params=params).json())
        assert len(page.items) <= 2
        seen += [job.id for job in page.items]
        cursor = page.next
    assert seen[:3] == made[::-1]


def test_a_bad_file_fails_alone_and_says_why(client: httpx.Client, pictures: list[bytes]) -> None:
    job = submit(client, {"good.jpg": pictures[0], "bad.jpg": b"no image", "cut.jpg": pictures[1][:300], "empty": b""})
    body = ended(client, job["id"])
    assert body["state"] == "failed"
    assert (body["counts"]["succeeded"], body["counts"]["failed"]) == (1, 3)
    by_name = {task["name"]: task for task in tasks(client, job["id"])}
    assert by_name["bad.jpg"]["error"]["type"] == "/v1/problems/unsupported-format"
    assert by_name["cut.jpg"]["error"]["type"] == "/v1/problems/corrupt-image"
    assert_problem(client.get(f"/v1/tasks/{by_name['bad.jpg']['id']}/result"), 409, "illegal-transition")
    given = client.get(by_name["bad.jpg"]["links"]["input"])
    assert given.content == b"no image"
    assert given.headers["content-type"] == "application/octet-stream"
    assert given.headers["content-disposition"].startswith("attachment")
    assert [task["name"] for task in tasks(client, job["id"], state="failed")] == ["bad.jpg", "cut.jpg", "empty"]


def test_retry_runs_the_failed_ones_again(client: httpx.Client, pictures: list[bytes]) -> None:
    job = submit(client, {"good.jpg": pictures[0], "bad.jpg": b"no image"})
    ended(client, job["id"])
    answer = client.post(f"/v1/jobs/{job['id']}/retry")
    assert answer.status_code == 200
    JobBody.model_validate(answer.json())
    body = ended(client, job["id"])
    assert (body["counts"]["succeeded"], body["counts"]["failed"]) == (1, 1)
    assert {task["name"]: task["run"] for task in tasks(client, job["id"])} == {"good.jpg": 0, "bad.jpg": 1}


def test_cancel_ends_a_job(client: httpx.Client, pictures: list[bytes]) -> None:
    job = submit(client, {f"{number}.jpg": pictures[number % 6] for number in range(40)}, SLOW)
    answer = client.post(f"/v1/jobs/{job['id']}/cancel")
    assert answer.status_code == 200, answer.text
    body = ended(client, job["id"])
    assert body["state"] == "cancelled"
    assert body["counts"]["cancelled"] > 30


def test_delete_takes_everything(client: httpx.Client, pictures: list[bytes]) -> None:
    job = submit(client, {"a.jpg": pictures[0]})
    ended(client, job["id"])
    task = tasks(client, job["id"])[0]
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert_problem(client.get(f"/v1/jobs/{job['id']}"), 404, "not-found")
    assert_problem(client.get(f"/v1/tasks/{task['id']}/result"), 404, "not-found")
    assert_problem(client.delete(f"/v1/jobs/{job['id']}"), 404, "not-found")


NAMES = [
    "../../x.jpg",
    "a/../../b.jpg",
    "n" * 300 + ".jpg",
    "größe 日本.jpg",
    "same.jpg",
    "same.jpg",
    "SAME.jpg",
    "q\u202egpj.exe.jpg",
    "C:\\temp\\x.jpg",
    "con.jpg",
    "-rf.jpg",
]


def test_hostile_names_are_safe_and_distinct_in_the_archive(client: httpx.Client, pictures: list[bytes]) -> None:
    files = [("files", (name, pictures[0], "image/jpeg")) for name in NAMES]
    job = client.post("/v1/jobs", data={"pipeline": PIPELINE, "name": "../evil"}, files=files).json()
    ended(client, job["id"])
    answer = client.get(f"/v1/jobs/{job['id']}/archive")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == 'attachment; filename="evil.zip"'
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert len(names) == len(NAMES)
    assert len({name.casefold() for name in names}) == len(NAMES)
    for name in names:
        assert name.endswith(".png")
        assert not name.startswith(("/", "-", ".."))
        assert "\\" not in name
        assert ".." not in name.split("/")
        assert name.isprintable()
    for task in tasks(client, job["id"]):
        assert client.get(task["links"]["result"]).status_code == 200


@pytest.mark.parametrize("name", ["a%00b.jpg", "..%2f..%2fx.jpg", "%e6%97%a5.jpg", "x" * 300, "a/b/c.jpg"])
def test_any_name_will_do_for_an_upload(client: httpx.Client, pictures: list[bytes], name: str) -> None:
    body = client.put(f"/v1/uploads/{name}", content=pictures[0]).json()
    assert body["name"].isprintable()
    assert client.post("/v1/jobs", json={"pipeline": PIPELINE, "uploads": [body["id"]]}).status_code == 202


def test_an_upload_s_name_is_one_line(client: httpx.Client) -> None:
    assert_problem(client.put("/v1/uploads/%0d%0aX:y", content=b"x"), 404, "not-found")


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        ({}, 400, "invalid-request"),
        ({"pipeline": PIPELINE}, 400, "invalid-request"),
        ({"pipeline": PIPELINE, "upload": ["x"]}, 400, "invalid-request"),
        ({"pipeline": PIPELINE, "uploads": "x"}, 400, "invalid-request"),
        ({"pipeline": 7, "uploads": ["x"]}, 400, "invalid-request"),
        ({"pipeline": PIPELINE, "uploads": ["x"], "priority": "urgent"}, 400, "invalid-request"),
        ({"pipeline": PIPELINE, "uploads": ["x"], "name": "n" * 300}, 400, "invalid-request"),
        ({"pipeline": PIPELINE, "uploads": ["x"], "tags": {str(n): "" for n in range(50)}}, 400, "invalid-request"),
        ({"pipeline": PIPELINE, "uploads": ["x"]}, 404, "not-found"),
        ({"pipeline": "greyscale", "uploads": ["x"]}, 422, "unknown-operation"),
        ({"pipeline": {"ops": []}, "uploads": ["x"]}, 422, "pipeline-syntax"),
        ([], 400, "invalid-request"),
    ],
)
def test_a_wrong_json_job_is_refused(client: httpx.Client, body: object, status: int, slug: str) -> None:
    assert_problem(client.post("/v1/jobs", json=body), status, slug)


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"x", "text/plain", 415),
        (b"x", "multipart/form-data", 415),
        (b"x", "multipart/form-data; boundary=b", 400),
        (b"--b\r\n", "multipart/form-data; boundary=b", 400),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(
    client: httpx.Client, content: bytes, content_type: str, status: int
) -> None:
    answer = client.post("/v1/jobs", content=content, headers={"content-type": content_type})
    assert_problem(answer, status, "invalid-request")


@pytest.mark.parametrize(
    ("fields", "files", "status", "slug"),
    [
        ({}, [("files", ("a.jpg", b"x"))], 400, "invalid-request"),
        ({"pipeline": "greyscale"}, [("files", ("a.jpg", b"x"))], 422, "unknown-operation"),
        ({"pipeline": PIPELINE, "color": "red"}, [("files", ("a.jpg", b"x"))], 400, "invalid-request"),
        ({"pipeline": PIPELINE, "priority": "urgent"}, [("files", ("a.jpg", b"x"))], 400, "invalid-request"),
        ({"pipeline": PIPELINE, "tags": "{"}, [("files", ("a.jpg", b"x"))], 400, "invalid-request"),
        ({"pipeline": PIPELINE}, [("files", (None, b"x"))], 400, "invalid-request"),
    ],
)
def test_a_wrong_form_is_refused(
    client: httpx.Client, fields: dict[str, str], files: list[Any], status: int, slug: str
) -> None:
    assert_problem(client.post("/v1/jobs", data=fields, files=files), status, slug)


def test_json_bodies_are_bounded(shared_service: LiveService, client: httpx.Client) -> None:
    body = json.dumps({"pipeline": PIPELINE, "uploads": ["x" * 100] * 200_000})
    answer = client.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert_problem(answer, 413, "invalid-request")


def test_an_aborted_upload_leaves_nothing(shared_service: LiveService, client: httpx.Client) -> None:
    objects = shared_service.data / "objects"

    def stored() -> set[Path]:
        return {path for path in objects.rglob("*") if path.is_file()}

    before = stored()
    with socket.create_connection(("127.0.0.1", shared_service.port)) as raw:
        head = "PUT /v1/uploads/big.jpg HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: aborted\r\n"
        head += "Content-Length: 9000000\r\n\r\n"
        raw.sendall(head.encode() + b"x" * 500_000)
    # The line is written when the request has ended.
    for _ in range(200):
        if any(line.get("request_id") == "aborted" for line in shared_service.log_lines("request.done")):
            break
        client.get("/healthz")
    lines = [line for line in shared_service.log_lines("request.done") if line.get("request_id") == "aborted"]
    assert [line["status"] for line in lines] == [499]
    assert stored() == before


def test_a_form_of_many_files_is_one_job(client: httpx.Client, pictures: list[bytes]) -> None:
    files = [("files", (f"{number}.jpg", pictures[number % 6])) for number in range(1_200)]
    answer = client.post("/v1/jobs", data={"pipeline": "grayscale/resize:8,6,fit=fill/format:jpeg"}, files=files)
    assert answer.json()["counts"]["total"] == 1_200
    assert client.post(f"/v1/jobs/{answer.json()['id']}/cancel").status_code == 200
    ended(client, answer.json()["id"])


@pytest.mark.parametrize(
    "position",
    ["[1180591620717411303424]", "[true]", "[-1180591620717411303424]", '[1.5,"\\ud800"]', '[NaN,"a"]', "[Infinity,3]"],
)
def test_a_forged_cursor_is_refused(client: httpx.Client, pictures: list[bytes], position: str) -> None:
    cursor = base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")
    job = submit(client, {"a.jpg": pictures[0]})["id"]
    for path in ("/v1/jobs", f"/v1/jobs/{job}/tasks"):
        assert_problem(client.get(path, params={"cursor": cursor}), 400, "invalid-request")


def test_an_upload_id_that_is_no_text_is_not_found(client: httpx.Client) -> None:
    body = b'{"pipeline":"grayscale","uploads":["\\ud800"]}'
    answer = client.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert_problem(answer, 404, "not-found")


def test_a_form_names_as_many_uploads_as_a_page_and_no_more(client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", data={"pipeline": PIPELINE}, files=[("uploads", (None, "ab " * 100_001))])
    document = assert_problem(answer, 422, "limit-exceeded")
    assert document["context"]["maximum"] == 100_000  # type: ignore[index]  # a document is plain JSON
