"""One trace from the client's request through API, queue, worker and pool to the result, as a collector gets it."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from node_tools import NodeProcess
from otlp_receiver import Collector, collector, tree
from service_process import ServiceProcess, wait_until

from pixelmill.client import Client

Start = Callable[..., ServiceProcess]
PIPELINE = "grayscale/resize:64,64,fit=fill/format:png"
PARTS = ["apply", "decode", "encode"]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")  # milliseconds; tests wait for each batch
    with collector() as found:
        yield found


def new_trace() -> tuple[str, str, str]:
    """The ids of trace and span of a caller, and the header that says so."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, f"00-{trace}-{span}-01"


def whole(told: Collector, trace: str, **least: int) -> None:
    """Wait until so many spans of these names have come."""

    def met() -> bool:
        names = [span.name for span in told.trace(trace)]
        return all(names.count(name.replace("__", ".")) >= count for name, count in least.items())

    told.until(met, f"the trace has {least}")


def run_job(url: str, traceparent: str, pictures: list[bytes]) -> list[str]:
    """A job of all pictures, to its end; the ids of its traces, of each task."""
    with Client(url, traceparent=traceparent) as client:
        job = client.submit(pictures, PIPELINE)
    with Client(url) as client:
        found = client.job(job.id)
        found.wait()
        assert found.status.state == "succeeded"
        return [client._http.get(f"/v1/tasks/{task.id}").json()["trace_id"] for task in found.tasks()]


def test_a_synchronous_request_is_one_tree(service_process: Start, told: Collector, pictures: list[bytes]) -> None:
    service = service_process("--set", f"otel_endpoint={told.url}", "--log-format", "json")
    trace, above, traceparent = new_trace()
    with Client(service.url, traceparent=traceparent) as client:
        client.process(pictures[0], PIPELINE)
    whole(told, trace, encode=1, target__run=1, **{"POST /v1/process": 1})
    assert tree(told.trace(trace), above) == {
        "POST /v1/process": ["slot.wait", "target.run"],
        "target.run": PARTS,
    }
    (request,) = [span for span in told.trace(trace) if span.name == "POST /v1/process"]
    assert (request.kind, request.role, request.attributes["http.response.status_code"]) == (2, "service", 200)
    assert all(request.start <= span.start <= span.end <= request.end for span in told.trace(trace))
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if '"request.done"' in line]
    assert (trace, request.id) in {(line["trace_id"], line["span_id"]) for line in lines}, "logs name the same span"


def test_a_job_is_one_tree_on_the_embedded_service(
    service_process: Start, told: Collector, pictures: list[bytes]
) -> None:
    service = service_process("--set", f"otel_endpoint={told.url}", "--log-format", "json")
    trace, above, traceparent = new_trace()
    assert set(run_job(service.url, traceparent, pictures[:3])) == {trace}
    whole(told, trace, task__run=3, encode=3, **{"POST /v1/jobs": 1})
    assert of_job(told, trace, above) == {
        "POST /v1/jobs": ["job.submit"],
        "job.submit": ["task.queue"] * 3 + ["task.run"] * 3,
        "task.run": ["store.put"] * 3 + ["target.run"] * 3,
        "target.run": sorted(PARTS * 3),
    }


