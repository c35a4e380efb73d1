"""Jobs, results, links, retention and restarts of a service whose store is a bucket: S3 (moto), Azure (Azurite)."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import anyio
import httpx
import pytest
from buckets import Bucket, azure_container, s3_bucket
from service_process import ServiceProcess, all_tasks, submit, wait_until

from pixelmill.storage.opening import open_store
from pixelmill.testing.object_store import keys_of
from servers import Azurite

Start = Callable[..., ServiceProcess]
PIPELINE = "grayscale/resize:64,64/format:png"


@pytest.fixture(params=["moto_server", "azurite_server"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    server = request.getfixturevalue(request.param)
    return azure_container(server) if isinstance(server, Azurite) else s3_bucket(server)


def ended(url: str, job: str) -> bool:
    return httpx.get(f"{url}/v1/jobs/{job}").json()["state"] in {"succeeded", "failed", "cancelled"}


def run(url: str, files: dict[str, bytes]) -> list[dict[str, object]]:
    """The tasks of a job that has succeeded."""
    job = submit(url, PIPELINE, files)["id"]
    wait_until(lambda: ended(url, job), "the job ends")
    tasks = all_tasks(url, job)
    assert {task["state"] for task in tasks} == {"succeeded"}, tasks
    return tasks


def named(pictures: list[bytes]) -> dict[str, bytes]:
    return {f"holiday/{index}.jpg": data for index, data in enumerate(pictures)}


def keys(bucket: Bucket) -> list[str]:
    """All keys of the service's store but the mark of who sweeps it."""

    async def ask() -> list[str]:
        return [key for key in await keys_of(open_store(bucket.uri, bucket.options)) if key != "installation"]

    return anyio.run(ask)


def test_a_job_lives_in_the_bucket_from_submit_to_delete(
    service_process: Start, bucket: Bucket, pictures: list[bytes]
) -> None:
    service = service_process(*bucket.setting())
    tasks = run(service.url, named(pictures))
    job = str(tasks[0]["job"])
    found = keys(bucket)
    assert len([key for key in found if key.startswith("uploads/")]) == len(pictures)
    assert len([key for key in found if key.startswith("results/")]) == 2 * len(pictures)
    with zipfile.ZipFile(io.BytesIO(httpx.get(f"{service.url}/v1/jobs/{job}/archive").content)) as archive:
        images = {archive.read(name) for name in archive.namelist()}
    results = {httpx.get(f"{service.url}/v1/tasks/{task['id']}/result").content for task in tasks}
    assert images == results
    assert {httpx.get(f"{service.url}/v1/tasks/{task['id']}/input").content for task in tasks} == set(pictures)
    assert httpx.get(f"{service.url}/readyz").json()["checks"]["store"]["ok"]
    assert httpx.delete(f"{service.url}/v1/jobs/{job}").status_code == 204
    wait_until(lambda: not keys(bucket), "what the job had is removed", timeout=30)
    assert service.stop() == 0
    secret = bucket.options.get("secret_access_key") or bucket.options["account_key"]
    assert secret not in service.log.read_text()
    assert not (service.data / "objects").exists()


def test_results_survive_a_killed_service_and_a_job_goes_on(
    service_process: Start, bucket: Bucket, pictures: list[bytes]
) -> None:
    service = service_process(*bucket.setting(), "--workers", "1")
    first = run(service.url, named(pictures[:2]))
    job = submit(
        service.url, PIPELINE, {f"{n}-{name}": data for n in range(8) for name, data in named(pictures).items()}
    )
    service.kill()
    service.start()
    wait_until(lambda: ended(service.url, job["id"]), "the job ends after a restart")
    assert {task["state"] for task in all_tasks(service.url, job["id"])} == {"succeeded"}
    for task in first:
        assert httpx.get(f"{service.url}/v1/tasks/{task['id']}/result").status_code == 200


def test_what_has_expired_goes_from_the_bucket(service_process: Start, bucket: Bucket, pictures: list[bytes]) -> None:
    service = service_process(*bucket.setting(), "--set", "retention=1s")
    job = submit(service.url, PIPELINE, named(pictures[:3]))["id"]
    wait_until(lambda: httpx.get(f"{service.url}/v1/jobs/{job}").status_code == 404, "the job expires", timeout=90)
    wait_until(lambda: not keys(bucket), "what the job had is removed", timeout=60)


# -- links ------------------------------------------------------------------------------------------


def upload_by_link(url: str, data: bytes, **wanted: int) -> tuple[dict[str, object], httpx.Response]:
    """The link, and what completing it answered."""
    link = httpx.post(f"{url}/v1/uploads/link", json=wanted).json()
    put = httpx.put(httpx.URL(url).join(link["url"]), content=data, headers=link["headers"])
    assert put.status_code in {200, 201}, put.text
    return link, httpx.post(f"{url}{link['links']['complete']}", json={"name": "beach.jpg"})


