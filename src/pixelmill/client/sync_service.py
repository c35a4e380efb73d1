"""Verbs of the blocking client beside jobs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pixelmill.client import flows, service_flows, trigger_flows
from pixelmill.client.effects import Flow
from pixelmill.client.retry import RetryPolicy
from pixelmill.client.sources import Source, local
from pixelmill.client.trigger_values import TriggerEvent
from pixelmill.client.values import Delivery, Link, Result, TaskStatus, Upload, UploadLink, Webhook
from pixelmill.client.wire import segment

T = TypeVar("T")


class ServiceVerbs(ABC):
    """What the client asks the service about itself, links, webhooks and single tasks."""

    url: str
    _policy: RetryPolicy

    @abstractmethod
    def _drive(self, flow: Flow[T]) -> T:
        """Perform what a flow asks for; its value."""

    @abstractmethod
    def _list(self, path: str, **params: str | None) -> Iterator[Mapping[str, Any]]:
        """All items of a list, page by page."""

    # -- what there is ---------------------------------------------------------------------------

    def operations(self) -> list[Mapping[str, Any]]:
        """What can be done to an image: name, summary and the JSON schema of the parameters."""
        return list(self._list("/v1/operations"))

    def operation(self, name: str) -> Mapping[str, Any]:
        """One operation by its name; raises :class:`NotFound`."""
        found: Mapping[str, Any] = self._drive(flows.get_json(f"/v1/operations/{segment(name)}", self._policy))
        return found

    def formats(self) -> list[Mapping[str, Any]]:
        """What is read and written, with the JSON schema of each encoder's options."""
        return list(self._list("/v1/formats"))

    def presets(self) -> list[Mapping[str, Any]]:
        """What ``preset:NAME`` stands for at this service."""
        return list(self._list("/v1/presets"))

    # -- pipelines -------------------------------------------------------------------------------

    def check(self, pipeline: Any) -> Mapping[str, Any]:
        """Whether the service can read a pipeline (text, JSON or a ``Pipeline``), where it is wrong, what it lacks."""
        return self._drive(service_flows.check(pipeline, self._policy))

    def saved_pipelines(self) -> list[Mapping[str, Any]]:
        """One's own pipelines that were saved, with their text and steps."""
        return list(self._list("/v1/pipelines"))

    def save_pipeline(self, name: str, pipeline: Any) -> Mapping[str, Any]:
        """Keep a pipeline under a name, in place of the one that had it."""
        return self._drive(service_flows.save_pipeline(name, pipeline, self._policy))

    def delete_pipeline(self, name: str) -> None:
        """Forget a saved pipeline; raises :class:`NotFound`."""
        self._drive(service_flows.delete_pipeline(name, self._policy))

    # -- machines --------------------------------------------------------------------------------

    def nodes(self) -> list[Mapping[str, Any]]:
        """The machines, their load now and in their last hour."""
        return list(self._list("/v1/nodes"))

    def load(self) -> Mapping[str, Any]:
        """What the process that answers does now: slots, what waits for them, CPU and RAM, its gate."""
        found: Mapping[str, Any] = self._drive(flows.get_json("/v1/load", self._policy))
        return found

    def history(self, span: str = "hour") -> Mapping[str, Any]:
        """Metrics of the last ``hour`` by second or ``day`` by minute, as columns; needs the scope ``admin``."""
        asked = flows.get_json("/v1/metrics/history", self._policy, {"range": span})
        found: Mapping[str, Any] = self._drive(asked)
        return found

    def summary(self, span: str = "hour") -> Mapping[str, Any]:
        """Every metric of the last ``minute``, ``hour`` or ``day`` in one document; needs the scope ``admin``."""
        asked = flows.get_json("/v1/metrics/summary", self._policy, {"span": span})
        found: Mapping[str, Any] = self._drive(asked)
        return found

    # -- single uploads and tasks ----------------------------------------------------------------

    def upload(self, source: Source) -> Upload:
        """A file or bytes, to be used by a job that is made in another way; ``submit`` uploads by itself."""
        return self._drive(flows.upload(local(source), self._policy))

    def task(self, task_id: str) -> TaskStatus:
        """A task by its id; raises :class:`NotFound`."""
        return self._drive(service_flows.task(task_id, self._policy))

    def tasks(
        self,
        *,
        label: str | Sequence[str] | None = None,
        min_score: float | None = None,
        caption: str | None = None,
        faces: str | int | None = None,
        job: str | None = None,
    ) -> Iterator[TaskStatus]:
        """Tasks of all jobs (or one) in which all of this was found, the last that ended first.

        ``label``: seen by ``classify`` or ``auto_tag``, a whole label or one of its words, each with at least
        ``min_score``; ``caption``: words of a caption; ``faces``: how many, as a number or a range such as ``"1.."``.
        """
        asked = flows.search_params(label, min_score, caption, faces)
        return map(TaskStatus.read, self._list("/v1/tasks", job=job, **asked))

    def input(self, task_id: str) -> bytes:
        """The bytes that a task was given."""
        return self._drive(service_flows.task_input(task_id, self._policy))

    def result(self, task_id: str) -> Result:
        """A task with its image; raises :class:`IllegalTransition` where it has not succeeded."""
        return self._drive(service_flows.task_result(task_id, self._policy))

    def thumbnail(self, task_id: str, *, of: str = "result", size: int = 256) -> bytes:
        """A small picture of a task's ``result`` or ``input``, at most ``size`` (16 to 1,024) pixels a side."""
        return self._drive(service_flows.thumbnail(task_id, of, size, self._policy))

    # -- links -----------------------------------------------------------------------------------

    def result_link(self, task_id: str, *, expires: int | None = None) -> Link:
        """A link by which anybody can take a result without a token, for ``expires`` seconds (an hour)."""
        return self._drive(service_flows.result_link(self.url, task_id, expires, self._policy))

    def upload_link(self, *, expires: int | None = None) -> UploadLink:
        """A link by which anybody can put the bytes of one upload, for ``expires`` seconds (an hour)."""
        return self._drive(service_flows.upload_link(self.url, expires, self._policy))

    def complete_upload(self, upload_id: str, name: str = "") -> Upload:
        """Bytes were put by a link: the service checks and keeps them. A second call gives the same upload."""
        return self._drive(service_flows.complete_upload(upload_id, name, self._policy))

    # -- webhooks --------------------------------------------------------------------------------

    def add_webhook(self, url: str) -> Webhook:
        """From now on ``url`` is told when jobs end; the answer alone has the ``secret`` of the signatures."""
        return self._drive(service_flows.add_webhook(url, self._policy))

    def webhooks(self) -> list[Webhook]:
        """Endpoints that are told of all jobs, oldest first."""
        return [Webhook.read(record) for record in self._list("/v1/webhooks")]

    def webhook(self, webhook_id: str) -> Webhook:
        """One endpoint; raises :class:`NotFound`."""
        return self._drive(service_flows.webhook(webhook_id, self._policy))

    def delete_webhook(self, webhook_id: str) -> None:
        """Remove an endpoint; what waits is not sent."""
        self._drive(service_flows.delete_webhook(webhook_id, self._policy))

    def deliveries(self, webhook_id: str) -> Iterator[Delivery]:
        """What was sent to an endpoint, newest first."""
        return map(Delivery.read, self._list(f"/v1/webhooks/{segment(webhook_id)}/deliveries"))

    def redeliver(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Send a delivery again; raises :class:`IllegalTransition` while it still waits."""
        return self._drive(service_flows.redeliver(webhook_id, delivery_id, self._policy))

    # -- triggers --------------------------------------------------------------------------------

    def triggers(self) -> Mapping[str, Any]:
        """The rules in force as ``items`` with counters, ``sources`` of events, the ``file``; scope ``admin``."""
        return self._drive(trigger_flows.overview(self._policy))

    def trigger(self, name: str) -> Mapping[str, Any]:
        """One rule with its counters; raises :class:`NotFound`."""
        return self._drive(trigger_flows.rule(name, self._policy))

    def put_trigger(self, name: str, **fields: Any) -> Mapping[str, Any]:
        """Keep a rule: ``watch``, ``pipeline``, ``output`` and what docs/triggers.md has beside them."""
        return self._drive(trigger_flows.put_rule(name, fields, self._policy))

    def delete_trigger(self, name: str) -> None:
        """Forget a rule of the API with what waits for it; raises :class:`NotFound`."""
        self._drive(trigger_flows.delete_rule(name, self._policy))

    def test_trigger(self, document: Any) -> Mapping[str, Any]:
        """What the events in a provider's document would lead to; nothing runs."""
        return self._drive(trigger_flows.trial(document, self._policy))

    def trigger_events(self, rule: str, *, state: str | None = None) -> Iterator[TriggerEvent]:
        """What became of the objects that a rule matched, newest first."""
        return map(TriggerEvent.read, self._list(f"/v1/triggers/{segment(rule)}/events", state=state))

    def trigger_dead_letters(self, rule: str | None = None) -> Iterator[TriggerEvent]:
        """Events that failed, of a rule or of all, newest first."""
        return map(TriggerEvent.read, self._list("/v1/triggers/dead-letters", rule=rule))

    def redrive_triggers(self, ids: Sequence[str] = (), *, rule: str = "", everything: bool = False) -> int:
        """Give failed events another try: these, or all of a rule, or everything; how many."""
        return self._drive(trigger_flows.redrive(ids, rule, self._policy, everything=everything))
