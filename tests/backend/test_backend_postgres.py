"""The backend proves itself on PostgreSQL, with payloads in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.postgres import PostgresCatalog
from ltm.testing.backend_suite import BackendSuite
from ltm.testing.clock import FakeClock


class TestBackendOnPostgres(BackendSuite):
    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> None:
        self.url = postgres_url

    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        catalog = PostgresCatalog(self.url, clock=clock)
        return DuckDBLTMBackend(catalog, f"{tmp_path}/data", owns_catalog=True, **options)
