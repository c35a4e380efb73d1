"""What traces and metrics cost: microseconds a task, and CPU of a service that sends them to a collector.

    PYTHONPATH=src python bench/tracing.py [--images 400] [--rounds 5]

* `counted`: one task that ended, in all series and in the history.
* `context`: a request's trace context read, a span opened and closed for it, with no sink: what everybody pays.
* `span`: one span that is kept, up to the queue of OpenTelemetry.
* `service`: a private `pixelmill serve` with and without a collector, in turn: CPU of the process that serves (pool
  processes left out: they do the same in both), for each image of `POST /v1/process` and each task of a job. The
  collector is a process of its own that reads and forgets. The ratio is of the medians.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from otlp_receiver import collector
from service_process import ServiceProcess, submit

from pixelmill import tracing
from pixelmill.metrics import Metrics, Run
from pixelmill.service.history import History
from pixelmill.service.otlp import Spans, resource

OUTCOME = {
    "timings": {"decode_ms": 4.0, "apply_ms": 2.0, "encode_ms": 1.0},
    "source_size": [1200, 800],
    "source_bytes": 171_703,
    "bytes": 9_310,
}
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PIPELINE = "grayscale/resize:256,256,fit=fill/format:jpeg,quality=80"


def micros(work: Callable[[], object], count: int = 20_000) -> float:
    """Microseconds of CPU for one call: the least of five rounds."""
    found = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(count):
            work()
        found.append((time.process_time() - began) / count * 1e6)
    return min(found)


def small() -> None:
    """The parts in this process."""
    metrics, history = Metrics(), History()
    metrics.watch(history)
    run = Run("succeeded", "local", "job", 0.5, 0.02, outcome=OUTCOME)

    def context() -> None:
        with tracing.span("POST", "server", parent=tracing.parse(TRACEPARENT)):
            pass

    print(f"counted  {micros(lambda: metrics.ran(run)):6.1f} us a task")
    print(f"context  {micros(context):6.1f} us a request, nothing kept")
    with collector() as found:
        sink = Spans(f"{found.url}/v1/traces", resource("bench", "0"))
        tracing.configure(sink)
        print(f"span     {micros(context, 400):6.1f} us a span that is kept")
        tracing.configure(None)
        sink.close()


def forget(port: Any) -> None:
    """A collector that forgets, in its own process."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name is the base class's
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port.send(server.server_address[1])
    server.serve_forever()


def cpu_of(service: ServiceProcess) -> float:
    """CPU seconds of the process that serves."""
    times = psutil.Process(service.pid).cpu_times()
    return float(times.user + times.system)


def measured(service: ServiceProcess, image: bytes, count: int) -> tuple[float, float]:
    """Milliseconds of CPU for an image, and for a task of a job."""
    before = cpu_of(service)
    with httpx.Client(base_url=service.url, timeout=60) as client:
        for _ in range(count):
            client.post("/v1/process", params={"pipeline": PIPELINE}, content=image).raise_for_status()
        between = cpu_of(service)
        job = submit(service.url, PIPELINE, {f"{number}.jpg": image for number in range(count)})["id"]
        while client.get(f"/v1/jobs/{job}").json()["state"] not in {"succeeded", "failed"}:
            time.sleep(0.2)  # between two questions
    return (between - before) / count * 1e3, (cpu_of(service) - between) / count * 1e3


def whole(image: bytes, count: int, rounds: int) -> None:
    """Two services, asked in turn."""
    ours, theirs = multiprocessing.Pipe()
    sink = multiprocessing.Process(target=forget, args=(theirs,), daemon=True)
    sink.start()
    with tempfile.TemporaryDirectory() as folder:
        told = ("--set", f"otel_endpoint=http://127.0.0.1:{ours.recv()}")
        services = {
            "without": ServiceProcess(Path(folder) / "without", "--workers", "1", "--log-level", "warning"),
            "with": ServiceProcess(Path(folder) / "with", "--workers", "1", "--log-level", "warning", *told),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in services}
        try:
            for service in services.values():
                service.start()
                measured(service, image, count // 4)
            for number in range(rounds):
                for name in sorted(services, reverse=bool(number % 2)):
                    found[name].append(measured(services[name], image, count))
        finally:
            for service in services.values():
                service.end()
            sink.terminate()
    for place, what in enumerate(("image", "task")):
        without, with_ = (statistics.median(one[place] for one in found[name]) for name in ("without", "with"))
        print(f"{what:6} {without:6.2f} ms without, {with_:6.2f} ms with a collector: {with_ / without:.2f}")


def main() -> None:
    """Print all."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--images", type=int, default=400)
    arguments.add_argument("--rounds", type=int, default=5)
    chosen = arguments.parse_args()
    import cv2
    import numpy as np

    pixels = cv2.resize(np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8), (1200, 800))
    small()
    whole(bytes(cv2.imencode(".jpg", pixels)[1]), chosen.images, chosen.rounds)


if __name__ == "__main__":
    main()
