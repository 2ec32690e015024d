"""Traces and metrics for OpenTelemetry, where an application uses it.

Whoever uses OpenTelemetry has imported it. So as long as ``opentelemetry.trace`` is not loaded,
nothing here does anything, nor loads it. This is the only file that knows OpenTelemetry, and of it
the API only: an application may set its providers at any time.

Keys, values, metadata and queries stand in no attribute and in no message: not everyone who may
read telemetry may read them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from sys import modules
from types import TracebackType

from ltm.errors import LTMError
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from contextvars import Token
    from typing import Self

    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, Meter
    from opentelemetry.trace import Span as APISpan

API = "opentelemetry.trace"
"""The module that is loaded where OpenTelemetry is used."""

is_on = False
"""Whether :func:`notice` has found somebody who collects. Providers are set once: it stays true."""

Attributes = Mapping[str, str | bool | int | float]

SECONDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60)
"""Bounds of the buckets of durations: those of database clients, and finer for embedded ones."""

BYTES = tuple(4**power for power in range(3, 14))
"""Bounds of the buckets of sizes, from 64 bytes to 64 MiB."""


def notice() -> bool:
    """Return whether an application has set a provider, of traces or of metrics.

    Hot paths ask for :data:`API` in ``sys.modules`` before they call this, or :data:`is_on` alone.
    Other libraries load the API, too; without a provider this is all that a call costs.
    """
    global is_on
    if not is_on and API in modules:
        _instruments()  # loads a provider that the environment names
        # Not get_tracer_provider(): it reads the environment anew, and two of them take an eighth
        # of a warm get. Where a version doesn't have the names, telemetry is on.
        trace, metrics = modules[API], modules.get("opentelemetry.metrics._internal")
        is_on = (
            getattr(trace, "_TRACER_PROVIDER", True) is not None
            or getattr(metrics, "_METER_PROVIDER", True) is not None
        )
    return is_on


class Span:
    """A step of work, in a ``with`` block; this one is collected by nobody."""

    __slots__ = ()

    @property
    def is_recording(self) -> bool:
        """Whether attributes are kept; they need not be made otherwise."""
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the step."""

    def set(self, attributes: Attributes) -> None:
        """Add *attributes*."""

    def fail(self, reason: str) -> None:
        """Let the step be a failure whose ``error.type`` is *reason*."""


class _CollectedSpan(Span):
    """A span of OpenTelemetry."""

    __slots__ = ("_is_parent", "_span", "_token")

    def __init__(self, span: APISpan, *, is_parent: bool) -> None:
        self._span = span
        self._is_parent = is_parent
        self._token: Token[Context] | None = None

    @property
    def is_recording(self) -> bool:
        return self._span.is_recording()

    def __enter__(self) -> Self:
        if self._is_parent:
            from opentelemetry.context import attach
            from opentelemetry.trace import set_span_in_context

            self._token = attach(set_span_in_context(self._span))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None:
            from opentelemetry.context import detach

            detach(self._token)
        # What ends a generator or the interpreter is no failure.
        if isinstance(exc, Exception):
            reason = error_type(exc)
            self.fail(reason)
            from traceback import format_tb

            # Not record_exception(): its message may hold a key, or what a server was sent.
            frames = "".join(format_tb(traceback))
            event = {"exception.type": _class_name(exc), "exception.stacktrace": frames}
            self._span.add_event("exception", event)
        self._span.end()

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def fail(self, reason: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("error.type", reason)
        self._span.set_status(Status(StatusCode.ERROR, reason))


_NO_SPAN = Span()


def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    is_client: bool = False,
    is_parent: bool = True,
) -> Span:
    """Return a child of the current span, which begins now and ends with its ``with`` block.

    An exception that leaves the block makes it a failure, by the names of classes alone.

    Args:
        name: One of few, ``ltm.`` first.
        attributes: What is known at the beginning, when it is decided whether it is sampled.
        is_client: Whether it is a request to a database.
        is_parent: Whether what begins within the block is its child. Not so in a generator: it may
            be dropped half-way, and its caller would be left within a span that has ended.
    """
    if not is_on and not notice():
        return _NO_SPAN
    instruments = _instruments()
    kind = instruments.client_kind if is_client else instruments.internal_kind
    found = instruments.tracer.start_span(name, kind=kind, attributes=attributes)
    if not found.get_span_context().is_valid:
        return _NO_SPAN  # only metrics are collected
    return _CollectedSpan(found, is_parent=is_parent)


