"""Every row of an old database arrives once, with its value, metadata, times and expiry."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from old_database import (
    NOW,
    TIME,
    Target,
    as_text,
    assert_carried,
    bad_rows,
    build,
    change,
    good_rows,
    row,
)

import ltm
from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.errors import IntegrityError, ValidationError
from ltm.legacy import MigrationReport, migrate_sqlite_backend

REAL = Path(__file__).parents[3] / "shared" / "data" / "sqlite_backend_v1.db"

EXPIRED = [f"cache:old:{n}" for n in range(8)] + ["cache:naive:old", "cache:at"]


def test_every_row_arrives_type_for_type_with_metadata_times_and_expiry(
    old: Path, target: Target
) -> None:
    report = migrate_sqlite_backend(old, target.open())
    carried = len(good_rows())
    assert (report.total, report.migrated, report.unchanged) == (carried + 3, carried, 0)
    assert (report.kept, report.expired, report.verified) == (0, len(EXPIRED), carried)
    assert [found.key for found in report.rejected] == [key for key, *_ in bad_rows()]
    assert not report.is_complete
    assert not report.dry_run
    assert_carried(target, good_rows())


def test_a_real_database_arrives_whole_and_a_second_run_changes_nothing(target: Target) -> None:
    if not REAL.exists():
        pytest.skip(f"no real database at {REAL}")
    import sqlite3

    with sqlite3.connect(f"file:{REAL}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT key, value, metadata, created_at, updated_at"
                                  " FROM ltm_store ORDER BY rowid").fetchall()  # fmt: skip
    connection.close()
    memory = target.open(clock=lambda: datetime(2026, 11, 22, tzinfo=UTC))
    first = migrate_sqlite_backend(REAL, memory)
    assert (first.total, first.migrated, first.verified, first.expired) == (516, 513, 513, 70)
    rejected = [found.key for found in first.rejected]
    assert rejected == ["odd:nan", "broken:value", "broken:metadata"]
    assert memory.stats()["entries"] == 513 - 70
    assert_carried(target, [found for found in rows if found[0] not in rejected])
    before = target.rows(), target.files()
    second = migrate_sqlite_backend(REAL, memory)
    assert second == replace(first, migrated=0, unchanged=513)
    assert (target.rows(), target.files()) == before


def test_a_second_run_changes_nothing(old: Path, target: Target) -> None:
    first = migrate_sqlite_backend(old, target.open())
    before = target.rows(), target.files()
    target.clock.advance(1)
    second = migrate_sqlite_backend(old, target.open(), batch_size=7)
    assert second.migrated == 0
    assert second.unchanged == second.verified == first.migrated
    assert (target.rows(), target.files()) == before


def test_expired_rows_are_in_the_catalog_and_nobody_sees_them(old: Path, target: Target) -> None:
    memory = target.open()
    migrate_sqlite_backend(old, memory)
    assert sorted(memory.retrieve_batch(EXPIRED)["missing"]) == sorted(EXPIRED)
    assert not memory.retrieve("cache:at")["found"]
    assert memory.retrieve("cache:naive:new")["found"]
    assert memory.stats()["expired"] == len(EXPIRED)
    cached = memory.search(metadata_filter={"_cache_action": "llm.call"}, limit=100)
    assert cached["count"] == 20 - len(EXPIRED)


def test_expired_rows_that_were_cleaned_up_come_again_as_expired(old: Path, target: Target) -> None:
    memory = target.open()
    first = migrate_sqlite_backend(old, memory)
    assert memory.cleanup_expired()["deleted"] == len(EXPIRED)
    second = migrate_sqlite_backend(old, memory)
    assert second.migrated == len(EXPIRED)
    assert second.unchanged == first.migrated - len(EXPIRED)
    assert memory.retrieve_batch(EXPIRED)["found"] == 0


def test_an_entry_that_the_new_system_changed_is_kept(old: Path, target: Target) -> None:
    memory = target.open()
    first = migrate_sqlite_backend(old, memory)
    memory.store("notes:1", "new value", {"type": "note"})
    memory.store("notes:2", {"note": "remember 2"}, {"type": "other metadata"})
    memory.store("cache:new:1", {"result": {"output": "x" * 400}}, ttl=60)
    before = target.rows()
    second = migrate_sqlite_backend(old, memory)
    assert (second.kept, second.migrated) == (3, 0)
    assert second.unchanged == second.verified == first.migrated - 3
    assert target.rows() == before


def test_an_entry_that_the_old_system_changed_since_is_brought_up_to_date(
    old: Path, target: Target
) -> None:
    memory = target.open()
    migrate_sqlite_backend(old, memory)
    later = "2029-01-01 00:00:00"
    change(old, "UPDATE ltm_store SET value = '7', updated_at = ? WHERE key = 'docs:3'", later)
    report = migrate_sqlite_backend(old, memory)
    assert (report.migrated, report.kept) == (1, 0)
    entry = memory.catalog.get_entry("docs:3")
    assert entry is not None
    assert entry["inlined_value"] == 7
    assert entry["updated_at"] == datetime(2029, 1, 1, tzinfo=UTC)


def test_an_expired_entry_of_the_new_system_gives_way(old: Path, target: Target) -> None:
    memory = target.open()
    memory.store("notes:1", "short-lived", ttl=1)
    target.clock.advance(2)
    report = migrate_sqlite_backend(old, memory)
    assert report.kept == 0
    assert memory.retrieve("notes:1")["value"] == {"note": "remember 1"}


def test_the_same_content_stored_by_the_new_system_stays_as_it_is(
    old: Path, target: Target
) -> None:
    memory = target.open()
    memory.store("notes:1", {"note": "remember 1"}, {"type": "note", "index": 1, "lang": "en"})
    report = migrate_sqlite_backend(old, memory)
    assert (report.unchanged, report.kept) == (1, 0)
    entry = memory.catalog.get_entry("notes:1")
    assert entry is not None
    assert entry["updated_at"] == NOW


def test_a_dry_run_reports_everything_and_writes_nothing(
    old: Path, target: Target, in_an_empty_directory: Path
) -> None:
    memory = target.open()
    memory.store("notes:1", "newer")
    before = target.rows(), target.files()
    dry = migrate_sqlite_backend(old, memory, dry_run=True)
    assert (target.rows(), target.files()) == before
    assert list(in_an_empty_directory.iterdir()) == []
    assert dry.dry_run
    wet = migrate_sqlite_backend(old, memory)
    assert wet.rejected_path is not None
    assert dry == replace(wet, dry_run=True, verified=0, rejected_path=None)
    assert migrate_sqlite_backend(old, memory, dry_run=True) == replace(
        dry, migrated=0, unchanged=dry.migrated
    )


def test_progress_is_told_after_every_page(old: Path, target: Target) -> None:
    told: list[tuple[int, int]] = []
    total = len(good_rows()) + 3
    migrate_sqlite_backend(
        old, target.open(), batch_size=30, progress=lambda *done: told.append(done)
    )
    assert told == [(done, total) for done in (*range(30, total, 30), total)]


def test_pages_are_read_and_stored_one_at_a_time(old: Path, target: Target) -> None:
    memory = target.open()
    counts: list[tuple[int, int]] = []

    def count(done: int, _: int) -> None:
        stats = memory.stats()
        counts.append((done, stats["entries"] + stats["expired"]))

    migrate_sqlite_backend(old, memory, batch_size=5, progress=count)
    assert counts[:3] == [(5, 5), (10, 10), (15, 15)]


def test_a_page_of_large_values_ends_early(tmp_path: Path, target: Target) -> None:
    megabytes = [row(f"large:{n}", "x" * 5_000_000) for n in range(5)]
    told: list[int] = []
    migrate_sqlite_backend(
        build(tmp_path / "large.db", megabytes),
        target.open(),
        progress=lambda done, _: told.append(done),
    )
    assert told == [4, 5]


def test_rows_are_found_wherever_their_rowids_are(tmp_path: Path, target: Target) -> None:
    rows = [row(f"k{n}", n) for n in range(5)]
    old = build(tmp_path / "sparse.db", rows)
    for key, rowid in (("k1", -(2**63)), ("k2", -5), ("k3", 2**63 - 1), ("k4", 10**12)):
        change(old, "UPDATE ltm_store SET rowid = ? WHERE key = ?", rowid, key)
    assert migrate_sqlite_backend(old, target.open(), batch_size=1).migrated == 5
    assert_carried(target, rows)


def test_an_empty_database_is_migrated_at_once(tmp_path: Path, target: Target) -> None:
    report = migrate_sqlite_backend(build(tmp_path / "empty.db", []), target.open())
    assert report == MigrationReport(
        total=0, migrated=0, unchanged=0, kept=0, expired=0, rejected=(), rejected_path=None,
        verified=0, dry_run=False,
    )  # fmt: skip
    assert report.is_complete


@pytest.mark.parametrize(
    ("created", "updated", "expected"),
    [
        ("2026-11-22 07:31:15.250", TIME, (15, 250_000)),
        ("2026-11-22T07:31:15", TIME, (15, 0)),
        ("2026-11-22T07:31:15Z", TIME, (15, 0)),
        ("2026-11-22T09:31:15+02:00", TIME, (15, 0)),
        (None, TIME, (15, 0)),
        (TIME, None, (15, 0)),
    ],
)
def test_times_in_other_shapes_are_read_as_utc(
    tmp_path: Path, target: Target, created: Any, updated: Any, expected: tuple[int, int]
) -> None:
    memory = target.open()
    old = build(tmp_path / "times.db", [row("k", 1, None, created, updated)])
    assert migrate_sqlite_backend(old, memory).is_complete
    entry = memory.catalog.get_entry("k")
    assert entry is not None
    second, microsecond = expected
    assert entry["created_at"] == datetime(2026, 11, 22, 7, 31, second, microsecond, UTC)
    assert entry["updated_at"] == datetime(2026, 11, 22, 7, 31, 15, tzinfo=UTC)


def test_a_row_without_times_gets_those_of_its_arrival(tmp_path: Path, target: Target) -> None:
    memory = target.open()
    old = build(tmp_path / "timeless.db", [row("k", 1, None, None, None)])
    migrate_sqlite_backend(old, memory)
    target.clock.advance(1)
    assert migrate_sqlite_backend(old, memory).unchanged == 1
    entry = memory.catalog.get_entry("k")
    assert entry is not None
    assert entry["created_at"] == entry["updated_at"] == NOW
    memory.store("k", 2)
    assert migrate_sqlite_backend(old, memory).kept == 1


@pytest.mark.parametrize(
    "metadata", [{"ttl": 5}, {"expires_at": "2020-01-01"}, {"ttl": "soon", "expires_at": [1]}]
)
def test_words_that_meant_nothing_to_the_old_backend_let_no_row_expire(
    tmp_path: Path, target: Target, metadata: dict[str, Any]
) -> None:
    memory = target.open()
    old = build(tmp_path / "words.db", [row("k", 1, metadata)])
    assert migrate_sqlite_backend(old, memory).migrated == 1
    target.clock.advance(10)
    assert migrate_sqlite_backend(old, memory).unchanged == 1
    target.clock.advance(timedelta(days=365 * 1000).total_seconds())
    assert as_text(memory.retrieve("k")["metadata"]) == as_text(metadata)


def test_an_expiry_at_the_beginning_of_time_is_carried(tmp_path: Path, target: Target) -> None:
    old = build(
        tmp_path / "ancient.db", [row("k", 1, {"_cache_expires_at": "0001-01-01T00:00:00"})]
    )
    assert migrate_sqlite_backend(old, target.open()).expired == 1
    assert migrate_sqlite_backend(old, target.open()).unchanged == 1


def test_of_equal_keys_in_an_object_the_last_counts(tmp_path: Path, target: Target) -> None:
    memory = target.open()
    old = build(tmp_path / "twice.db", [("k", '{"a": 1, "a": 2}', "null", TIME, TIME)])
    assert migrate_sqlite_backend(old, memory).is_complete
    assert memory.retrieve("k")["value"] == {"a": 2}
    assert memory.retrieve("k")["metadata"] == {}


def test_the_words_of_migrated_values_are_found(old: Path, target: Target) -> None:
    memory = target.open()
    migrate_sqlite_backend(old, memory)
    assert memory.search("remember 13", limit=1)["results"][0]["key"] == "notes:13"
    assert memory.search(metadata_filter={"type": "document"}, limit=50)["count"] == 10


class Distorting(DuckDBLTMBackend):
    """A backend that answers success for something else than it was given."""

    def store_batch(self, entries: Any, **options: Any) -> Any:
        return super().store_batch(list(self.distort(list(entries))), **options)

    def distort(self, entries: list[Any]) -> list[Any]:
        raise NotImplementedError


class Losing(Distorting):
    def distort(self, entries: list[Any]) -> list[Any]:
        return entries[:-1]


class Swapping(Distorting):
    def distort(self, entries: list[Any]) -> list[Any]:
        return [{**entry, "value": [entry["value"]]} for entry in entries]


class Renewing(Swapping):
    def distort(self, entries: list[Any]) -> list[Any]:
        return [{**entry, "updated_at": None} for entry in super().distort(entries)]


class Immortalising(Distorting):
    def distort(self, entries: list[Any]) -> list[Any]:
        return [{**entry, "expires_at": datetime(9000, 1, 1, tzinfo=UTC)} for entry in entries]


@pytest.mark.parametrize("kind", [Losing, Swapping, Renewing, Immortalising])
def test_what_did_not_arrive_as_it_was_is_found_out(
    old: Path, target: Target, kind: type[Distorting]
) -> None:
    memory = kind(target.open().catalog, str(target.storage))
    with pytest.raises(IntegrityError):
        migrate_sqlite_backend(old, memory)
    memory.close()


def test_an_entry_that_others_change_during_a_run_is_found_out_and_kept_by_the_next(
    old: Path, target: Target
) -> None:
    memory = target.open()

    def change_one(done: int, total: int) -> None:
        if done == total:
            memory.store("notes:1", "changed meanwhile")

    with pytest.raises(IntegrityError, match="if others write to the same keys, run again"):
        migrate_sqlite_backend(old, memory, progress=change_one)
    assert migrate_sqlite_backend(old, memory).kept == 1
    assert memory.retrieve("notes:1")["value"] == "changed meanwhile"


def test_metadata_of_any_numbers_is_unchanged_when_it_is_migrated_again(
    tmp_path: Path, target: Target
) -> None:
    numbers = {"big": 1e16, "zero": -0.0, "most": 1.7976931348623157e308, "part": 0.1}
    old = build(tmp_path / "old.db", [row("k", 1, numbers), row("m", 1, {"one": 1})])
    memory = target.open()
    migrate_sqlite_backend(old, memory)
    assert memory.retrieve("k")["metadata"] == numbers
    assert migrate_sqlite_backend(old, memory).unchanged == 2
    change(target.catalog, """UPDATE ltm_entries SET metadata = '{"one": true}' WHERE key = 'm'""")
    assert migrate_sqlite_backend(old, memory).migrated == 1


def test_a_payload_that_was_damaged_or_lost_is_found_out(old: Path, target: Target) -> None:
    memory = target.open()
    migrate_sqlite_backend(old, memory)
    victim = next(path for path in target.storage.rglob("*") if path.is_file())
    content = victim.read_bytes()
    victim.chmod(0o600)
    victim.write_bytes(content.replace(b"x", b"y").replace(b"part", b"trap"))
    with pytest.raises(IntegrityError, match=r"memory\.db: row \d+, key"):
        migrate_sqlite_backend(old, memory)
    victim.unlink()
    with pytest.raises(IntegrityError, match="gone"):
        migrate_sqlite_backend(old, memory)


def test_a_report_cannot_be_changed(old: Path, target: Target) -> None:
    report = migrate_sqlite_backend(old, target.open(), dry_run=True)
    with pytest.raises(FrozenInstanceError):
        report.total = 1  # type: ignore[misc]  # what must fail
    assert ltm.migrate_sqlite_backend is migrate_sqlite_backend


@pytest.mark.parametrize("size", [0, -1, True, 1.5, None])
def test_a_bad_batch_size_is_refused(old: Path, target: Target, size: Any) -> None:
    with pytest.raises(ValidationError, match="batch_size"):
        migrate_sqlite_backend(old, target.open(), batch_size=size)


def test_something_that_is_no_backend_is_refused(old: Path) -> None:
    with pytest.raises(ValidationError, match="backend"):
        migrate_sqlite_backend(old, object())  # type: ignore[arg-type]  # what must fail


def test_values_equal_what_the_old_backend_read(old: Path, target: Target) -> None:
    migrate_sqlite_backend(old, target.open())
    memory = target.open_before_all_expiries()
    found = {key: value for key, value, _ in memory.iterate_all()}
    assert found == {key: json.loads(value) for key, value, *_ in good_rows()}