@pytest.fixture(params=["moto_server", "azurite_server", "folder", "memory"])
def linking(request: pytest.FixtureRequest, service_process: Start, tmp_path: Path) -> ServiceProcess:
    """A service with a store that signs its links, or none."""
    settings = ["--set", "max_bytes=1MB"]
    if request.param.endswith("server"):
        server = request.getfixturevalue(request.param)
        settings += (azure_container(server) if isinstance(server, Azurite) else s3_bucket(server)).setting()
    elif request.param == "memory":
        settings += ["--set", "store=memory:"]
    return service_process(*settings)


def test_bytes_go_in_and_out_by_links(linking: ServiceProcess, pictures: list[bytes]) -> None:
    url = linking.url
    link, done = upload_by_link(url, pictures[0])
    assert done.status_code == 201, done.text
    assert done.json() | {"id": link["id"], "name": "beach.jpg", "size": len(pictures[0])} == done.json()
    again = httpx.post(f"{url}/v1/uploads/{link['id']}/complete", json={"name": "other.jpg"})
    assert again.json() == done.json()
    # The link still works where a cloud signed it; what was completed stays as it was.
    httpx.put(httpx.URL(url).join(str(link["url"])), content=b"changed", headers=dict(link["headers"]))  # type: ignore[call-overload]  # JSON
    job = httpx.post(f"{url}/v1/jobs", json={"pipeline": PIPELINE, "uploads": [link["id"]]}).json()["id"]
    wait_until(lambda: ended(url, job), "the job ends")
    (task,) = all_tasks(url, job)
    assert httpx.get(f"{url}/v1/tasks/{task['id']}/input").content == pictures[0]
    result = httpx.get(f"{url}{task['links']['result']}")
    made = httpx.get(f"{url}{task['links']['result_link']}", params={"expires": 120}).json()
    download = httpx.get(httpx.URL(url).join(made["url"]))
    assert download.status_code == 200
    assert download.content == result.content
    part = httpx.get(httpx.URL(url).join(made["url"]), headers={"range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, result.content[1:4])


def test_too_many_bytes_by_a_link_are_refused_or_deleted(linking: ServiceProcess) -> None:
    link = httpx.post(f"{linking.url}/v1/uploads/link").json()
    assert link["max_bytes"] == 1_000_000
    put = httpx.put(httpx.URL(linking.url).join(link["url"]), content=b"x" * 1_000_001, headers=link["headers"])
    own = not urlsplit(link["url"]).netloc
    assert put.status_code == 413 if own else put.is_success
    done = httpx.post(f"{linking.url}{link['links']['complete']}")
    assert done.status_code == 404 if own else 413
    assert httpx.post(f"{linking.url}{link['links']['complete']}").status_code == 404


def test_an_upload_that_never_came_and_a_stranger_can_t_be_completed(linking: ServiceProcess) -> None:
    link = httpx.post(f"{linking.url}/v1/uploads/link").json()
    for one in (link["id"], "up_0", "up_" + "0" * 32):
        assert httpx.post(f"{linking.url}/v1/uploads/{one}/complete").status_code == 404
    assert httpx.post(f"{linking.url}/v1/uploads/link", json={"expires": 7 * 24 * 3600 + 1}).status_code == 400
    assert httpx.post(f"{linking.url}/v1/uploads/link", json={"expires": 0}).status_code == 400


def changed(url: str, name: str, value: str) -> str:
    """The link with another value in its query."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) | {name: value}
    return urlunsplit(parts._replace(query=urlencode(query)))


@pytest.mark.parametrize("server", ["azurite_server", "folder"])
def test_altered_and_expired_links_are_refused(
    server: str, request: pytest.FixtureRequest, service_process: Start, pictures: list[bytes]
) -> None:
    azure = server != "folder"
    settings = azure_container(request.getfixturevalue(server)).setting() if azure else []
    url = service_process(*settings).url
    (task,) = run(url, {"a.jpg": pictures[0]})
    path = f"{url}/v1/tasks/{task['id']}/result/link"

    def get(link: str) -> int:
        return httpx.get(httpx.URL(url).join(link)).status_code

    link = httpx.get(path).json()["url"]
    assert get(link) == 200
    until, signature = ("se", "sig") if azure else ("expires", "signature")
    values = dict(parse_qsl(urlsplit(link).query))
    later = "2099-01-01T00:00:00Z" if azure else str(int(values[until]) + 1000)
    assert get(changed(link, until, later)) == 403
    assert get(changed(link, signature, "A" * len(values[signature]))) == 403
    assert get(link.replace("results/", "uploads/")) == 403
    assert (
        httpx.put(httpx.URL(url).join(link), content=b"x", headers={"x-ms-blob-type": "BlockBlob"}).status_code == 403
    )
    short = httpx.get(path, params={"expires": 1}).json()["url"]
    wait_until(lambda: get(short) == 403, "the link expires", timeout=20)
    for wrong in (0, 7 * 24 * 3600 + 1):
        assert httpx.get(path, params={"expires": wrong}).status_code == 400


# -- the store goes away ------------------------------------------------------------------------------


def test_tasks_wait_for_a_store_that_is_away_and_nothing_is_lost(
    service_process: Start, tmp_path: Path, pictures: list[bytes]
) -> None:
    missing = Azurite.missing()
    if missing:
        pytest.skip(missing)
    azurite = Azurite(tmp_path / "azurite").start()
    try:
        service = service_process(*azure_container(azurite).setting(), "--workers", "2")
        url = service.url
        files = {f"{n}-{name}": data for n in range(15) for name, data in named(pictures).items()}
        job = submit(url, "gaussian:3/" * 4 + PIPELINE, files)["id"]

        def succeeded() -> int:
            return int(httpx.get(f"{url}/v1/jobs/{job}").json()["counts"]["succeeded"])

        wait_until(lambda: succeeded() > 5, "some are done")
        azurite.stop()  # not killed: Azurite would lose what it has acknowledged, and no client can help that
        wait_until(lambda: httpx.get(f"{url}/readyz", timeout=20).status_code == 503, "readiness tells")
        checks = httpx.get(f"{url}/readyz", timeout=20).json()["checks"]
        assert not checks["store"]["ok"]
        assert httpx.put(f"{url}/v1/uploads/x.jpg", content=b"x", timeout=60).status_code == 503
        counts = httpx.get(f"{url}/v1/jobs/{job}").json()["counts"]
        assert counts["failed"] == 0
        assert 0 < counts["succeeded"] < len(files)
        azurite.start()
        wait_until(lambda: ended(url, job), "the job ends", timeout=100)
        tasks = all_tasks(url, job)
        assert [task["state"] for task in tasks] == ["succeeded"] * len(files)
        assert {task["attempts"] for task in tasks} == {1}, "an outage costs no attempt"
        for task in tasks:
            body = httpx.get(f"{url}/v1/tasks/{task['id']}/result").content
            assert len(body) == task["outcome"]["bytes"]
        wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200, "it is ready again")
    finally:
        azurite.close()


def test_a_request_can_name_objects_of_configured_stores_only(
    service_process: Start, bucket: Bucket, pictures: list[bytes]
) -> None:
    scheme = bucket.uri.partition(":")[0]
    photos = Bucket(f"{bucket.uri}/photos", bucket.options)

    async def fill() -> None:
        whole = open_store(bucket.uri, bucket.options)
        for index, data in enumerate(pictures[:4]):
            await whole.put(f"photos/trip/{index}.jpg", data)
        await whole.put("photos/trip/deep/9.jpg", pictures[5])
        await whole.put("photos/trip/notes.txt", b"no image")
        await whole.put("photos/huge.jpg", b"x" * 2_000_001)
        await whole.put("private/secret.jpg", pictures[6])

    anyio.run(fill)
    stores = json.dumps({"photos": {"uri": photos.uri, **photos.options}})
    service = service_process("--set", f"stores={stores}", "--set", "max_bytes=2MB")

    def ask(*sources: str) -> httpx.Response:
        return httpx.post(f"{service.url}/v1/jobs", json={"pipeline": PIPELINE, "sources": list(sources)}, timeout=30)

    answer = ask(f"{photos.uri}/trip/*.jpg", f"{photos.uri}/trip/deep/9.jpg")
    assert answer.status_code == 202, answer.text
    job = answer.json()["id"]
    wait_until(lambda: ended(service.url, job), "the job ends")
    tasks = all_tasks(service.url, job)
    assert [task["name"] for task in tasks] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "9.jpg"]
    assert tasks[0]["source"]["uri"] == f"{photos.uri}/trip/0.jpg"
    assert {task["state"] for task in tasks} == {"succeeded"}
    assert httpx.get(f"{service.url}/v1/tasks/{tasks[4]['id']}/input").content == pictures[5]
    everything = ask(f"{photos.uri}/**").json()["id"]
    wait_until(lambda: ended(service.url, everything), "the job ends")
    found = {task["name"]: task for task in all_tasks(service.url, everything)}
    assert set(found) == {"trip/deep/9.jpg", "trip/notes.txt", "huge.jpg", *(f"trip/{n}.jpg" for n in range(4))}
    assert found["huge.jpg"]["error"]["type"].endswith("limit-exceeded")
    assert found["trip/notes.txt"]["error"]["type"].endswith("unsupported-format")
    for refused in (
        f"{bucket.uri}/private/secret.jpg",
        f"{bucket.uri}/private/nothing.jpg",
        f"{bucket.uri}/*/secret.jpg",
        f"{bucket.uri}/photosx/1.jpg",
        f"{scheme}://another-bucket/photos/1.jpg",
        f"{scheme}://another-bucket/*.jpg",
    ):
        answer = ask(refused)
        assert (answer.status_code, answer.json()["type"]) == (403, "/v1/problems/source-refused"), refused
    for bad in (f"{photos.uri}/../private/secret.jpg", f"{photos.uri}/%2E%2E/private/secret.jpg", photos.uri + "/"):
        assert ask(bad).status_code in {400, 403, 422}, bad
    assert ask(f"{photos.uri}/nothing.jpg").status_code == 404
