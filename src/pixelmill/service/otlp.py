"""Our spans and series as OpenTelemetry's, and their exporters. Importing this needs the extra ``otel``.

``telemetry.py`` loads it when there is a collector. Names of series stay those of Prometheus, without ``_total`` as the
conventions of OpenTelemetry have it; histograms keep their bounds; all is cumulative.
"""

from __future__ import annotations

import logging
import math
import socket
import time
import uuid
from collections.abc import Iterable, Sequence

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

from pixelmill import __version__, logs
from pixelmill.service.telemetry import SEND_S
from pixelmill.tracing import Span

# Each batch that is not taken, and each of its retries, is an error to them; ``Watch`` tells it once.
logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)

SCOPE = InstrumentationScope("pixelmill", __version__)
_KINDS = {kind.name.lower(): kind for kind in SpanKind}
_UNITS = {"seconds": "s", "bytes": "By", "percent": "%"}


def resource(role: str, version: str) -> Resource:
    """Who speaks: by ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` where they are set, else ``pixelmill``."""
    named = Resource.create()
    own = {
        "service.version": version,
        "service.instance.id": str(uuid.uuid4()),
        "host.name": socket.gethostname(),
        "pixelmill.role": role,
    }
    if str(named.attributes.get("service.name", "")).startswith("unknown_service"):
        own["service.name"] = "pixelmill"
        return named.merge(Resource(own))
    return Resource(own).merge(named)


# -- spans ---------------------------------------------------------------------------------------------------------


class Watch:
    """Tells once that a collector takes nothing any more, and once that it does again."""

    def __init__(self, signal: str, endpoint: str) -> None:
        self._signal, self._endpoint, self._good = signal, endpoint, True

    def saw(self, *, good: bool) -> None:
        """A batch was sent, or given up after its retries."""
        if good != self._good:
            self._good = good
            logs.event("telemetry.sent" if good else "telemetry.unsent", signal=self._signal, endpoint=self._endpoint)


class _SpanExporter(OTLPSpanExporter):
    """Watched, for the SDK's own lines say it for each batch anew."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint, timeout=SEND_S)
        self._watch = Watch("traces", endpoint)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; takes up to :data:`SEND_S`."""
        result = super().export(spans)
        self._watch.saw(good=result is SpanExportResult.SUCCESS)
        return result


class Spans:
    """A :class:`~pixelmill.tracing.Sink`: a bounded queue, and a thread that sends what is in it.

    2,048 spans, sent each 5 s and whenever there are 512, are the SDK's defaults (``OTEL_BSP_*`` are others); what has
    no room is dropped.
    """

    def __init__(self, endpoint: str, resource: Resource) -> None:
        self._resource = resource
        self._exporter = _SpanExporter(endpoint)
        self._processor = BatchSpanProcessor(self._exporter)

    def ended(self, span: Span) -> None:
        """Put it into the queue."""
        self._processor.on_end(span_of(span, self._resource))

    def flush(self) -> None:
        """Send what waits; takes as long as that takes."""
        self._processor.force_flush()

    def give_up(self) -> None:
        """End a call that is under way, and send nothing any more."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped

    def close(self) -> None:
        """End the thread, and the exporter with it."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # as above


def span_of(span: Span, resource: Resource) -> ReadableSpan:
    """OpenTelemetry's form of it."""
    found = span.context
    trace_id, flags = int(found.trace_id, 16), TraceFlags(TraceFlags.SAMPLED)
    state = TraceState.from_header([found.state]) if found.state else None
    parent = None
    if span.parent:
        parent = SpanContext(trace_id, int(span.parent, 16), is_remote=span.kind in {"server", "consumer"})
    return ReadableSpan(
        name=span.name,
        context=SpanContext(trace_id, int(found.span_id, 16), is_remote=False, trace_flags=flags, trace_state=state),
        parent=parent,
        resource=resource,
        attributes={**span.attributes, "error.type": span.error} if span.error else span.attributes,
        kind=_KINDS[span.kind],
        status=Status(StatusCode.ERROR, span.message or None) if span.error else Status(StatusCode.UNSET),
        start_time=round(span.start * 1e9),
        end_time=round(span.end * 1e9),
        instrumentation_scope=SCOPE,
    )


# -- metrics -------------------------------------------------------------------------------------------------------


class Told:
    """Sends all series, as they are when :meth:`send` is called."""

    def __init__(self, endpoint: str, resource: Resource) -> None:
        self._resource, self._since = resource, time.time()
        self._exporter = OTLPMetricExporter(endpoint, timeout=SEND_S)
        self._watch = Watch("metrics", endpoint)

    def send(self, families: Iterable[Family], at: float) -> None:
        """Send them; returns when that was done or given up."""
        metrics = list(metrics_of(families, round(self._since * 1e9), round(at * 1e9)))
        scope = ScopeMetrics(SCOPE, metrics, "")
        result = self._exporter.export(MetricsData([ResourceMetrics(self._resource, [scope], "")]))
        self._watch.saw(good=result is MetricExportResult.SUCCESS)

    def give_up(self) -> None:
        """End a call that is under way."""
        self.close()

    def close(self) -> None:
        """Send nothing any more."""
        self._exporter.shutdown()


def metrics_of(families: Iterable[Family], since_ns: int, at_ns: int) -> Iterable[Metric]:
    """Series of Prometheus as metrics of OpenTelemetry, by its specification of that way (data model, Prometheus)."""
    for family in families:
        data: Sum | Gauge | Histogram
        if family.type == "histogram":
            points = list(_histogram_points(family.samples, since_ns, at_ns))
            data = Histogram(points, AggregationTemporality.CUMULATIVE)
        else:
            numbers = [
                NumberDataPoint(sample.labels, since_ns, at_ns, float(sample.value))
                for sample in family.samples
                if not math.isnan(sample.value)
            ]
            if family.type == "counter":
                data = Sum(numbers, AggregationTemporality.CUMULATIVE, is_monotonic=True)
            else:
                data = Gauge(numbers)
        if data.data_points:
            yield Metric(family.name, family.documentation, _UNITS.get(family.name.rpartition("_")[2], ""), data)


def _histogram_points(samples: Sequence[Sample], since_ns: int, at_ns: int) -> Iterable[HistogramDataPoint]:
    """Buckets of Prometheus add up, those of OpenTelemetry stand for themselves."""
    buckets: dict[tuple[tuple[str, str], ...], dict[float, float]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in samples:
        labels = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        if sample.name.endswith("_bucket"):
            buckets.setdefault(labels, {})[float(sample.labels["le"])] = sample.value
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    for labels, found in buckets.items():
        bounds = sorted(found)
        totals = [round(found[bound]) for bound in bounds]
        counts = [total - before for total, before in zip(totals, [0, *totals], strict=False)]
        yield HistogramDataPoint(
            attributes=dict(labels),
            start_time_unix_nano=since_ns,
            time_unix_nano=at_ns,
            count=totals[-1],
            sum=sums.get(labels, 0.0),
            bucket_counts=counts,
            explicit_bounds=[bound for bound in bounds if bound < math.inf],
            min=None,  # type: ignore[arg-type]  # not known, and optional on the wire: the encoder leaves both out
            max=None,  # type: ignore[arg-type]  # as above
        )
