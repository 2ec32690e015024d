"""What every dataset promises, whatever its format."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from typing import Any

import pytest
from dataset_place import READERS, VALUES, Place

from ltm.testing.clock import FakeClock
from ltm.transfer import DatasetReport, dataset_duckdb, duckdb_table, export_dataset


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
    for module in (dataset_duckdb, duckdb_table):
        monkeypatch.setattr(module, "MEMORY_LIMIT", 8 * 2**20)
    noise = os.urandom(500_000).hex()
    for number in range(100):
        place.memory.store(f"{number:03}", f"{number} {noise}")
    path = place.out / "dataset"
    export_dataset(place.memory, path, format=dataset_format)
    assert [row.content_hash for row in READERS[dataset_format](path)] == [
        row.content_hash for row in place.catalog.iterate("", place.catalog.clock)
    ]
