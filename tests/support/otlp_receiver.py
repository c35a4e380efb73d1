"""A collector on loopback: takes OTLP over HTTP and keeps what it decodes, until a test asks."""

from __future__ import annotations

import gzip
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

WITHIN_S = 30.0


@dataclass(frozen=True)
class Seen:
    """A span as it arrived; ids in hexadecimal."""

    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    kind: int
    failed: bool
    role: str
    process: str
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What has come in. ``refusing`` answers 503; :meth:`until` waits for something."""

    url: str = ""
    spans: list[Seen] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    refusing: bool = False
    refused: int = 0
    news: threading.Condition = field(default_factory=threading.Condition)

    def until(self, met: Callable[[], bool], why: str) -> None:
        """Return when ``met``; fails after a while."""
        end = time.monotonic() + WITHIN_S
        with self.news:
            while not met():
                left = end - time.monotonic()
                assert left > 0, f"{why}; there are {sorted({span.name for span in self.spans})}"
                self.news.wait(left)

    def trace(self, trace_id: str) -> list[Seen]:
        """The spans of one trace, by when they began."""
        return sorted((span for span in self.spans if span.trace == trace_id), key=lambda span: span.start)

    def take(self, path: str, body: bytes) -> None:
        """Decode one request."""
        with self.news:
            if path == "/v1/traces":
                self.spans += _spans(ExportTraceServiceRequest.FromString(body))
            elif path == "/v1/metrics":
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for scope in resource.scope_metrics:
                        self.metrics |= {metric.name: metric for metric in scope.metrics}
            self.news.notify_all()


def _spans(request: Any) -> Iterator[Seen]:
    for resource in request.resource_spans:
        about = {one.key: one.value.string_value for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Seen(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.kind,
                    span.status.code == 2,
                    about["pixelmill.role"],
                    about["service.instance.id"],
                    {one.key: one.value.string_value or one.value.int_value for one in span.attributes},
                )


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector while the block runs."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if found.refusing:
                with found.news:
                    found.refused += 1
                    found.news.notify_all()
            else:
                found.take(self.path, body)
            self.send_response(503 if found.refusing else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name is the base class's
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def tree(spans: list[Seen], above: str = "") -> dict[str, list[str]]:
    """Names of children by name of parent; asserts that it is one tree below the span ``above``, in one piece."""
    by_id = {span.id: span for span in spans}
    assert len(by_id) == len(spans), "each span came once"
    roots = [span for span in spans if span.parent not in by_id]
    assert [span.parent for span in roots] == [above], f"one root: {[(one.name, one.parent) for one in roots]}"
    children: dict[str, list[str]] = defaultdict(list)
    for span in spans:
        if span.parent in by_id:
            children[by_id[span.parent].name].append(span.name)
    return {name: sorted(found) for name, found in children.items()}
