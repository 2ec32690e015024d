"""Applications that share a Firestore database, and memories in two of them, never meet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud.firestore import Client

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.firestore import FirestoreCatalog
from ltm.catalog.pages import in_pages
from ltm.errors import SnapshotNotFoundError, ValidationError
from ltm.testing.backend_fixtures import payloads_of
from ltm.testing.clock import FakeClock

LARGE = "a large value " * 200

PLACES = {
    "another prefix": ({"collection_prefix": "one_"}, {"collection_prefix": "two_"}),
    "a longer prefix": ({"collection_prefix": "a"}, {"collection_prefix": "aa"}),
    "a prefix and none": ({}, {"collection_prefix": "ltm_entries"}),
    "another database": ({}, {"database": "second"}),
}


class Two:
    """Two memories of one project that share a storage root; one is full, the other empty."""

    def __init__(self, project: str, directory: Path, places: Any) -> None:
        self.clock = FakeClock()
        self.catalogs = [
            FirestoreCatalog(project, index_directory=directory / "index", clock=self.clock, **each)
            for each in places
        ]
        self.full, self.empty = (
            DuckDBLTMBackend(catalog, f"{directory}/data", owns_catalog=True)
            for catalog in self.catalogs
        )


@pytest.fixture(params=PLACES)
def two(request: pytest.FixtureRequest, firestore_project: str, tmp_path: Path) -> Iterator[Two]:
    two = Two(firestore_project, tmp_path, PLACES[request.param])
    with two.full, two.empty:
        yield two


def fill(memory: DuckDBLTMBackend) -> None:
    memory.store_batch([(f"k{number}", f"words {number}", {"n": number}) for number in range(5)])
    memory.store("large", LARGE, {"n": 1})
    memory.store("brief", LARGE, {"n": 1}, ttl=5)
    memory.create_snapshot("s")
    memory.store("k0", "others")
    memory.store("replaced", [LARGE])
    # The catalog alone schedules the payload and doesn't delete it.
    memory.catalog.delete_entry("replaced")


def test_no_verb_of_one_sees_what_the_other_has(two: Two) -> None:
    fill(two.full)
    empty = two.empty
    two.clock.advance(5)
    assert empty.retrieve("k0")["found"] is False
    assert empty.retrieve_batch(["k0", "large"])["missing"] == ["k0", "large"]
    assert empty.delete("k0")["deleted"] is False
    for query in (None, "words", "large"):
        assert empty.search(query)["results"] == []
        assert empty.search(query, {"n": 1})["results"] == []
    assert list(empty.iterate_all()) == []
    assert list(empty.changes(None)) == []
    assert empty.list_snapshots()["snapshots"] == []
    assert empty.retrieve("k0", snapshot="s")["error_type"] == "snapshot_not_found"
    assert empty.restore("s")["error_type"] == "snapshot_not_found"
    assert empty.expire_snapshot("s")["error_type"] == "snapshot_not_found"
    with pytest.raises(SnapshotNotFoundError):
        list(empty.changes("s"))
    assert (empty.stats()["entries"], empty.stats()["expired"]) == (0, 0)
    assert empty.cleanup_expired()["deleted"] == 0
    assert empty.verify()["checked"] == 0
    assert empty.catalog.scheduled_deletions("", 10) == []
    assert empty.gc(grace=0)["unreferenced"] == 0
    for _ in range(2):
        found = two.full.search("words")
        assert found["count"] == 4
        assert two.full.verify()["problems"] == []
    assert two.full.stats()["entries"] == 6
    assert two.full.stats()["expired"] == 1


def test_a_collection_of_garbage_spares_the_payloads_of_the_other(two: Two) -> None:
    fill(two.full)
    before = payloads_of(two.full)
    assert len(before) == 3
    (scheduled,) = two.full.catalog.scheduled_deletions("", 10)
    assert two.empty.catalog.deletable_payloads(before) == []
    assert two.empty.catalog.named_payloads(before) == set()
    two.empty.catalog.forget_deletions([scheduled])
    assert two.empty.gc(grace=0)["success"]
    assert payloads_of(two.full) == before
    assert two.full.gc(grace=0)["scheduled"] == 1
    assert payloads_of(two.full) == [path for path in before if path != scheduled]
    assert two.full.retrieve("large")["value"] == LARGE


def test_both_may_have_the_same_keys(two: Two) -> None:
    memories = two.full, two.empty
    for number, memory in enumerate(memories):
        fill(memory)
        memory.store("k", [number, LARGE], {"own": number})
    for number, memory in enumerate(memories):
        assert memory.retrieve("k")["value"] == [number, LARGE]
        assert memory.retrieve("k0", snapshot="s")["value"] == "words 0"
        assert [each["key"] for each in memory.search(None, {"own": number})["results"]] == ["k"]
        assert memory.search(None, {"own": 1 - number})["count"] == 0
        assert memory.stats()["entries"] == 8
    assert {each.split("/")[0] for each in payloads_of(two.full)}.isdisjoint(
        each.split("/")[0] for each in payloads_of(two.empty)
    )
    two.full.restore("s")
    assert two.full.retrieve("k")["found"] is False
    assert two.empty.retrieve("k")["value"] == [1, LARGE]
    for key, _, _ in list(two.full.iterate_all()):
        two.full.delete(key)
    assert two.empty.stats()["entries"] == 8
    assert two.empty.search("words")["count"] == 4
    assert two.empty.verify()["problems"] == []


@pytest.mark.parametrize("two", ["another prefix", "another database"], indirect=True)
def test_large_batches_of_both_at_once_stay_apart(two: Two) -> None:
    for page in in_pages(range(600), 300):
        for number, memory in enumerate((two.full, two.empty)):
            answer = memory.store_batch([(f"k{each}", [number, each]) for each in page])
            assert answer["stored"] == len(page)
    for number, memory in enumerate((two.full, two.empty)):
        values = [value for _, value, _ in memory.iterate_all("k5")]
        assert {value[0] for value in values} == {number}
        assert len(values) == 111


@pytest.mark.parametrize("prefix", ["", "_", "-", "A-1_", "0", "x" * 100, "_x__", "ltm_"])
def test_a_good_prefix_is_what_the_names_of_collections_begin_with(
    firestore_project: str, tmp_path: Path, prefix: str
) -> None:
    with FirestoreCatalog(firestore_project, collection_prefix=prefix) as catalog:
        memory = DuckDBLTMBackend(catalog, f"{tmp_path}/data")
        assert memory.store("k", "word")["success"]
        assert memory.create_snapshot("s")["success"]
        assert memory.search("word")["count"] == 1
        memory.close()
    official = Client(firestore_project)
    names = {each.id for each in official.collections()}
    official.close()
    wanted = ("ltm_entries", "ltm_entry_search", "ltm_snapshots", "ltm_tables")
    assert names == {prefix + name for name in wanted}


@pytest.mark.parametrize(
    "prefix",
    ["a/b", "/", ".", "..", "a.b", "é", "a b", "a\n", "\n", "a\0", "__x", "x" * 101, "\ud800", "٣"],
)
def test_a_bad_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ValidationError, match="collection_prefix"):
        FirestoreCatalog("project", collection_prefix=prefix)


@pytest.mark.parametrize("prefix", [None, 7, b"x", ["x"]])
def test_a_prefix_that_is_no_text_is_refused(prefix: Any) -> None:
    with pytest.raises(ValidationError, match="collection_prefix"):
        FirestoreCatalog("project", collection_prefix=prefix)
