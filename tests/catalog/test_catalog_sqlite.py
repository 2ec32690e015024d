"""The SQLite catalog proves itself: as a file, in memory, and on an engine that was handed in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from ltm.catalog.sql import SQLCatalog
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import CatalogUnavailableError
from ltm.testing.catalog_suite import CatalogSuite
from ltm.testing.clock import FakeClock
from ltm.testing.plain_suite import store
from ltm.testing.threads import in_threads


class TestSQLiteFile(CatalogSuite):
    def make_catalog(self, tmp_path: Path, clock: FakeClock, **binding: Any) -> SQLiteCatalog:
        return SQLiteCatalog(tmp_path / "catalog.db", clock=clock, **binding)


class TestSQLiteEngine(CatalogSuite):
    @pytest.fixture(autouse=True)
    def engine(self, tmp_path: Path) -> Any:
        self._engine: Engine = create_engine(f"sqlite:///{tmp_path}/catalog.db")
        yield self._engine
        self._engine.dispose()

    def make_catalog(self, tmp_path: Path, clock: FakeClock, **binding: Any) -> SQLiteCatalog:
        return SQLiteCatalog(engine=self._engine, clock=clock, **binding)


class TestSQLiteMemory(CatalogSuite):
    def make_catalog(self, tmp_path: Path, clock: FakeClock, **binding: Any) -> SQLiteCatalog:
        if not hasattr(self, "_first"):
            self._first = SQLiteCatalog(":memory:", clock=clock, **binding)
            return self._first
        return SQLCatalog(self._first.database, owns_database=False, clock=clock, **binding)

    def test_what_is_written_is_there_after_reopening(self) -> None:
        pytest.skip("a database in memory goes with its catalog")


def test_a_write_beside_a_transaction_in_memory_is_no_part_of_it() -> None:
    with SQLiteCatalog(":memory:") as catalog:
        with pytest.raises(CatalogUnavailableError), catalog.transaction() as inside:  # noqa: PT012
            store(inside, "inside", 1)
            # It would be undone with it after it was answered.
            store(catalog, "beside", 1, is_found=False)
        assert list(catalog.iterate("", catalog.clock)) == []


def test_threads_that_meet_on_a_fresh_database_in_memory_have_it_one_by_one() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that they get in one another's way within a few rounds
    try:
        for _ in range(100):
            with SQLiteCatalog(":memory:") as catalog:
                in_threads(lambda _: catalog.get_entry("k"), 8)
    finally:
        sys.setswitchinterval(interval)
