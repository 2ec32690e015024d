"""What is refused, and what fails: nothing is published then, and nothing is overwritten."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest
from dataset_place import READERS, Place

from ltm.errors import (
    IntegrityError,
    PayloadError,
    PayloadNotFoundError,
    SnapshotNotFoundError,
    ValidationError,
)
from ltm.testing.clock import FakeClock
from ltm.transfer import export_dataset


def damage(place: Place, key: str) -> Path:
    """Return the file of the payload of *key*, about to be damaged."""
    row = place.catalog.read_many([key], place.catalog.clock())[key]
    assert row.storage_uri is not None
    return place.directory / "payloads" / row.storage_uri


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_a_destination_that_has_something_is_refused(
    place: Place, dataset_format: str, kind: str
) -> None:
    place.fill()
    path = place.out / "dataset"
    if kind == "file":
        path.write_text("mine")
    elif kind == "link":
        path.symlink_to("nowhere")
    else:
        path.mkdir()
        (path / "mine").touch()
    before = place.leftovers()
    with pytest.raises(ValidationError, match="there is something already"):
        export_dataset(place.memory, path, format=dataset_format)
    assert place.leftovers() == before
    assert [call for call, _ in place.store.calls if call == "read"] == []
    assert place.snapshots() == []


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_appears_at_the_destination_meanwhile_is_not_replaced(
    place: Place, dataset_format: str, kind: str
) -> None:
    place.fill()
    path = place.out / "dataset"

    def intrude(*_: object) -> None:
        if kind == "file":
            path.write_text("mine")
        elif not path.exists():
            path.mkdir()
            (path / "mine").touch()

    with pytest.raises(ValidationError, match="there is something already"):
        export_dataset(place.memory, path, format=dataset_format, progress=intrude)
    assert place.leftovers() == (["dataset"] if kind == "file" else ["dataset", "dataset/mine"])


@pytest.mark.parametrize("dataset_format", ["parquet", "ducklake"])
def test_an_empty_directory_is_taken(place: Place, dataset_format: str) -> None:
    place.fill()
    path = place.out / "dataset"
    path.mkdir()
    export_dataset(place.memory, path, format=dataset_format)
    assert READERS[dataset_format](path) == place.rows()


def test_a_directory_that_is_not_there_is_not_made(place: Place, dataset_format: str) -> None:
    with pytest.raises(ValidationError, match="there is no directory"):
        export_dataset(place.memory, place.out / "a" / "b", format=dataset_format)
    assert place.leftovers() == []


@pytest.mark.parametrize("kind", ["missing", "changed", "cut"])
def test_a_damaged_value_lets_nothing_be_published(
    place: Place, dataset_format: str, kind: str
) -> None:
    place.fill()
    path = damage(place, "a/large text")
    content = path.read_bytes()
    if kind == "missing":
        path.unlink()
    else:
        path.write_bytes(content.replace(b"u65e5", b"u65e6", 1) if kind == "changed" else b'"')
    expected = PayloadNotFoundError if kind == "missing" else IntegrityError
    with pytest.raises(expected, match="a/large text"):
        export_dataset(place.memory, place.out / "dataset", format=dataset_format)
    assert place.leftovers() == []
    assert place.snapshots() == []


def test_values_are_verified_where_the_memory_does_not(tmp_path: Path, clock: FakeClock) -> None:
    place = Place(tmp_path, clock, verify_reads=False)
    place.fill()
    path = damage(place, "a/large text")
    path.write_bytes(path.read_bytes().replace(b"u65e5", b"u65e6", 1))
    with pytest.raises(IntegrityError):
        export_dataset(place.memory, place.out / "dataset", format="parquet")
    place.close()


def test_a_failure_halfway_leaves_nothing(place: Place, dataset_format: str) -> None:
    for number in range(1200):
        place.memory.store(f"{number:04}", number)

    def fail(done: int, _: int | None) -> None:
        raise PayloadError(f"after {done}")

    with pytest.raises(PayloadError, match="after"):
        export_dataset(place.memory, place.out / "dataset", format=dataset_format, progress=fail)
    assert place.leftovers() == []
    assert place.snapshots() == []


def test_a_snapshot_that_is_expired_halfway_fails_the_export(
    place: Place, dataset_format: str
) -> None:
    place.memory.store_batch(
        [{"key": f"{number:04}", "value": "x" * 2000 * (number == 1)} for number in range(1200)]
    )
    place.memory.create_snapshot("s")

    def expire() -> None:
        if place.snapshots():
            place.memory.expire_snapshot("s")

    place.store.before_read = expire  # type: ignore[method-assign]
    with pytest.raises(SnapshotNotFoundError):
        export_dataset(place.memory, place.out / "d", format=dataset_format, snapshot="s")
    assert place.leftovers() == []


def test_a_value_that_went_with_its_snapshot_is_not_replaced_by_a_later_one(
    place: Place, dataset_format: str
) -> None:
    place.memory.store("k", "then" * 1000)
    place.memory.create_snapshot("s")

    def go_on() -> None:
        place.store.before_read = lambda: None  # type: ignore[method-assign]
        place.memory.store("k", "now" * 1000)
        place.memory.expire_snapshot("s")

    place.store.before_read = go_on  # type: ignore[method-assign]
    with pytest.raises(SnapshotNotFoundError):
        export_dataset(place.memory, place.out / "d", format=dataset_format, snapshot="s")
    assert place.leftovers() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "csv"}, "format: expected parquet, duckdb, ducklake"),
        ({"format": "duckdb", "partition_by": ["a"]}, "partition_by: is for parquet"),
        ({"format": "parquet", "partition_by": "type"}, "expected a list"),
        ({"format": "parquet", "partition_by": ["Key"]}, "the name of another column"),
        ({"format": "parquet", "partition_by": ["a", "A"]}, "the name of another column"),
        ({"format": "parquet", "partition_by": [""]}, "expected names of 1 to 64 bytes"),
        ({"format": "parquet", "partition_by": ["/" * 30]}, "expected names of 1 to 64 bytes"),
        ({"format": "parquet", "partition_by": ["a\0"]}, "holds NUL"),
        ({"format": "parquet", "partition_by": list("abcde")}, "at most 4"),
        ({"format": "parquet", "prefix": "\ud800"}, "lone surrogate"),
    ],
)
def test_bad_arguments_are_refused(place: Place, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        export_dataset(place.memory, place.out / "dataset", **options)
    assert place.leftovers() == []
    assert place.snapshots() == []


def test_an_unknown_snapshot_is_refused(place: Place, dataset_format: str) -> None:
    with pytest.raises(SnapshotNotFoundError):
        export_dataset(place.memory, place.out / "d", format=dataset_format, snapshot="nowhere")
    assert place.leftovers() == []


def test_what_is_not_committed_is_not_published(place: Place) -> None:
    with (
        place.memory.transaction() as memory,
        pytest.raises(ValidationError, match="not committed yet"),
    ):
        export_dataset(memory, place.out / "dataset", format="parquet")
    with place.memory.transaction(), pytest.raises(ValidationError, match="not committed yet"):
        export_dataset(place.memory, place.out / "dataset", format="parquet")


def test_a_disk_that_is_full_fails_the_export(place: Place, dataset_format: str) -> None:
    for number in range(10):
        place.memory.store(f"{number}", os.urandom(50_000).hex())
    place.memory.create_snapshot("s")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(PayloadError, match="File too large"):
            export_dataset(place.memory, place.out / "dataset", format=dataset_format, snapshot="s")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert place.leftovers() == []


def test_a_name_that_is_too_long_is_refused_before_work_begins(
    place: Place, dataset_format: str
) -> None:
    place.fill()
    with pytest.raises(PayloadError, match="File name too long"):
        export_dataset(place.memory, place.out / ("é" * 200), format=dataset_format)
    assert [call for call, _ in place.store.calls if call == "read"] == []
    path = place.out / ("é" * 120)
    export_dataset(place.memory, path, format=dataset_format)
    assert READERS[dataset_format](path) == place.rows()
