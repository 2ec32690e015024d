"""The SQLite catalog proves itself: as a file, in memory, and on an engine that was handed in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from ltm.catalog.sql import SQLCatalog
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.testing.catalog_suite import CatalogSuite
from ltm.testing.clock import FakeClock


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
