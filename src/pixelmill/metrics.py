"""What the service counts and measures, for Prometheus. Each :class:`Metrics` has its own registry: no global state.

Methods are named for what happened; the names of the series stand in :data:`SERIES` and in docs/metrics.md. It must
not know jobs or targets: what it is given is read by shape. Labels are bounded, and their children kept, for looking
one up in prometheus_client costs more than counting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""Media type of :meth:`Metrics.render`."""

MAX_CHILDREN = 500
"""Label combinations of one series; what comes later is counted under ``other``."""

_WORK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_WAIT = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Series(NamedTuple):
    """One series: its kind, labels, meaning, and a histogram's bucket bounds in seconds."""

    kind: type[Counter | Gauge | Histogram]
    labels: tuple[str, ...]
    meaning: str
    buckets: Sequence[float] = ()


SERIES: Mapping[str, Series] = {
    "pixelmill_tasks_total": Series(
        Counter, ("state", "target", "mode"), "Tasks that ended, by final state, target and mode (job or process)."
    ),
    "pixelmill_task_wait_seconds": Series(Histogram, ("mode",), "From queued to started.", _WAIT),
    "pixelmill_task_run_seconds": Series(Histogram, ("target",), "From started to ended.", _WORK),
    "pixelmill_task_total_seconds": Series(Histogram, ("mode",), "From queued to ended.", _WAIT),
    "pixelmill_task_decode_seconds": Series(Histogram, (), "Decoding the source.", _WORK),
    "pixelmill_task_apply_seconds": Series(Histogram, (), "Applying the operations.", _WORK),
    "pixelmill_task_encode_seconds": Series(Histogram, (), "Encoding the result.", _WORK),
    "pixelmill_source_megapixels_total": Series(Counter, (), "Megapixels of the sources of tasks that succeeded."),
    "pixelmill_result_bytes_total": Series(Counter, (), "Bytes of results made."),
    "pixelmill_received_bytes_total": Series(Counter, (), "Bytes of uploads and request bodies taken in."),
    "pixelmill_sent_bytes_total": Series(Counter, (), "Bytes of results and archives given out."),
    "pixelmill_queue_waiting": Series(Gauge, (), "Tasks that wait in the queue."),
    "pixelmill_queue_leased": Series(Gauge, (), "Tasks that were handed out and have not ended."),
    "pixelmill_queue_dead": Series(Gauge, (), "Tasks on the dead-letter list."),
    "pixelmill_queue_oldest_seconds": Series(Gauge, (), "Age of the oldest task that waits."),
    "pixelmill_slots": Series(Gauge, ("target",), "Tasks that a target can run at once."),
    "pixelmill_slots_busy": Series(Gauge, ("target",), "Tasks that a target runs now."),
    "pixelmill_gate_open": Series(Gauge, ("target",), "1 where the target's gate is open, 0 where it is shut."),
    "pixelmill_node_cpu_percent": Series(
        Gauge, ("node", "part"), "CPU of a machine: all of it (host), and what is ours (own)."
    ),
    "pixelmill_node_ram_percent": Series(
        Gauge, ("node", "part"), "Memory of a machine: all of it (host), and what is ours (own)."
    ),
    "pixelmill_node_latency_seconds": Series(Gauge, ("node",), "From a heartbeat to its echo."),
    "pixelmill_nodes_joined": Series(Gauge, (), "Nodes that have joined and are here."),
    "pixelmill_nodes_lost": Series(Gauge, (), "Nodes lost since this process started."),
    "pixelmill_pool_restarts_total": Series(
        Counter, ("reason",), "Pool processes replaced: died, task-timeout, out-of-memory, cancelled, recycled."
    ),
    "pixelmill_http_requests_total": Series(
        Counter, ("route", "method", "status"), "HTTP requests answered, by route template."
    ),
    "pixelmill_http_request_seconds": Series(
        Histogram, ("route", "method"), "From a request's head to its answer's end (event streams left out).", _WORK
    ),
    "pixelmill_store_errors_total": Series(
        Counter, ("operation", "error"), "Failed operations of the object store, by error type."
    ),
    "pixelmill_overflow_calls_total": Series(
        Counter, ("target", "result"), "Overflow calls by result: ok, task-error, failed, or refused by the budget."
    ),
    "pixelmill_overflow_cost_total": Series(Counter, ("target",), "What overflow calls cost."),
    "pixelmill_overflow_open": Series(Gauge, ("target",), "1 where budget and circuit let calls through."),
    "pixelmill_overflow_circuit": Series(Gauge, ("target", "state"), "1 for the state that the circuit is in."),
    "pixelmill_overflow_budget_left": Series(Gauge, ("period",), "What the budget of this hour and day has left."),
    "pixelmill_info": Series(Gauge, ("version",), "1, with the version that runs."),
}
"""Every series of the program; the ``process_*`` series of prometheus_client come in addition."""


