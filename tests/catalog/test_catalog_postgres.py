"""The PostgreSQL catalog proves itself: over its own pool, and on an engine that was handed in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from ltm.catalog.postgres import PostgresCatalog
from ltm.testing.catalog_suite import CatalogSuite
from ltm.testing.clock import FakeClock


class TestPostgres(CatalogSuite):
    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> None:
        self.url = postgres_url

    def make_catalog(self, tmp_path: Path, clock: FakeClock, **binding: Any) -> PostgresCatalog:
        return PostgresCatalog(self.url, clock=clock, **binding)
