"""The PostgreSQL catalog proves itself by every way in that it has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from ltm.catalog.postgres import PostgresCatalog
from ltm.catalog.supabase import SupabaseCatalog
from ltm.testing.catalog_suite import CatalogSuite
from ltm.testing.clock import FakeClock
from tests.services.pgbouncer import PgBouncer
from tests.services.tokens import SECRET, make_token


class TestPostgres(CatalogSuite):
    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> None:
        self.url = postgres_url

    def make_catalog(self, tmp_path: Path, clock: FakeClock, **binding: Any) -> PostgresCatalog:
        return PostgresCatalog(self.url, clock=clock, **binding)


class TestPostgresEngine(CatalogSuite):
    """On an application's engine, in a schema of our own with an unusual name."""

    @pytest.fixture(autouse=True)
    def database(self, empty_postgres_url: str) -> Iterator[None]:
        url = empty_postgres_url.replace("postgresql://", "postgresql+psycopg://")
        self.engine = create_engine(url)
        yield
        self.engine.dispose()

    def make_catalog(self, tmp_path: Path, clock: FakeClock, **binding: Any) -> PostgresCatalog:
        return PostgresCatalog(
            engine=self.engine, schema='Agent "memory"', auto_migrate=True, clock=clock, **binding
        )


class TestPgBouncer(CatalogSuite):
    """Through a pooler that gives each transaction whichever connection is free."""

    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str, pgbouncer: PgBouncer) -> None:
        self.url = pgbouncer.url(postgres_url.rpartition("/")[2])

    def make_catalog(self, tmp_path: Path, clock: FakeClock, **binding: Any) -> PostgresCatalog:
        return PostgresCatalog(self.url, pool_mode="transaction", clock=clock, **binding)


class TestSupabaseTenant(CatalogSuite):
    """As a tenant, under row-level security."""

    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> None:
        self.url = postgres_url.replace("postgres@", "authenticator:secret@")

    def make_catalog(self, tmp_path: Path, clock: FakeClock, **binding: Any) -> SupabaseCatalog:
        token = make_token(binding.pop("tenant", "tenant-1"))
        return SupabaseCatalog(
            self.url, access_token=token, jwt_secret=SECRET, clock=clock, **binding
        )