class EndedTask(Protocol):
    """The shape of a task's last change: ``jobs.recorder.TaskChange`` has it. Times are seconds since the epoch."""

    @property
    def after(self) -> str:
        """The final state."""

    @property
    def queued(self) -> float:
        """When it was queued."""

    @property
    def started(self) -> float | None:
        """When its last attempt began; None if none did."""

    @property
    def event(self) -> Any:
        """Has ``at``, ``target`` and ``outcome`` (``Outcome.to_dict()`` plus ``bytes``), as ``TaskEvent`` has."""


class Depth(Protocol):
    """The shape of ``engines.queue.QueueDepth``."""

    @property
    def waiting(self) -> int:
        """Messages that can be received."""

    @property
    def leased(self) -> int:
        """Messages that were handed out."""

    @property
    def dead(self) -> int:
        """Messages that were given up."""

    @property
    def oldest_s(self) -> float:
        """Age of the oldest one that waits."""


THROTTLED = frozenset({429, 503})


class Watcher(Protocol):
    """Who keeps some of it over time (``service.history.History``)."""

    def throttled(self) -> None:
        """A request was answered with 429 or 503, or a call of overflow with 429."""

    def paid(self, cost: float) -> None:
        """A call of overflow was settled."""


class Metrics:
    """The counters of one process. Safe to use from several threads."""

    def __init__(self, version: str = "") -> None:
        self._registry = CollectorRegistry()
        self._series = {name: self._made(name, series) for name, series in SERIES.items()}
        self._children: dict[str, dict[tuple[str, ...], Any]] = {name: {} for name in SERIES}
        self._refresh: list[Callable[[], object]] = []
        self._watcher: Watcher | None = None
        ProcessCollector(registry=self._registry)
        if version:
            self._child("pixelmill_info", version).set(1)

    # -- what happened ---------------------------------------------------------------------------

    def task_ended(self, task: EndedTask) -> None:
        """A task of a job reached its final state."""
        event = task.event
        ran_s = None if task.started is None else event.at - task.started
        waited_s = None if task.started is None else task.started - task.queued
        self._ended(str(task.after), event.target or "none", "job", waited_s, ran_s, event.outcome)

    def image_processed(
        self,
        *,
        state: str,
        target: str = "none",
        waited_s: float | None = None,
        ran_s: float | None = None,
        outcome: Mapping[str, Any] | None = None,
    ) -> None:
        """An image that belongs to no job was processed, or failed. ``outcome`` as in a task event."""
        self._ended(state, target, "process", waited_s, ran_s, outcome)

    def bytes_received(self, count: int) -> None:
        """An upload or request body arrived."""
        self._child("pixelmill_received_bytes_total").inc(count)

    def bytes_sent(self, count: int) -> None:
        """A result or archive was given out."""
        self._child("pixelmill_sent_bytes_total").inc(count)

    def http_request(self, route: str, method: str, status: int, seconds: float | None) -> None:
        """A request was answered. ``route`` is the template (``/v1/jobs/{id}``); no ``seconds`` for event streams."""
        method = method if method in _METHODS else "other"
        self._child("pixelmill_http_requests_total", route, method, str(status)).inc()
        if seconds is not None:
            self._child("pixelmill_http_request_seconds", route, method).observe(seconds)
        if self._watcher is not None and status in THROTTLED and route != "/readyz":
            self._watcher.throttled()

    def pool_restarted(self, reason: str) -> None:
        """A pool process was replaced."""
        self._child("pixelmill_pool_restarts_total", reason).inc()

    def store_failed(self, operation: str, error: str) -> None:
        """An operation of the object store raised an error of that type."""
        self._child("pixelmill_store_errors_total", operation, error).inc()

    def watch(self, watcher: Watcher) -> None:
        """Tell ``watcher`` too, in the thread that tells us."""
        self._watcher = watcher

    def overflow_call(self, target: str, ended: str, cost: float, *, throttled: bool = False) -> None:
        """An overflow call ended, or was refused; ``cost`` in the currency; ``throttled``: answered with 429."""
        if self._watcher is not None:
            self._watcher.paid(cost)
            if throttled:
                self._watcher.throttled()
        self._child("pixelmill_overflow_calls_total", target, ended).inc()
        self._child("pixelmill_overflow_cost_total", target).inc(cost)

    # -- what is now -----------------------------------------------------------------------------

    def set_queue(self, depth: Depth) -> None:
        """The depth of the queue, as last measured."""
        self._child("pixelmill_queue_waiting").set(depth.waiting)
        self._child("pixelmill_queue_leased").set(depth.leased)
        self._child("pixelmill_queue_dead").set(depth.dead)
        self._child("pixelmill_queue_oldest_seconds").set(depth.oldest_s)

    def set_slots(self, target: str, total: int, busy: int) -> None:
        """How many tasks a target can run, and runs; for a process that has only that one."""
        self._child("pixelmill_slots", target).set(total)
        self._child("pixelmill_slots_busy", target).set(busy)

    def set_targets(self, targets: Iterable[Mapping[str, Any]]) -> None:
        """Slots and gates of all targets (``Dispatcher.snapshot()["targets"]``); those that are gone leave."""
        self._clear("pixelmill_slots", "pixelmill_slots_busy", "pixelmill_gate_open")
        for target in targets:
            name = target["name"]
            self._child("pixelmill_slots", name).set(target["capacity"])
            self._child("pixelmill_slots_busy", name).set(target["running"])
            self._child("pixelmill_gate_open", name).set(int(target["gate"]["open"]))

    def set_nodes(
        self, loads: Mapping[str, Mapping[str, float] | None], latencies: Mapping[str, float | None], lost: int
    ) -> None:
        """The last load sample of each machine, the latency of each joined node, and how many were lost so far."""
        self._clear("pixelmill_node_cpu_percent", "pixelmill_node_ram_percent", "pixelmill_node_latency_seconds")
        for node, load in loads.items():
            if load is None:
                continue
            for part in ("host", "own"):
                self._child("pixelmill_node_cpu_percent", node, part).set(load[f"{part}_cpu"])
                self._child("pixelmill_node_ram_percent", node, part).set(load[f"{part}_ram"])
        for node, latency in latencies.items():
            if latency is not None:
                self._child("pixelmill_node_latency_seconds", node).set(latency)
        self._child("pixelmill_nodes_joined").set(len(latencies))
        self._child("pixelmill_nodes_lost").set(lost)

    def set_overflow(self, target: str, *, gate_open: bool, circuit: str) -> None:
        """Whether an overflow target takes calls, and the state of its circuit."""
        self._child("pixelmill_overflow_open", target).set(gate_open)
        for state in ("closed", "open", "half-open"):
            self._child("pixelmill_overflow_circuit", target, state).set(state == circuit)

    def set_budget_left(self, period: str, left: float) -> None:
        """What is left of the budget of this hour or day, in the currency."""
        self._child("pixelmill_overflow_budget_left", period).set(left)

    def before_render(self, refresh: Callable[[], object]) -> None:
        """Call ``refresh`` before each rendering: it sets the gauges that cost nothing to read. It must not block."""
        self._refresh.append(refresh)

    def render(self) -> bytes:
        """All series in Prometheus's text form (see :data:`CONTENT_TYPE`)."""
        for refresh in self._refresh:
            refresh()
        return generate_latest(_WithoutCreated(self._registry))

    # -- below -----------------------------------------------------------------------------------

    def _ended(
        self,
        state: str,
        target: str,
        mode: str,
        waited_s: float | None,
        ran_s: float | None,
        outcome: Mapping[str, Any] | None,
    ) -> None:
        child = self._child
        child("pixelmill_tasks_total", state, target, mode).inc()
        # Clocks of two machines may disagree; a histogram takes no negative time.
        if waited_s is not None:
            child("pixelmill_task_wait_seconds", mode).observe(max(0.0, waited_s))
        if ran_s is not None:
            child("pixelmill_task_run_seconds", target).observe(max(0.0, ran_s))
            child("pixelmill_task_total_seconds", mode).observe(max(0.0, ran_s + (waited_s or 0.0)))
        if outcome is None:
            return
        timings = outcome.get("timings") or {}
        for part in ("decode", "apply", "encode"):
            if (spent_ms := timings.get(f"{part}_ms")) is not None:
                child(f"pixelmill_task_{part}_seconds").observe(spent_ms / 1000)
        if size := outcome.get("source_size"):
            child("pixelmill_source_megapixels_total").inc(size[0] * size[1] / 1e6)
        if made := outcome.get("bytes"):
            child("pixelmill_result_bytes_total").inc(made)

    def _clear(self, *names: str) -> None:
        for name in names:
            self._series[name].clear()
            self._children[name].clear()

    def _made(self, name: str, series: Series) -> Any:
        if series.kind is Histogram:
            return Histogram(name, series.meaning, series.labels, registry=self._registry, buckets=series.buckets)
        return series.kind(name, series.meaning, series.labels, registry=self._registry)

    def _child(self, name: str, *labels: str) -> Any:
        children = self._children[name]
        child = children.get(labels)
        if child is None:
            if not labels:
                child = self._series[name]
            elif len(children) < MAX_CHILDREN:
                child = self._series[name].labels(*labels)
            else:
                return self._series[name].labels(*["other"] * len(labels))
            children[labels] = child
        return child


class _WithoutCreated:
    """A registry without the ``_created`` series, which double the text and tell nothing here."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
