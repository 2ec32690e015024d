"""What is collected of the steps of a call: statements, payloads, transactions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.errors import ConflictError
from ltm.payload.base import Outcomes, PayloadStore
from ltm.payload.local import LocalPayloadStore
from ltm.testing.payload_faults import FailingPayloadStore
from tests.telemetry.collecting import Collector, OpenMemory

LARGE = "a large value " * 200


def test_statements_are_children_of_their_call(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    memory.store("k", "words", {"a": 1})
    statements = collector.children(collector.only("ltm.store"))
    assert {each.name for each in statements} == {"ltm.catalog.statement"}
    told = [dict(each.attributes or {}) for each in statements]
    assert [each["db.operation.name"] for each in told] == [
        "SELECT", "BEGIN", "INSERT", "INSERT", "INSERT", "COMMIT",
    ]  # fmt: skip
    assert {each["db.system.name"] for each in told} == {"sqlite"}
    assert all(each.kind is SpanKind.CLIENT for each in statements)
    select = memory.catalog.database.statements.select_value.text  # type: ignore[attr-defined]
    assert told[0]["db.query.text"] == select


def test_a_statement_that_fails_is_told_by_the_drivers_class(
    memory: DuckDBLTMBackend, collector: Collector, tmp_path: Path
) -> None:
    engine = memory.catalog.engine  # type: ignore[attr-defined]
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE ltm_entries RENAME TO elsewhere")
    assert memory.retrieve("warm")["error_type"] == "catalog_unavailable"
    statement = collector.only("ltm.catalog.statement")
    assert statement.attributes is not None
    assert statement.attributes["error.type"] == "sqlite3.OperationalError"
    assert collector.attributes("ltm.retrieve")["error.type"] == "catalog_unavailable"


def test_payloads_put_and_got_are_children_with_their_bytes(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    size = len(LARGE) + 2
    memory.store_batch([("a", LARGE), ("b", LARGE + "!")])
    memory.retrieve("a")
    memory.retrieve_batch(["a", "b"])
    put = collector.only("ltm.payload.put")
    assert put in collector.children(collector.only("ltm.store_batch"))
    assert put.attributes == {
        "ltm.payload.protocol": "file",
        "ltm.payload.count": 2,
        "ltm.payload.bytes": 2 * size + 1,
    }
    one, both = collector.named("ltm.payload.get")
    assert one in collector.children(collector.only("ltm.retrieve"))
    assert both in collector.children(collector.only("ltm.retrieve_batch"))
    told = [dict(each.attributes or {})["ltm.payload.bytes"] for each in (one, both)]
    assert told == [size, 2 * size + 1]
    counted = {
        p.attributes["ltm.payload.direction"]: p.value
        for p in collector.metrics()["ltm.payload.io"]
    }
    assert counted == {"put": 2 * size + 1, "get": 3 * size + 1}


def test_a_payload_that_could_not_be_written_is_a_failure(
    open_memory: OpenMemory, collector: Collector, tmp_path: Path
) -> None:
    store = FailingPayloadStore(LocalPayloadStore(tmp_path / "data"))
    memory = open_memory(store=store)
    memory.store("warm", 1)
    store.fail("write")
    collector.forget()
    assert memory.store("k", LARGE)["error_type"] == "storage_error"
    put = collector.attributes("ltm.payload.put")
    assert (put["error.type"], put["ltm.payload.bytes"]) == ("storage_error", 0)
    assert collector.attributes("ltm.store")["error.type"] == "storage_error"


class TracedStore(LocalPayloadStore):
    """A store whose owner traces it."""

    def read(self, path: str) -> bytes:
        with trace.get_tracer("theirs").start_as_current_span("read"):
            return super().read(path)

    def write(self, path: str, content: bytes) -> None:
        with trace.get_tracer("theirs").start_as_current_span("write"):
            (failed,) = super().write_many([(path, content)])
            assert failed is None

    def write_many(self, items: Sequence[tuple[str, bytes]]) -> Outcomes:
        return PayloadStore.write_many(self, items)  # by the method above


def test_what_drivers_trace_in_their_threads_belongs_to_the_call(
    open_memory: OpenMemory, collector: Collector, tmp_path: Path
) -> None:
    memory = open_memory(store=TracedStore(tmp_path / "data"))
    with trace.get_tracer("theirs").start_as_current_span("request"):
        memory.store_batch([(f"k{number}", [LARGE, number]) for number in range(20)])
        memory.retrieve_batch([f"k{number}" for number in range(20)])
    request = collector.only("request")
    for call, payload, verb in [("store_batch", "put", "write"), ("retrieve_batch", "get", "read")]:
        span = collector.only(f"ltm.{call}")
        moved = collector.only(f"ltm.payload.{payload}")
        assert span in collector.children(request)
        assert moved in collector.children(span)
        assert Counter(each.name for each in collector.children(moved)) == {verb: 20}


def test_a_write_that_another_thread_commits_belongs_to_its_call(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: memory.store(f"k{n}", {"words": n}, {"n": n}), range(80)))
    assert all(answer["created"] for answer in answers)
    for span in collector.named("ltm.store"):
        told = [dict(each.attributes or {}) for each in collector.children(span)]
        operations = Counter(each["db.operation.name"] for each in told)
        # After some new keys the next ones are inserted without a look.
        assert operations["SELECT"] <= 1
        assert operations["INSERT"] == 3


def test_calls_within_a_transaction_are_its_children_beside_begin_and_commit(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    with memory.transaction() as block:
        block.store("k", 1)
        assert memory.retrieve("k")["found"]
    transaction = collector.only("ltm.transaction")
    assert transaction.attributes == {"ltm.table": "notes"}
    children = collector.children(transaction)
    told = [dict(each.attributes or {}).get("db.operation.name", each.name) for each in children]
    assert told == ["BEGIN", "ltm.store", "ltm.retrieve", "COMMIT"]


def test_a_transaction_that_is_rolled_back_is_a_failure(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    with pytest.raises(ConflictError), memory.transaction() as block:
        block.store("warm", 2, if_absent=True)
    assert collector.attributes("ltm.transaction")["error.type"] == "conflict"
    operations = [
        dict(each.attributes or {}).get("db.operation.name")
        for each in collector.children(collector.only("ltm.transaction"))
    ]
    assert operations[-1] == "ROLLBACK"


def test_an_iteration_that_is_dropped_leaves_no_span_behind(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    memory.store_batch([(f"k{number}", number) for number in range(10)])
    entries = memory.iterate_all()
    assert next(entries)[0] == "k0"
    assert not trace.get_current_span().get_span_context().is_valid
    del entries
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_span_that_is_not_sampled_has_no_children_that_are(
    memory: DuckDBLTMBackend, collector: Collector
) -> None:
    collector.switch.is_on = False
    memory.store("k", LARGE)
    memory.retrieve("k")
    assert collector.spans == ()
    assert {
        p.attributes["ltm.operation"] for p in collector.metrics()["ltm.operation.duration"]
    } == {
        "store",
        "retrieve",
    }