def of_job(told: Collector, trace: str, above: str) -> dict[str, list[str]]:
    """The tree below the submission: a client has asked for other things in the same trace before."""
    spans = told.trace(trace)
    (submission,) = [span for span in spans if span.name == "POST /v1/jobs"]
    assert submission.parent == above
    below = {submission.id}
    while more := {span.id for span in spans if span.parent in below} - below:
        below |= more
    others = [span for span in spans if span.id not in below]
    assert not [span for span in others if span.name.startswith(("task.", "target.", "node."))], "nothing is left over"
    return tree([span for span in spans if span.id in below], above)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start `pixelmill worker`; all are ended with the test."""
    started = []

    def start(*options: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "workers.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "pixelmill", "worker", "--log-format", "json", *options], stdout=log, stderr=log
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            psutil.wait_procs(family, timeout=5)
        process.wait(10)


@pytest.mark.parametrize("kind", ["postgresql", pytest.param("rabbitmq", marks=pytest.mark.slow)])
def test_a_job_is_one_tree_over_service_queue_and_worker(
    kind: str,
    request: pytest.FixtureRequest,
    service_process: Start,
    worker: Callable[..., subprocess.Popen[bytes]],
    told: Collector,
    pictures: list[bytes],
    tmp_path: Path,
) -> None:
    queue = (
        f"database_url={request.getfixturevalue('postgres_url')}"
        if kind == "postgresql"
        else f"queue_url={request.getfixturevalue('rabbitmq_url')}"
    )
    shared = ("--set", queue, "--set", f"otel_endpoint={told.url}")
    service = service_process(*shared, "--set", "local_work=false", "--workers", "1")
    running = worker(*shared, "--data", str(service.data), "--workers", "1")
    trace, above, traceparent = new_trace()
    assert set(run_job(service.url, traceparent, pictures[:2])) == {trace}
    whole(told, trace, task__run=2, task__queue=2, encode=2, **{"POST /v1/jobs": 1})
    assert of_job(told, trace, above) == {
        "POST /v1/jobs": ["job.submit"],
        "job.submit": ["task.queue"] * 2 + ["task.run"] * 2,
        "task.run": ["store.put"] * 2 + ["target.run"] * 2,
        "target.run": sorted(PARTS * 2),
    }
    roles = {span.name: span.role for span in told.trace(trace)}
    assert (roles["job.submit"], roles["task.run"], roles["decode"]) == ("service", "worker", "worker")
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == 0
    log = (tmp_path / "workers.log").read_text()
    assert "Traceback" not in log, log[-2000:]


def test_a_job_is_one_tree_over_a_joined_node(
    service_process: Start, told: Collector, pictures: list[bytes], tmp_path: Path
) -> None:
    # Work goes to both; what the hub runs itself has its parts right below the call.
    service = service_process("--set", f"otel_endpoint={told.url}", "--workers", "1")
    node = NodeProcess(
        tmp_path, "n1", "--join", service.url, "--dedicated", "--workers", "2", "--set", f"otel_endpoint={told.url}"
    )
    try:
        node.joined()
        trace, above, traceparent = new_trace()
        run_job(service.url, traceparent, pictures * 8)
        ran = len(pictures) * 8
        whole(told, trace, task__run=ran, target__run=ran, encode=ran, **{"POST /v1/jobs": 1})
        wait_until(lambda: not open_calls(told, trace), "the node has told its side of each call")
        nodes = [span for span in told.trace(trace) if span.name == "node.run"]
        assert nodes, "some ran on the node"
        found = of_job(told, trace, above)
        assert found["node.run"] == sorted(PARTS * len(nodes))
        assert found["target.run"] == sorted(["node.run"] * len(nodes) + PARTS * (ran - len(nodes)))
        assert {span.role for span in nodes} == {"node"}
        assert {span.process for span in nodes}.isdisjoint(
            span.process for span in told.trace(trace) if span.name == "target.run"
        )
        assert node.drain() == 0
    finally:
        node.end()


def open_calls(told: Collector, trace: str) -> list[str]:
    """Calls of which nothing below is known yet."""
    spans = told.trace(trace)
    parents = [span.parent for span in spans]
    calls = [span.id for span in spans if span.name in {"target.run", "node.run"}]
    return [call for call in calls if parents.count(call) not in {1, len(PARTS)}]


def test_what_the_caller_does_not_keep_is_not_sent(
    service_process: Start, told: Collector, pictures: list[bytes]
) -> None:
    service = service_process("--set", f"otel_endpoint={told.url}")
    kept, _, traceparent = new_trace()
    left_out, _, other = new_trace()
    with Client(service.url, traceparent=other[:-2] + "00") as client:
        client.process(pictures[0], PIPELINE)
    with Client(service.url, traceparent=traceparent) as client:
        client.process(pictures[0], PIPELINE)
    whole(told, kept, encode=1)
    assert service.stop() == 0, "what waits is sent before the end"
    assert not told.trace(left_out)
    assert {span.trace for span in told.spans} == {kept}, "probes are not traced"


def test_series_are_sent_as_they_stand(service_process: Start, told: Collector, pictures: list[bytes]) -> None:
    service = service_process("--set", f"otel_endpoint={told.url}")
    with Client(service.url) as client:
        for _ in range(3):
            client.process(pictures[0], PIPELINE)
    assert service.stop() == 0
    told.until(lambda: "pixelmill_tasks" in told.metrics, "the metrics have come")
    (point,) = told.metrics["pixelmill_tasks"].sum.data_points
    assert point.as_double == 3
    assert {one.key: one.value.string_value for one in point.attributes} == {
        "state": "succeeded",
        "target": "local",
        "mode": "process",
    }
    assert told.metrics["pixelmill_tasks"].sum.is_monotonic
    (point,) = told.metrics["pixelmill_task_run_seconds"].histogram.data_points
    assert point.count == sum(point.bucket_counts) == 3
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    assert told.metrics["pixelmill_task_run_seconds"].unit == "s"
    assert told.metrics["pixelmill_info"].gauge.data_points[0].as_double == 1


def test_a_collector_that_is_down_costs_no_task_anything(
    service_process: Start, told: Collector, pictures: list[bytes]
) -> None:
    told.refusing = True
    service = service_process("--set", f"otel_endpoint={told.url}", "--log-format", "json")
    _, _, traceparent = new_trace()
    run_job(service.url, traceparent, pictures)
    told.until(lambda: told.refused > 0, "it was asked")
    assert service.stop() == 0
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    assert not [line for line in lines if line["level"] == "error"]
    assert [line["signal"] for line in lines if line["event"] == "telemetry.unsent"].count("traces") == 1, "told once"
