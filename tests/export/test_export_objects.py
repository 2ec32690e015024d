"""Datasets on object stores, and in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pyarrow.dataset as ds
import pytest
from dataset_place import READERS, Place, opened, read, read_arrow

from ltm.errors import PayloadError, ValidationError
from ltm.payload.store import open_payload_store
from ltm.transfer import destination_remote, export_dataset
from ltm.transfer.destination import Destination, open_destination
from ltm.transfer.destination_remote import RemoteDestination
from tests.services.object_server import ObjectPlace
from tests.services.s3 import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY


def objects(bucket: ObjectPlace, folder: str = "payloads") -> list[str]:
    """Return the names of the objects in *folder* of the bucket."""
    root, _, _ = bucket.uri.rpartition("/")
    store = open_payload_store(root, storage_options=bucket.options)
    found = sorted(each.path for each in store.list(folder))
    store.close()
    return found


def fetch(bucket: ObjectPlace, directory: Path) -> Path:
    """Download all objects of the bucket to *directory*."""
    root, _, _ = bucket.uri.rpartition("/")
    store = open_payload_store(root, storage_options=bucket.options)
    for each in store.list("payloads"):
        path = directory / each.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.read(each.path))
    store.close()
    return directory / "payloads"


@contextmanager
def opened_on_s3(bucket: ObjectPlace, *extensions: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a DuckDB that reads the bucket itself."""
    with opened("httpfs", *extensions) as connection:
        connection.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{ACCESS_KEY_ID}', SECRET '{SECRET_ACCESS_KEY}', "
            f"REGION '{REGION}', ENDPOINT '{bucket.server.host}:{bucket.port}', USE_SSL false, "
            "URL_STYLE 'path')"
        )
        yield connection


def test_parquet_on_s3_is_read_where_it_lies(place: Place, s3_place: ObjectPlace) -> None:
    place.fill()
    uri = f"{s3_place.uri}/a/dataset"
    report = export_dataset(
        place.memory,
        uri,
        format="parquet",
        partition_by=["type"],
        storage_options=s3_place.options,
    )
    assert report.destination == uri
    with opened_on_s3(s3_place) as connection:
        assert read(connection, f"read_parquet('{uri}/**/*.parquet')") == place.rows()
    system = fsspec.filesystem("s3", skip_instance_cache=True, **s3_place.options)
    path = uri.removeprefix("s3://")
    table = ds.dataset(path, filesystem=system, format="parquet", partitioning="hive").to_table()
    assert read_arrow(table) == place.rows()
    assert objects(s3_place) == [
        "payloads/a/dataset/_manifest.json",
        "payloads/a/dataset/type=note/part-00000.parquet",
        "payloads/a/dataset/type=task/part-00000.parquet",
    ]


def test_a_duckdb_file_on_s3_is_read_where_it_lies(place: Place, s3_place: ObjectPlace) -> None:
    place.fill()
    uri = f"{s3_place.uri}/entries.duckdb"
    export_dataset(place.memory, uri, format="duckdb", storage_options=s3_place.options)
    with opened_on_s3(s3_place) as connection:
        connection.execute(f"ATTACH '{uri}' AS published (READ_ONLY)")
        assert read(connection, "published.entries", "rowid") == place.rows()
    assert objects(s3_place) == ["payloads/entries.duckdb"]


def test_a_ducklake_on_s3_is_read_where_it_lies(
    place: Place, s3_place: ObjectPlace, tmp_path: Path
) -> None:
    place.fill()
    export_dataset(place.memory, s3_place.uri, format="ducklake", storage_options=s3_place.options)
    with opened_on_s3(s3_place, "ducklake") as connection:
        connection.execute(f"ATTACH 'ducklake:{s3_place.uri}/catalog.ducklake' AS lake (READ_ONLY)")
        assert read(connection, "lake.entries") == place.rows()
    copy = fetch(s3_place, tmp_path / "copy")
    # A catalog that was downloaded alone finds the data where it was published.
    with opened_on_s3(s3_place, "ducklake") as connection:
        connection.execute(f"ATTACH 'ducklake:{copy}/catalog.ducklake' AS lake (READ_ONLY)")
        assert read(connection, "lake.entries") == place.rows()
    # All of it that was downloaded is read where it lies now.
    with opened("ducklake") as connection:
        connection.execute(
            f"ATTACH 'ducklake:{copy}/catalog.ducklake' AS lake "
            f"(READ_ONLY, DATA_PATH '{copy}/data/', OVERRIDE_DATA_PATH true)"
        )
        assert read(connection, "lake.entries") == place.rows()


