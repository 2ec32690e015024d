"""What every catalog must do with its rows."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given

from ltm.catalog.base import Catalog
from ltm.catalog.commit import Put, StaleEntryError
from ltm.catalog.protocol import CatalogBackend
from ltm.entry import JSONValue, validate_metadata
from ltm.errors import ClosedError, ConflictError, SerializationError, ValidationError
from ltm.hashing import compute_content_hash, hash_text
from ltm.testing import strategies
from ltm.testing.catalog_fixtures import CatalogFixtures, CatalogMaker, keys_of, relaxed, track
from ltm.testing.clock import FakeClock


class EntrySuite(CatalogFixtures):
    """Rows: written, replaced and deleted, one by one and in batches, in tables of their own."""

    def test_it_satisfies_the_public_protocol(self, catalog: Catalog) -> None:
        assert isinstance(catalog, CatalogBackend)

    def test_a_tracked_entry_is_read_back_in_every_field(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        expires_at = clock.now + timedelta(days=1)
        answer = catalog.track_entry(
            "a", compute_content_hash([1]), None, 3, {"type": "note"}, [1], expires_at
        )
        assert answer == {"success": True, "entry_id": catalog.entry_id("a"), "created": True}
        assert catalog.get_entry("a") == {
            "id": catalog.entry_id("a"),
            "key": "a",
            "content_hash": compute_content_hash([1]),
            "storage_uri": None,
            "byte_size": 3,
            "inlined_value": [1],
            "metadata": {"type": "note"},
            "expires_at": expires_at,
            "created_at": clock.now,
            "updated_at": clock.now,
        }

    def test_an_absent_key_is_none(self, catalog: Catalog) -> None:
        assert catalog.get_entry("nobody") is None

    def test_a_payload_entry_has_a_path_and_no_inlined_value(self, catalog: Catalog) -> None:
        catalog.track_entry("big", compute_content_hash("x"), "p/1.json", 5000, None)
        entry = catalog.get_entry("big")
        assert entry is not None
        assert (entry["storage_uri"], entry["inlined_value"]) == ("p/1.json", None)
        assert entry["metadata"] == {}

    def test_an_entry_may_be_tracked_without_a_value(self, catalog: Catalog) -> None:
        catalog.track_entry("seen", compute_content_hash(None), None, 0, {"type": "mark"})
        row = catalog.read("seen", catalog.clock())
        assert row is not None
        assert (row.storage_uri, row.inlined_text) == (None, None)

    def test_an_inlined_none_is_a_value(self, catalog: Catalog) -> None:
        track(catalog, "none", None)
        row = catalog.read("none", catalog.clock())
        assert row is not None
        assert row.inlined_text == "null"

    @relaxed
    @given(value=strategies.json_values, metadata=strategies.metadata)
    def test_values_and_metadata_come_back_type_for_type(
        self, catalog: Catalog, value: JSONValue, metadata: dict[str, Any]
    ) -> None:
        track(catalog, "k", value, metadata=metadata)
        entry = catalog.get_entry("k")
        assert entry is not None
        assert strategies.same_json(entry["inlined_value"], value)
        assert entry["metadata"] == metadata
        # Type for type, but for the sign of zero.
        assert strategies.same_json(entry["metadata"], validate_metadata(metadata))

    @relaxed
    @given(key=strategies.keys)
    def test_any_valid_key_names_an_entry(self, catalog: Catalog, key: str) -> None:
        track(catalog, key, key)
        entry = catalog.get_entry(key)
        assert entry is not None
        assert entry["key"] == key
        assert keys_of(catalog.list_entries(prefix=key, limit=1)) == [key]
        assert catalog.delete_entry(key)
        assert catalog.get_entry(key) is None

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            ("", "empty"),
            ("x" * 1025, "1025 bytes"),
            ("é" * 513, "1026 bytes"),
            ("a\0b", "NUL"),
            ("\ud800", "surrogate"),
            (7, "expected str, got int"),
            (None, "expected str, got NoneType"),
        ],
    )
    def test_a_bad_key_is_refused_and_named(self, catalog: Catalog, key: Any, message: str) -> None:
        for call in (catalog.get_entry, catalog.delete_entry, lambda k: track(catalog, k)):
            with pytest.raises(ValidationError, match=message):
                call(key)
        assert catalog.list_entries() == []

    def test_a_key_of_exactly_1024_bytes_is_fine(self, catalog: Catalog) -> None:
        assert track(catalog, "é" * 512)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"metadata": ["list"]}, "metadata: expected an object"),
            ({"metadata": {"a": {"b": "nul\0"}}}, r"metadata\.a\.b: holds NUL"),
            ({"metadata": {"a": ["\ud800"]}}, r"metadata\.a\[0\]: holds a lone surrogate"),
            ({"metadata": {"nul\0": 1}}, "holds NUL"),
            ({"metadata": {"when": datetime(2030, 1, 1)}}, r"\$\.when: datetime is not JSON"),  # noqa: DTZ001 -- naive on purpose
            ({"expires_at": datetime(2030, 1, 1)}, "no UTC offset"),  # noqa: DTZ001 -- naive on purpose
            ({"expires_at": "2030-01-01"}, "expected datetime"),
        ],
    )
    def test_a_bad_field_is_refused_and_nothing_written(
        self, catalog: Catalog, fields: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValidationError, match=message):
            track(catalog, "k", **fields)
        assert catalog.get_entry("k") is None

    def test_a_value_that_is_not_json_is_refused(self, catalog: Catalog) -> None:
        with pytest.raises(SerializationError, match=r"\$\.items\[1\]: set is not JSON"):
            catalog.track_entry("k", "sha256:0", None, 1, None, {"items": [1, {2}]})
        assert catalog.get_entry("k") is None

    def test_replacing_keeps_created_at_and_moves_updated_at(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        track(catalog, "k", 1)
        made = clock.now
        clock.advance(5)
        assert track(catalog, "k", 2) is False
        entry = catalog.get_entry("k")
        assert entry is not None
        assert (entry["created_at"], entry["updated_at"]) == (made, clock.now)

    def test_an_object_with_fewer_members_replaces_the_whole(self, catalog: Catalog) -> None:
        track(catalog, "k", {"a": 1, "b": 2}, metadata={"x": 1, "y": 2})
        track(catalog, "k", {"a": 1}, metadata={"x": 1})
        entry = catalog.get_entry("k")
        assert entry is not None
        assert (entry["inlined_value"], entry["metadata"]) == ({"a": 1}, {"x": 1})
        assert catalog.list_entries(metadata_filter={"y": 2}) == []

    @pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), (0, False), (0, 0.0)])
    def test_metadata_that_only_python_calls_equal_is_changed(
        self, catalog: Catalog, one: JSONValue, other: JSONValue
    ) -> None:
        track(catalog, "k", "same", metadata={"m": one})
        track(catalog, "k", "same", metadata={"m": other})
        entry = catalog.get_entry("k")
        assert entry is not None
        assert strategies.same_json(entry["metadata"], {"m": other})

    @pytest.mark.parametrize(
        ("given", "kept"),
        [(1e16, 1e16), (10**16, 10**16), (-2.5e300, -2.5e300), (5e-324, 5e-324), (-0.0, 0.0)],
    )
    def test_numbers_in_metadata_stay_what_they_are(
        self, catalog: Catalog, given: float, kept: JSONValue
    ) -> None:
        track(catalog, "k", metadata={"list": [{"n": given}], "1e+16": '"1e+16"'})
        entry = catalog.get_entry("k")
        assert entry is not None
        expected = {"list": [{"n": kept}], "1e+16": '"1e+16"'}
        assert strategies.same_json(entry["metadata"], expected)
        assert keys_of(catalog.list_entries(metadata_filter={"list": [{"n": given}]})) == ["k"]

    # Conditions

    def test_if_absent_lets_the_first_writer_win(self, catalog: Catalog) -> None:
        assert track(catalog, "k", 1, if_absent=True)
        with pytest.raises(ConflictError) as caught:
            track(catalog, "k", 2, if_absent=True)
        assert caught.value.current_hash == compute_content_hash(1)
        entry = catalog.get_entry("k")
        assert entry is not None
        assert entry["inlined_value"] == 1

    def test_if_match_lets_only_the_named_content_be_replaced(self, catalog: Catalog) -> None:
        with pytest.raises(ConflictError) as caught:
            track(catalog, "k", 2, if_match=compute_content_hash(1))
        assert caught.value.current_hash is None
        track(catalog, "k", 1)
        track(catalog, "k", 2, if_match=compute_content_hash(1))
        with pytest.raises(ConflictError):
            track(catalog, "k", 3, if_match=compute_content_hash(1))
        with pytest.raises(ConflictError):
            catalog.delete_entry("k", if_match=compute_content_hash(1))
        assert catalog.delete_entry("k", if_match=compute_content_hash(2))

    def test_a_write_based_on_a_row_that_changed_is_stale(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        track(catalog, "k", 1)
        seen = catalog.read("k", clock())
        assert seen is not None
        track(catalog, "k", 1, metadata={"changed": True})
        put = Put(
            id=seen.id,
            key="k",
            content_hash=hash_text("2"),
            byte_size=1,
            metadata={},
            inlined_text="2",
            based_on=seen,
        )
        with pytest.raises(StaleEntryError):
            catalog.write([put], clock())

    # Batches

    def test_a_batch_is_written_whole_and_the_last_of_a_key_counts(self, catalog: Catalog) -> None:
        entries = [
            {"key": f"k{i % 7}", "content_hash": f"sha256:{i}", "inlined_value": i}
            for i in range(10)
        ]
        answers = catalog.store_batch(entries)
        assert len(answers) == 10
        assert all(answer["created"] for answer in answers)
        found = catalog.retrieve_batch([f"k{i}" for i in range(8)])
        assert {key: entry["inlined_value"] for key, entry in found.items()} == {
            "k0": 7,
            "k1": 8,
            "k2": 9,
            "k3": 3,
            "k4": 4,
            "k5": 5,
            "k6": 6,
        }

    def test_a_batch_with_a_bad_entry_writes_nothing_and_names_it(self, catalog: Catalog) -> None:
        good = {"key": "good", "content_hash": "sha256:0", "inlined_value": 1}
        with pytest.raises(ValidationError, match=r"entries\[1\]: key: is empty"):
            catalog.store_batch([good, {**good, "key": ""}])
        with pytest.raises(ValidationError, match=r"entries\[0\]: unknown field 'vlaue'"):
            catalog.store_batch([{**good, "vlaue": 1}])
        assert catalog.list_entries() == []

    def test_an_empty_batch_is_fine(self, catalog: Catalog) -> None:
        assert catalog.store_batch([]) == []
        assert catalog.retrieve_batch([]) == {}

    def test_a_batch_over_several_statements_is_whole(self, catalog: Catalog) -> None:
        entries = [
            {"key": f"k{i:04}", "content_hash": f"sha256:{i}", "inlined_value": i}
            for i in range(1203)
        ]
        catalog.store_batch(entries)
        found = catalog.retrieve_batch([f"k{i:04}" for i in range(1203)])
        assert [entry["inlined_value"] for entry in found.values()] == list(range(1203))

    # Logical tables, closing

    def test_logical_tables_never_see_one_another(self, make: CatalogMaker) -> None:
        notes, tasks = make(table="notes"), make(table="tasks")
        track(notes, "k", "note words", metadata={"type": "x"})
        track(tasks, "k", "task words", metadata={"type": "x"})
        assert notes.delete_entry("k")
        assert keys_of(tasks.list_entries()) == ["k"]
        assert tasks.search("words", {"type": "x"})[0]["inlined_value"] == "task words"
        assert notes.search("words") == notes.list_entries() == []
        assert notes.table().storage_prefix != tasks.table().storage_prefix

    def test_another_table_of_the_same_database_is_bound_without_a_new_one(
        self, catalog: Catalog
    ) -> None:
        other = catalog.bind("other", inline_threshold=10, language="german")
        track(other, "k")
        assert catalog.get_entry("k") is None
        assert other.table()[2:] == (10, "german")
        other.close()
        track(catalog, "still open")

    def test_a_table_keeps_the_defaults_it_was_made_with(self, make: CatalogMaker) -> None:
        first = make(table="t", inline_threshold=5, language="french").table()
        assert make(table="t", inline_threshold=9).table() == first

    def test_tenants_with_the_same_keys_never_meet(self, make: CatalogMaker) -> None:
        one, two = make(tenant="one"), make(tenant="two")
        track(one, "k", 1)
        track(two, "k", 2)
        assert one.delete_entry("k")
        assert keys_of(two.list_entries()) == ["k"]

    def test_a_closed_catalog_says_so(self, make: CatalogMaker) -> None:
        catalog = make()
        track(catalog, "k")
        catalog.close()
        catalog.close()
        with pytest.raises(ClosedError):
            catalog.get_entry("k")

    def test_what_is_written_is_there_after_reopening(self, make: CatalogMaker) -> None:
        catalog = make()
        track(catalog, "k", "words to find", metadata={"type": "x"})
        catalog.close()
        again = make()
        assert keys_of(again.search("finding words", {"type": "x"})) == ["k"]

    def test_times_in_other_zones_are_the_same_instants(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        zone = timezone(timedelta(hours=-3))
        track(catalog, "k", expires_at=(clock.now + timedelta(seconds=1)).astimezone(zone))
        assert catalog.get_entry("k") is not None
        clock.advance(1)
        assert catalog.get_entry("k") is None

    def test_a_probe_leaves_nothing(self, catalog: Catalog, clock: FakeClock) -> None:
        catalog.probe(clock())
        assert catalog.list_entries() == []
        assert catalog.scheduled_deletions("", 10) == []
