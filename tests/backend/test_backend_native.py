"""The backend proves itself with payloads in one DuckDB file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from ltm import create_ltm_backend
from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import ValidationError
from ltm.hashing import canonical_json
from ltm.testing.backend_fixtures import LARGE, payloads_of
from ltm.testing.backend_suite import BackendSuite
from ltm.testing.clock import FakeClock


class TestBackendOnADuckDBFile(BackendSuite):
    # Hundreds of values, each with an opening of the file, say nothing about the file.
    test_any_json_value_comes_back_type_for_type = None

    def make_backend(self, tmp_path: Path, clock: FakeClock, **options: Any) -> DuckDBLTMBackend:
        catalog = SQLiteCatalog(tmp_path / "catalog.db", clock=clock)
        return DuckDBLTMBackend(
            catalog, f"{tmp_path}/payloads.duckdb", owns_catalog=True, **options
        )


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_what_is_remembered_can_be_asked_of_the_file_with_duckdb(tmp_path: Path, form: str) -> None:
    uri = form.format(tmp_path / "data" / "payloads.duckdb")
    with create_ltm_backend(
        catalog_config={"path": str(tmp_path / "catalog.db")}, storage_uri=uri, inline_threshold=100
    ) as memory:
        assert memory.store("large", LARGE)["storage_uri"].startswith(f"{uri}/")
        assert "storage_uri" not in memory.store("small", 1)
        assert memory.retrieve("large")["value"] == LARGE
        assert memory.verify()["problems"] == []
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{tmp_path}/data/payloads.duckdb' AS p (READ_ONLY)")
            asked = "SELECT value::JSON ->> 'text' FROM p.payload_values"
            assert connection.execute(asked).fetchall() == [(LARGE["text"],)]
        assert memory.delete("large")["success"]
        assert payloads_of(memory) == []
    names = {path.name.removeprefix("payloads.duckdb") for path in (tmp_path / "data").iterdir()}
    assert names <= {"", ".wal", ".lock", ".queue"}


def test_a_uri_of_duckdb_elsewhere_gets_files_of_duckdb(tmp_path: Path) -> None:
    catalog = SQLiteCatalog(tmp_path / "catalog.db")
    uri = f"memory://{tmp_path.name}/payloads.duckdb"
    with DuckDBLTMBackend(catalog, uri, raise_errors=True, owns_catalog=True) as memory:
        memory.store_batch([("a", LARGE), ("b", [LARGE])])
        (path,) = payloads_of(memory)
        (tmp_path / "file").write_bytes(memory.payloads.read(path))
        assert memory.retrieve_batch(["a", "b"])["results"] == {"a": LARGE, "b": [LARGE]}
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{tmp_path}/file' AS p (READ_ONLY)")
        keys = connection.execute("SELECT key FROM p.entries ORDER BY key").fetchall()
    assert keys == [("a",), ("b",)]


def test_the_formats_that_make_files_make_none_in_a_database(tmp_path: Path) -> None:
    catalog = SQLiteCatalog(tmp_path / "catalog.db")
    uri = f"{tmp_path}/payloads.duckdb"
    with DuckDBLTMBackend(
        catalog, uri, payload_format="duckdb", raise_errors=True, owns_catalog=True
    ) as memory:
        memory.store("k", LARGE)
        (path,) = payloads_of(memory)
        assert memory.payloads.read(path).decode() == canonical_json(LARGE)
        with pytest.raises(ValidationError, match=r"^payload_format: .* not 'parquet'$"):
            DuckDBLTMBackend(catalog, uri, payload_format="parquet")
