"""The Parquet files of a DuckLake, which DuckDB writes itself."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from dataset_place import Place, Row, opened, read_ducklake, read_parquet

from ltm.hashing import canonical_json, hash_text
from ltm.transfer import duckdb_parquet, export_dataset
from ltm.transfer.dataset_rows import DatasetRow
from ltm.transfer.duckdb_parquet import DuckDBParquetFile

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def export(place: Place) -> list[Path]:
    """Export *place* as a DuckLake that has all its rows, and return the files in their order."""
    export_dataset(place.memory, place.out / "lake", format="ducklake")
    assert read_ducklake(place.out / "lake") == place.rows()
    return sorted(place.out.rglob("*.parquet"))


def make_row(key: str, value: str) -> DatasetRow:
    text = canonical_json(value)
    return DatasetRow(key, text, "{}", hash_text(text), len(text), None, NOW, NOW)


def test_a_memory_without_entries_has_no_file(place: Place) -> None:
    assert export(place) == []


def test_files_are_bounded_and_in_the_order_of_keys(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb_parquet, "FILE_ROWS", 300)
    place.memory.store_batch([{"key": f"{number:04}", "value": number} for number in range(1000)])
    files = export(place)
    assert [pq.read_metadata(file).num_rows for file in files] == [300, 300, 300, 100]
    keys = [key for file in files for key in pq.read_table(file)["key"].to_pylist()]
    assert keys == sorted(keys)


def test_row_groups_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb_parquet, "GROUP_BYTES", 1)
    place.memory.store_batch([{"key": f"{number:04}", "value": number} for number in range(5000)])
    (file,) = export(place)
    assert pq.read_metadata(file).num_row_groups == 3  # of what DuckDB works on at once


@pytest.mark.parametrize("bound", ["FILE_BYTES", "VECTOR_BYTES"])
def test_large_values_end_a_file(place: Place, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(duckdb_parquet, bound, 20_000)
    for number in range(20):
        place.memory.store(f"{number:02}", f"{number:x}".join(map(str, range(3000))))
    assert len(export(place)) == 10


def test_a_file_is_begun_anew_where_duckdb_has_too_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [make_row(f"{'é' * 480}{number:05}", "x") for number in range(8000)]

    def write(name: str) -> None:
        location = str(tmp_path / name)
        with (
            opened() as connection,
            closing(DuckDBParquetFile(connection, location, str(tmp_path))) as file,
        ):
            connection.execute("BEGIN; CREATE TABLE made (n INTEGER)")
            for row in rows:
                file.add(row)
            file.complete()
            connection.execute("COMMIT; FROM made")

    with monkeypatch.context() as patch:
        patch.setattr(duckdb_parquet, "ATTEMPTS", 1)
        with pytest.raises(duckdb.OutOfMemoryException):
            write("lost.parquet")
    (tmp_path / "lost.parquet").unlink(missing_ok=True)
    write("kept.parquet")
    assert [each.name for each in tmp_path.iterdir()] == ["kept.parquet"]
    assert read_parquet(tmp_path) == [Row(*row) for row in rows]
