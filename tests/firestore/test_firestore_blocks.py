"""Calls that commit together, in the presence of others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from firestore_place import FirestorePlace
from outcomes import succeed

from ltm.errors import CatalogUnavailableError, ConflictError
from tests.services.firestore import FirestoreEmulator

LARGE = "x" * 2000


@contextmanager
def failing(
    memory: Any, error: type[Exception] = CatalogUnavailableError, match: str | None = None
) -> Iterator[Any]:
    """Give a transaction, and check that it ends with *error*."""
    with pytest.raises(error, match=match), memory.transaction() as block:
        yield block


def test_of_two_blocks_on_one_key_the_later_commit_does_nothing(place: FirestorePlace) -> None:
    with place.open() as first, place.open() as second:
        succeed(first.store("k", 0))
        with failing(second, match="nothing of the transaction is written") as late:
            late.store("before", LARGE)
            assert late.retrieve("k")["value"] == 0
            late.store("k", "second")
            with first.transaction() as early:
                early.store("k", "first")
                early.store("with", "first")
            late.store("after", "second")
        values = {key: value for key, value, _ in second.iterate_all()}
        assert values == {"k": "first", "with": "first"}
        with second.transaction() as again:
            again.store("k", "second")
        assert first.retrieve("k")["value"] == "second"
    place.expect_sound()


def test_a_block_fails_that_a_write_of_one_of_its_keys_overtook(place: FirestorePlace) -> None:
    with place.open() as memory, place.open() as other:
        succeed(memory.store("k", 0))
        with failing(memory) as block:
            block.delete("k")
            succeed(other.store("k", 1))
        assert memory.retrieve("k")["value"] == 1
        with failing(memory) as block:
            block.store("new", 0, if_absent=True)
            succeed(other.store("new", 1))
        assert memory.retrieve("new")["value"] == 1
        # Others' keys are nothing to it.
        with memory.transaction() as block:
            block.store("k", 2)
            succeed(other.store("new", 2))
        assert memory.retrieve_batch(["k", "new"])["results"] == {"k": 2, "new": 2}


def test_a_block_fails_that_a_snapshot_overtook(place: FirestorePlace) -> None:
    with place.open() as memory, place.open() as other:
        succeed(memory.store("k", "old"))
        with failing(memory) as block:
            block.store("k", "new")
            succeed(other.create_snapshot("between"))
        assert memory.retrieve("k")["value"] == "old"
        with memory.transaction() as block:
            block.store("k", "new")
        assert memory.retrieve("k", snapshot="between")["value"] == "old"
        assert [each["op"] for each in memory.changes("between")] == ["modified"]
        with failing(memory) as block:
            block.store("k", "newer")
            succeed(other.expire_snapshot("between"))
        assert memory.retrieve("k")["value"] == "new"
    place.expect_sound()


def test_a_snapshot_in_a_block_sees_what_the_block_wrote_before_it(place: FirestorePlace) -> None:
    with place.open() as memory, place.open() as other:
        succeed(memory.store_batch([("a", "x"), ("b", "yy"), ("c", "zzz")]))
        with memory.transaction() as block:
            block.delete("a")
            taken = block.create_snapshot("within")
            block.delete("b")
            block.store("d", "later")
        assert {key: value for key, value, _ in other.iterate_all()} == {"c": "zzz", "d": "later"}
        seen = {key: value for key, value, _ in other.iterate_all(snapshot="within")}
        assert seen == {"b": "yy", "c": "zzz"}
        (listed,) = other.list_snapshots()["snapshots"]
        assert (listed["entry_count"], listed["total_bytes"]) == (2, len('"yy"') + len('"zzz"'))
        assert taken["entry_count"] == 2


def test_a_block_of_more_than_one_request_commits_whole(
    place: FirestorePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ltm.catalog.firestore_batches.WRITES_PER_COMMIT", 7)
    with place.open() as memory, place.open() as other:
        succeed(memory.store_batch([(f"k{number}", -1) for number in range(20)]))
        with memory.transaction() as block:
            block.store("k0", "first")
            block.create_snapshot("within")
            for number in range(20):
                block.store(f"k{number}", number)
            assert other.retrieve("k0")["value"] == -1
        assert {value for _, value, _ in other.iterate_all()} == set(range(20))
        seen = {key: value for key, value, _ in other.iterate_all(snapshot="within")}
        assert seen == {"k0": "first"} | {f"k{number}": -1 for number in range(1, 20)}
        assert place.pending() is None
    place.expect_sound()


def test_a_block_of_600_writes_commits_whole(place: FirestorePlace) -> None:
    with place.open() as memory, place.open() as other:
        with memory.transaction() as block:
            for number in range(6):
                block.store_batch([(f"k{number}/{each}", "tea") for each in range(100)])
            assert other.stats()["entries"] == 0
        assert other.stats()["entries"] == 600
        assert other.search("tea", limit=600)["count"] == 600


def test_a_nested_block_that_raises_takes_back_its_own_writes_alone(place: FirestorePlace) -> None:
    with place.open() as memory, place.open() as other:
        succeed(memory.store("k", 0))
        with memory.transaction() as outer:
            outer.store("outer", 1)
            with failing(outer, RuntimeError, "enough") as inner:
                inner.store("k", 1)
                inner.store("inner", LARGE)
                raise RuntimeError("enough")
            assert outer.retrieve("k")["value"] == 0
            assert not outer.retrieve("inner")["found"]
            with outer.transaction() as inner:
                inner.store("nested", 2)
            assert not other.retrieve("nested")["found"]
        values = {key: value for key, value, _ in other.iterate_all()}
        assert values == {"k": 0, "outer": 1, "nested": 2}
    place.expect_sound()


def test_a_conflict_in_a_block_leaves_nothing_of_it(place: FirestorePlace) -> None:
    with place.open() as memory:
        succeed(memory.store("k", 0))
        with failing(memory, ConflictError) as block:
            block.store("new", LARGE)
            block.store("k", 1, if_absent=True)
        assert [key for key, _, _ in memory.iterate_all()] == ["k"]
        assert place.files() == set()


def test_a_block_whose_server_fails_at_the_commit_fails_and_keeps_its_payloads(
    place: FirestorePlace, firestore_emulator: FirestoreEmulator
) -> None:
    with place.open(timeout=2) as memory:
        succeed(memory.store("k", 0))
        with failing(memory) as block:
            block.store("k", LARGE)
            firestore_emulator.pause()
        firestore_emulator.resume()
        assert len(place.files()) == 1
        assert memory.retrieve("k")["value"] in (0, LARGE)
        assert place.faults() == []
