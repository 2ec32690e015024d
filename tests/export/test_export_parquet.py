"""Datasets of Parquet: how they are partitioned, and who reads them."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from dataset_place import ODD, Place, opened, read_arrow, read_parquet

from ltm.testing.clock import FakeClock
from ltm.transfer import dataset_parquet, export_dataset
from ltm.transfer.hive import MAX_SEGMENT_BYTES, NULL


def export(place: Place, name: str = "dataset", **options: Any) -> Path:
    path = place.out / name
    export_dataset(place.memory, path, format="parquet", **options)
    return path


def files(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*.parquet"))


def test_arrow_reads_the_directory_as_it_is(place: Place) -> None:
    place.fill()
    path = export(place)
    table = ds.dataset(path, format="parquet", partitioning="hive").to_table()
    assert read_arrow(table) == place.rows()
    assert set(table["month"].to_pylist()) == {f"{place.catalog.clock():%Y-%m}"}
    assert read_arrow(pq.read_table(path)) == place.rows()


def test_columns_have_their_types(place: Place) -> None:
    place.fill()
    path = export(place)
    with opened() as connection:
        found = connection.execute(f"DESCRIBE FROM '{path}/**/*.parquet'").fetchall()
    assert [row[:2] for row in found] == [
        ("key", "VARCHAR"),
        ("value", "VARCHAR"),
        ("metadata", "VARCHAR"),
        ("content_hash", "VARCHAR"),
        ("byte_size", "BIGINT"),
        ("expires_at", "TIMESTAMP WITH TIME ZONE"),
        ("created_at", "TIMESTAMP WITH TIME ZONE"),
        ("updated_at", "TIMESTAMP WITH TIME ZONE"),
        ("month", "VARCHAR"),
    ]
    (file,) = files(path)
    column = pq.read_metadata(path / file).row_group(0).column(0)
    assert column.compression == "ZSTD"


def test_partitions_are_months_of_creation_by_default(place: Place, clock: FakeClock) -> None:
    months = set()
    for number in range(4):
        place.memory.store(f"k/{number}", number)
        months.add(f"month={clock():%Y-%m}/part-00000.parquet")
        clock.advance(seconds=31 * 86_400)
    path = export(place)
    assert len(months) >= 4
    assert set(files(path)) == months
    assert read_parquet(path) == place.rows()


def test_odd_values_of_a_partition_are_escaped_as_hive_does(place: Place) -> None:
    place.fill_odd()
    path = export(place, partition_by=["f"])
    assert read_parquet(path) == place.rows()
    names = {file.split("/")[0].removeprefix("f=") for file in files(path)}
    assert {
        "note",
        NULL,
        "7",
        "0.5",
        "true",
        "a%2Fb%5Cc",
        "k%3Dv",
        "100%25",
        "%252F",
        "日本 é \U0001f600",
        ".%2E",
        " a b%20",
        "a%0Ab%7F",
        "%23%3F%2A%3A%27%22{}%5B%5D%5E".replace("{", "%7B").replace("}", "}"),
        "%5F_HIVE_DEFAULT_PARTITION__",
        "%7B%22a%22%3A null, %22b%22%3A 1}",
        "%5B1, %22a%2Fb%22%5D",
    } <= names
    # Nothing, null and "" are the one partition, each other value is one of its own.
    assert len(names) == len(ODD) - 2
    assert all(len(f"f={name}".encode()) <= MAX_SEGMENT_BYTES for name in names)
    (long, longer) = sorted(name for name in names if "~" in name)
    assert long.split("~")[0] == longer.split("~")[0]
    assert unquote(long.split("~")[0]) in str(ODD["long"])


@pytest.mark.parametrize("reader", ["duckdb", "pyarrow"])
def test_readers_find_the_values_of_a_partition(place: Place, reader: str) -> None:
    place.fill_odd()
    path = export(place, partition_by=["f"])
    if reader == "duckdb":
        with opened() as connection:
            found = dict(
                connection.execute(
                    f"SELECT key, f FROM read_parquet('{path}/**/*.parquet', "
                    "hive_partitioning = true, hive_types_autocast = false)"
                ).fetchall()
            )
    else:
        table = ds.dataset(path, format="parquet", partitioning="hive").to_table()
        found = dict(zip(table["key"].to_pylist(), table["f"].to_pylist(), strict=True))
    for key, value in ODD.items():
        if value in (..., None, "") or (reader == "pyarrow" and value == NULL):
            assert found[key] is None, key
        elif not key.startswith("long"):
            assert found[key] == (
                value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            )
    assert len({found["long"], found["longer"]}) == 2


def test_partitions_of_several_fields_are_nested(place: Place) -> None:
    place.memory.store("a", 1, {"type": "note", "user": {"id": 7}})
    place.memory.store("b", 1, {"type": "note", "user.id": "x/y"})
    place.memory.store("c", 1, {"user": "nobody"})
    path = export(place, partition_by=("type", "user.id"))
    assert files(path) == [
        f"type={NULL}/user.id={NULL}/part-00000.parquet",
        "type=note/user.id=7/part-00000.parquet",
        "type=note/user.id=x%2Fy/part-00000.parquet",
    ]
    assert read_parquet(path) == place.rows()


def test_an_empty_dataset_has_its_partition_columns(place: Place) -> None:
    path = export(place, partition_by=["type"])
    assert files(path) == [f"type={NULL}/part-00000.parquet"]
    with opened() as connection:
        found = connection.execute(f"DESCRIBE FROM '{path}/**/*.parquet'").fetchall()
    assert [row[0] for row in found][-1] == "type"


def test_more_partitions_than_open_files_lose_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_parquet, "MAX_OPEN_FILES", 3)
    monkeypatch.setattr(dataset_parquet, "WAITING_BYTES", 20_000)
    place.memory.store_batch(
        [
            {"key": f"{number:04}", "value": number, "metadata": {"p": number * 7 % 50}}
            for number in range(1000)
        ]
    )
    rows = place.rows()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    here = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (here + 20, limits[1]))
    try:
        path = export(place, partition_by=["p"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert read_parquet(path) == rows
    assert len({file.split("/")[0] for file in files(path)}) == 50
    for file in files(path):
        keys = pq.read_table(path / file, partitioning=None)["key"].to_pylist()
        assert keys == sorted(keys)


def test_files_and_row_groups_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_parquet, "GROUP_ROWS", 100)
    monkeypatch.setattr(dataset_parquet, "FILE_ROWS", 300)
    place.memory.store_batch([{"key": f"{number:04}", "value": number} for number in range(1000)])
    path = export(place)
    described = [pq.read_metadata(path / file) for file in files(path)]
    assert [each.num_rows for each in described] == [300, 300, 300, 100]
    assert [each.num_row_groups for each in described] == [3, 3, 3, 1]
    assert read_parquet(path) == place.rows()


def test_large_values_end_a_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_parquet, "GROUP_BYTES", 20_000)
    monkeypatch.setattr(dataset_parquet, "FILE_BYTES", 5_000)
    for number in range(20):
        place.memory.store(f"{number:02}", f"{number:x}".join(map(str, range(3000))))
    path = export(place)
    assert len(files(path)) == 10
    assert read_parquet(path) == place.rows()
