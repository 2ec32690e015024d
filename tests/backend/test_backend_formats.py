"""The backend proves itself with payloads in formats whose objects hold many values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from format_suite import FormatSuite

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.payload.base import PayloadStore
from ltm.payload.store import open_payload_store
from ltm.testing.backend_suite import BackendSuite
from ltm.testing.clock import FakeClock
from tests.services.object_server import ObjectPlace


class TestBackendInParquet(BackendSuite):
    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        catalog = SQLiteCatalog(tmp_path / "catalog.db", clock=clock)
        options = {"payload_format": "parquet"} | options
        return DuckDBLTMBackend(catalog, f"{tmp_path}/data", owns_catalog=True, **options)


class TestBackendInDatabaseFiles(BackendSuite):
    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        catalog = SQLiteCatalog(tmp_path / "catalog.db", clock=clock)
        options = {"payload_format": "duckdb"} | options
        return DuckDBLTMBackend(catalog, f"{tmp_path}/data", owns_catalog=True, **options)


class LocalFormats(FormatSuite):
    def open_store(self, tmp_path: Path) -> PayloadStore:
        return open_payload_store(tmp_path / "data")


class TestParquetInFiles(LocalFormats):
    payload_format = "parquet"


class TestDatabasesInFiles(LocalFormats):
    payload_format = "duckdb"


class RemoteFormats(FormatSuite):
    place: ObjectPlace

    def open_store(self, tmp_path: Path) -> PayloadStore:
        return open_payload_store(self.place.uri, storage_options=self.place.options)


class OnS3(RemoteFormats):
    @pytest.fixture(autouse=True)
    def bucket(self, s3_place: ObjectPlace) -> None:
        self.place = s3_place


class TestParquetOnS3(OnS3):
    payload_format = "parquet"


class TestDatabasesOnS3(OnS3):
    payload_format = "duckdb"


class OnGCS(RemoteFormats):
    @pytest.fixture(autouse=True)
    def bucket(self, gcs_place: ObjectPlace) -> None:
        self.place = gcs_place


class TestParquetOnGCS(OnGCS):
    payload_format = "parquet"


class TestDatabasesOnGCS(OnGCS):
    payload_format = "duckdb"


class OnAzure(RemoteFormats):
    @pytest.fixture(autouse=True)
    def container(self, azure_place: ObjectPlace) -> None:
        self.place = azure_place


class TestParquetOnAzure(OnAzure):
    payload_format = "parquet"


class TestDatabasesOnAzure(OnAzure):
    payload_format = "duckdb"
