"""What every catalog must do when entries expire and payloads are to be deleted."""

from __future__ import annotations

from datetime import timedelta

from ltm.catalog.base import Catalog
from ltm.catalog.commit import Outcome
from ltm.hashing import compute_content_hash
from ltm.testing.catalog_fixtures import CatalogFixtures, keys_of, track
from ltm.testing.clock import FakeClock


def track_payload(catalog: Catalog, key: str, name: str, seconds: float | None = None) -> str:
    """Track a payload under the table's own prefix and return its path."""
    uri = f"{catalog.table().storage_prefix}/{name}.json"
    expires_at = None if seconds is None else catalog.clock() + timedelta(seconds=seconds)
    catalog.track_entry(key, compute_content_hash(name), uri, 5000, None, expires_at=expires_at)
    return uri


class LifetimeSuite(CatalogFixtures):
    """Expiry on every read path, clean-up, and the schedule of payload deletions."""

    def test_an_entry_is_gone_at_its_expiry_on_every_read_path(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        in_ten = clock.now + timedelta(seconds=10)
        track(catalog, "k", "some words", metadata={"type": "x"}, expires_at=in_ten)
        clock.advance(9.999999)
        assert catalog.get_entry("k") is not None
        assert keys_of(catalog.search("words")) == ["k"]
        clock.advance(0.000001)
        assert catalog.get_entry("k") is None
        assert catalog.list_entries() == catalog.list_entries(metadata_filter={"type": "x"}) == []
        assert (
            catalog.search("words") == catalog.search() == catalog.search("", {"type": "x"}) == []
        )
        assert catalog.search('"some words"', {"type": "x"}) == []
        assert catalog.retrieve_batch(["k"]) == {}
        assert catalog.statistics(clock())[:4] == (0, 0, 0, 0)
        assert catalog.statistics(clock()).expired == catalog.count_expired(clock()) == 1
        assert catalog.delete_entry("k") is False

    def test_an_expired_document_weighs_nothing_in_ranking(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        track(catalog, "a", "tea and biscuits")
        alone = catalog.search("tea")[0]["score"]
        track(catalog, "b", "tea tea tea", expires_at=clock.now + timedelta(seconds=1))
        assert catalog.search("tea", {})[-1]["score"] != alone
        clock.advance(1)
        assert [(hit["key"], hit["score"]) for hit in catalog.search("tea")] == [("a", alone)]

    def test_storing_an_expired_key_again_makes_it_live(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        track(catalog, "k", "same", expires_at=clock.now + timedelta(seconds=1))
        clock.advance(2)
        assert track(catalog, "k", "same", if_absent=True) is True
        entry = catalog.get_entry("k")
        assert entry is not None
        assert (entry["created_at"], entry["expires_at"]) == (clock.now, None)

    def test_moving_the_expiry_of_the_same_value_is_a_change(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        track(catalog, "k", 1, expires_at=clock.now + timedelta(seconds=1))
        track(catalog, "k", 1, expires_at=clock.now + timedelta(seconds=100))
        clock.advance(50)
        assert catalog.get_entry("k") is not None

    def test_clean_up_is_bounded_and_takes_the_earliest_expired_first(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        for index in range(5):
            expires_at = clock.now + timedelta(seconds=index + 1)
            track(catalog, f"k{index}", f"word{index}", expires_at=expires_at)
        track(catalog, "stays", "word")
        clock.advance(4)
        assert catalog.cleanup_expired(limit=3) == 3
        assert catalog.statistics(clock()).expired == 1
        assert catalog.cleanup_expired() == 1
        assert catalog.cleanup_expired() == 0
        assert keys_of(catalog.list_entries()) == ["k4", "stays"]
        clock.advance(-100)
        assert keys_of(catalog.list_entries()) == ["k4", "stays"], "clean-up removed the rows"
        assert keys_of(catalog.search("word0 word1 word4")) == ["k4"]

    def test_a_replaced_payload_is_scheduled_for_deletion(self, catalog: Catalog) -> None:
        old = track_payload(catalog, "k", "old")
        new = track_payload(catalog, "k", "new")
        assert catalog.scheduled_deletions("", 10) == [old]
        assert catalog.deletable_payloads([old, new]) == [old]
        catalog.forget_deletions([old])
        assert catalog.scheduled_deletions("", 10) == []

    def test_payloads_of_deleted_and_expired_entries_are_scheduled(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        deleted = track_payload(catalog, "d", "deleted")
        expired = track_payload(catalog, "e", "expired", seconds=1)
        replaced = track_payload(catalog, "r", "replaced", seconds=1)
        clock.advance(2)
        catalog.delete_entry("d")
        track(catalog, "r", "now inlined")
        assert catalog.remove_expired(10, clock()) == [Outcome("e", deleted=True, freed=expired)]
        assert catalog.scheduled_deletions("", 10) == sorted([deleted, expired, replaced])
        first = min(deleted, expired, replaced)
        assert first not in catalog.scheduled_deletions(first, 10)

    def test_a_payload_that_a_row_still_names_is_not_deletable(self, catalog: Catalog) -> None:
        uri = track_payload(catalog, "one", "shared")
        catalog.track_entry("two", compute_content_hash("shared"), uri, 5000, None)
        catalog.delete_entry("one")
        assert catalog.deletable_payloads([uri]) == []
        catalog.delete_entry("two")
        assert catalog.deletable_payloads([uri]) == [uri]

    def test_the_same_value_keeps_its_payload(self, catalog: Catalog) -> None:
        uri = track_payload(catalog, "k", "value")
        again = f"{catalog.table().storage_prefix}/again.json"
        catalog.track_entry("k", compute_content_hash("value"), again, 5000, {"new": "metadata"})
        entry = catalog.get_entry("k")
        assert entry is not None
        assert (entry["storage_uri"], entry["metadata"]) == (uri, {"new": "metadata"})
        assert catalog.scheduled_deletions("", 10) == []
