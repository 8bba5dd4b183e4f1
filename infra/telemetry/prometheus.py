"""Tells the numbers in Prometheus text, by OpenTelemetry's exporter: they become its data points when somebody asks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as Exported
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry, generate_latest

from infra.telemetry.metrics import Metric
from infra.telemetry.numbers import Key, Numbers, Spread

_MICROS = 1_000_000
_CUMULATIVE = AggregationTemporality.CUMULATIVE


def text_of(numbers: Numbers, gauges: Mapping[Key, int], begun_ns: int) -> bytes:
    """Return all numbers, and gauges taken this moment, as Prometheus text (version 0.0.4)."""
    registry = CollectorRegistry()
    reader = _Reader(disable_target_info=True, scope_info_enabled=False, registry=registry)
    MeterProvider([reader], shutdown_on_exit=False)
    reader.take(metrics_data(numbers, gauges, begun_ns))
    return generate_latest(registry)


class _Reader(PrometheusMetricReader):
    """OpenTelemetry's Prometheus exporter; its provider has no instruments, what it tells is given to it."""

    def take(self, data: MetricsData) -> None:
        """Tell this at the next question."""
        self._receive_metrics(data)


def metrics_data(numbers: Numbers, gauges: Mapping[Key, int], begun_ns: int) -> MetricsData:
    """Return everything in OpenTelemetry's own data model, times in seconds, without what nobody counted."""
    now = time.time_ns()
    metrics = [_exported(metric, numbers, gauges, (begun_ns, now)) for metric in numbers.metrics.values()]
    scope = ScopeMetrics(InstrumentationScope("commons"), [metric for metric in metrics if metric.data.data_points], "")
    return MetricsData([ResourceMetrics(Resource({"service.name": "commons"}), [scope], "")])


def _exported(metric: Metric, numbers: Numbers, gauges: Mapping[Key, int], span: tuple[int, int]) -> Exported:
    data: Any
    if metric.kind == "counter":
        points = [_number(metric, labels, value, span) for (_, labels), value in _of(metric, numbers.sums)]
        data = Sum(points, _CUMULATIVE, is_monotonic=True)
    elif metric.kind == "gauge":
        data = Gauge([_number(metric, labels, value, (0, span[1])) for (_, labels), value in _of(metric, gauges)])
    else:
        spreads = [_spread(metric, labels, spread, span) for (_, labels), spread in _of(metric, numbers.spreads)]
        data = Histogram(spreads, _CUMULATIVE)
    return Exported(metric.name, metric.meaning, "s" if metric.timed else "", data)


def _of(metric: Metric, found: Mapping[Key, Any]) -> list[tuple[Key, Any]]:
    """Return what belongs to a metric; a counter without labels stands at 0 before it was counted."""
    mine = [(key, value) for key, value in found.items() if key[0] == metric.name]
    bare = metric.kind == "counter" and not metric.labels
    return mine or ([((metric.name, ()), 0)] if bare else [])


def _number(metric: Metric, labels: tuple[str, ...], value: int, span: tuple[int, int]) -> NumberDataPoint:
    return NumberDataPoint(_named(metric, labels), span[0], span[1], value)


def _spread(metric: Metric, labels: tuple[str, ...], spread: Spread, span: tuple[int, int]) -> HistogramDataPoint:
    unit = _MICROS if metric.timed else 1
    bounds = [bound / unit for bound in metric.bounds]
    count = sum(spread.buckets)
    return HistogramDataPoint(
        _named(metric, labels), span[0], span[1], count, spread.total / unit, list(spread.buckets), bounds, 0, 0
    )


def _named(metric: Metric, labels: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(metric.labels, labels, strict=True))
