"""The cache proves itself on SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.testing.cache_sharing_suite import CacheSharingSuite
from ltm.testing.cache_suite import CacheSuite
from ltm.testing.clock import FakeClock
from tests.services.backends import OnSQLite


class TestCacheOnSQLite(OnSQLite, CacheSuite, CacheSharingSuite):
    pass


class TestCacheInALogicalTableInMemory(CacheSuite, CacheSharingSuite):
    """Of which every caller has the one backend."""

    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        if not hasattr(self, "catalog"):
            self.catalog = SQLiteCatalog(":memory:", clock=clock)
        return DuckDBLTMBackend(self.catalog, "memory://cache", table="results", **options)
