"""What both clients ask beside jobs: links, single tasks, webhooks, what the service is and does."""

from __future__ import annotations

import http.server
import inspect
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_process import ServiceProcess, wait_until

import pixelmill.client
from pixelmill import Pipeline
from pixelmill.client import AsyncClient, AsyncJob, Client, Delivery, Job, RetryPolicy
from pixelmill.errors import IllegalTransition, NotFound, PixelmillError

PIPELINE = "grayscale/resize:64/format:png"
ROOT = Path(pixelmill.client.__file__).parents[3]


@pytest.fixture
def client(live: ServiceProcess) -> Iterator[Client]:
    with Client(live.url, retry=RetryPolicy(attempts=1)) as client:
        yield client


@contextmanager
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An endpoint, and the messages that it was sent."""
    heard: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def telling(tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service that may send webhooks to this machine."""
    service = ServiceProcess(tmp_path / "telling", "--set", "webhook_allow_private=true")
    try:
        service.start()
        yield service
    finally:
        service.end()


def test_what_the_service_is_and_does(client: Client) -> None:
    assert {one["name"] for one in client.operations()} >= {"canny", "sketch"}
    assert client.operation("canny")["name"] == "canny"
    with pytest.raises(NotFound, match="canny"):
        client.operation("cany")
    assert {"jpeg", "webp"} <= {one["name"] for one in client.formats()}
    presets = {one["name"]: one for one in client.presets()}
    assert presets
    assert all(one["pipeline"] for one in presets.values())
    assert client.nodes()[0]["kind"] == "here"
    assert client.load().keys() >= {"capacity", "running"}
    assert (client.history()["range"], client.history("day")["step_s"]) == ("hour", 60)


def test_single_tasks_with_input_and_result(client: Client, images: list[Path]) -> None:
    job = client.submit([images[0], ("torn.jpg", images[1].read_bytes()[:300])], PIPELINE)
    job.wait(60)
    good, torn = job.tasks()
    assert client.task(good.id) == good
    assert client.input(good.id) == images[0].read_bytes()
    assert client.result(good.id).bytes == Pipeline.parse(PIPELINE).run(images[0]).bytes
    with pytest.raises(IllegalTransition, match="failed"):
        client.result(torn.id)
    with pytest.raises(NotFound):
        client.task("task_that_never_was")


def test_links_work_without_the_client_until_they_are_altered(client: Client, images: list[Path]) -> None:
    up = client.upload_link(expires=60)
    assert up.max_bytes > 0
    httpx.request(
        up.link.method, up.link.url, headers=up.link.headers, content=images[0].read_bytes(), trust_env=False
    ).raise_for_status()
    made = client.complete_upload(up.id, "by-link.jpg")
    assert (made.name, made.size) == ("by-link.jpg", images[0].stat().st_size)
    assert client.complete_upload(up.id, "by-link.jpg") == made
    assert client.upload(images[0]).size == made.size

    job = client.submit([images[0]], PIPELINE)
    job.wait(60)
    (task,) = job.tasks()
    link = client.result_link(task.id, expires=60)
    taken = httpx.request(link.method, link.url, headers=link.headers, trust_env=False)
    assert taken.raise_for_status().content == Pipeline.parse(PIPELINE).run(images[0]).bytes
    assert httpx.get(link.url.replace("signature=", "signature=0"), trust_env=False).status_code == 403
    with pytest.raises(NotFound):
        client.result_link("task_that_never_was")
    with pytest.raises(PixelmillError):
        client.complete_upload("up_that_never_was")


def test_webhooks_are_registered_told_and_told_again(telling: ServiceProcess, images: list[Path]) -> None:
    with receiver() as (address, heard), Client(telling.url) as client:
        made = client.add_webhook(address)
        assert made.secret is not None
        assert made.secret.startswith("whsec_")
        assert made.secret not in repr(made)
        assert [(one.id, one.url, one.secret) for one in client.webhooks()] == [(made.id, address, None)]
        assert client.webhook(made.id).url == address
        job = client.submit(images[:1], PIPELINE, webhook=f"{address}/own")
        own = job.status.webhook
        assert own is not None
        assert (own.job, own.url, own.secret != made.secret) == (job.id, f"{address}/own", True)
        job.wait(60)
        assert job.status.webhook == own

        def delivered(webhook: str) -> Callable[[], bool]:
            return lambda: [one.state for one in client.deliveries(webhook)] == ["delivered"]

        wait_until(delivered(made.id), "the webhook is told")
        wait_until(delivered(own.id), "that of the job is told")
        (sent,) = client.deliveries(made.id)
        assert (sent.job, sent.status, sent.type) == (job.id, 204, "job.ended")
        assert isinstance(client.redeliver(made.id, sent.id), Delivery)
        wait_until(lambda: len(heard) == 3, "it is told again")
        assert {message["data"]["id"] for message in heard} == {job.id}
        client.delete_webhook(made.id)
        assert client.webhooks() == []
        with pytest.raises(NotFound):
            client.webhook(made.id)
        with pytest.raises(NotFound):
            client.redeliver(made.id, sent.id)


