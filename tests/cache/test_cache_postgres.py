"""The cache proves itself on PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.postgres import PostgresCatalog
from ltm.catalog.supabase import SupabaseCatalog
from ltm.testing.cache_sharing_suite import CacheSharingSuite
from ltm.testing.cache_suite import CacheSuite
from ltm.testing.clock import FakeClock
from tests.services.tokens import SECRET, make_token


class TestCacheOnPostgres(CacheSuite, CacheSharingSuite):
    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> None:
        self.url = postgres_url

    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        catalog = PostgresCatalog(self.url, clock=clock)
        return DuckDBLTMBackend(catalog, f"{tmp_path}/data", owns_catalog=True, **options)


class TestCacheOfATenant(CacheSuite, CacheSharingSuite):
    """Under row-level security."""

    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> None:
        self.url = postgres_url.replace("postgres@", "authenticator:secret@")

    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        catalog = SupabaseCatalog(
            self.url, access_token=make_token("tenant-1"), jwt_secret=SECRET, clock=clock
        )
        return DuckDBLTMBackend(catalog, f"{tmp_path}/data", owns_catalog=True, **options)
