"""What is collected of each call of a backend, and of what it does underneath."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

import ltm
from ltm import telemetry
from ltm.backend.base import LTMBackend
from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.errors import ConflictError, ValidationError
from tests.telemetry.collecting import Collector, OpenMemory

LARGE = "a large value " * 200

UNMEASURED = {"iterate_all", "changes", "diff", "transaction", "close"}


def test_every_call_is_a_span_that_names_its_table(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    memory.store("k", 1)
    memory.retrieve("k")
    memory.update("k", lambda value: value + 1)
    memory.store_batch([("a", 1)])
    memory.retrieve_batch(["a"])
    memory.search("words")
    memory.query("SELECT key FROM entries")
    memory.delete("a")
    memory.cleanup_expired()
    memory.create_snapshot("s")
    memory.list_snapshots()
    memory.restore("s")
    memory.expire_snapshot("s")
    memory.gc()
    memory.verify()
    memory.stats()
    memory.health_check()
    calls = set(LTMBackend.__abstractmethods__) - UNMEASURED
    tops = [each for each in collector.spans if each.parent is None]
    assert {each.name for each in tops} == {f"ltm.{call}" for call in calls}
    for span in tops:
        assert span.attributes is not None
        assert span.attributes["ltm.table"] == "notes"
        assert span.status.status_code is StatusCode.UNSET
        scope = span.instrumentation_scope
        assert scope is not None
        assert (scope.name, scope.version) == ("ltm", ltm.__version__)
    counted = collector.metrics()["ltm.operation.duration"]
    assert {point.attributes["ltm.operation"] for point in counted} == calls
    assert all("error.type" not in point.attributes for point in counted)


def test_a_call_keeps_its_name_signature_and_documentation() -> None:
    for call in set(LTMBackend.__abstractmethods__) - UNMEASURED:
        ours, contract = getattr(DuckDBLTMBackend, call), getattr(LTMBackend, call)
        assert ours.__name__ == call
        assert list(inspect.signature(ours).parameters) == list(
            inspect.signature(contract).parameters
        )


def test_a_store_tells_its_bytes_and_what_became_of_it(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    memory.store("k", "four")
    assert collector.attributes("ltm.store") == {
        "ltm.table": "notes",
        "ltm.created": True,
        "ltm.deduplicated": False,
        "ltm.value.bytes": 6,
        "ltm.inlined": True,
    }
    collector.forget()
    memory.store("k", LARGE)
    found = collector.attributes("ltm.store")
    assert (found["ltm.value.bytes"], found["ltm.inlined"]) == (len(LARGE) + 2, False)
    assert found["ltm.created"] is False
    collector.forget()
    memory.store("k", LARGE)
    assert collector.attributes("ltm.store")["ltm.deduplicated"] is True


def test_a_retrieval_tells_hit_or_miss_and_its_bytes(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    memory.store("large", LARGE)
    collector.forget()
    memory.retrieve("warm")
    memory.retrieve("large")
    memory.retrieve("nobody", default=LARGE)
    inlined, outside, missed = [
        dict(each.attributes or {}) for each in collector.named("ltm.retrieve")
    ]
    table = {"ltm.table": "notes"}
    assert inlined == table | {"ltm.hit": True, "ltm.value.bytes": 1, "ltm.inlined": True}
    size = len(LARGE) + 2
    assert outside == table | {"ltm.hit": True, "ltm.value.bytes": size, "ltm.inlined": False}
    assert missed == table | {"ltm.hit": False}
    found = collector.metrics()
    assert {(p.attributes["ltm.hit"], p.value) for p in found["ltm.retrieved.keys"]} == {
        (True, 2),
        (False, 1),
    }
    assert {(p.attributes["ltm.inlined"], p.sum) for p in found["ltm.value.size"]} == {
        (True, 1),
        (False, size),
    }


def test_batches_and_searches_tell_how_many(memory: DuckDBLTMBackend, collector: Collector) -> None:
    memory.store_batch([("a", "red words"), ("b", "red"), ("warm", 1)])
    memory.retrieve_batch(["a", "b", "nobody"])
    memory.search("red")
    table = {"ltm.table": "notes"}
    assert collector.attributes("ltm.store_batch") == table | {
        "ltm.entries.stored": 2,
        "ltm.entries.failed": 0,
        "ltm.entries.deduplicated": 1,
    }
    assert collector.attributes("ltm.retrieve_batch") == table | {
        "ltm.entries.found": 2,
        "ltm.entries.missing": 1,
    }
    assert collector.attributes("ltm.search") == table | {"ltm.entries.found": 2}
    keys = collector.metrics()["ltm.retrieved.keys"]
    assert {(p.attributes["ltm.hit"], p.value) for p in keys} == {(True, 2), (False, 1)}


@pytest.mark.parametrize("as_arrow", [False, True])
def test_a_query_tells_its_rows(
    memory: DuckDBLTMBackend, collector: Collector, as_arrow: bool
) -> None:
    memory.query("SELECT * FROM range(3)", as_arrow=as_arrow)
    assert collector.attributes("ltm.query") == {"ltm.table": "notes", "ltm.rows": 3}
    with pytest.raises(ValidationError):
        memory.query("DELETE FROM entries")
    assert collector.named("ltm.query")[-1].status.description == "validation_error"


def test_a_failure_that_is_answered_is_one_of_the_span(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    memory.store("warm", 2, if_absent=True)
    span = collector.only("ltm.store")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "conflict"
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "conflict")
    assert span.events == ()
    (point,) = collector.metrics()["ltm.operation.duration"]
    assert point.attributes == {"ltm.operation": "store", "error.type": "conflict"}


def test_a_failure_that_is_raised_is_recorded_without_its_message(
    open_memory: OpenMemory, collector: Collector
) -> None:
    memory = open_memory(raise_errors=True)
    memory.store("the key", 1)
    collector.forget()
    with pytest.raises(ConflictError, match="the key"):
        memory.store("the key", 2, if_absent=True)
    span = collector.only("ltm.store")
    assert span.status.status_code is StatusCode.ERROR
    (event,) = span.events
    assert event.attributes is not None
    assert event.attributes["exception.type"] == "ltm.errors.ConflictError"
    assert "require_conditions" in str(event.attributes["exception.stacktrace"])
    assert "the key" not in collector.text()


def test_what_a_callers_own_function_raises_is_told_by_its_class_alone(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    secret = "+".join(["se", "cret"])

    def fail(_: Any) -> Any:
        raise KeyError(secret)

    with pytest.raises(KeyError):
        memory.update("warm", fail)
    span = collector.only("ltm.update")
    assert span.attributes is not None
    assert (span.attributes["error.type"], span.status.description) == ("KeyError", "KeyError")
    assert secret not in collector.text()


def test_a_batch_of_which_some_failed_is_a_failure_with_its_counts(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    memory.store_batch([("a", 1), ("b", {1})], atomic=False)
    found = collector.attributes("ltm.store_batch")
    assert found["error.type"] == "serialization_error"
    assert (found["ltm.entries.stored"], found["ltm.entries.failed"]) == (1, 1)


def test_a_step_that_fails_without_an_exception_says_why(collector: Collector) -> None:
    with telemetry.span("ltm.cache.get", {"ltm.hit": False}) as span:
        span.set({"ltm.value.bytes": 3})
        span.fail("storage_error")
    found = collector.only("ltm.cache.get")
    assert found.attributes == {
        "ltm.hit": False,
        "ltm.value.bytes": 3,
        "error.type": "storage_error",
    }


def test_a_span_of_a_generator_that_is_dropped_is_nobodys_parent(collector: Collector) -> None:
    def count() -> Iterator[int]:
        with telemetry.span("ltm.counting", is_parent=False):
            yield from range(3)

    numbers = count()
    assert next(numbers) == 0
    with telemetry.span("ltm.meanwhile"):
        del numbers
    assert collector.only("ltm.meanwhile").parent is None
    assert collector.only("ltm.counting").events == ()
    assert not trace.get_current_span().get_span_context().is_valid
