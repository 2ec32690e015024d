"""What every dataset promises, whatever its format."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import threading
from pathlib import Path
from typing import Any

import pytest
from dataset_place import READERS, VALUES, Place

from ltm.errors import (
    IntegrityError,
    PayloadError,
    PayloadNotFoundError,
    SnapshotNotFoundError,
    ValidationError,
)
from ltm.testing.clock import FakeClock
from ltm.transfer import DatasetReport, dataset_duckdb, export_dataset


def damage(place: Place, key: str) -> Path:
    """Return the file of the payload of *key*, about to be damaged."""
    row = place.catalog.read_many([key], place.catalog.clock())[key]
    assert row.storage_uri is not None
    return place.directory / "payloads" / row.storage_uri


def test_a_dataset_holds_every_entry_as_it_is(place: Place, dataset_format: str) -> None:
    place.fill()
    path = place.out / "dataset"
    report = export_dataset(place.memory, path, format=dataset_format)
    rows = READERS[dataset_format](path)
    assert rows == place.rows()
    assert [row.key for row in rows] == sorted(VALUES)
    # -0.0 == 0.0 and 1 == 1.0, so it is their texts that tell.
    assert {row.key: row.value for row in rows} == {
        key: json.dumps(value, sort_keys=True) for key, value in VALUES.items()
    }
    assert report.total == len(VALUES)
    assert report.destination == str(path)
    assert place.leftovers()[0] == "dataset"


def test_a_dataset_of_nothing_has_its_columns(place: Place, dataset_format: str) -> None:
    path = place.out / "dataset"
    assert export_dataset(place.memory, path, format=dataset_format).total == 0
    assert READERS[dataset_format](path) == []


def test_a_report_counts_files_and_bytes(place: Place, dataset_format: str) -> None:
    place.fill()
    path = place.out / "dataset"
    report = export_dataset(place.memory, path, format=dataset_format)
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    files = [each for each in files if each.name != "_manifest.json"]
    byte_size = sum(each.stat().st_size for each in files)
    assert report == DatasetReport(
        total=len(VALUES), byte_size=byte_size, files=len(files), destination=str(path)
    )


@pytest.mark.parametrize("dataset_format", ["parquet", "ducklake"])
def test_a_manifest_tells_the_files_and_the_point(place: Place, dataset_format: str) -> None:
    place.fill()
    snapshot = place.memory.create_snapshot("s")
    path = place.out / "dataset"
    report = export_dataset(place.memory, path, format=dataset_format, snapshot="s")
    manifest: dict[str, Any] = json.loads((path / "_manifest.json").read_text())
    assert manifest["dataset"] == dataset_format
    assert manifest["entries"] == len(VALUES)
    assert manifest["snapshot"]["id"] == snapshot["snapshot_id"]
    found = {
        str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()
    }
    found.pop("_manifest.json")
    assert {each["path"] for each in manifest["files"]} == found.keys()
    for each in manifest["files"]:
        content = found[each["path"]]
        assert each["byte_size"] == len(content)
        assert each["sha256"] == hashlib.sha256(content).hexdigest()
    assert sum(each["rows"] or 0 for each in manifest["files"]) == report.total


def test_a_snapshot_is_exported_as_it_was(
    place: Place, clock: FakeClock, dataset_format: str
) -> None:
    place.fill()
    place.memory.create_snapshot("then")
    before = place.rows()
    for key in list(VALUES)[::2]:
        place.memory.delete(key)
    place.memory.store("a/false", "replaced", {"type": "new"})
    place.memory.store("new", 1)
    clock.advance(seconds=3600)
    place.memory.cleanup_expired()
    path = place.out / "dataset"
    export_dataset(place.memory, path, format=dataset_format, snapshot="then")
    assert READERS[dataset_format](path) == before == place.rows("then")
    assert place.snapshots() == ["then"]


def test_the_present_is_without_what_has_expired(place: Place, clock: FakeClock) -> None:
    place.fill()
    clock.advance(seconds=3600)
    report = export_dataset(place.memory, place.out / "dataset", format="parquet")
    assert report.total == sum(number % 3 != 0 for number in range(len(VALUES)))


def test_only_keys_with_the_prefix_are_exported(place: Place, dataset_format: str) -> None:
    place.fill()
    path = place.out / "dataset"
    export_dataset(place.memory, path, format=dataset_format, prefix="a/")
    assert READERS[dataset_format](path) == [
        row for row in place.rows() if row.key.startswith("a/")
    ]


def test_the_snapshot_that_was_taken_for_it_is_gone_afterwards(
    place: Place, dataset_format: str
) -> None:
    place.fill()
    place.memory.create_snapshot("mine")
    taken: list[str] = []
    export_dataset(
        place.memory,
        place.out / "dataset",
        format=dataset_format,
        progress=lambda *_: taken.extend(place.snapshots()),
    )
    assert taken[0] == "mine"
    assert taken[1].startswith("export-")
    assert place.snapshots() == ["mine"]


def test_writers_that_go_on_are_not_seen(place: Place, dataset_format: str) -> None:
    """Each write replaces all keys in one transaction, so any mixture would show."""
    keys = [f"{number:04}" for number in range(1200)]
    stop, generations = threading.Event(), [0]

    def write(generation: int) -> None:
        values = [f"{generation} {'x' * 2000 * (number % 100 == 0)}" for number in range(len(keys))]
        place.memory.store_batch(
            [{"key": key, "value": value} for key, value in zip(keys, values, strict=True)],
            atomic=True,
        )

    def keep_writing() -> None:
        while not stop.is_set():
            write(generations[-1] + 1)
            generations.append(generations[-1] + 1)

    def wait_for_writer() -> None:
        # The first reads come after another generation has replaced what they are about.
        seen = generations[-1]
        while len(waited) < 4 and generations[-1] < seen + 2 and writer.is_alive():
            stop.wait(0.001)
        waited.append(seen)

    write(0)
    waited: list[int] = []
    place.store.before_read = wait_for_writer  # type: ignore[method-assign]
    writer = threading.Thread(target=keep_writing)
    writer.start()
    path = place.out / "dataset"
    try:
        export_dataset(place.memory, path, format=dataset_format)
    finally:
        stop.set()
        writer.join()
    rows = READERS[dataset_format](path)
    assert [row.key for row in rows] == keys
    (seen,) = {int(json.loads(row.value).split()[0]) for row in rows}
    assert generations[-1] >= seen + 2
    assert place.snapshots() == []


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


def test_the_rights_of_a_dataset_are_the_usual_ones(place: Place, dataset_format: str) -> None:
    place.fill()
    path = place.out / "dataset"
    export_dataset(place.memory, path, format=dataset_format)
    (place.out / "plain").mkdir()
    (place.out / "plain" / "file").touch()
    plain = place.out / "plain"
    for each in [path, *path.rglob("*")]:
        usual = plain if each.is_dir() else plain / "file"
        assert os.stat(each).st_mode == os.stat(usual).st_mode, each


def test_values_larger_than_duckdb_may_use_are_exported(
    place: Place, dataset_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_duckdb, "MEMORY_LIMIT", 64 * 2**20)
    noise = os.urandom(500_000).hex()
    for number in range(100):
        place.memory.store(f"{number:03}", f"{number} {noise}")
    path = place.out / "dataset"
    export_dataset(place.memory, path, format=dataset_format)
    assert [row.content_hash for row in READERS[dataset_format](path)] == [
        row.content_hash for row in place.catalog.iterate("", place.catalog.clock)
    ]
