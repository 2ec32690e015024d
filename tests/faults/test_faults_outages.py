"""The catalog or the payload store cut off mid-call: a failure is answered, no value is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from place import Place

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.garbage import delete_scheduled
from ltm.hashing import compute_content_hash
from ltm.payload.local import LocalPayloadStore
from ltm.testing.catalog_faults import CatalogOperation, FailingCatalog
from ltm.testing.clock import FakeClock
from ltm.testing.payload_faults import FailingPayloadStore

OLD = {"small": "old", "large": "old" * 1000}
NEW = {"small": "new", "large": "new" * 1000}


class Cut(Place):
    """A place with one memory whose catalog and store can be cut off."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.clock = FakeClock()
        self.cut_catalog = FailingCatalog(SQLiteCatalog(self.catalog, clock=self.clock))
        self.cut_store = FailingPayloadStore(LocalPayloadStore(self.storage))
        self.memory = DuckDBLTMBackend(self.cut_catalog, store=self.cut_store)

    def heal(self) -> None:
        self.cut_catalog.heal()
        self.cut_store.heal()

    def close(self) -> None:
        self.memory.close()
        self.cut_catalog.close()
        self.cut_store.close()


@pytest.fixture
def cut(tmp_path: Path) -> Iterator[Cut]:
    cut = Cut(tmp_path)
    yield cut
    cut.close()


def expect(cut: Cut, key: str, value: object) -> None:
    """Check that *key* has *value*, hash and all, in this memory and in one of its own."""
    with cut.open(clock=cut.clock) as other:
        for memory in (cut.memory, other):
            answer = memory.retrieve(key)
            assert answer["success"], answer
            assert answer["found"], key
            assert answer["value"] == value
            assert answer["content_hash"] == compute_content_hash(value)
    assert cut.faults() == []


def expect_absent(cut: Cut, key: str) -> None:
    answer = cut.memory.retrieve(key)
    assert answer["success"]
    assert not answer["found"]


def failed(answer: Any, error_type: str) -> bool:
    return answer["success"] is False and answer["error_type"] == error_type


SIZES = [(old, new) for old in OLD for new in NEW]
Write = Callable[[Cut, object], Any]
WRITES: dict[str, Write] = {
    "store": lambda cut, value: cut.memory.store("k", value),
    "update": lambda cut, value: cut.memory.update("k", lambda _: value),
    "store_batch": lambda cut, value: cut.memory.store_batch([("k", value), ("other", 1)]),
    "each": lambda cut, value: cut.memory.store_batch([("k", value)], atomic=False),
}


NEEDED: dict[str, list[CatalogOperation]] = {
    "store": ["table", "read", "write"],
    "update": ["table", "read", "write"],
    "store_batch": ["table", "read_many", "write"],
    "each": ["table", "read_many", "write"],
}


@pytest.mark.parametrize(
    ("verb", "operation"), [(verb, operation) for verb in NEEDED for operation in NEEDED[verb]]
)
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_a_write_that_the_catalog_refuses_leaves_the_old_value(
    cut: Cut, old: str, new: str, verb: str, operation: CatalogOperation
) -> None:
    cut.memory.store("k", OLD[old])
    before = cut.dump()
    cut.cut_catalog.fail(operation)
    answer = WRITES[verb](cut, NEW[new])
    assert failed(answer, "catalog_unavailable"), answer
    cut.heal()
    assert cut.dump() == before
    expect(cut, "k", OLD[old])
    expect_absent(cut, "other")
    assert WRITES[verb](cut, NEW[new])["success"]
    expect(cut, "k", NEW[new])


@pytest.mark.parametrize("verb", WRITES)
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_a_write_whose_answer_is_lost_fails_and_has_happened(
    cut: Cut, old: str, new: str, verb: str
) -> None:
    cut.memory.store("k", OLD[old])
    superseded = cut.referenced()
    cut.cut_catalog.fail("write", times=1, after_effect=True)
    answer = WRITES[verb](cut, NEW[new])
    assert failed(answer, "catalog_unavailable"), answer
    expect(cut, "k", NEW[new])
    assert cut.files() == cut.referenced() | superseded
    assert cut.scheduled() == superseded
    again = WRITES[verb](cut, NEW[new])
    assert again["success"]
    expect(cut, "k", NEW[new])


