"""The conformance of catalogs, continued: payloads that are parts of an object."""

from __future__ import annotations

from ltm.catalog.base import Catalog
from ltm.hashing import compute_content_hash
from ltm.testing.catalog_fixtures import CatalogFixtures, track
from ltm.testing.clock import FakeClock


def track_part(catalog: Catalog, key: str, part: str, name: str = "shared") -> str:
    """Track a payload in part of an object and return its location."""
    uri = f"{catalog.table().storage_prefix}/{name}.parquet#{part}"
    catalog.track_entry(key, compute_content_hash([key, part]), uri, 5_000, None)
    return uri


class LocationSuite(CatalogFixtures):
    """Objects that many entries share, and payloads that move."""

    def test_an_object_is_deletable_once_no_row_names_any_part(self, catalog: Catalog) -> None:
        parts = [track_part(catalog, f"k{start}", f"{start}+7") for start in (4, 40, 41)]
        shared = parts[0].partition("#")[0]
        assert catalog.named_payloads([shared, shared + "x", *parts]) == {shared, *parts}
        for key in ("k4", "k40"):
            catalog.delete_entry(key)
            assert catalog.deletable_payloads(parts) == []
        assert catalog.named_payloads([shared, *parts]) == {shared, parts[2]}
        catalog.delete_entry("k41")
        assert catalog.scheduled_deletions("", 10) == sorted(parts)
        assert catalog.deletable_payloads(parts) == parts
        assert catalog.named_payloads([shared, *parts]) == set()

    def test_no_object_is_kept_by_one_with_a_similar_name(self, catalog: Catalog) -> None:
        one = track_part(catalog, "one", "4+7", "a")
        track_part(catalog, "two", "4+7", "a.parquet")
        track_part(catalog, "three", "4+77", "A")
        again = track_part(catalog, "four", "4+70", "a")
        catalog.delete_entry("one")
        assert catalog.deletable_payloads([one]) == []
        assert catalog.named_payloads([one]) == set()
        catalog.delete_entry("four")
        assert catalog.deletable_payloads([one, again]) == [one, again]

    def test_a_deleted_object_leaves_the_schedule_with_all_its_parts(
        self, catalog: Catalog
    ) -> None:
        parts = [track_part(catalog, f"k{row}", str(row)) for row in range(40)]
        other = track_part(catalog, "other", "1", "shared2")
        for row in range(40):
            catalog.delete_entry(f"k{row}")
        catalog.delete_entry("other")
        catalog.forget_deletions([parts[0].partition("#")[0]])
        assert catalog.scheduled_deletions("", 50) == [other]

    def test_a_version_keeps_the_object_of_its_part(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        part = track_part(catalog, "k", "4+7")
        shared = part.partition("#")[0]
        snapshot = catalog.history.create("before", clock())
        track(catalog, "k", "inlined")
        assert catalog.named_payloads([shared, part]) == {shared, part}
        assert catalog.history.expire(snapshot, clock()) == [part]
        assert catalog.deletable_payloads([part]) == [part]

    def test_payloads_move_under_rows_and_versions_alike(
        self, catalog: Catalog, clock: FakeClock
    ) -> None:
        parts = [track_part(catalog, key, part) for key, part in (("live", "4+7"), ("old", "40+7"))]
        stays = track_part(catalog, "stays", "90+7")
        snapshot = catalog.history.create("before", clock())
        clock.advance(60)
        track(catalog, "old", "inlined")
        before = {key: catalog.read(key, clock()) for key in ("live", "old", "stays")}
        prefix = catalog.table().storage_prefix
        new = [f"{prefix}/new.parquet#{start}+7" for start in (4, 40)]
        nobody = f"{prefix}/shared.parquet#500+7"
        catalog.move_payloads(dict(zip([*parts, nobody], [*new, "x/y.json"], strict=True)), clock())
        live = before["live"]
        assert live is not None
        assert catalog.read("live", clock()) == live._replace(storage_uri=new[0])
        assert [catalog.read(key, clock()) for key in ("old", "stays")] == [
            before["old"],
            before["stays"],
        ]
        seen = catalog.history.read_as_of(snapshot, ["live", "old", "stays"])
        assert {key: row.storage_uri for key, row in seen.items()} == {
            "live": new[0],
            "old": new[1],
            "stays": stays,
        }
        changes = catalog.history.changes(snapshot, None, clock())
        assert [each.later.key for each in changes if each.later is not None] == ["old"]
        assert catalog.scheduled_deletions("", 10) == sorted([*parts, nobody])
        assert catalog.deletable_payloads(parts) == []
        assert catalog.named_payloads([*parts, *new, stays]) == {*new, stays}
        catalog.delete_entry("stays")
        catalog.history.expire(snapshot, clock())
        assert catalog.deletable_payloads(parts) == parts
        assert catalog.deletable_payloads(new) == []
