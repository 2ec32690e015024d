"""What telemetry is told of a call: from its answer, and nothing that an agent has written."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from time import perf_counter

from ltm import telemetry
from ltm.typed import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from typing import Any, TypeVar

    _C = TypeVar("_C", bound=Callable[..., Any])

_STORED = {"created": "ltm.created", "deduplicated": "ltm.deduplicated"}

_ATTRIBUTES: Mapping[str, Mapping[str, str]] = {
    "store": _STORED,
    "update": _STORED,
    "retrieve": {"found": "ltm.hit"},
    "delete": {"deleted": "ltm.deleted"},
    "search": {"count": "ltm.entries.found"},
    "store_batch": {
        "stored": "ltm.entries.stored",
        "failed": "ltm.entries.failed",
        "deduplicated": "ltm.entries.deduplicated",
    },
    "retrieve_batch": {"found": "ltm.entries.found", "missing": "ltm.entries.missing"},
    "cleanup_expired": {"deleted": "ltm.entries.deleted", "remaining": "ltm.entries.remaining"},
    "create_snapshot": {"entry_count": "ltm.entries.seen"},
    "restore": {"restored": "ltm.entries.restored", "deleted": "ltm.entries.deleted"},
    "gc": {
        "scheduled": "ltm.payloads.scheduled",
        "unreferenced": "ltm.payloads.unreferenced",
        "compacted": "ltm.payloads.compacted",
    },
    "verify": {"checked": "ltm.entries.checked", "problems": "ltm.problems"},
}
"""By call, the attributes that stand for fields of its answer; of a list, its length."""


def observed(call: _C) -> _C:
    """Let a backend's public *call* be a span and a measurement where OpenTelemetry is used."""
    operation = call.__name__
    name = f"ltm.{operation}"

    @functools.wraps(call)
    def observe(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not telemetry.notice():
            return call(self, *args, **kwargs)
        error: str | None = None
        begin = perf_counter()
        with telemetry.span(name, {"ltm.table": self.catalog.table_name}) as span:
            try:
                answer = call(self, *args, **kwargs)
                error = _describe(span, operation, answer)
                return answer
            except BaseException as raised:
                error = telemetry.error_type(raised)
                raise
            finally:
                telemetry.count_operation(operation, perf_counter() - begin, error)

    return cast("_C", observe)


def _describe(span: telemetry.Span, operation: str, answer: Any) -> str | None:
    """Tell what *answer* says; return the type of the failure that it is, None for a success."""
    if operation == "query":
        span.set({"ltm.rows": len(answer)})
        return None
    if span.is_recording:
        span.set(_attributes(operation, answer))
    error: str | None = None if answer["success"] else answer.get("error_type", "error")
    if error is not None:
        span.fail(error)
    if "byte_size" in answer:
        telemetry.count_value(operation, answer["byte_size"], inlined=answer["inlined"])
    if operation == "retrieve" and error is None:
        found = bool(answer["found"])
        telemetry.count_retrieved(operation, hits=int(found), misses=int(not found))
    elif operation == "retrieve_batch" and "found" in answer:
        telemetry.count_retrieved(operation, hits=answer["found"], misses=len(answer["missing"]))
    return error


def _attributes(operation: str, answer: Mapping[str, Any]) -> dict[str, bool | int]:
    found = {
        attribute: answer[field]
        for field, attribute in _ATTRIBUTES.get(operation, {}).items()
        if field in answer
    }
    return {name: len(each) if isinstance(each, list) else each for name, each in found.items()}
