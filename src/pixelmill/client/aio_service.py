"""Verbs of the asynchronous client beside jobs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeVar

from pixelmill.client import flows, service_flows, trigger_flows
from pixelmill.client.effects import Flow
from pixelmill.client.retry import RetryPolicy
from pixelmill.client.sources import Source, local
from pixelmill.client.trigger_values import TriggerEvent
from pixelmill.client.values import Delivery, Link, Result, TaskStatus, Upload, UploadLink, Webhook
from pixelmill.client.wire import segment

T = TypeVar("T")


class AsyncServiceVerbs(ABC):
    """The asynchronous counterpart of :class:`pixelmill.client.sync_service.ServiceVerbs`."""

    url: str
    _policy: RetryPolicy

    @abstractmethod
    async def _drive(self, flow: Flow[T]) -> T:
        """Perform what a flow asks for; its value."""

    @abstractmethod
    def _list(self, path: str, **params: str | None) -> AsyncIterator[Mapping[str, Any]]:
        """All items of a list, page by page."""

    # -- what there is ---------------------------------------------------------------------------

    async def operations(self) -> list[Mapping[str, Any]]:
        """What can be done to an image: name, summary and the JSON schema of the parameters."""
        return [record async for record in self._list("/v1/operations")]

    async def operation(self, name: str) -> Mapping[str, Any]:
        """One operation by its name; raises :class:`NotFound`."""
        found: Mapping[str, Any] = await self._drive(flows.get_json(f"/v1/operations/{segment(name)}", self._policy))
        return found

    async def formats(self) -> list[Mapping[str, Any]]:
        """What is read and written, with the JSON schema of each encoder's options."""
        return [record async for record in self._list("/v1/formats")]

    async def presets(self) -> list[Mapping[str, Any]]:
        """What ``preset:NAME`` stands for at this service."""
        return [record async for record in self._list("/v1/presets")]

    # -- pipelines -------------------------------------------------------------------------------

    async def check(self, pipeline: Any) -> Mapping[str, Any]:
        """Whether the service can read a pipeline (text, JSON or a ``Pipeline``), where it is wrong, what it lacks."""
        return await self._drive(service_flows.check(pipeline, self._policy))

    async def saved_pipelines(self) -> list[Mapping[str, Any]]:
        """One's own pipelines that were saved, with their text and steps."""
        return [record async for record in self._list("/v1/pipelines")]

    async def save_pipeline(self, name: str, pipeline: Any) -> Mapping[str, Any]:
        """Keep a pipeline under a name, in place of the one that had it."""
        return await self._drive(service_flows.save_pipeline(name, pipeline, self._policy))

    async def delete_pipeline(self, name: str) -> None:
        """Forget a saved pipeline; raises :class:`NotFound`."""
        await self._drive(service_flows.delete_pipeline(name, self._policy))

    # -- machines --------------------------------------------------------------------------------

    async def nodes(self) -> list[Mapping[str, Any]]:
        """The machines, their load now and in their last hour."""
        return [record async for record in self._list("/v1/nodes")]

    async def load(self) -> Mapping[str, Any]:
        """What the process that answers does now: slots, what waits for them, CPU and RAM, its gate."""
        found: Mapping[str, Any] = await self._drive(flows.get_json("/v1/load", self._policy))
        return found

    async def history(self, span: str = "hour") -> Mapping[str, Any]:
        """Metrics of the last ``hour`` by second or ``day`` by minute, as columns; needs the scope ``admin``."""
        asked = flows.get_json("/v1/metrics/history", self._policy, {"range": span})
        found: Mapping[str, Any] = await self._drive(asked)
        return found

    async def summary(self, span: str = "hour") -> Mapping[str, Any]:
        """Every metric of the last ``minute``, ``hour`` or ``day`` in one document; needs the scope ``admin``."""
        asked = flows.get_json("/v1/metrics/summary", self._policy, {"span": span})
        found: Mapping[str, Any] = await self._drive(asked)
        return found

    # -- single uploads and tasks ----------------------------------------------------------------

    async def upload(self, source: Source) -> Upload:
        """A file or bytes, to be used by a job that is made in another way; ``submit`` uploads by itself."""
        return await self._drive(flows.upload(local(source), self._policy))

    async def task(self, task_id: str) -> TaskStatus:
        """A task by its id; raises :class:`NotFound`."""
        return await self._drive(service_flows.task(task_id, self._policy))

    async def tasks(
        self,
        *,
        label: str | Sequence[str] | None = None,
        min_score: float | None = None,
        caption: str | None = None,
        faces: str | int | None = None,
        job: str | None = None,
    ) -> AsyncIterator[TaskStatus]:
        """Tasks of all jobs (or one) in which all of this was found, the last that ended first.

        ``label``: seen by ``classify`` or ``auto_tag``, a whole label or one of its words, each with at least
        ``min_score``; ``caption``: words of a caption; ``faces``: how many, as a number or a range such as ``"1.."``.
        """
        asked = flows.search_params(label, min_score, caption, faces)
        async for record in self._list("/v1/tasks", job=job, **asked):
            yield TaskStatus.read(record)

    async def input(self, task_id: str) -> bytes:
        """The bytes that a task was given."""
        return await self._drive(service_flows.task_input(task_id, self._policy))

    async def result(self, task_id: str) -> Result:
        """A task with its image; raises :class:`IllegalTransition` where it has not succeeded."""
        return await self._drive(service_flows.task_result(task_id, self._policy))

    async def thumbnail(self, task_id: str, *, of: str = "result", size: int = 256) -> bytes:
        """A small picture of a task's ``result`` or ``input``, at most ``size`` (16 to 1,024) pixels a side."""
        return await self._drive(service_flows.thumbnail(task_id, of, size, self._policy))

    # -- links -----------------------------------------------------------------------------------

    async def result_link(self, task_id: str, *, expires: int | None = None) -> Link:
        """A link by which anybody can take a result without a token, for ``expires`` seconds (an hour)."""
        return await self._drive(service_flows.result_link(self.url, task_id, expires, self._policy))

    async def upload_link(self, *, expires: int | None = None) -> UploadLink:
        """A link by which anybody can put the bytes of one upload, for ``expires`` seconds (an hour)."""
        return await self._drive(service_flows.upload_link(self.url, expires, self._policy))

    async def complete_upload(self, upload_id: str, name: str = "") -> Upload:
        """Bytes were put by a link: the service checks and keeps them. A second call gives the same upload."""
        return await self._drive(service_flows.complete_upload(upload_id, name, self._policy))

    # -- webhooks --------------------------------------------------------------------------------

    async def add_webhook(self, url: str) -> Webhook:
        """From now on ``url`` is told when jobs end; the answer alone has the ``secret`` of the signatures."""
        return await self._drive(service_flows.add_webhook(url, self._policy))

    async def webhooks(self) -> list[Webhook]:
        """Endpoints that are told of all jobs, oldest first."""
        return [Webhook.read(record) async for record in self._list("/v1/webhooks")]

    async def webhook(self, webhook_id: str) -> Webhook:
        """One endpoint; raises :class:`NotFound`."""
        return await self._drive(service_flows.webhook(webhook_id, self._policy))

    async def delete_webhook(self, webhook_id: str) -> None:
        """Remove an endpoint; what waits is not sent."""
        await self._drive(service_flows.delete_webhook(webhook_id, self._policy))

    async def deliveries(self, webhook_id: str) -> AsyncIterator[Delivery]:
        """What was sent to an endpoint, newest first."""
        async for record in self._list(f"/v1/webhooks/{segment(webhook_id)}/deliveries"):
            yield Delivery.read(record)

    async def redeliver(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Send a delivery again; raises :class:`IllegalTransition` while it still waits."""
        return await self._drive(service_flows.redeliver(webhook_id, delivery_id, self._policy))

    # -- triggers --------------------------------------------------------------------------------

    async def triggers(self) -> Mapping[str, Any]:
        """The rules in force as ``items`` with counters, ``sources`` of events, the ``file``; scope ``admin``."""
        return await self._drive(trigger_flows.overview(self._policy))

    async def trigger(self, name: str) -> Mapping[str, Any]:
        """One rule with its counters; raises :class:`NotFound`."""
        return await self._drive(trigger_flows.rule(name, self._policy))

    async def put_trigger(self, name: str, **fields: Any) -> Mapping[str, Any]:
        """Keep a rule: ``watch``, ``pipeline``, ``output`` and what docs/triggers.md has beside them."""
        return await self._drive(trigger_flows.put_rule(name, fields, self._policy))

    async def delete_trigger(self, name: str) -> None:
        """Forget a rule of the API with what waits for it; raises :class:`NotFound`."""
        await self._drive(trigger_flows.delete_rule(name, self._policy))

    async def test_trigger(self, document: Any) -> Mapping[str, Any]:
        """What the events in a provider's document would lead to; nothing runs."""
        return await self._drive(trigger_flows.trial(document, self._policy))

    async def trigger_events(self, rule: str, *, state: str | None = None) -> AsyncIterator[TriggerEvent]:
        """What became of the objects that a rule matched, newest first."""
        async for record in self._list(f"/v1/triggers/{segment(rule)}/events", state=state):
            yield TriggerEvent.read(record)

    async def trigger_dead_letters(self, rule: str | None = None) -> AsyncIterator[TriggerEvent]:
        """Events that failed, of a rule or of all, newest first."""
        async for record in self._list("/v1/triggers/dead-letters", rule=rule):
            yield TriggerEvent.read(record)

    async def redrive_triggers(self, ids: Sequence[str] = (), *, rule: str = "", everything: bool = False) -> int:
        """Give failed events another try: these, or all of a rule, or everything; how many."""
        return await self._drive(trigger_flows.redrive(ids, rule, self._policy, everything=everything))
