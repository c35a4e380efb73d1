"""The names of all series, their labels and what they mean. docs/metrics.md shows this table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram

_WORK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_WAIT = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)


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
    "pixelmill_task_errors_total": Series(Counter, ("type",), "Tasks that failed, by error type."),
    "pixelmill_task_wait_seconds": Series(Histogram, ("mode",), "From queued to started.", _WAIT),
    "pixelmill_task_run_seconds": Series(Histogram, ("target",), "From started to ended.", _WORK),
    "pixelmill_task_total_seconds": Series(Histogram, ("mode",), "From queued to ended.", _WAIT),
    "pixelmill_task_decode_seconds": Series(Histogram, (), "Decoding the source.", _WORK),
    "pixelmill_task_apply_seconds": Series(Histogram, (), "Applying the operations.", _WORK),
    "pixelmill_task_encode_seconds": Series(Histogram, (), "Encoding the result.", _WORK),
    "pixelmill_source_megapixels_total": Series(Counter, (), "Megapixels of the sources of tasks that succeeded."),
    "pixelmill_source_bytes_total": Series(Counter, (), "Bytes of the sources of tasks that succeeded."),
    "pixelmill_result_bytes_total": Series(Counter, (), "Bytes of results made."),
    "pixelmill_cold_starts_total": Series(
        Counter, ("target",), "Tasks that succeeded as the first one of a new process, container or function instance."
    ),
    "pixelmill_received_bytes_total": Series(Counter, (), "Bytes of uploads and request bodies taken in."),
    "pixelmill_sent_bytes_total": Series(Counter, (), "Bytes of results and archives given out."),
    "pixelmill_queue_waiting": Series(Gauge, (), "Tasks that wait in the queue."),
    "pixelmill_queue_leased": Series(Gauge, (), "Tasks that were handed out and have not ended."),
    "pixelmill_queue_dead": Series(Gauge, (), "Tasks on the dead-letter list."),
    "pixelmill_queue_oldest_seconds": Series(Gauge, (), "Age of the oldest task that waits."),
    "pixelmill_slots": Series(Gauge, ("target",), "Tasks that a target can run at once."),
    "pixelmill_slots_busy": Series(Gauge, ("target",), "Tasks that a target runs now."),
    "pixelmill_model_slots": Series(
        Gauge, ("target",), "Tasks with learned models that a target can run at once, beside those of its slots."
    ),
    "pixelmill_model_slots_busy": Series(Gauge, ("target",), "Tasks with learned models that a target runs now."),
    "pixelmill_model_waiting": Series(Gauge, (), "Tasks of this process that wait for a slot for learned models."),
    "pixelmill_concurrent_runs": Series(Gauge, (), "Tasks that run now on all targets of this process."),
    "pixelmill_concurrent_runs_peak": Series(Gauge, (), "The most that ran at once since this process started."),
    "pixelmill_throttled_total": Series(
        Counter, ("where",), "Refusals: requests answered with 429 or 503 (api), overflow calls with 429 (overflow)."
    ),
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
    "pixelmill_trigger_events_total": Series(
        Counter,
        ("source", "result"),
        "Events of objects: accepted, or dropped as duplicate, unmatched, ignored, unread.",
    ),
    "pixelmill_trigger_event_age_seconds": Series(
        Histogram, ("source",), "From the appearance of an object to its event being accepted.", _WAIT
    ),
    "pixelmill_trigger_deliveries_total": Series(
        Counter, ("rule", "result"), "Events of a rule that ended: delivered, superseded or failed."
    ),
    "pixelmill_trigger_waiting": Series(Gauge, ("rule",), "Events that wait to become tasks."),
    "pixelmill_trigger_submitted": Series(Gauge, ("rule",), "Events whose result is not delivered yet."),
    "pixelmill_trigger_dead": Series(Gauge, ("rule",), "Events that failed, and wait for a redrive."),
    "pixelmill_info": Series(Gauge, ("version",), "1, with the version that runs."),
}
"""Every series of the program; the ``process_*`` series of prometheus_client come in addition."""
