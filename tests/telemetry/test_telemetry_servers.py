"""What is collected of catalogs on servers and of payloads in an object store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.firestore import FirestoreCatalog
from ltm.catalog.postgres import PostgresCatalog
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.doctor import diagnose
from ltm.payload.store import open_payload_store
from ltm.payload.values import read_texts
from tests.services.object_server import ObjectPlace
from tests.services.processes import free_port
from tests.telemetry.collecting import Collector

LARGE = "a large value " * 200


def told(spans: list[ReadableSpan], name: str) -> list[Any]:
    return [(each.attributes or {}).get(name) for each in spans]


def test_statements_on_postgresql_are_children_of_their_call(
    postgres_url: str, tmp_path: Path, collector: Collector
) -> None:
    catalog = PostgresCatalog(connection_string=postgres_url)
    memory = DuckDBLTMBackend(catalog, str(tmp_path), owns_catalog=True)
    with closing(memory):
        memory.store("warm", 1)
        collector.forget()
        memory.store("k", "words", {"a": 1})
        memory.retrieve("k")
    stored = collector.children(collector.only("ltm.store"))
    operations = told(stored, "db.operation.name")
    assert operations == ["INSERT"]  # of the entry, its words and its metadata
    assert set(told(stored, "db.system.name")) == {"postgresql"}
    assert "%s" in told(stored, "db.query.text")[0]
    (read,) = collector.children(collector.only("ltm.retrieve"))
    assert (read.name, read.kind) == ("ltm.catalog.statement", SpanKind.CLIENT)


def test_a_server_that_is_not_there_is_a_failure_of_the_call(
    tmp_path: Path, collector: Collector
) -> None:
    password = "c4nary-p4ssword"
    url = f"postgresql://ltm:{password}@127.0.0.1:{free_port()}/ltm"
    memory = DuckDBLTMBackend(
        PostgresCatalog(connection_string=url), str(tmp_path), owns_catalog=True, raise_errors=True
    )
    with closing(memory), pytest.raises(ConnectionError):
        memory.retrieve("k")
    assert told([collector.only("ltm.retrieve")], "error.type") == ["catalog_unavailable"]
    assert password not in collector.text()


def test_requests_to_firestore_are_children_of_their_call(
    firestore_project: str, tmp_path: Path, collector: Collector
) -> None:
    catalog = FirestoreCatalog(firestore_project, index_directory=tmp_path / "index")
    memory = DuckDBLTMBackend(catalog, f"{tmp_path}/data", owns_catalog=True)
    with closing(memory):
        memory.store("warm", 1)
        collector.forget()
        memory.store("k", "words")
        memory.retrieve("k")
        memory.stats()
        memory.search(None, {"a": 1})
    stored = collector.children(collector.only("ltm.store"))
    read = "batch_get_documents"
    assert told(stored, "db.operation.name") == [read, "begin_transaction", read, "commit"]
    assert set(told(stored, "db.system.name")) == {"gcp.firestore"}
    assert set(told(stored, "db.query.text")) == {None}
    (retrieved,) = collector.children(collector.only("ltm.retrieve"))
    assert (retrieved.name, retrieved.kind) == ("ltm.catalog.statement", SpanKind.CLIENT)
    counted = collector.children(collector.only("ltm.stats"))
    assert "run_aggregation_query" in told(counted, "db.operation.name")
    listed = collector.children(collector.only("ltm.search"))
    assert "run_query" in told(listed, "db.operation.name")
    assert not trace.get_current_span().get_span_context().is_valid


def test_payloads_on_s3_are_told_by_protocol_and_bytes_and_not_by_place(
    s3_place: ObjectPlace, tmp_path: Path, collector: Collector
) -> None:
    memory = DuckDBLTMBackend(
        SQLiteCatalog(tmp_path / "catalog.db"),
        s3_place.uri,
        storage_options=s3_place.options,
        owns_catalog=True,
    )
    with closing(memory):
        memory.store("a", LARGE)
        memory.store_batch([("b", LARGE), ("c", LARGE)])
        memory.retrieve_batch(["a", "b", "c"])
    size = len(LARGE) + 2
    alone, both = collector.named("ltm.payload.put")
    assert alone in collector.children(collector.only("ltm.store"))
    assert both in collector.children(collector.only("ltm.store_batch"))
    got = collector.only("ltm.payload.get")
    assert got in collector.children(collector.only("ltm.retrieve_batch"))
    assert told([alone, both, got], "ltm.payload.bytes") == [size, 2 * size, 3 * size]
    assert told([alone, both, got], "ltm.payload.protocol") == ["s3"] * 3
    text = collector.text()
    assert s3_place.name not in text
    for secret in (s3_place.options["key"], s3_place.options["secret"]):
        assert secret not in text


class TracedFileSystem(MemoryFileSystem):
    """A driver that is traced, in the thread in which a payload store calls it."""

    protocol = "traced"

    def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
        with trace.get_tracer("driver").start_as_current_span("cat"):
            content: bytes = super().cat_file(path, start=start, end=end, **options)
            return content


@pytest.fixture
def traced() -> Iterator[str]:
    """The URL of a store on a traced driver."""
    fsspec.register_implementation("traced", TracedFileSystem, clobber=True)
    yield "traced://bucket"
    TracedFileSystem.store.clear()


def test_what_a_driver_traces_under_a_deadline_belongs_to_the_call(
    traced: str, collector: Collector
) -> None:
    with closing(open_payload_store(traced)) as store:
        store.write_many([("a/one.json", b"1"), ("a/two.json", b"2")])
        assert read_texts(store, ["a/one.json", "a/two.json"]) == ["1", "2"]
    got = collector.only("ltm.payload.get")
    assert [each.name for each in collector.children(got)] == ["cat", "cat"]
    assert told([got], "ltm.payload.protocol") == ["traced"]


def test_the_doctor_examines_a_server_whose_statements_are_observed(
    postgres_url: str, tmp_path: Path, collector: Collector
) -> None:
    catalog = {"type": "postgres", "connection_string": postgres_url}
    findings = diagnose({"catalog": catalog, "storage": str(tmp_path / "data")})
    assert [each for each in findings if each.state == "problem"] == []
    assert collector.named("ltm.catalog.statement")