@pytest.mark.parametrize("after_effect", [False, True])
@pytest.mark.parametrize("old", OLD)
def test_a_deletion_that_fails_has_happened_or_not(cut: Cut, old: str, after_effect: bool) -> None:
    cut.memory.store("k", OLD[old])
    superseded = cut.referenced()
    cut.cut_catalog.fail("write", times=1, after_effect=after_effect)
    assert failed(cut.memory.delete("k"), "catalog_unavailable")
    if after_effect:
        expect_absent(cut, "k")
        assert cut.scheduled() == cut.files() == superseded
    else:
        expect(cut, "k", OLD[old])
    assert cut.memory.delete("k")["deleted"] is not after_effect
    expect_absent(cut, "k")


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_cleanup_that_fails_has_happened_or_not(cut: Cut, after_effect: bool) -> None:
    cut.memory.store("large", OLD["large"], ttl=10)
    cut.memory.store("small", OLD["small"], ttl=10)
    cut.memory.store("stays", OLD["large"] + "!")
    cut.clock.advance(10)
    cut.cut_catalog.fail("remove_expired", times=1, after_effect=after_effect)
    assert failed(cut.memory.cleanup_expired(), "catalog_unavailable")
    assert cut.memory.cleanup_expired()["deleted"] == (0 if after_effect else 2)
    assert len(cut.scheduled()) == (1 if after_effect else 0)
    assert cut.files() == cut.referenced() | cut.scheduled()
    expect(cut, "stays", OLD["large"] + "!")


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_batch_over_several_chunks_is_stored_wholly_or_not_at_all(
    cut: Cut, after_effect: bool
) -> None:
    batch = [(f"k{number:04}", "x" * (number % 3 * 600)) for number in range(1100)]
    cut.memory.store(batch[-1][0], "old")
    cut.cut_catalog.fail("write", times=1, after_effect=after_effect)
    answer = cut.memory.store_batch(batch)
    assert failed(answer, "catalog_unavailable")
    assert (answer["stored"], answer["failed"]) == (0, 1100)
    found = cut.memory.retrieve_batch([key for key, _ in batch])
    assert found["results"] == (dict(batch) if after_effect else {batch[-1][0]: "old"})
    assert cut.memory.store_batch(batch)["success"]
    assert cut.memory.retrieve_batch([key for key, _ in batch])["results"] == dict(batch)
    assert cut.faults() == []


@pytest.mark.parametrize("verb", WRITES)
@pytest.mark.parametrize("after_effect", [False, True])
def test_a_payload_that_cannot_be_written_leaves_the_catalog_untouched(
    cut: Cut, verb: str, after_effect: bool
) -> None:
    cut.memory.store("k", OLD["large"])
    before, files = cut.dump(), cut.files()
    cut.cut_store.fail("write", after_effect=after_effect)
    answer = WRITES[verb](cut, NEW["large"])
    assert failed(answer, "storage_error"), answer
    assert cut.dump() == before
    expect(cut, "k", OLD["large"])
    # An object that is there although writing it failed is unreferenced.
    assert bool(cut.files() - files) == after_effect
    cut.heal()
    assert WRITES[verb](cut, NEW["large"])["success"]
    expect(cut, "k", NEW["large"])


def test_one_payload_that_cannot_be_written_keeps_the_whole_batch_out(cut: Cut) -> None:
    cut.memory.store("k2", OLD["large"])
    before, files = cut.dump(), cut.files()
    cut.cut_store.fail("write", times=1)
    batch = [(f"k{number}", str(number) * 2000) for number in range(5)]
    assert failed(cut.memory.store_batch(batch), "storage_error")
    assert (cut.dump(), cut.files()) == (before, files)
    cut.cut_store.fail("write", times=1)
    cut.memory.store_batch(batch, atomic=False)
    stored = cut.memory.retrieve_batch([key for key, _ in batch])
    assert stored["success"]
    assert cut.files() == cut.referenced()
    assert cut.faults() == []


