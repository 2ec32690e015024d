"""The backend proves itself on Firestore with local payloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.firestore import FirestoreCatalog
from ltm.testing.backend_suite import BackendSuite
from ltm.testing.clock import FakeClock


class TestFirestore(BackendSuite):
    @pytest.fixture(autouse=True)
    def database(self, firestore_project: str) -> None:
        self.project = firestore_project

    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        catalog = FirestoreCatalog(self.project, clock=clock)
        return DuckDBLTMBackend(
            catalog, f"{tmp_path}/data", clock=clock, owns_catalog=True, **options
        )
