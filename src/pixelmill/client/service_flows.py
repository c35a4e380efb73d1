"""The verbs of both clients beside jobs, as flows: links, single tasks, webhooks, what the service is and does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urljoin

from pixelmill.client.effects import Flow, send
from pixelmill.client.flows import get_json, pipeline_json
from pixelmill.client.retry import RetryPolicy
from pixelmill.client.values import Delivery, Link, Result, TaskStatus, Upload, UploadLink, Webhook
from pixelmill.client.wire import Request, post_json, segment


def task(task_id: str, policy: RetryPolicy) -> Flow[TaskStatus]:
    """A task as it is now."""
    return TaskStatus.read((yield from get_json(f"/v1/tasks/{segment(task_id)}", policy)))


def task_input(task_id: str, policy: RetryPolicy) -> Flow[bytes]:
    """The bytes that a task was given."""
    return (yield from send(Request("GET", f"/v1/tasks/{segment(task_id)}/input"), policy)).body


def task_result(task_id: str, policy: RetryPolicy) -> Flow[Result]:
    """A task and its image."""
    found = yield from task(task_id, policy)
    if found.state == "succeeded" and not found.has_image:
        return Result(found, None)
    # Of one that has not succeeded the service says why.
    return Result(found, (yield from send(Request("GET", f"/v1/tasks/{segment(task_id)}/result"), policy)).body)


def thumbnail(task_id: str, of: str, size: int, policy: RetryPolicy) -> Flow[bytes]:
    """A small picture of a task's result or input."""
    request = Request("GET", f"/v1/tasks/{segment(task_id)}/thumbnail", params={"of": of, "size": str(size)})
    return (yield from send(request, policy)).body


# -- pipelines -----------------------------------------------------------------------------------


def check(pipeline: Any, policy: RetryPolicy) -> Flow[Mapping[str, Any]]:
    """Whether the service can read a pipeline."""
    found: Mapping[str, Any] = (
        yield from send(post_json("/v1/pipelines/check", {"pipeline": pipeline_json(pipeline)}), policy)
    ).json()
    return found


def save_pipeline(name: str, pipeline: Any, policy: RetryPolicy) -> Flow[Mapping[str, Any]]:
    """Keep a pipeline under a name."""
    body = post_json("", {"pipeline": pipeline_json(pipeline)})
    request = replace(body, method="PUT", path=f"/v1/pipelines/{segment(name)}")
    found: Mapping[str, Any] = (yield from send(request, policy)).json()
    return found


def delete_pipeline(name: str, policy: RetryPolicy) -> Flow[None]:
    """Forget a saved pipeline."""
    yield from send(Request("DELETE", f"/v1/pipelines/{segment(name)}"), policy)


# -- links ---------------------------------------------------------------------------------------


def result_link(base: str, task_id: str, expires: int | None, policy: RetryPolicy) -> Flow[Link]:
    """A link to a result; one of the service itself is made whole by ``base``, its URL."""
    params = {} if expires is None else {"expires": str(expires)}
    return _link(base, (yield from get_json(f"/v1/tasks/{segment(task_id)}/result/link", policy, params)))


def upload_link(base: str, expires: int | None, policy: RetryPolicy) -> Flow[UploadLink]:
    """A link to upload by."""
    # Asked for twice there are two; the one that nobody uses is forgotten.
    request = post_json("/v1/uploads/link", {} if expires is None else {"expires": expires})
    record = (yield from send(request, policy)).json()
    return UploadLink(str(record["id"]), _link(base, record), int(record.get("max_bytes") or 0))


def complete_upload(upload_id: str, name: str, policy: RetryPolicy) -> Flow[Upload]:
    """The bytes were put by a link: an upload like any other from now on."""
    request = post_json(f"/v1/uploads/{segment(upload_id)}/complete", {"name": name})
    record = (yield from send(request, policy)).json()
    return Upload(str(record["id"]), str(record["name"]), int(record["size"]))


def _link(base: str, record: Mapping[str, Any]) -> Link:
    url = urljoin(base.rstrip("/") + "/", str(record["url"]))
    return Link(url, str(record["method"]), record.get("headers") or {}, record.get("expires"))


# -- webhooks ------------------------------------------------------------------------------------


def add_webhook(url: str, policy: RetryPolicy) -> Flow[Webhook]:
    """Register an endpoint."""
    request = post_json("/v1/webhooks", {"url": url}, repeatable=False)  # twice, it would be told twice
    return Webhook.read((yield from send(request, policy)).json())


def webhook(webhook_id: str, policy: RetryPolicy) -> Flow[Webhook]:
    """One endpoint."""
    return Webhook.read((yield from get_json(f"/v1/webhooks/{segment(webhook_id)}", policy)))


def delete_webhook(webhook_id: str, policy: RetryPolicy) -> Flow[None]:
    """Remove an endpoint."""
    yield from send(Request("DELETE", f"/v1/webhooks/{segment(webhook_id)}"), policy)


def redeliver(webhook_id: str, delivery_id: str, policy: RetryPolicy) -> Flow[Delivery]:
    """Send a delivery again."""
    path = f"/v1/webhooks/{segment(webhook_id)}/deliveries/{segment(delivery_id)}/redeliver"
    return Delivery.read((yield from send(Request("POST", path, repeatable=False), policy)).json())
