"""Where spans and metrics go, by settings and by the standard variables; and what is said where the extra is absent."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint

from pixelmill import tracing
from pixelmill.cli.settings import telemetry_config
from pixelmill.config import load
from pixelmill.errors import ConfigError, MissingExtra
from pixelmill.metrics import Metrics
from pixelmill.service import otlp
from pixelmill.service.settings import TelemetryConfig
from pixelmill.service.telemetry import Telemetry

pytestmark = pytest.mark.anyio


def config(tmp_path: Path, own: dict[str, str] | None = None, **environ: str) -> TelemetryConfig:
    variables = {f"PIXELMILL_{name.upper()}": value for name, value in (own or {}).items()}
    return telemetry_config(load({}, variables, folder=tmp_path), environ, "worker")


def test_nothing_is_sent_unless_it_is_asked_for(tmp_path: Path) -> None:
    found = config(tmp_path)
    assert (found.traces, found.metrics, found.ratio, found.needed) == ("", "", 1.0, False)


def test_the_setting_is_the_base_of_both_addresses(tmp_path: Path) -> None:
    found = config(tmp_path, {"otel_endpoint": "http://collector:4318/", "trace_sample": "25"})
    assert (found.traces, found.metrics) == ("http://collector:4318/v1/traces", "http://collector:4318/v1/metrics")
    assert (found.ratio, found.needed, found.role) == (0.25, True, "worker")


def test_the_standard_variables_count_where_the_setting_says_nothing(tmp_path: Path) -> None:
    base = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRIC_EXPORT_INTERVAL": "5000"}
    found = config(tmp_path, None, **base)
    assert (found.traces, found.metrics, found.metrics_every_s) == (
        "http://c:4318/v1/traces",
        "http://c:4318/v1/metrics",
        5.0,
    )
    assert not found.needed
    found = config(
        tmp_path, None, **base, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://t/x", OTEL_METRICS_EXPORTER="none"
    )
    assert (found.traces, found.metrics) == ("http://t/x", "")
    found = config(tmp_path, {"otel_endpoint": "http://own:1"}, **base, OTEL_SDK_DISABLED="true")
    assert (found.traces, found.metrics) == ("", "")


def test_what_is_no_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="collector:4318"):
        config(tmp_path, {"otel_endpoint": "collector:4317"})


async def test_without_the_extra_the_setting_is_an_error_that_names_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("pixelmill.service.otlp")
    monkeypatch.setitem(sys.modules, "pixelmill.service.otlp", None)
    with pytest.raises(MissingExtra, match=r'pip install "pixelmill\[otel\]"'):
        Telemetry(TelemetryConfig("http://127.0.0.1:1/v1/traces", needed=True), None).start()


async def test_without_the_extra_the_variables_are_told_and_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr("pixelmill.service.otlp")
    monkeypatch.setitem(sys.modules, "pixelmill.service.otlp", None)
    telemetry = Telemetry(TelemetryConfig("http://127.0.0.1:1/v1/traces"), Metrics())
    telemetry.start()
    await telemetry.stop()
    assert 'pip install "pixelmill[otel]"' in caplog.text
    assert not tracing.is_kept()


def test_buckets_of_prometheus_stand_for_themselves() -> None:
    metrics = Metrics("1.0")
    for seconds in (0.0005, 0.02, 0.02, 100.0):
        metrics.http_request("/v1/process", "POST", 200, seconds)
    found = {metric.name: metric for metric in otlp.metrics_of(metrics.families(), 1, 2)}
    histogram = found["pixelmill_http_request_seconds"]
    (point,) = histogram.data.data_points
    assert isinstance(point, HistogramDataPoint)
    counts = dict(zip([*point.explicit_bounds, "more"], point.bucket_counts, strict=True))
    assert {bound: count for bound, count in counts.items() if count} == {0.001: 1, 0.025: 2, "more": 1}
    assert point.count == 4
    assert point.sum == pytest.approx(100.0405)
    assert point.attributes == {"route": "/v1/process", "method": "POST"}
    assert "pixelmill_http_requests" in found, "without _total"
    assert "pixelmill_overflow_calls" not in found, "a series without samples is not sent"
