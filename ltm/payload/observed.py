"""Objects put and got, as telemetry sees them: how many, how large, and never where."""

from __future__ import annotations

from collections.abc import Sequence

from ltm import telemetry
from ltm.errors import PayloadError
from ltm.payload.base import Contents, Outcomes, PayloadStore
from ltm.payload.objects import ByteRange


def put_objects(store: PayloadStore, objects: Sequence[tuple[str, bytes]]) -> Outcomes:
    """Return what :meth:`PayloadStore.write_many` returns."""
    if not objects or not telemetry.notice():
        return store.write_many(objects)
    with _span("put", store, len(objects)) as span:
        outcomes = store.write_many(objects)
        sizes = [
            len(content)
            for (_, content), error in zip(objects, outcomes, strict=True)
            if error is None
        ]
        _tell(span, "put", store, sum(sizes), outcomes)
    return outcomes


def get_ranges(store: PayloadStore, ranges: Sequence[ByteRange]) -> Contents:
    """Return what :meth:`PayloadStore.read_ranges` returns."""
    if not ranges or not telemetry.notice():
        return store.read_ranges(ranges)
    with _span("get", store, len(ranges)) as span:
        contents = store.read_ranges(ranges)
        sizes = [len(each) for each in contents if not isinstance(each, PayloadError)]
        _tell(span, "get", store, sum(sizes), contents)
    return contents


def _span(direction: str, store: PayloadStore, count: int) -> telemetry.Span:
    return telemetry.span(
        f"ltm.payload.{direction}",
        {"ltm.payload.protocol": store.protocol, "ltm.payload.count": count},
    )


def _tell(
    span: telemetry.Span,
    direction: str,
    store: PayloadStore,
    byte_size: int,
    outcomes: Outcomes | Contents,
) -> None:
    """Tell how many bytes were moved, and why any were not."""
    span.set({"ltm.payload.bytes": byte_size})
    failure = next((each for each in outcomes if isinstance(each, PayloadError)), None)
    if failure is not None:
        span.fail(failure.error_type)
    telemetry.count_payload(direction, store.protocol, byte_size)