def statement(
    system: str, operation: str, text: str | None = None, *, is_parent: bool = True
) -> Span:
    """Return the span of one statement that is sent to a catalog's database.

    Args:
        system: ``db.system.name`` of OpenTelemetry's semantic conventions.
        operation: Such as ``SELECT``.
        text: The statement with placeholders for its values.
        is_parent: As of :func:`span`.
    """
    attributes = {"db.system.name": system, "db.operation.name": operation}
    if text is not None:
        attributes["db.query.text"] = text
    return span("ltm.catalog.statement", attributes, is_client=True, is_parent=is_parent)


def count_operation(operation: str, seconds: float, error: str | None) -> None:
    """Measure one call of a backend that took *seconds*; *error* is the type of its failure."""
    if is_on:
        attributes = {"ltm.operation": operation}
        if error is not None:
            attributes["error.type"] = error
        _instruments().operation_duration.record(seconds, attributes)


def count_value(operation: str, byte_size: int, *, inlined: bool) -> None:
    """Measure the one value that a call stores or finds, and tell its size in the call's span."""
    if is_on:
        instruments = _instruments()
        attributes: Attributes = {"ltm.operation": operation, "ltm.inlined": inlined}
        instruments.value_size.record(byte_size, attributes)
        found: Attributes = {"ltm.value.bytes": byte_size, "ltm.inlined": inlined}
        instruments.current_span().set_attributes(found)


def count_retrieved(operation: str, *, hits: int, misses: int) -> None:
    """Count the keys that a call has found and those that it hasn't."""
    if is_on:
        keys = _instruments().retrieved_keys
        if hits:
            keys.add(hits, {"ltm.operation": operation, "ltm.hit": True})
        if misses:
            keys.add(misses, {"ltm.operation": operation, "ltm.hit": False})


def count_payload(direction: str, protocol: str, byte_size: int) -> None:
    """Count bytes of payloads that were ``put`` or ``get``."""
    if is_on:
        attributes = {"ltm.payload.direction": direction, "ltm.payload.protocol": protocol}
        _instruments().payload_bytes.add(byte_size, attributes)


def count_cache(hit: bool, action: str) -> None:
    """Count one look into a cache: whether it had the answer to *action*, one of few words."""
    if is_on:
        attributes: Attributes = {"ltm.cache.action": action, "ltm.hit": hit}
        _instruments().cache_lookups.add(1, attributes)


def error_type(error: BaseException) -> str:
    """Return what failures are told apart by: that of an answer, or the name of the class."""
    return error.error_type if isinstance(error, LTMError) else _class_name(error)


def _class_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


class _Instruments:
    """What is got of the API once; it comes to life when an application sets providers."""

    def __init__(self) -> None:
        from opentelemetry import metrics, trace

        version: str = modules["ltm"].__version__
        meter = metrics.get_meter("ltm", version)
        self.tracer = trace.get_tracer("ltm", version)
        self.internal_kind = trace.SpanKind.INTERNAL
        self.client_kind = trace.SpanKind.CLIENT
        self.current_span = trace.get_current_span
        self.operation_duration = _histogram(
            meter, "ltm.operation.duration", "s", "How long calls of a backend take.", SECONDS
        )
        self.value_size = _histogram(
            meter, "ltm.value.size", "By", "Canonical JSON of values stored and found.", BYTES
        )
        self.retrieved_keys = meter.create_counter(
            "ltm.retrieved.keys", "{key}", "Keys that were asked for, found or not."
        )
        self.payload_bytes = meter.create_counter(
            "ltm.payload.io", "By", "Bytes of payloads written and read."
        )
        self.cache_lookups = meter.create_counter(
            "ltm.cache.lookups", "{lookup}", "Looks into a cache, hits and misses."
        )


_instruments = functools.cache(_Instruments)


def _histogram(
    meter: Meter, name: str, unit: str, description: str, bounds: tuple[float, ...]
) -> Histogram:
    try:
        return meter.create_histogram(
            name, unit, description, explicit_bucket_boundaries_advisory=bounds
        )
    except TypeError:  # before version 1.30, which takes no such advice
        return meter.create_histogram(name, unit, description)