async def pipelines_are_kept(client: AsyncClient) -> None:
    assert (await client.check("grayscale"))["valid"]
    assert not (await client.check("nothing"))["valid"]
    assert (await client.save_pipeline("small ones", "resize:64,64"))["pipeline"] == "resize:64,64"
    assert [one["name"] for one in await client.saved_pipelines()] == ["small ones"]
    await client.delete_pipeline("small ones")
    assert await client.saved_pipelines() == []


def test_pipelines_are_checked_and_kept(telling: ServiceProcess) -> None:
    with Client(telling.url) as client:
        assert client.check({"operations": [{"name": "grayscale"}]})["text"] == "grayscale"
        client.save_pipeline("gray", "grayscale")
        assert [one["pipeline"] for one in client.saved_pipelines()] == ["grayscale"]
        client.delete_pipeline("gray")
        with pytest.raises(NotFound):
            client.delete_pipeline("gray")


@pytest.mark.anyio
async def test_the_asynchronous_client_does_the_same(telling: ServiceProcess, images: list[Path]) -> None:
    async with AsyncClient(telling.url) as client:
        assert (await client.operation("canny"))["name"] == "canny"
        assert {"jpeg"} <= {one["name"] for one in await client.formats()}
        assert await client.presets()
        assert (await client.nodes())[0]["kind"] == "here"
        assert (await client.load())["capacity"] > 0
        assert (await client.history("day"))["range"] == "day"
        up = await client.upload_link()
        async with httpx.AsyncClient(trust_env=False) as stranger:
            put = await stranger.put(up.link.url, headers=up.link.headers, content=images[0].read_bytes())
            put.raise_for_status()
            assert (await client.complete_upload(up.id)).size == (await client.upload(images[0])).size
            job = await client.submit(images[:1], PIPELINE, webhook="http://127.0.0.1:9/nobody")
            assert job.status.webhook is not None
            assert job.status.webhook.secret
            await job.wait(60)
            (task,) = [task async for task in job.tasks()]
            link = await client.result_link(task.id)
            expected = (await client.result(task.id)).bytes
            assert (await stranger.get(link.url)).content == expected
        assert await client.task(task.id) == task
        assert await client.input(task.id) == images[0].read_bytes()
        assert (await client.thumbnail(task.id, of="input", size=64))[:4] in {b"RIFF", b"\x89PNG", b"\xff\xd8\xff\xe0"}
        await pipelines_are_kept(client)
        made = await client.add_webhook("http://127.0.0.1:9/nobody")
        assert [one.id for one in await client.webhooks()] == [made.id]
        assert (await client.webhook(made.id)).secret is None
        (sent,) = [one async for one in client.deliveries(job.status.webhook.id)]
        with pytest.raises(IllegalTransition):
            await client.redeliver(sent.webhook, sent.id)  # it still waits for nobody to answer
        await client.delete_webhook(made.id)
        assert await client.webhooks() == []


# -- nothing is missing ----------------------------------------------------------------------------

NOT_FOR_CLIENTS = {
    "/": "for people",
    "/healthz": "for probes",
    "/readyz": "for probes",
    "/metrics": "for Prometheus",
    "/v1/objects/{key}": "where links lead",
    "/v1/problems/{slug}": "the errors of the tree say it",
    "/v1/jobs/{job_id}/seal": "submit seals with its last page",
    "/v1/session": "for browsers; clients send their token",
    "/v1/metrics/stream": "for pages; history() and nodes() say the same",
    "/v1/events/{source}": "for stores, which tell what appeared",
}


def test_both_clients_reach_every_route_of_the_service() -> None:
    text = "".join(path.read_text() for path in (ROOT / "src" / "pixelmill" / "client").glob("*.py"))
    reached = {
        re.sub(r"\{[^/]+", "{}", found.replace("{verb}", verb))
        for found in re.findall(r'f?"(/v1/[^"]*)"', text)
        for verb in ("cancel", "retry")
    }
    paths = json.loads((ROOT / "docs" / "openapi.json").read_text())["paths"]
    missing = {path for path in paths if re.sub(r"\{[^/]+", "{}", path) not in reached}
    assert missing == NOT_FOR_CLIENTS.keys()


@pytest.mark.parametrize(("blocking", "waiting"), [(Client, AsyncClient), (Job, AsyncJob)])
def test_both_clients_have_the_same_verbs(blocking: type, waiting: type) -> None:
    def verbs(cls: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(verb).parameters)
            for name, verb in inspect.getmembers(cls, inspect.isfunction)
            if not name.startswith("_")
        }

    renamed = {"aclose": "close"}
    assert {renamed.get(name, name): given for name, given in verbs(waiting).items()} == verbs(blocking)
    page = (ROOT / "docs" / "client.md").read_text()
    assert not {name for name in verbs(blocking) if not re.search(rf"`{name}\(", page)} - {"close"}