@pytest.mark.parametrize(
    ("operation", "after_effect", "file_stays"),
    [
        ("delete", False, True),
        ("delete", True, False),
        ("deletable_payloads", False, True),
        ("deletable_payloads", True, True),
        ("forget_deletions", False, False),
    ],
)
@pytest.mark.parametrize("verb", ["store", "delete", "cleanup"])
def test_a_payload_that_cannot_be_deleted_stays_scheduled(
    cut: Cut, verb: str, operation: Any, after_effect: bool, file_stays: bool
) -> None:
    cut.memory.store("k", OLD["large"], ttl=10)
    superseded = cut.referenced()
    owner: Any = cut.cut_store if operation == "delete" else cut.cut_catalog
    owner.fail(operation, after_effect=after_effect)
    if verb == "store":
        assert cut.memory.store("k", NEW["large"])["stored"]
    elif verb == "delete":
        assert cut.memory.delete("k")["deleted"]
    else:
        cut.clock.advance(10)
        answer = cut.memory.cleanup_expired()
        assert answer["success"]
        assert answer["deleted"] == 1
        assert [each["key"] for each in answer["errors"]] == list(superseded)
    assert cut.scheduled() == superseded
    assert superseded <= cut.files() or not file_stays
    cut.heal()
    if verb == "store":
        expect(cut, "k", NEW["large"])
    else:
        expect_absent(cut, "k")
    scheduled = cut.memory.catalog.scheduled_deletions("", 10)
    assert set(scheduled) == superseded
    assert delete_scheduled(cut.memory.catalog, cut.cut_store, scheduled) == []
    assert cut.scheduled() == set()
    assert cut.files() == cut.referenced()


READS: dict[str, Callable[[Cut], Any]] = {
    "retrieve": lambda cut: cut.memory.retrieve("k"),
    "retrieve_batch": lambda cut: cut.memory.retrieve_batch(["k"]),
    "search": lambda cut: cut.memory.search("k"),
    "newest": lambda cut: cut.memory.search(),
    "update": lambda cut: cut.memory.update("k", lambda value: value),
}


@pytest.mark.parametrize("verb", READS)
@pytest.mark.parametrize("operation", ["read", "read_many", "rows_found", "rows_newest", "table"])
def test_a_catalog_that_cannot_be_read_is_never_an_empty_one(
    cut: Cut, verb: str, operation: CatalogOperation
) -> None:
    cut.memory.store("k", OLD["large"])
    cut.cut_catalog.calls.clear()
    cut.cut_catalog.fail(operation)
    answer = READS[verb](cut)
    if operation in cut.cut_catalog.calls:
        assert failed(answer, "catalog_unavailable"), answer
        assert "found" not in answer
    else:
        assert answer["success"]
    cut.heal()
    expect(cut, "k", OLD["large"])


@pytest.mark.parametrize("verb", READS)
def test_a_payload_that_cannot_be_read_is_never_missing(cut: Cut, verb: str) -> None:
    cut.memory.store("k", OLD["large"])
    cut.cut_store.fail("read")
    answer = READS[verb](cut)
    assert failed(answer, "storage_error"), answer
    assert not answer.get("missing")
    cut.heal()
    expect(cut, "k", OLD["large"])


def test_health_says_which_part_is_cut_off(cut: Cut) -> None:
    assert cut.memory.health_check()["success"]
    cut.cut_catalog.fail("probe")
    cut.cut_store.fail("write")
    health = cut.memory.health_check()
    assert failed(health, "catalog_unavailable")
    assert health["catalog"]["error_type"] == "catalog_unavailable"
    assert health["storage"]["error_type"] == "storage_error"
    cut.heal()
    assert cut.memory.health_check()["success"]
    assert cut.files() == set()
