"""The backend proves itself on PostgreSQL, with payloads in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.postgres import PostgresCatalog
from ltm.testing.backend_suite import BackendSuite
from ltm.testing.clock import FakeClock
from tests.services.backends import OnPostgres, OnSupabase
from tests.services.pgbouncer import PgBouncer


class TestBackendOnPostgres(OnPostgres, BackendSuite):
    pass


class TestBackendOnSupabase(OnSupabase, BackendSuite):
    pass


class TestBackendThroughPgBouncer(BackendSuite):
    """Through a pooler in transaction mode with two connections to the server."""

    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str, pgbouncer: PgBouncer) -> None:
        self.url = pgbouncer.url(postgres_url.rpartition("/")[2])

    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        catalog = PostgresCatalog(self.url, pool_mode="transaction", clock=clock)
        return DuckDBLTMBackend(catalog, f"{tmp_path}/data", owns_catalog=True, **options)
