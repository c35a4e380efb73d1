from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pixelmill.metrics import CONTENT_TYPE, MAX_CHILDREN, SERIES, Metrics, Run
from pixelmill.service.history import History

DOCS = Path(__file__).parent.parent / "docs" / "metrics.md"
OUTCOME = {
    "timings": {"decode_ms": 4.0, "apply_ms": 2.0, "encode_ms": 1.0},
    "source_size": [2000, 1000],
    "source_bytes": 700_000,
    "bytes": 12_345,
    "cold": True,
}


@dataclass(frozen=True)
class Event:
    at: float
    target: str | None
    outcome: dict[str, Any] | None
    error: dict[str, Any] | None = None


@dataclass(frozen=True)
class Change:
    after: str
    queued: float
    started: float | None
    event: Event


@dataclass(frozen=True)
class Depth:
    waiting: int
    leased: int
    dead: int
    oldest_s: float


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample by its name and label values."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_a_task_that_ended_is_counted_and_timed() -> None:
    metrics = Metrics()
    metrics.task_ended(Change("succeeded", 100.0, 103.0, Event(103.5, "local", OUTCOME)))
    metrics.task_ended(Change("failed", 100.0, 104.0, Event(104.1, "local", None, {"type": "task-timeout"})))
    metrics.task_ended(Change("cancelled", 100.0, None, Event(101.0, None, None)))
    seen = samples(metrics)
    assert seen["pixelmill_tasks_total", "job", "succeeded", "local"] == 1
    assert seen["pixelmill_tasks_total", "job", "failed", "local"] == 1
    assert seen["pixelmill_tasks_total", "job", "cancelled", "none"] == 1
    assert seen["pixelmill_task_wait_seconds_sum", "job"] == pytest.approx(7.0)
    assert seen["pixelmill_task_wait_seconds_count", "job"] == 2
    assert seen["pixelmill_task_run_seconds_sum", "local"] == pytest.approx(0.6)
    assert seen["pixelmill_task_total_seconds_sum", "job"] == pytest.approx(7.6)
    assert seen["pixelmill_task_decode_seconds_sum",] == pytest.approx(0.004)
    assert seen["pixelmill_task_apply_seconds_sum",] == pytest.approx(0.002)
    assert seen["pixelmill_task_encode_seconds_sum",] == pytest.approx(0.001)
    assert seen["pixelmill_source_megapixels_total",] == pytest.approx(2.0)
    assert seen["pixelmill_result_bytes_total",] == 12_345
    assert seen["pixelmill_source_bytes_total",] == 700_000
    assert seen["pixelmill_cold_starts_total", "local"] == 1
    assert seen["pixelmill_task_errors_total", "task-timeout"] == 1


def test_an_image_without_a_job_is_counted_apart() -> None:
    metrics = Metrics()
    metrics.ran(Run("succeeded", "local", waited_s=0.0, ran_s=0.02, outcome=OUTCOME))
    metrics.ran(Run("failed", error="corrupt-image"))
    seen = samples(metrics)
    assert seen["pixelmill_tasks_total", "process", "succeeded", "local"] == 1
    assert seen["pixelmill_tasks_total", "process", "failed", "none"] == 1
    assert seen["pixelmill_task_errors_total", "corrupt-image"] == 1
    assert seen["pixelmill_task_run_seconds_bucket", "0.01", "local"] == 0
    assert seen["pixelmill_task_run_seconds_bucket", "0.025", "local"] == 1


def test_clocks_that_disagree_give_no_negative_times() -> None:
    metrics = Metrics()
    metrics.task_ended(Change("succeeded", 100.0, 99.0, Event(98.0, "node", OUTCOME)))
    assert samples(metrics)["pixelmill_task_wait_seconds_sum", "job"] == 0


def test_requests_are_counted_by_template_and_streams_are_not_timed() -> None:
    metrics = Metrics()
    metrics.http_request("/v1/jobs/{id}", "GET", 200, 0.003)
    metrics.http_request("/v1/jobs/{id}", "GET", 404, 0.001)
    metrics.http_request("/v1/events", "GET", 200, None)
    metrics.http_request("/v1/jobs/{id}", "BREW", 405, 0.001)
    seen = samples(metrics)
    assert seen["pixelmill_http_requests_total", "GET", "/v1/jobs/{id}", "200"] == 1
    assert seen["pixelmill_http_requests_total", "GET", "/v1/jobs/{id}", "404"] == 1
    assert seen["pixelmill_http_requests_total", "other", "/v1/jobs/{id}", "405"] == 1
    assert seen["pixelmill_http_request_seconds_count", "GET", "/v1/jobs/{id}"] == 2
    assert ("pixelmill_http_request_seconds_count", "GET", "/v1/events") not in seen


