"""Backends on each kind of catalog, with payloads in files, for the suites to be run on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.base import Catalog
from ltm.catalog.firestore import FirestoreCatalog
from ltm.catalog.postgres import PostgresCatalog
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.catalog.supabase import SupabaseCatalog
from ltm.testing.backend_fixtures import BackendFixtures
from ltm.testing.clock import FakeClock
from tests.services.tokens import SECRET, make_token


def on_files(catalog: Catalog, tmp_path: Path, **options: Any) -> DuckDBLTMBackend:
    """Return a backend that closes its *catalog*."""
    return DuckDBLTMBackend(catalog, f"{tmp_path}/data", owns_catalog=True, **options)


class OnSQLite(BackendFixtures):
    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        return on_files(SQLiteCatalog(tmp_path / "catalog.db", clock=clock), tmp_path, **options)


class OnPostgres(BackendFixtures):
    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> None:
        self.url = postgres_url

    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        return on_files(PostgresCatalog(self.url, clock=clock), tmp_path, **options)


class OnSupabase(BackendFixtures):
    """As a tenant, under row-level security."""

    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> None:
        self.url = postgres_url.replace("postgres@", "authenticator:secret@")

    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        token = make_token("tenant-1")
        catalog = SupabaseCatalog(self.url, access_token=token, jwt_secret=SECRET, clock=clock)
        return on_files(catalog, tmp_path, **options)


class OnFirestore(BackendFixtures):
    @pytest.fixture(autouse=True)
    def database(self, firestore_project: str) -> None:
        self.project = firestore_project

    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        return on_files(FirestoreCatalog(self.project, clock=clock), tmp_path, **options)
