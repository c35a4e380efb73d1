"""What the service counts and measures, for Prometheus. Each :class:`Metrics` has its own registry: no global state.

Methods are named for what happened; the names of the series stand in :data:`SERIES` and in docs/metrics.md. It must
not know jobs or targets: what it is given is read by shape. Labels are bounded, and their children kept, for looking
one up in prometheus_client costs more than counting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector

from pixelmill.metrics.series import SERIES, Series

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""Media type of :meth:`Metrics.render`."""

MAX_CHILDREN = 500
"""Label combinations of one series; what comes later is counted under ``other``."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


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
        """Has ``at``, ``target``, ``error`` and ``outcome`` (see :class:`Run`), as ``TaskEvent`` has."""


@dataclass(frozen=True, slots=True)
class Run:
    """One invocation that has ended: a task of a job, or (``mode`` is ``process``) an image that belongs to none.

    Times are seconds, None where it never ran; ``state`` is the final one. ``target`` is empty where it ran nowhere;
    ``error`` is the type of the error of one that failed. ``outcome`` is ``Outcome.to_dict()`` plus ``bytes`` (of the
    result), ``source_bytes``, and ``cold`` where that was so.
    """

    state: str
    target: str = ""
    mode: str = "process"
    waited_s: float | None = None
    ran_s: float | None = None
    error: str = ""
    outcome: Mapping[str, Any] | None = None

    @classmethod
    def of_task(cls, task: EndedTask) -> Run:
        """Of a task of a job that reached its final state."""
        event = task.event
        ran_s = None if task.started is None else event.at - task.started
        waited_s = None if task.started is None else task.started - task.queued
        error = "" if task.after != "failed" else str((event.error or {}).get("type", "unknown"))
        return cls(str(task.after), event.target or "", "job", waited_s, ran_s, error, event.outcome)


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

    def ran(self, run: Run) -> None:
        """An invocation ended."""

    def throttled(self) -> None:
        """A request was answered with 429 or 503, or a call of overflow with 429."""

    def paid(self, cost: float) -> None:
        """A call of overflow was settled."""

    def event_taken(self, results: Mapping[str, int], ages: Sequence[float]) -> None:
        """Events of objects came in: how many of each result, and the ages (seconds) of those that were accepted."""


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
        self.ran(Run.of_task(task))

    def ran(self, run: Run) -> None:
        """A task of a job ended, or an image that belongs to none was processed, or failed."""
        self._ended(run)
        if self._watcher is not None:
            self._watcher.ran(run)

    def trigger_events(self, source: str, results: Mapping[str, int], ages: Sequence[float] = ()) -> None:
        """Events of objects came from a source: how many of each result, and the ages of those that were accepted.

        Results: ``accepted`` (one for each rule that matched), and why others were dropped: ``duplicate``,
        ``unmatched``, ``ignored``, ``unread``. An age is seconds from the appearance of the object to now.
        """
        for result, count in results.items():
            if count:
                self._child("pixelmill_trigger_events_total", source, result).inc(count)
        for age in ages:
            self._child("pixelmill_trigger_event_age_seconds", source).observe(max(0.0, age))
        if self._watcher is not None:
            self._watcher.event_taken(results, ages)

    def trigger_delivered(self, rule: str, result: str, count: int = 1) -> None:
        """Events of a rule came to their end: ``delivered``, ``superseded`` or ``failed``."""
        self._child("pixelmill_trigger_deliveries_total", rule, result).inc(count)

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
        if status in THROTTLED and route != "/readyz":
            self._throttled("api")

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
            self._throttled("overflow")
        self._child("pixelmill_overflow_calls_total", target, ended).inc()
        self._child("pixelmill_overflow_cost_total", target).inc(cost)

    # -- what is now -----------------------------------------------------------------------------

    def set_queue(self, depth: Depth) -> None:
        """The depth of the queue, as last measured."""
        self._child("pixelmill_queue_waiting").set(depth.waiting)
        self._child("pixelmill_queue_leased").set(depth.leased)
        self._child("pixelmill_queue_dead").set(depth.dead)
        self._child("pixelmill_queue_oldest_seconds").set(depth.oldest_s)

    def set_targets(self, snapshot: Mapping[str, Any], *, gates: bool = True) -> None:
        """Slots and gates of all targets (``Dispatcher.snapshot()``); those that are gone leave.

        ``gates``: the dispatcher has them.
        """
        self._clear("pixelmill_slots", "pixelmill_slots_busy", "pixelmill_gate_open")
        self._clear("pixelmill_model_slots", "pixelmill_model_slots_busy")
        running = 0
        for target in snapshot["targets"]:
            name, learned = target["name"], target["models"]
            running += target["running"] + learned["running"]
            self._child("pixelmill_slots", name).set(target["capacity"])
            self._child("pixelmill_slots_busy", name).set(target["running"])
            self._child("pixelmill_model_slots", name).set(learned["capacity"])
            self._child("pixelmill_model_slots_busy", name).set(learned["running"])
            if gates:
                self._child("pixelmill_gate_open", name).set(int(target["gate"]["open"]))
        self._child("pixelmill_model_waiting").set(snapshot["waiting_for_models"])
        self._child("pixelmill_concurrent_runs").set(running)

    def set_peak(self, running: int) -> None:
        """The most tasks that ran at once so far."""
        self._child("pixelmill_concurrent_runs_peak").set(running)

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

    def set_triggers(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Events by rule and state, as last counted."""
        names = {"waiting": "waiting", "submitted": "submitted", "failed": "dead"}
        self._clear(*(f"pixelmill_trigger_{name}" for name in names.values()))
        for rule, states in counts.items():
            for state, name in names.items():
                self._child(f"pixelmill_trigger_{name}", rule).set(states.get(state, 0))

    def before_render(self, refresh: Callable[[], object]) -> None:
        """Call ``refresh`` before each rendering: it sets the gauges that cost nothing to read. It must not block."""
        self._refresh.append(refresh)

    def render(self) -> bytes:
        """All series in Prometheus's text form (see :data:`CONTENT_TYPE`)."""
        self._fresh()
        return generate_latest(_WithoutCreated(self._registry))

    def families(self) -> list[Metric]:
        """All series with their samples now, for who tells them in another form."""
        self._fresh()
        return list(_WithoutCreated(self._registry).collect())

    # -- below -----------------------------------------------------------------------------------

    def _fresh(self) -> None:
        for refresh in self._refresh:
            refresh()

    def _throttled(self, where: str) -> None:
        self._child("pixelmill_throttled_total", where).inc()
        if self._watcher is not None:
            self._watcher.throttled()

    def _ended(self, run: Run) -> None:
        child = self._child
        target, mode = run.target or "none", run.mode
        child("pixelmill_tasks_total", run.state, target, mode).inc()
        if run.error:
            child("pixelmill_task_errors_total", run.error).inc()
        # Clocks of two machines may disagree; a histogram takes no negative time.
        if run.waited_s is not None:
            child("pixelmill_task_wait_seconds", mode).observe(max(0.0, run.waited_s))
        if run.ran_s is not None:
            child("pixelmill_task_run_seconds", target).observe(max(0.0, run.ran_s))
            child("pixelmill_task_total_seconds", mode).observe(max(0.0, run.ran_s + (run.waited_s or 0.0)))
        if run.outcome is not None:
            self._made_of(run.outcome, target)

    def _made_of(self, outcome: Mapping[str, Any], target: str) -> None:
        child = self._child
        timings = outcome.get("timings") or {}
        for part in ("decode", "apply", "encode"):
            if (spent_ms := timings.get(f"{part}_ms")) is not None:
                child(f"pixelmill_task_{part}_seconds").observe(spent_ms / 1000)
        if size := outcome.get("source_size"):
            child("pixelmill_source_megapixels_total").inc(size[0] * size[1] / 1e6)
        if read := outcome.get("source_bytes"):
            child("pixelmill_source_bytes_total").inc(read)
        if made := outcome.get("bytes"):
            child("pixelmill_result_bytes_total").inc(made)
        if outcome.get("cold"):
            child("pixelmill_cold_starts_total", target).inc()

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