@pytest.mark.parametrize("service", ["gcs_place", "azure_place"])
def test_parquet_on_other_stores_is_whole(
    place: Place, service: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    bucket: ObjectPlace = request.getfixturevalue(service)
    place.fill_odd()
    options: dict[str, Any] = {"partition_by": ["f"], "storage_options": bucket.options}
    report = export_dataset(place.memory, bucket.uri, format="parquet", **options)
    copy = fetch(bucket, tmp_path / "copy")
    assert READERS["parquet"](copy) == place.rows()
    manifest = json.loads((copy / "_manifest.json").read_text())
    assert len(objects(bucket)) == report.files + 1
    assert {f"payloads/{each['path']}" for each in manifest["files"]} < set(objects(bucket))
    with pytest.raises(ValidationError, match="there is something already"):
        export_dataset(place.memory, bucket.uri, format="parquet", **options)


def test_odd_partitions_on_s3_are_read(place: Place, s3_place: ObjectPlace) -> None:
    place.fill_odd()
    export_dataset(
        place.memory,
        s3_place.uri,
        format="parquet",
        partition_by=["f"],
        storage_options=s3_place.options,
    )
    with opened_on_s3(s3_place) as connection:
        assert read(connection, f"read_parquet('{s3_place.uri}/**/*.parquet')") == place.rows()


def test_what_is_on_s3_already_is_not_touched(
    place: Place, s3_place: ObjectPlace, dataset_format: str
) -> None:
    place.fill()
    uri = f"{s3_place.uri}/dataset"
    options: dict[str, Any] = {"format": dataset_format, "storage_options": s3_place.options}
    export_dataset(place.memory, uri, **options)
    before = objects(s3_place)
    place.store.calls.clear()
    with pytest.raises(ValidationError, match="there is something already"):
        export_dataset(place.memory, uri, **options)
    assert objects(s3_place) == before
    assert place.store.calls == []


def test_an_export_that_fails_removes_what_it_uploaded(
    place: Place, s3_place: ObjectPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(600):
        place.memory.store(f"{number:04}", number)
    place.memory.store("z", "x" * 2000)
    uploaded: list[list[str]] = []
    monkeypatch.setattr("ltm.transfer.dataset_parquet.GROUP_ROWS", 100)
    monkeypatch.setattr("ltm.transfer.dataset_parquet.FILE_ROWS", 100)

    def fail() -> None:
        uploaded.append(objects(s3_place))
        raise PayloadError("no more")

    place.store.before_read = fail  # type: ignore[method-assign]
    with pytest.raises(PayloadError, match="no more"):
        export_dataset(
            place.memory, s3_place.uri, format="parquet", storage_options=s3_place.options
        )
    assert "payloads/_incomplete.json" in uploaded[0]
    assert len(uploaded[0]) > 3
    assert not any("_manifest.json" in name for name in uploaded[0])
    assert objects(s3_place) == []
    assert place.snapshots() == []


def test_an_export_beside_another_one_is_refused(place: Place, s3_place: ObjectPlace) -> None:
    place.fill()
    options: dict[str, Any] = {"format": "parquet", "storage_options": s3_place.options}
    refused = []

    def start_another(*_: object) -> None:
        with pytest.raises(ValidationError, match="there is something already"):
            export_dataset(place.memory, s3_place.uri, **options)
        refused.append(objects(s3_place))

    export_dataset(place.memory, s3_place.uri, progress=start_another, **options)
    assert refused == [["payloads/_incomplete.json"]]
    assert "payloads/_incomplete.json" not in objects(s3_place)
    assert READERS["parquet"](fetch(s3_place, place.out)) == place.rows()


@pytest.mark.parametrize("is_over", [True, False])
def test_of_two_exports_that_found_the_place_free_one_is_refused(
    s3_place: ObjectPlace, is_over: bool
) -> None:
    """The other one may be under way, or have published its dataset and taken its claim away."""

    def open_here() -> Destination:
        return open_destination(s3_place.uri, is_file=False, storage_options=s3_place.options)

    class Late(RemoteDestination):
        def require_free(self) -> None:
            super().require_free()
            other.__enter__()
            if is_over:
                Path(other.workspace, "file").write_text("the other's")
                other.add("file", None)
                other.publish(b"{}")
                other.__exit__(None, None, None)

    other = open_here()
    late = Late(s3_place.uri, is_file=False, storage_options=s3_place.options)
    with pytest.raises(ValidationError, match="there is something already"), late:
        pytest.fail("it has begun")
    if is_over:
        assert objects(s3_place) == ["payloads/_manifest.json", "payloads/file"]
    else:
        assert objects(s3_place) == ["payloads/_incomplete.json"]
        other.__exit__(None, None, None)
        assert objects(s3_place) == []


def test_secrets_are_not_shown(place: Place, s3_place: ObjectPlace, dataset_format: str) -> None:
    place.fill()
    options = {**s3_place.options, "endpoint_url": f"http://{SECRET_ACCESS_KEY}.invalid:1"}
    with pytest.raises(PayloadError) as caught:
        export_dataset(place.memory, s3_place.uri, format=dataset_format, storage_options=options)
    assert SECRET_ACCESS_KEY not in str(caught.value)
    assert place.snapshots() == []


@pytest.mark.parametrize("uri", ["s3://", "s3://bucket", "s3://bucket/", "gs://b"])
def test_a_whole_bucket_is_no_destination(place: Place, uri: str) -> None:
    with pytest.raises(ValidationError, match="expected a name below a bucket"):
        export_dataset(place.memory, uri, format="parquet")


def test_an_unknown_protocol_is_refused(place: Place) -> None:
    with pytest.raises(ValidationError, match="no driver is known"):
        export_dataset(place.memory, "gopher://a/b", format="parquet")


def test_datasets_go_into_memory(place: Place, dataset_format: str, tmp_path: Path) -> None:
    place.fill()
    uri = f"memory://{tmp_path.name}-{dataset_format}"
    export_dataset(place.memory, uri, format=dataset_format)
    with pytest.raises(ValidationError, match="there is something already"):
        export_dataset(place.memory, uri, format=dataset_format)
    system = fsspec.filesystem("memory")
    copy = tmp_path / "copy"
    system.get(f"/{tmp_path.name}-{dataset_format}", str(copy), recursive=True)
    if dataset_format == "ducklake":
        with opened("ducklake") as connection:
            connection.execute(
                f"ATTACH 'ducklake:{copy}/catalog.ducklake' AS lake "
                f"(READ_ONLY, DATA_PATH '{copy}/data/', OVERRIDE_DATA_PATH true)"
            )
            assert read(connection, "lake.entries") == place.rows()
    else:
        assert READERS[dataset_format](copy) == place.rows()
    system.rm(f"/{tmp_path.name}-{dataset_format}", recursive=True)


@pytest.mark.parametrize("service", ["s3_place", "gcs_place", "azure_place"])
def test_large_files_are_uploaded_in_parts(
    service: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    bucket: ObjectPlace = request.getfixturevalue(service)
    byte_size = destination_remote.MAPPED_BYTES + 1
    uri = f"{bucket.uri}/large"
    with open_destination(uri, is_file=True, storage_options=bucket.options) as place:
        path = Path(place.workspace, "file")
        path.touch()
        os.truncate(path, byte_size)
        with path.open("r+b") as file:
            file.seek(byte_size - 4)
            file.write(b"last")
        place.add("file", None)
        place.publish(b"")
    content = fetch(bucket, tmp_path / "copy").joinpath("large").read_bytes()
    assert len(content) == byte_size
    assert content.endswith(b"last")
    with pytest.raises(ValidationError, match="there is something already"):
        open_destination(uri, is_file=True, storage_options=bucket.options).require_free()
