"""Writers that get in each other's way all get through, and nothing is lost or left over.

The emulator lets a writer wait two seconds for another's lock and then sends it away, so there are
few of them.
"""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest
from firestore_place import FirestorePlace
from outcomes import in_threads, succeed
from starting import said, started

from ltm.catalog.commit import Put
from ltm.errors import CatalogUnavailableError, ConflictError
from ltm.hashing import compute_content_hash

SCRIPT = Path(__file__).with_name("firestore_workers.py")
DEADLINE = 90
LARGE = 2000


def test_a_counter_that_two_threads_update_is_exact(place: FirestorePlace) -> None:
    with place.open() as memory:
        succeed(memory.store("counter", 0))

        def count(_: int) -> None:
            for _ in range(3):
                succeed(memory.update("counter", lambda value: value + 1, retries=1000))

        in_threads(count, 2)
        assert memory.retrieve("counter")["value"] == 6


def test_a_counter_that_two_processes_update_is_exact(place: FirestorePlace) -> None:
    with place.open() as memory:
        succeed(memory.store("counter", 0))
        commands = [("count_up", place.project, place.directory, 3)] * 2
        with started(SCRIPT, commands) as workers:
            assert said(workers, DEADLINE) == [[], []]
        assert memory.retrieve("counter")["value"] == 6


def test_sixteen_writers_of_keys_of_their_own_do_not_hinder_one_another(
    place: FirestorePlace,
) -> None:
    with place.open() as memory:
        succeed(memory.store("warm", 1))

        def write(thread: int) -> None:
            for number in range(4):
                value = f"{thread}/{number}".rjust(LARGE if number % 2 else 10)
                answer = succeed(memory.store(f"k{thread}", value))
                assert answer["created"] is (number == 0)
                assert memory.retrieve(f"k{thread}")["value"] == value

        in_threads(write, 16)
        values = {key: value.strip() for key, value, _ in memory.iterate_all("k")}
        assert values == {f"k{thread}": f"{thread}/3" for thread in range(16)}
    place.expect_sound()


def test_of_eight_first_writers_one_wins_if_absent(place: FirestorePlace) -> None:
    said_by: list[str] = [""] * 8
    with place.open() as memory:
        succeed(memory.store("warm", 1))

        def claim(thread: int) -> None:
            answer = memory.store("k", f"{thread}" * LARGE, if_absent=True)
            said_by[thread] = "stored" if answer["success"] else answer["error_type"]

        in_threads(claim, 8)
        assert Counter(said_by) == {"stored": 1, "conflict": 7}
        winner = said_by.index("stored")
        assert memory.retrieve("k")["value"] == f"{winner}" * LARGE
    place.expect_sound()


def test_two_writers_of_one_key_leave_one_entry_and_one_payload(place: FirestorePlace) -> None:
    barrier = threading.Barrier(2)
    with place.open() as memory:
        succeed(memory.store("warm", 1))

        def write(thread: int) -> None:
            for number in range(2):
                barrier.wait(60)
                succeed(memory.store(f"k{number}", f"{thread}" * LARGE))

        in_threads(write, 2)
        values = [value for _, value, _ in memory.iterate_all("k")]
    assert len(values) == 2
    assert all(value in ("0" * LARGE, "1" * LARGE) for value in values)
    # Nothing is left over even before garbage is collected.
    assert place.files() == place.referenced()
    assert place.scheduled() == set()


def test_overlapping_batches_are_written_one_after_the_other(place: FirestorePlace) -> None:
    keys = [f"k{number}" for number in range(6)]
    with place.open() as memory:
        succeed(memory.store("warm", 1))

        def write(thread: int) -> None:
            own = keys if thread else keys[::-1]
            for number in range(2):
                value = f"{thread}/{number}".rjust(LARGE)
                succeed(memory.store_batch([(key, value) for key in own]))

        in_threads(write, 2)
        values = memory.retrieve_batch(keys)["results"].values()
        assert len(values) == len(keys)
        assert len(set(values)) == 1
    place.expect_sound()


def test_threads_that_use_a_database_first_make_one_table(place: FirestorePlace) -> None:
    with place.open() as memory:
        in_threads(lambda thread: succeed(memory.store(f"k{thread}", "x" * LARGE)), 3)
        assert {path.split("/")[0] for path in place.files()} == {
            memory.catalog.table().storage_prefix
        }
    assert len(place.documents("ltm_tables")) == 1
    place.expect_sound()


def put(place: FirestorePlace, key: str, value: int, **condition: object) -> Put:
    return Put(
        id=place.catalog().entry_id(key),
        key=key,
        content_hash=compute_content_hash(value),
        byte_size=1,
        metadata={},
        inlined_text=str(value),
        **condition,  # type: ignore[arg-type]  # of a Put
    )


def test_a_writer_that_is_kept_out_for_too_long_says_so(
    place: FirestorePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ltm.catalog.firestore_client.CONTENTION_SECONDS", 0.1)
    with place.catalog() as catalog, place.catalog() as other:
        now = catalog.clock()
        catalog.write([put(place, "k", 1), put(place, "other", 1)], now)
        documents = other.documents
        path = f"{documents.collections.entries}/{other.entry_id('k')}"
        transaction = documents.client.begin()
        documents.client.get([path], transaction=transaction)
        try:
            with pytest.raises(CatalogUnavailableError, match="lock timeout"):
                catalog.write([put(place, "k", 2), put(place, "other", 2)], now)
        finally:
            documents.client.roll_back(transaction)
        rows = catalog.read_many(["k", "other"], now)
        assert {row.inlined_text for row in rows.values()} == {"1"}
        catalog.write([put(place, "k", 2), put(place, "other", 2)], now)
        with pytest.raises(ConflictError):
            catalog.write([put(place, "new", 3), put(place, "k", 3, if_absent=True)], now)
        assert catalog.read("new", now) is None
