"""Providers of OpenTelemetry's own SDK, whose exporters keep what they get in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, SamplingResult

from ltm.backend.duckdb import DuckDBLTMBackend

OpenMemory = Callable[..., DuckDBLTMBackend]


class Switch(Sampler):
    """Samples while it is on: a process sets its providers once, and other tests run in it."""

    def __init__(self) -> None:
        self.is_on = False

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return (ALWAYS_ON if self.is_on else ALWAYS_OFF).should_sample(*args, **kwargs)

    def get_description(self) -> str:
        return "Switch"


class Collector:
    """What was exported since the test began."""

    def __init__(self) -> None:
        self.switch = Switch()
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=self.switch)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        trace.set_tracer_provider(provider)
        delta = dict.fromkeys((Counter, Histogram), AggregationTemporality.DELTA)
        self._reader = InMemoryMetricReader(preferred_temporality=delta)
        metrics.set_meter_provider(MeterProvider([self._reader]))

    def forget(self) -> None:
        self._exporter.clear()
        self._reader.get_metrics_data()

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """In the order in which they ended."""
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [each for each in self.spans if each.name == name]

    def only(self, name: str) -> ReadableSpan:
        (found,) = self.named(name)
        return found

    def attributes(self, name: str) -> dict[str, Any]:
        return dict(self.only(name).attributes or {})

    def children(self, parent: ReadableSpan) -> list[ReadableSpan]:
        """In the order in which they ended."""
        return [each for each in self.spans if is_child(each, parent)]

    def metrics(self) -> dict[str, list[Any]]:
        """Return the points of each metric; they are collected once."""
        found = self._reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (found.resource_metrics if found else [])
            for scope in resource.scope_metrics
            if scope.scope.name == "ltm"
            for metric in scope.metrics
        }

    def text(self) -> str:
        """Return all that was exported, spans and metrics."""
        found = self._reader.get_metrics_data()
        return "\n".join(
            [each.to_json() for each in self.spans] + [found.to_json() if found else ""]
        )


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    return span.parent is not None and span.parent.span_id == parent.get_span_context().span_id
