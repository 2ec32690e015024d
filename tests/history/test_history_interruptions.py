"""A snapshot that is expired, or a transaction that ends, under a reader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from history_killing import LARGE
from place import Place

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.history import Snapshot
from ltm.catalog.sql import SQLCatalog
from ltm.catalog.sql_history import SQLHistory
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.clock import utc_now
from ltm.entry import EntryRow
from ltm.errors import ClosedError, SnapshotNotFoundError
from ltm.testing.catalog_faults import FailingCatalog


class ExpiredHistory(SQLHistory):
    """Somebody expires each snapshot just before its rows are read."""

    def read_as_of(self, snapshot: Snapshot, keys: Sequence[str]) -> dict[str, EntryRow]:
        self.expire(snapshot, utc_now())
        return super().read_as_of(snapshot, keys)

    def rows_as_of(self, snapshot: Snapshot, *arguments: Any, **options: Any) -> list[EntryRow]:
        self.expire(snapshot, utc_now())
        return super().rows_as_of(snapshot, *arguments, **options)


class ExpiringCatalog(FailingCatalog):
    """Fails on command, and its snapshots go as they are read."""

    def __init__(self, inner: SQLCatalog) -> None:
        super().__init__(inner)
        self.inner = inner

    def bind(self, table: str, **defaults: Any) -> ExpiringCatalog:
        return ExpiringCatalog(self.inner.bind(table, **defaults))

    @property
    def history(self) -> SQLHistory:
        return ExpiredHistory(self.inner)


@pytest.fixture
def memory(place: Place) -> Iterator[DuckDBLTMBackend]:
    with place.open() as memory:
        memory.store("k", LARGE)
        memory.create_snapshot("s")
        memory.store("k", 1)
    catalog = ExpiringCatalog(SQLiteCatalog(place.catalog))
    with DuckDBLTMBackend(catalog, str(place.storage), owns_catalog=True) as memory:
        yield memory


def test_a_value_that_went_with_its_snapshot_is_not_answered_as_absent(
    memory: DuckDBLTMBackend,
) -> None:
    answer = memory.retrieve("k", snapshot="s")
    assert answer.get("error_type") == "snapshot_not_found", answer


def test_a_walk_says_that_its_snapshot_is_gone(memory: DuckDBLTMBackend) -> None:
    walk = memory.iterate_all(snapshot="s")
    with pytest.raises(SnapshotNotFoundError):
        next(walk)


def test_a_search_says_that_its_snapshot_is_gone(memory: DuckDBLTMBackend) -> None:
    assert memory.search(snapshot="s")["error_type"] == "snapshot_not_found"


def test_a_snapshot_that_goes_meanwhile_is_no_fault_of_a_memory(memory: DuckDBLTMBackend) -> None:
    answer = memory.verify()
    assert answer["success"], answer


@pytest.mark.parametrize("what", ["iterate_all", "changes"])
def test_an_iterator_of_a_transaction_ends_with_it(place: Place, what: str) -> None:
    with place.open() as memory:
        with memory.transaction() as block:
            block.store("k", 1)
            found = block.iterate_all() if what == "iterate_all" else block.changes(None)
        with pytest.raises(ClosedError):
            next(iter(found))
