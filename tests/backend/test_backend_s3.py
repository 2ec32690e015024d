"""The backend proves itself with payloads on S3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.testing.backend_suite import BackendSuite
from ltm.testing.clock import FakeClock
from tests.services.object_server import ObjectPlace


class TestBackendOnS3(BackendSuite):
    # Hundreds of values, each with requests of its own, say nothing about S3.
    test_any_json_value_comes_back_type_for_type = None

    @pytest.fixture(autouse=True)
    def bucket(self, s3_place: ObjectPlace) -> None:
        self.place = s3_place

    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        catalog = SQLiteCatalog(tmp_path / "catalog.db", clock=clock)
        return DuckDBLTMBackend(
            catalog,
            self.place.uri,
            storage_options=self.place.options,
            owns_catalog=True,
            **options,
        )
