"""The embedded default proves itself: SQLite with payloads in files, and in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.testing.backend_suite import BackendSuite
from ltm.testing.clock import FakeClock
from tests.services.backends import OnSQLite


class TestBackendOnFiles(OnSQLite, BackendSuite):
    pass


class TestBackendInMemoryStore(BackendSuite):
    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        catalog = SQLiteCatalog(tmp_path / "catalog.db", clock=clock)
        return DuckDBLTMBackend(catalog, f"memory://{tmp_path.name}", owns_catalog=True, **options)
