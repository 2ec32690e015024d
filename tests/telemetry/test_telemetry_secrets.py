"""Nothing that an agent has written or asked is exported, whatever it calls and how it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.base import Catalog
from ltm.catalog.firestore import FirestoreCatalog
from ltm.catalog.postgres import PostgresCatalog
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import LTMError
from ltm.keys import generate_entry_id
from ltm.payload.local import LocalPayloadStore
from ltm.testing.payload_faults import FailingPayloadStore
from tests.telemetry.collecting import Collector

MARK = "zqxcanary"
"""Occurs in all that is given to a memory."""


@pytest.fixture(params=["sqlite", "postgres", "firestore"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    if request.param == "postgres":
        catalog: Catalog = PostgresCatalog(request.getfixturevalue("postgres_url"))
    elif request.param == "firestore":
        project = request.getfixturevalue("firestore_project")
        catalog = FirestoreCatalog(project, index_directory=tmp_path / "index")
    else:
        catalog = SQLiteCatalog(tmp_path / "catalog.db")
    with closing(catalog):
        yield catalog


def use_all(memory: DuckDBLTMBackend) -> Iterator[Callable[[], Any]]:
    """Yield calls with the mark in every argument that an agent chooses."""
    key, metadata = f"{MARK}:1", {MARK: MARK, "nested": {MARK: [MARK]}}
    large = f"{MARK} words " * 300
    yield lambda: memory.store(key, f"{MARK} words", metadata)
    yield lambda: memory.store(f"{key}l", large, metadata, ttl=1000)
    yield lambda: memory.store(f"{key}l", [large], metadata)
    yield lambda: memory.store(key, {MARK}, metadata)
    yield lambda: memory.store(key, 1, if_absent=True)
    yield lambda: memory.store(key, 1, if_match=MARK)
    yield lambda: memory.store_batch([(f"{key}b{n}", large, metadata) for n in range(3)])
    yield lambda: memory.store_batch([(key, 1, metadata), (MARK, {MARK})], atomic=False)
    yield lambda: memory.retrieve(key)
    yield lambda: memory.retrieve(f"{key}l")
    yield lambda: memory.retrieve(f"{key}-nobody", default=MARK)
    yield lambda: memory.retrieve_batch([key, f"{key}l", f"{key}-nobody"])
    yield lambda: memory.update(key, lambda _: large, default=MARK)
    yield lambda: memory.search(MARK, {MARK: MARK})
    yield lambda: memory.search(f'"{MARK} words" -other{MARK}', {f"nested.{MARK}": {"$in": [MARK]}})
    yield lambda: memory.search(None, {MARK: {"$gt": MARK, "$ne": f"{MARK}z"}, MARK * 2: None})
    yield lambda: memory.search(MARK, {"$or": MARK})
    yield lambda: list(memory.iterate_all(MARK))
    yield lambda: memory.query(f"SELECT value, '{MARK}' FROM entries WHERE key LIKE '{MARK}%'")
    yield lambda: memory.query("SELECT key FROM entries WHERE key = ?", parameters=[MARK])
    yield lambda: memory.query(f"SELECT {MARK} FROM entries")
    yield lambda: memory.create_snapshot(MARK)
    yield lambda: memory.retrieve(key, snapshot=MARK)
    yield lambda: memory.search(None, {MARK: MARK}, snapshot=MARK)
    yield lambda: memory.delete(key)
    yield lambda: memory.delete(f"{key}l", if_match=MARK)
    yield lambda: list(memory.changes(MARK))
    yield lambda: memory.restore(MARK)
    yield lambda: memory.list_snapshots()
    yield lambda: memory.expire_snapshot(MARK)
    yield lambda: memory.expire_snapshot(f"{MARK}-nothing")
    yield lambda: memory.cleanup_expired()
    yield lambda: memory.gc(grace=0)
    yield lambda: memory.verify()
    yield lambda: memory.stats()
    yield lambda: memory.health_check()
    yield lambda: delete_within_transaction(memory, key)


def delete_within_transaction(memory: DuckDBLTMBackend, key: str) -> None:
    with memory.transaction() as block:
        block.store(f"{key}t", MARK)
        block.delete(f"{key}t", if_match=MARK)


def expect_nothing_told(collector: Collector, tmp_path: Path, spans: list[ReadableSpan]) -> None:
    text = collector.text()
    assert len(spans) > 100
    assert MARK not in text.lower()
    assert generate_entry_id(f"{MARK}:1") not in text
    assert str(tmp_path) not in text
    assert "sha256:" not in text


@pytest.mark.parametrize("raise_errors", [False, True])
def test_keys_values_metadata_queries_and_places_are_not_exported(
    catalog: Catalog, tmp_path: Path, collector: Collector, raise_errors: bool
) -> None:
    memory = DuckDBLTMBackend(catalog, str(tmp_path / "data"), raise_errors=raise_errors)
    failures = 0
    for call in use_all(memory):
        try:
            answer = call()
        except LTMError:
            failures += 1
        else:
            failures += isinstance(answer, dict) and not answer["success"]
    memory.close()
    assert failures == 9
    expect_nothing_told(collector, tmp_path, list(collector.spans))


def test_neither_are_they_when_payloads_fail(
    catalog: Catalog, tmp_path: Path, collector: Collector
) -> None:
    store = FailingPayloadStore(LocalPayloadStore(tmp_path / "data"))
    memory = DuckDBLTMBackend(catalog, store=store, raise_errors=True)
    for operation in ("read", "write", "delete", "list"):
        store.fail(operation)
        for call in use_all(memory):
            with suppress(LTMError):
                call()
        store.heal()
    memory.close()
    expect_nothing_told(collector, tmp_path, list(collector.spans))
