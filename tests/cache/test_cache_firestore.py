"""The cache proves itself on Firestore."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.firestore import FirestoreCatalog
from ltm.testing.cache_sharing_suite import CacheSharingSuite
from ltm.testing.cache_suite import CacheSuite
from ltm.testing.clock import FakeClock


class TestCacheOnFirestore(CacheSuite, CacheSharingSuite):
    @pytest.fixture(autouse=True)
    def database(self, firestore_project: str) -> None:
        self.project = firestore_project

    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        catalog = FirestoreCatalog(self.project, index_directory=tmp_path / "index", clock=clock)
        return DuckDBLTMBackend(catalog, f"{tmp_path}/data", owns_catalog=True, **options)
