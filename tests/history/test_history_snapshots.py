"""What snapshots keep, what they cost, and what has changed since one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from history_killing import LARGE, SMALL
from place import Place

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.database import Database
from ltm.catalog.sql import SQLCatalog
from ltm.catalog.sql_history import SQLHistory
from ltm.errors import SnapshotNotFoundError
from ltm.sql.sqlite import SQLitePool
from ltm.testing.clock import FakeClock
from tests.sql.counting import CountingPool

KEPT = {
    "overwritten": LARGE + "overwritten",
    "deleted": LARGE + "deleted",
    "expired": LARGE + "expired",
    "cleaned": LARGE + "cleaned",
    "small": SMALL,
}


def content(memory: DuckDBLTMBackend, snapshot: str | None = None) -> dict[str, Any]:
    return {key: value for key, value, _ in memory.iterate_all(snapshot=snapshot)}


def ruin(memory: DuckDBLTMBackend, clock: FakeClock) -> None:
    """Leave nothing of what is kept in the present."""
    memory.store("overwritten", SMALL + "later")
    memory.store("small", LARGE + "later")
    memory.delete("deleted")
    clock.advance(10)
    assert memory.cleanup_expired(1)["deleted"] == 1
    memory.store("expired", LARGE + "again")
    assert memory.gc(grace=0)["success"]


def test_values_of_a_snapshot_outlive_their_keys_and_go_with_it(
    memory: DuckDBLTMBackend, place: Place, clock: FakeClock
) -> None:
    for key, value in KEPT.items():
        seconds = {"cleaned": 4, "expired": 5}.get(key)
        assert memory.store(key, value, {"key": key}, ttl=seconds)["success"]
    for name in ("first", "second"):
        memory.create_snapshot(name)
    kept = place.files()
    ruin(memory, clock)
    assert kept < place.files()
    for name in ("first", "second"):
        for _ in range(2):
            assert content(memory, name) == KEPT
            assert memory.verify()["success"]
            for key, value in KEPT.items():
                answer = memory.retrieve(key, snapshot=name)
                assert (answer["value"], answer["metadata"]) == (value, {"key": key})
        # Those of the first go on living for the second.
        assert kept <= place.files()
        assert memory.expire_snapshot(name)["errors"] == []
    assert not kept & place.files()
    assert place.files() == place.referenced()
    assert place.scheduled() == set()
    assert place.rows("SELECT * FROM ltm_entry_versions") == []


def test_a_damaged_value_of_a_snapshot_is_never_given_out(
    memory: DuckDBLTMBackend, place: Place
) -> None:
    memory.store("k", LARGE)
    memory.create_snapshot("s")
    (path,) = place.files()
    memory.store("k", SMALL)
    (place.storage / path).write_bytes(b'"' + b"x" * (len(LARGE)) + b'"')
    assert memory.retrieve("k", snapshot="s")["error_type"] == "integrity_error"
    assert memory.restore("s")["error_type"] == "integrity_error"
    assert content(memory) == {"k": SMALL}


def counts(place: Place) -> dict[str, int]:
    return {name: len(rows) for name, rows in place.dump().items()}


def test_a_snapshot_of_many_entries_costs_what_one_of_none_does(place: Place) -> None:
    pool = CountingPool(SQLitePool(str(place.catalog), durability="normal", busy_timeout=30))
    catalog = SQLCatalog(Database(pool, "sqlite"))
    with DuckDBLTMBackend(catalog, str(place.storage), owns_catalog=True) as memory:
        memory.create_snapshot("none")
        del pool.calls[:]
        memory.create_snapshot("none again")
        statements = list(pool.calls)
        assert memory.store_batch([(f"k{number:05}", number) for number in range(10_000)])[
            "success"
        ]
        before = counts(place)
        del pool.calls[:]
        memory.create_snapshot("many")
        assert pool.calls == statements
        assert counts(place) == {**before, "ltm_snapshots": before["ltm_snapshots"] + 1}
        # Only what changes is kept.
        memory.store_batch([(f"k{number:05}", "new") for number in range(7)])
        after = counts(place)
        assert after["ltm_entry_versions"] == 7
        assert after["ltm_entries"] == 10_000
        # Once for all later changes.
        memory.store_batch([(f"k{number:05}", "newer") for number in range(7)])
        assert counts(place) == after
        assert memory.retrieve("k00003", snapshot="many")["value"] == 3


def test_without_a_snapshot_that_sees_it_no_version_is_kept(
    memory: DuckDBLTMBackend, place: Place
) -> None:
    def versions() -> int:
        return len(place.rows("SELECT * FROM ltm_entry_versions"))

    memory.store("old", LARGE)
    memory.store("old", LARGE + "!")
    memory.delete("old")
    assert (versions(), place.files()) == (0, set())
    memory.create_snapshot("s")
    memory.store("new", LARGE)
    memory.store("new", LARGE + "!")
    memory.delete("new")
    assert (versions(), place.files()) == (0, set())
    memory.store("kept", LARGE)
    memory.expire_snapshot("s")
    memory.store("kept", SMALL)
    assert (versions(), place.files()) == (0, set())


def test_an_unknown_snapshot_is_never_taken_for_another(memory: DuckDBLTMBackend) -> None:
    memory.store("k", 1)
    known = memory.create_snapshot("known")["snapshot_id"]
    gone = memory.create_snapshot("gone")["snapshot_id"]
    memory.expire_snapshot(gone)
    for unknown in ("nobody", "", gone, "gone", known[:-1], known.upper() + "x"):
        for answer in (
            memory.retrieve("k", snapshot=unknown),
            memory.search(metadata_filter={}, snapshot=unknown),
            memory.restore(unknown),
            memory.expire_snapshot(unknown),
        ):
            assert (answer["success"], answer["error_type"]) == (False, "snapshot_not_found")
        for iterate in (
            lambda name=unknown: memory.iterate_all(snapshot=name),
            lambda name=unknown: memory.diff(known, name),
            lambda name=unknown: memory.diff(name, known),
            lambda name=unknown: memory.changes(name),
            lambda name=unknown: memory.catalog.get_changed_entries(name),
        ):
            with pytest.raises(SnapshotNotFoundError):
                next(iter(iterate()))
    assert content(memory) == {"k": 1}


def test_more_changes_than_a_page_holds_are_all_told(memory: DuckDBLTMBackend) -> None:
    count = 1234
    memory.store_batch([(f"old{number:04}", number) for number in range(count)])
    memory.create_snapshot("a")
    memory.store_batch([(f"new{number:04}", number) for number in range(count)])
    memory.store_batch([(f"old{number:04}", -1 - number) for number in range(count)])
    memory.create_snapshot("b")
    expected = [("added", f"new{number:04}") for number in range(count)]
    expected += [("modified", f"old{number:04}") for number in range(count)]
    for found in (memory.changes("a"), memory.diff("a", "b")):
        assert [(each["op"], each["key"]) for each in found] == expected
    assert len(memory.catalog.get_changed_entries("a")) == 2 * count
    assert len(list(memory.changes(None))) == 2 * count
    assert memory.restore("a")["deleted"] == count
    assert content(memory) == {f"old{number:04}": number for number in range(count)}
    assert list(memory.changes("a")) == []


def test_changes_are_of_value_metadata_expiry_and_existence(
    memory: DuckDBLTMBackend, clock: FakeClock
) -> None:
    later = clock() + timedelta(days=1)
    for key in ("metadata", "type", "ttl", "value", "deleted", "same", "rewritten"):
        memory.store(key, LARGE, {"n": 1})
    memory.store("expires", LARGE, {"n": 1}, ttl=5)
    memory.store("extended", 1, expires_at=later)
    memory.create_snapshot("a")
    memory.store("metadata", LARGE, {"n": 2})
    memory.store("type", LARGE, {"n": 1.0})
    memory.store("ttl", LARGE, {"n": 1}, expires_at=later)
    memory.store("extended", 1)
    memory.store("value", LARGE + "!", {"n": 1})
    memory.delete("deleted")
    memory.store("same", LARGE, {"n": 1})
    memory.store("rewritten", 1)
    memory.store("rewritten", LARGE, {"n": 1})
    memory.store("fleeting", 1)
    memory.delete("fleeting")
    memory.store("added", 1)
    clock.advance(5)
    expected = {
        "added": "added",
        "deleted": "deleted",
        "expires": "deleted",
        "extended": "modified",
        "metadata": "modified",
        "ttl": "modified",
        "type": "modified",
        "value": "modified",
    }
    found = {each["key"]: each for each in memory.changes("a")}
    assert {key: each["op"] for key, each in found.items()} == expected
    assert list(found) == sorted(expected)
    assert found["metadata"]["metadata"] == {"n": 2}
    assert found["metadata"]["content_hash"] == found["metadata"]["previous_hash"]
    assert found["ttl"]["expires_at"] == later
    assert found["added"]["previous_hash"] is None
    memory.create_snapshot("b")
    memory.cleanup_expired()
    assert {each["key"]: each for each in memory.diff("a", "b")} == found
    back = {each["key"]: each["op"] for each in memory.diff("b", "a")}
    opposite = {"added": "deleted", "deleted": "added", "modified": "modified"}
    assert back == {key: opposite[op] for key, op in expected.items()}


def test_a_clock_that_goes_back_hides_no_change(memory: DuckDBLTMBackend, clock: FakeClock) -> None:
    memory.store("k", 1, ttl=5)
    memory.create_snapshot("a")
    clock.advance(10)
    memory.create_snapshot("b")
    # The next process's clock is behind the one that took the snapshot.
    clock.advance(-7)
    assert (content(memory, "a"), content(memory, "b")) == ({"k": 1}, {})
    assert [each["op"] for each in memory.diff("a", "b")] == ["deleted"]


def test_what_a_clock_that_goes_back_brings_back_is_told(
    memory: DuckDBLTMBackend, clock: FakeClock
) -> None:
    memory.store("k", 1, ttl=7)
    clock.advance(10)
    memory.create_snapshot("a")
    clock.advance(-5)
    memory.create_snapshot("b")
    assert (content(memory, "a"), content(memory, "b")) == ({}, {"k": 1})
    assert [each["op"] for each in memory.diff("a", "b")] == ["added"]


@pytest.mark.parametrize("at_once", [1, 7, 30])
def test_changes_are_told_however_many_keys_are_asked_for_at_once(
    memory: DuckDBLTMBackend, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(SQLHistory, "keys_at_once", at_once)
    keys = [f"k{number:02}" for number in range(30)]
    memory.store_batch([(key, "old") for key in keys[:20]])
    memory.create_snapshot("s")
    memory.store_batch([(key, "new") for key in keys[10:]])
    memory.delete("k00")
    told = [(each["op"], each["key"]) for each in memory.changes("s")]
    modified = [("modified", key) for key in keys[10:20]]
    assert told == [("deleted", "k00"), *modified, *(("added", key) for key in keys[20:])]
