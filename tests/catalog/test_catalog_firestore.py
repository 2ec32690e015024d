"""The Firestore catalog proves itself on the emulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ltm.catalog.firestore import FirestoreCatalog
from ltm.testing.catalog_suite import CatalogSuite
from ltm.testing.clock import FakeClock


class TestFirestore(CatalogSuite):
    @pytest.fixture(autouse=True)
    def database(self, firestore_project: str) -> None:
        self.project = firestore_project

    def make_catalog(self, tmp_path: Path, clock: FakeClock, **binding: Any) -> FirestoreCatalog:
        return FirestoreCatalog(
            self.project, index_directory=tmp_path / "index", clock=clock, **binding
        )
