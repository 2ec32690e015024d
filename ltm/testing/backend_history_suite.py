"""What every LTM backend must do in time: snapshots, transactions, garbage, verification."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.entry import JSONValue
from ltm.errors import ClosedError, ConflictError, SnapshotNotFoundError, ValidationError
from ltm.locations import object_path
from ltm.testing.backend_fixtures import (
    LARGE,
    SMALL,
    BackendFixtures,
    BackendMaker,
    payloads_of,
)
from ltm.testing.clock import FakeClock


def contents(memory: DuckDBLTMBackend, snapshot: str | None = None) -> dict[str, JSONValue]:
    """Return all values by key, as of *snapshot* or now."""
    return {key: value for key, value, _ in memory.iterate_all(snapshot=snapshot)}


def operations(changes: Any) -> list[tuple[str, str]]:
    """Return what happened to which key."""
    return [(change["op"], change["key"]) for change in changes]


class BackendHistorySuite(BackendFixtures):
    """Points in time, and what commits together."""

    def test_a_snapshot_answers_what_it_holds(
        self, memory: DuckDBLTMBackend, clock: FakeClock
    ) -> None:
        size = memory.store("a", LARGE)["byte_size"] + memory.store("b", 1)["byte_size"]
        taken = memory.create_snapshot("first")
        described = {
            "snapshot_id": taken["snapshot_id"],
            "name": "first",
            "entry_count": 2,
            "total_bytes": size,
            "created_at": clock.now,
        }
        assert taken == {"success": True, **described}
        listed = memory.list_snapshots()
        assert listed == {"success": True, "snapshots": [described], "count": 1}

    def test_values_stay_readable_as_of_a_snapshot(
        self, memory: DuckDBLTMBackend, clock: FakeClock
    ) -> None:
        memory.store("large", LARGE, {"type": "doc"})
        memory.store("small", SMALL, {"type": "note"})
        memory.store("mortal", [LARGE], {"type": "doc"}, ttl=10)
        memory.create_snapshot("before")
        before = contents(memory)
        memory.store("large", "changed", {"type": "other"})
        memory.delete("small")
        clock.advance(10)
        memory.cleanup_expired()
        memory.gc(grace=0)
        assert contents(memory, "before") == before
        assert memory.retrieve("large", snapshot="before")["value"] == LARGE
        assert memory.retrieve("small", snapshot="before")["metadata"] == {"type": "note"}
        assert memory.retrieve("added", "none", snapshot="before")["value"] == "none"
        docs = memory.search(metadata_filter={"type": "doc"}, snapshot="before")
        assert sorted(result["key"] for result in docs["results"]) == ["large", "mortal"]
        assert [key for key, _, _ in memory.iterate_all("l", snapshot="before")] == ["large"]

    def test_an_expired_snapshot_frees_what_only_it_saw(self, memory: DuckDBLTMBackend) -> None:
        memory.store("a", LARGE)
        memory.create_snapshot("one")
        memory.store("a", [LARGE, 2])
        memory.create_snapshot("two")
        memory.delete("a")
        assert len(payloads_of(memory)) == 2
        assert memory.expire_snapshot("one")["errors"] == []
        assert len(payloads_of(memory)) == 1
        assert memory.retrieve("a", snapshot="two")["value"] == [LARGE, 2]
        assert memory.expire_snapshot("two")["success"]
        assert payloads_of(memory) == []

    def test_an_unknown_snapshot_is_never_everything_or_nothing(
        self, memory: DuckDBLTMBackend
    ) -> None:
        memory.store("k", 1)
        for answer in (
            memory.retrieve("k", snapshot="nothing"),
            memory.search(None, {}, snapshot="nothing"),
            memory.restore("nothing"),
            memory.expire_snapshot("nothing"),
        ):
            assert (answer["success"], answer["error_type"]) == (False, "snapshot_not_found")
        for call in (
            lambda: memory.changes("nothing"),
            lambda: memory.diff("nothing", "nothing"),
            lambda: memory.iterate_all(snapshot="nothing"),
        ):
            with pytest.raises(SnapshotNotFoundError):
                next(call())
        assert memory.retrieve("k")["found"]

    def test_a_snapshot_is_not_asked_in_words(self, memory: DuckDBLTMBackend) -> None:
        memory.create_snapshot("s")
        answer = memory.search("words", snapshot="s")
        assert answer["error_type"] == "validation_error"
        assert memory.create_snapshot("")["error_type"] == "validation_error"

    def test_changes_tell_additions_modifications_and_deletions(
        self, memory: DuckDBLTMBackend, clock: FakeClock
    ) -> None:
        for key in ("value", "terms", "gone", "mortal", "same"):
            memory.store(key, LARGE, ttl=50 if key == "mortal" else None)
        memory.create_snapshot("one")
        clock.advance(50)
        memory.store("value", SMALL)
        memory.store("terms", LARGE, {"new": True})
        memory.delete("gone")
        memory.store("added", 1)
        changes = list(memory.changes("one"))
        expected = [
            ("added", "added"),
            ("deleted", "gone"),
            ("deleted", "mortal"),
            ("modified", "terms"),
            ("modified", "value"),
        ]
        assert operations(changes) == expected
        terms = changes[3]
        assert terms["content_hash"] == terms["previous_hash"]
        assert terms["metadata"] == {"new": True}
        memory.create_snapshot("two")
        assert operations(memory.diff("one", "two")) == expected
        assert operations(memory.diff("two", "two")) == []
        assert operations(memory.changes(None)) == [("added", key) for key in contents(memory)]
        backwards = {key: op for op, key in operations(memory.diff("two", "one"))}
        assert backwards["added"] == "deleted"
        assert backwards["gone"] == "added"

    def test_restore_brings_a_snapshot_back_and_can_be_undone(
        self, memory: DuckDBLTMBackend
    ) -> None:
        memory.store("large", [LARGE, "zebra"], {"type": "doc"})
        memory.store("small", SMALL)
        memory.create_snapshot("good")
        good = contents(memory)
        memory.store("large", [LARGE, "giraffe"], {"type": "new"})
        memory.delete("small")
        memory.store("added", [LARGE])
        memory.create_snapshot("bad")
        bad = contents(memory)
        assert memory.restore("good") == {"success": True, "restored": 2, "deleted": 1}
        assert contents(memory) == good
        assert memory.search("zebra", {"type": "doc"})["count"] == 1
        assert memory.search("giraffe")["count"] == 0
        assert memory.restore("good") == {"success": True, "restored": 0, "deleted": 0}
        assert memory.restore("bad")["success"]
        assert contents(memory) == bad
        memory.expire_snapshot("good")
        memory.expire_snapshot("bad")
        assert contents(memory) == bad, "restored payloads outlive their snapshots"
        assert memory.gc(grace=0)["unreferenced"] == 0
        assert memory.verify()["problems"] == []
        assert len(payloads_of(memory)) == 2

    def test_restore_leaves_gone_what_has_expired_since(
        self, memory: DuckDBLTMBackend, clock: FakeClock
    ) -> None:
        memory.store("mortal", 1, ttl=10)
        memory.store("stays", 1)
        memory.create_snapshot("s")
        clock.advance(10)
        memory.store("mortal", "another life")
        assert memory.restore("s")["deleted"] == 1
        assert list(contents(memory)) == ["stays"]

    # Transactions

    def test_calls_in_a_transaction_commit_together(self, memory: DuckDBLTMBackend) -> None:
        memory.store("old", LARGE)
        with memory.transaction() as transaction:
            transaction.store("large", [LARGE])
            transaction.store("large", [LARGE, "again"])
            transaction.delete("old")
            memory.store("joined", SMALL)
            assert transaction.retrieve("large")["value"] == [LARGE, "again"]
            assert memory.retrieve("old")["found"] is False
            assert [key for key, _, _ in memory.iterate_all()] == ["joined", "large"]
        assert contents(memory) == {"large": [LARGE, "again"], "joined": SMALL}
        assert len(payloads_of(memory)) == 1
        with pytest.raises(ClosedError):
            transaction.store("late", 1)

    def test_a_transaction_that_raises_leaves_no_trace(self, memory: DuckDBLTMBackend) -> None:
        memory.store("k", LARGE)
        before = payloads_of(memory)
        with pytest.raises(ZeroDivisionError), memory.transaction() as transaction:  # noqa: PT012
            transaction.store("k", [LARGE])
            transaction.store_batch([("a", [LARGE]), ("b", 1)])
            transaction.delete("k")
            raise ZeroDivisionError
        assert contents(memory) == {"k": LARGE}
        assert payloads_of(memory) == before

    def test_a_failure_that_was_only_answered_keeps_a_transaction_from_committing(
        self, memory: DuckDBLTMBackend
    ) -> None:
        memory.store("taken", 1)
        with pytest.raises(ConflictError), memory.transaction():  # noqa: PT012
            memory.store("new", LARGE)
            assert memory.store("taken", 2, if_absent=True)["success"] is False
        assert contents(memory) == {"taken": 1}
        assert payloads_of(memory) == []

    def test_a_failure_that_was_caught_lets_a_transaction_go_on(
        self, memory: DuckDBLTMBackend
    ) -> None:
        memory.store("taken", 1)
        with memory.transaction() as transaction:
            with pytest.raises(ConflictError):
                transaction.store("taken", [LARGE], if_absent=True)
            transaction.store("new", 2)
        assert contents(memory) == {"new": 2, "taken": 1}
        assert payloads_of(memory) == []

    def test_a_transaction_within_one_is_the_same(self, memory: DuckDBLTMBackend) -> None:
        with pytest.raises(ZeroDivisionError), memory.transaction():  # noqa: PT012
            memory.store("outer", 1)
            with memory.transaction() as inner:
                inner.store("inner", 1)
            raise ZeroDivisionError
        assert contents(memory) == {}

    # Garbage and verification

    def test_garbage_is_what_nothing_names_once_it_is_old_enough(
        self, memory: DuckDBLTMBackend, clock: FakeClock
    ) -> None:
        memory.store("k", LARGE)
        (kept,) = payloads_of(memory)
        directory, extension = kept.rpartition("/")[0], kept.rpartition(".")[2]
        orphan = f"{kept.rpartition('-')[0]}-0123456789abcdef.{extension}"
        foreign = f"{memory.catalog.table().storage_prefix}/README.json"
        elsewhere = "another-table/00/file.json"
        for path in (orphan, foreign, elsewhere):
            memory.payloads.write(path, b"1")
        modified = {each.path: each.modified_at for each in memory.payloads.list(directory)}
        clock.now = max([clock.now, *modified.values()])
        spared = memory.gc(grace=86_400 * 10_000)
        assert (spared["unreferenced"], spared["spared"], spared["foreign"]) == (0, 1, 1)
        dry = memory.gc(dry_run=True, grace=0)
        assert (dry["unreferenced"], dry["freed_bytes"], dry["dry_run"]) == (1, 1, True)
        assert orphan in payloads_of(memory)
        assert memory.verify()["unreferenced"] == 1
        assert memory.gc(grace=timedelta(0))["unreferenced"] == 1
        assert payloads_of(memory) == sorted([kept, foreign])
        assert memory.payloads.read(elsewhere) == b"1"
        assert memory.retrieve("k")["value"] == LARGE

    @pytest.mark.parametrize("grace", [-1, "1d", None, True, float("nan")])
    def test_a_bad_grace_period_is_refused(self, memory: DuckDBLTMBackend, grace: Any) -> None:
        assert memory.gc(grace=grace)["error_type"] == "validation_error"

    def test_verification_finds_lost_and_damaged_payloads(self, memory: DuckDBLTMBackend) -> None:
        for key in ("lost", "damaged", "well"):
            memory.store(key, [LARGE, key])
        memory.store("small", SMALL)
        assert memory.verify() == {
            "success": True,
            "checked": 4,
            "problems": [],
            "unreferenced": 0,
        }
        paths = {
            key: object_path(row["storage_uri"] or "")
            for key in ("lost", "damaged")
            if (row := memory.catalog.get_entry(key)) is not None
        }
        memory.payloads.delete(paths["lost"])
        memory.payloads.delete(paths["damaged"])
        memory.payloads.write(paths["damaged"], b'"forged"')
        for repair in (False, True):
            answer = memory.verify(repair)
            assert answer["success"] is False
            assert [(each["kind"], each["key"]) for each in answer["problems"]] == [
                ("integrity_error", "damaged"),
                ("payload_missing", "lost"),
            ]
        assert memory.retrieve("well")["value"] == [LARGE, "well"]

    def test_verification_indexes_again_what_was_stored_without_an_index(
        self, make: BackendMaker
    ) -> None:
        make(enable_fts=False).store("k", [LARGE, "zebra"], {"type": "doc"})
        memory = make()
        assert memory.search("zebra")["count"] == 0
        found = memory.verify()
        assert [(each["kind"], each["repaired"]) for each in found["problems"]] == [
            ("words", False)
        ]
        assert memory.verify(repair=True)["success"]
        assert memory.search("zebra", {"type": "doc"})["count"] == 1
        assert memory.verify()["problems"] == []

    def test_wrong_types_are_refused(self, memory: DuckDBLTMBackend) -> None:
        assert memory.restore(7)["error_type"] == "validation_error"  # type: ignore[arg-type]
        with pytest.raises(ValidationError):
            memory.diff(7, 7)  # type: ignore[arg-type]
