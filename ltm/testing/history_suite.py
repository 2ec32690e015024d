"""What every catalog must do with snapshots: copy on write, reads as of a point, changes."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltm.catalog.base import Catalog
from ltm.catalog.history import RowChange, Snapshot
from ltm.catalog.tracking import build_put
from ltm.errors import SnapshotNotFoundError, ValidationError
from ltm.hashing import compute_content_hash
from ltm.testing.catalog_fixtures import CatalogFixtures, CatalogMaker, keys_of, relaxed, track
from ltm.testing.clock import FakeClock
from ltm.testing.lifetime_suite import track_payload

State = dict[str, tuple[str | None, Any]]
"""Inlined text and metadata by key."""


def state_of(catalog: Catalog, snapshot: Snapshot | None = None) -> State:
    """Return what *snapshot* sees, or what is live."""
    rows = (
        catalog.iterate("", catalog.clock)
        if snapshot is None
        else catalog.history.iterate_as_of(snapshot)
    )
    return {row.key: (row.inlined_text, row.metadata) for row in rows}


def apply(changes: list[RowChange], state: State) -> State:
    """Return *state* after *changes*."""
    changed = dict(state)
    for change in changes:
        if change.later is None:
            assert change.earlier is not None
            del changed[change.earlier.key]
        else:
            changed[change.later.key] = change.later.inlined_text, change.later.metadata
    return changed


_fresh = count()
"""Numbers a table for each example of a property test, which share one database."""


class HistorySuite(CatalogFixtures):
    """Snapshots of a logical table."""

    def test_a_snapshot_sees_what_was_there_and_nothing_later(self, catalog: Catalog) -> None:
        track(catalog, "changed", 1, metadata={"v": 1})
        track(catalog, "deleted", 2)
        track(catalog, "same", 3)
        before = state_of(catalog)
        snapshot = catalog.history.create("first", catalog.clock())
        track(catalog, "changed", 10, metadata={"v": 2})
        catalog.delete_entry("deleted")
        track(catalog, "added", 4)
        track(catalog, "changed", 100)
        assert state_of(catalog, snapshot) == before
        assert keys_of(catalog.list_entries()) == ["added", "changed", "same"]
        row = catalog.history.read_as_of(snapshot, ["changed", "added", "same"])
        assert {key: found.inlined_text for key, found in row.items()} == {
            "changed": "1",
            "same": "3",
        }

    def test_a_snapshot_counts_what_it_sees(self, catalog: Catalog, clock: FakeClock) -> None:
        track(catalog, "a", "12345678")
        track(catalog, "b", 1)
        track(catalog, "gone", 1, expires_at=clock.now + timedelta(seconds=1))
        clock.advance(1)
        snapshot = catalog.history.create("counted", clock())
        assert (snapshot.entry_count, snapshot.total_bytes) == (2, 11)
        assert snapshot.created_at == clock.now
        assert catalog.history.snapshots() == [snapshot]
        assert catalog.history.find("counted") == catalog.history.find(snapshot.id) == snapshot

    def test_of_snapshots_with_one_name_the_newest_is_found(self, catalog: Catalog) -> None:
        first = catalog.history.create("daily", catalog.clock())
        second = catalog.history.create("daily", catalog.clock())
        assert catalog.history.find("daily") == second
        assert catalog.history.find(first.id) == first
        assert catalog.history.snapshots() == [first, second]

    def test_an_unknown_snapshot_is_an_error(self, catalog: Catalog) -> None:
        track(catalog, "k")
        with pytest.raises(SnapshotNotFoundError, match="'nothing'"):
            catalog.get_changed_entries("nothing")
        with pytest.raises(SnapshotNotFoundError):
            catalog.history.find("")

    @pytest.mark.parametrize("name", ["", "x" * 201, "nul\0", None, 7])
    def test_a_bad_name_is_refused(self, catalog: Catalog, name: Any) -> None:
        with pytest.raises(ValidationError, match="name"):
            catalog.create_snapshot(name)

    def test_changed_entries_are_listed_with_how_they_changed(self, catalog: Catalog) -> None:
        track(catalog, "value", 1)
        track(catalog, "metadata", 1, metadata={"v": 1})
        track(catalog, "expiry", 1)
        track(catalog, "deleted", 1)
        track(catalog, "same", 1)
        since = catalog.create_snapshot("since")
        track(catalog, "value", 2)
        track(catalog, "metadata", 1, metadata={"v": 2})
        track(catalog, "expiry", 1, expires_at=catalog.clock() + timedelta(days=1))
        track(catalog, "same", 1)
        track(catalog, "added", 1)
        catalog.delete_entry("deleted")
        changed = catalog.get_changed_entries(since)
        assert [(entry["key"], entry["op"]) for entry in changed] == [
            ("added", "added"),
            ("expiry", "modified"),
            ("metadata", "modified"),
            ("value", "modified"),
        ]
        everything = catalog.get_changed_entries(since, include_deleted=True)
        assert [entry["op"] for entry in everything if entry["key"] == "deleted"] == ["deleted"]
        assert keys_of(catalog.get_changed_entries()) == keys_of(catalog.list_entries())

    def test_a_key_that_came_and_went_or_came_back_equal_is_no_change(
        self, catalog: Catalog
    ) -> None:
        track(catalog, "back", 1)
        since = catalog.create_snapshot("since")
        track(catalog, "between", 1)
        catalog.delete_entry("between")
        track(catalog, "back", 2)
        track(catalog, "back", 1)
        assert catalog.get_changed_entries(since, include_deleted=True) == []

    def test_what_expired_since_a_snapshot_is_deleted_since_and_still_seen_by_it(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        track(catalog, "k", 1, expires_at=clock.now + timedelta(seconds=10))
        snapshot = catalog.history.create("before", clock())
        clock.advance(10)
        for _ in range(2):
            changes = list(catalog.history.changes(snapshot, None, clock()))
            assert [change.operation for change in changes] == ["deleted"]
            assert list(state_of(catalog, snapshot)) == ["k"]
            catalog.cleanup_expired()
        after = catalog.history.create("after", clock())
        assert state_of(catalog, after) == {}

    def test_without_snapshots_nothing_is_kept(self, catalog: Catalog) -> None:
        old = track_payload(catalog, "k", "old")
        track_payload(catalog, "k", "new")
        assert catalog.deletable_payloads([old]) == [old]

    def test_payloads_live_as_long_as_a_snapshot_sees_them(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        uris = [track_payload(catalog, "k", "first")]
        first = catalog.history.create("first", clock())
        uris.append(track_payload(catalog, "k", "second"))
        second = catalog.history.create("second", clock())
        uris.append(track_payload(catalog, "k", "third"))
        assert catalog.named_payloads(uris) == set(uris)
        assert catalog.scheduled_deletions("", 10) == []
        assert catalog.history.expire(first, clock()) == [uris[0]]
        assert catalog.named_payloads(uris) == set(uris[1:])
        catalog.delete_entry("k")
        assert catalog.history.expire(second, clock()) == [uris[1]]
        assert catalog.deletable_payloads(uris) == uris

    def test_a_payload_that_the_live_row_kept_is_not_scheduled_with_its_version(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        uri = track_payload(catalog, "k", "kept")
        snapshot = catalog.history.create("before", clock())
        catalog.track_entry("k", compute_content_hash("kept"), uri, 5000, {"new": "terms"})
        assert catalog.history.expire(snapshot, clock()) == []
        assert catalog.scheduled_deletions("", 10) == []
        assert catalog.named_payloads([uri]) == {uri}

    def test_a_version_between_two_snapshots_outlives_the_first(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        track(catalog, "k", 1)
        first = catalog.history.create("first", clock())
        second = catalog.history.create("second", clock())
        track(catalog, "k", 2)
        catalog.history.expire(first, clock())
        assert state_of(catalog, second) == {"k": ("1", {})}
        catalog.history.expire(second, clock())
        assert catalog.history.snapshots() == []

    def test_an_expired_snapshot_is_an_error_in_the_middle_of_a_walk(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        puts = [
            build_put(
                catalog.entry_id,
                "english",
                clock(),
                {"key": f"k{i:04}", "content_hash": compute_content_hash(i), "inlined_value": i},
            )
            for i in range(1100)
        ]
        catalog.write(puts, clock())
        snapshot = catalog.history.create("short-lived", clock())
        walk = catalog.history.iterate_as_of(snapshot)
        assert next(walk).key == "k0000"
        catalog.history.expire(snapshot, clock())
        with pytest.raises(SnapshotNotFoundError):
            list(walk)

    def test_no_number_of_changes_is_cut_off(self, catalog: Catalog, clock: FakeClock) -> None:
        snapshot = catalog.history.create("empty", clock())
        catalog.store_batch(
            {"key": f"k{i:04}", "content_hash": f"sha256:{i}", "inlined_value": i}
            for i in range(1234)
        )
        assert len(catalog.get_changed_entries(snapshot.id)) == 1234
        full = catalog.history.create("full", clock())
        assert len(list(catalog.history.changes(full, snapshot, clock()))) == 1234
        assert len(state_of(catalog, full)) == 1234

    def test_snapshots_of_tables_are_apart(self, make: CatalogMaker) -> None:
        notes, tasks = make(table="notes"), make(table="tasks")
        track(notes, "k", 1)
        track(tasks, "k", 1)
        snapshot = notes.history.create("notes", notes.clock())
        track(tasks, "k", 2)
        assert tasks.history.snapshots() == []
        with pytest.raises(SnapshotNotFoundError):
            tasks.get_changed_entries(snapshot.id)

    @relaxed
    @given(data=st.data())
    def test_changes_between_snapshots_lead_from_one_to_the_other(
        self, make: CatalogMaker, data: st.DataObject
    ) -> None:
        catalog = make(table=f"h{next(_fresh)}")
        snapshots: list[Snapshot] = []
        states: list[State] = []
        for _ in range(data.draw(st.integers(2, 4))):
            for key in data.draw(st.lists(st.sampled_from("abcd"), max_size=5)):
                if data.draw(st.booleans()):
                    track(catalog, key, data.draw(st.integers(0, 2)))
                else:
                    catalog.delete_entry(key)
            states.append(state_of(catalog))
            snapshots.append(catalog.history.create("s", catalog.clock()))
        for since, state in zip(snapshots, states, strict=True):
            assert state_of(catalog, since) == state
            for until, expected in zip(snapshots, states, strict=True):
                changes = list(catalog.history.changes(since, until, catalog.clock()))
                assert apply(changes, state) == expected

    # Transactions

    def test_a_transaction_commits_as_one(self, catalog: Catalog) -> None:
        track(catalog, "gone")
        with catalog.transaction() as inside:
            track(inside, "a", "words inside")
            inside.delete_entry("gone")
            assert keys_of(inside.search("words")) == ["a"]
        assert keys_of(catalog.list_entries()) == ["a"]

    def test_a_transaction_that_raises_leaves_nothing(self, catalog: Catalog) -> None:
        old = track_payload(catalog, "k", "old")
        with pytest.raises(ZeroDivisionError), catalog.transaction() as inside:  # noqa: PT012
            track(inside, "k", "new", metadata={"a": 1})
            inside.create_snapshot("rolled back")
            raise ZeroDivisionError
        assert catalog.named_payloads([old]) == {old}
        assert catalog.search("new") == []
        assert catalog.history.snapshots() == []
        assert catalog.scheduled_deletions("", 10) == []

    def test_a_verb_that_is_refused_inside_undoes_itself_alone(self, catalog: Catalog) -> None:
        with catalog.transaction() as inside:
            track(inside, "a", 1)
            with pytest.raises(ValidationError):
                inside.store_batch([{"key": "b", "content_hash": "sha256:0"}, {"key": ""}])
            with pytest.raises(ZeroDivisionError), inside.transaction() as nested:  # noqa: PT012
                track(nested, "c", 1)
                raise ZeroDivisionError
        assert keys_of(catalog.list_entries()) == ["a"]