def test_gauges_tell_what_is_now() -> None:
    metrics = Metrics("1.2.3")
    busy = [1]

    def told(name: str, running: int, gate: bool) -> dict[str, Any]:
        models = {"running": 2, "capacity": 3}
        target = {"name": name, "capacity": 4, "running": running, "models": models, "gate": {"open": gate}}
        return {"waiting_for_models": 7, "targets": [target]}

    metrics.set_targets(told("gone", 0, True))
    metrics.before_render(lambda: metrics.set_targets(told("local", busy[0], False)))
    load = {"host_cpu": 50.0, "own_cpu": 20.0, "host_ram": 30.0, "own_ram": 10.0}
    metrics.set_nodes({"here": load, "b": None}, {"b": 0.25}, 2)
    metrics.set_queue(Depth(10, 2, 1, 33.5))
    busy[0] = 3
    seen = samples(metrics)
    assert seen["pixelmill_queue_waiting",] == 10
    assert seen["pixelmill_queue_leased",] == 2
    assert seen["pixelmill_queue_dead",] == 1
    assert seen["pixelmill_queue_oldest_seconds",] == 33.5
    assert seen["pixelmill_slots", "local"] == 4
    assert seen["pixelmill_slots_busy", "local"] == 3
    assert (seen["pixelmill_model_slots", "local"], seen["pixelmill_model_slots_busy", "local"]) == (3, 2)
    assert seen["pixelmill_model_waiting",] == 7
    assert seen["pixelmill_concurrent_runs",] == 5
    assert seen["pixelmill_gate_open", "local"] == 0
    assert ("pixelmill_slots", "gone") not in seen
    assert seen["pixelmill_node_cpu_percent", "here", "own"] == 20.0
    assert seen["pixelmill_node_ram_percent", "here", "host"] == 30.0
    assert seen["pixelmill_node_latency_seconds", "b"] == 0.25
    assert (seen["pixelmill_nodes_joined",], seen["pixelmill_nodes_lost",]) == (1, 2)
    assert seen["pixelmill_info", "1.2.3"] == 1


def test_everything_else_is_counted() -> None:
    metrics = Metrics()
    metrics.bytes_received(10)
    metrics.bytes_sent(20)
    metrics.pool_restarted("timeout")
    metrics.store_failed("put", "storage-full")
    seen = samples(metrics)
    assert seen["pixelmill_received_bytes_total",] == 10
    assert seen["pixelmill_sent_bytes_total",] == 20
    assert seen["pixelmill_pool_restarts_total", "timeout"] == 1
    assert seen["pixelmill_store_errors_total", "storage-full", "put"] == 1


def test_labels_are_bounded() -> None:
    metrics = Metrics()
    for number in range(MAX_CHILDREN + 100):
        metrics.pool_restarted(f"reason-{number}")
    restarts = {key: value for key, value in samples(metrics).items() if key[0] == "pixelmill_pool_restarts_total"}
    assert len(restarts) == MAX_CHILDREN + 1
    assert restarts["pixelmill_pool_restarts_total", "other"] == 100


def test_two_sets_of_metrics_know_nothing_of_each_other() -> None:
    one, other = Metrics(), Metrics()
    one.pool_restarted("died")
    assert samples(one)["pixelmill_pool_restarts_total", "died"] == 1
    assert ("pixelmill_pool_restarts_total", "died") not in samples(other)


def test_the_text_has_the_process_and_nothing_of_no_use() -> None:
    text = Metrics().render().decode()
    assert CONTENT_TYPE.startswith("text/plain")
    assert "process_resident_memory_bytes" in text
    assert "_created" not in text


def test_the_documentation_lists_every_series() -> None:
    rows = [
        f"| `{name}` | {series.kind.__name__.lower()} | {', '.join(series.labels) or '–'} | {series.meaning} |"
        for name, series in SERIES.items()
    ]
    shown = [line for line in DOCS.read_text().splitlines() if line.startswith("| `pixelmill_")]
    assert shown == rows, "docs/metrics.md must be:\n" + "\n".join(rows)


def test_refusals_and_money_are_told_to_who_keeps_them_over_time() -> None:
    metrics, history = Metrics(), History()
    metrics.watch(history)
    history.tick(100.0, waiting=0, oldest_s=0.0, running=0)
    for route, status in (
        ("/v1/process", 429),
        ("/v1/jobs", 503),
        ("/readyz", 503),
        ("/v1/jobs", 200),
        ("/v1/jobs", 500),
    ):
        metrics.http_request(route, "POST", status, 0.1)
    metrics.overflow_call("cloud", "ok", 0.5)
    metrics.overflow_call("cloud", "failed", 0.25, throttled=True)
    history.tick(101.0, waiting=0, oldest_s=0.0, running=0)
    row = history.newest()
    assert row is not None
    assert (row["throttled"], row["cost"]) == (3.0, 0.75)
    seen = samples(metrics)
    assert seen["pixelmill_throttled_total", "api"] == 2
    assert seen["pixelmill_throttled_total", "overflow"] == 1


def test_events_of_objects_are_counted_by_source_and_result() -> None:
    metrics, history = Metrics(), History()
    metrics.watch(history)
    metrics.trigger_events("uploads", {"accepted": 2, "duplicate": 1, "unmatched": 0}, [0.5, 20.0])
    metrics.trigger_delivered("thumbnails", "delivered", 2)
    metrics.trigger_delivered("thumbnails", "failed")
    seen = samples(metrics)
    assert seen["pixelmill_trigger_events_total", "accepted", "uploads"] == 2
    assert seen["pixelmill_trigger_events_total", "duplicate", "uploads"] == 1
    assert ("pixelmill_trigger_events_total", "unmatched", "uploads") not in seen
    assert seen["pixelmill_trigger_event_age_seconds_sum", "uploads"] == 20.5
    assert seen["pixelmill_trigger_deliveries_total", "delivered", "thumbnails"] == 2
    events = history.summary("minute")["events"]
    assert (events["received"], events["accepted"], events["dropped"]) == (3, 2, 1)
    assert events["by_result"] == {"accepted": 2, "duplicate": 1}
    assert events["age_s"]["count"] == 2
    assert events["age_s"]["max"] == 20.0
