"""A commit that takes several requests is seen whole or not at all, whoever carries it out."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from firestore_place import FirestorePlace
from outcomes import in_threads, succeed

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.commit import Put
from ltm.catalog.firestore_client import FirestoreClient
from ltm.errors import ConflictError
from ltm.hashing import compute_content_hash

WORKERS = Path(__file__).with_name("firestore_workers.py")
BATCHES = "ltm.catalog.firestore_batches"
PATIENCE = 90


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a request take 20 documents, so that few entries need several."""
    monkeypatch.setattr(f"{BATCHES}.WRITES_PER_COMMIT", 20)


@contextmanager
def reading(*readers: Any) -> Iterator[None]:
    """Let each of *readers* read again and again in a thread until the block ends."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def read(reader: Any) -> None:
        try:
            while not stop.is_set():
                reader()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=read, args=(each,), daemon=True) for each in readers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []


class Readers:
    """Ways to read a batch whose values are all the number of their round."""

    def __init__(self, memory: DuckDBLTMBackend, keys: list[str]) -> None:
        self.memory = memory
        self.keys = keys
        self.rounds: list[int] = []

    def one_after_the_other(self) -> None:
        first, last = (
            succeed(self.memory.retrieve(key, -1))["value"] for key in (self.keys[0], self.keys[-1])
        )
        assert first <= last, "a round is there in part"

    def at_once(self) -> None:
        answer = succeed(self.memory.retrieve_batch(self.keys))
        self._expect_whole(list(answer["results"].values()))

    def in_order(self) -> None:
        rows = self.memory.catalog.list_entries(limit=len(self.keys) + 1)
        self._expect_whole([row["metadata"]["round"] for row in rows])

    def by_words(self) -> None:
        hits = succeed(self.memory.search("key", limit=len(self.keys) + 1))["results"]
        self._expect_whole([hit["value"] for hit in hits])

    def _expect_whole(self, values: list[int]) -> None:
        assert len(values) in (0, len(self.keys))
        assert len(set(values)) <= 1, "a round is there in part"
        self.rounds += values[:1]


def store_round(memory: DuckDBLTMBackend, keys: list[str], number: int) -> None:
    answer = succeed(memory.store_batch([(key, number, {"round": number}) for key in keys]))
    assert answer["stored"] == len(keys)


def test_readers_see_all_of_a_staged_batch_or_nothing(place: FirestorePlace, small: None) -> None:
    keys = [f"key {number:03}" for number in range(50)]
    with place.open() as memory, place.open() as other:
        ways = Readers(other, keys)
        with reading(ways.one_after_the_other, ways.at_once, ways.in_order, ways.by_words):
            for number in range(6):
                store_round(memory, keys, number)
        assert len(set(ways.rounds)) > 1, "hardly anything was read meanwhile"
        assert place.pending() is None
    place.expect_sound()


def test_readers_carry_out_what_its_writer_is_slow_to(
    place: FirestorePlace, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They don't wait for it at all, so that all of them do it at once.
    monkeypatch.setattr(f"{BATCHES}.PATIENCE_SECONDS", 0)
    keys = [f"key {number:03}" for number in range(30)]
    with place.open() as memory, place.open() as one, place.open() as two:
        ways, others = Readers(one, keys), Readers(two, keys)
        with reading(ways.one_after_the_other, ways.at_once, others.in_order):
            for number in range(4):
                store_round(memory, keys, number)
    place.expect_sound()


def test_1500_entries_are_stored_together(place: FirestorePlace) -> None:
    keys = [f"key {number:04}" for number in range(1500)]
    with place.open() as memory, place.open() as other:
        ways = Readers(other, keys)
        with reading(ways.one_after_the_other, ways.at_once):
            store_round(memory, keys, 0)
        assert other.stats()["entries"] == 1500
        assert other.search("key", limit=2000)["count"] == 1500
    assert place.documents("ltm_batches") == {}


def test_six_megabytes_of_inlined_values_are_stored_together(place: FirestorePlace) -> None:
    values = {f"k{number}": f"{number}" * 750_000 for number in range(8)}
    memory = place.memory(place.catalog(), inline_threshold=2**20)
    with memory, place.open() as other:

        def read() -> None:
            found = succeed(other.retrieve_batch(values))
            assert len(found["results"]) in (0, len(values))

        with reading(read):
            succeed(memory.store_batch(values.items()))
        assert other.retrieve_batch(values)["results"] == values
    assert place.files() == set()
    assert place.documents("ltm_batches") == {}


def die_at(place: FirestorePlace, commit: int, key_count: int) -> None:
    """Let a process store a batch and be killed before its commit of that number, from 1."""
    command = [WORKERS, "die_in_batch", place.project, place.directory, commit, key_count]
    ended = subprocess.run(
        [sys.executable, "-W", "error", *map(str, command)],
        input="go\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == -9, ended.stderr


KEYS = [f"key {number:03}" for number in range(25)]
"""Of 50 documents: three parts are put down, the fourth commit makes them count."""


def test_a_batch_whose_writer_died_before_it_counts_is_not_there(place: FirestorePlace) -> None:
    with place.open() as memory:
        succeed(memory.store("before", 1))
        die_at(place, 4, len(KEYS))
        assert len(place.documents("ltm_batches")) == 3
        assert place.pending() is None
        assert [key for key, _, _ in memory.iterate_all()] == ["before"]
        assert succeed(memory.search("key"))["count"] == 0
        # A writer may still be about to make a young batch count.
        assert succeed(memory.cleanup_expired())["deleted"] == 0
        assert len(place.documents("ltm_batches")) == 3


def test_parts_that_a_dead_writer_left_are_swept_away(
    place: FirestorePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.open() as memory, place.open(table="other") as other:
        succeed(memory.store("before", 1))
        succeed(other.store("before", 1))
        die_at(place, 4, len(KEYS))
        monkeypatch.setattr(f"{BATCHES}.ABANDONED_AFTER", -60)
        succeed(other.cleanup_expired())
        assert len(place.documents("ltm_batches")) == 3, "another table's parts are swept"
        succeed(memory.cleanup_expired())
        assert place.documents("ltm_batches") == {}
        # What counts is never swept, however old it is.
        die_at(place, 5, len(KEYS))
        monkeypatch.setattr(f"{BATCHES}.PATIENCE_SECONDS", 0)
        assert place.pending() is not None
        memory.catalog.documents.batches.sweep(100)  # type: ignore[attr-defined]
        assert len(place.documents("ltm_batches")) == 3
        assert memory.stats()["entries"] == len(KEYS) + 1
        assert place.documents("ltm_batches") == {}


@pytest.mark.parametrize("commit", [5, 6, 8])
def test_a_batch_that_counts_is_carried_out_by_who_comes_next(
    place: FirestorePlace, monkeypatch: pytest.MonkeyPatch, commit: int
) -> None:
    monkeypatch.setattr(f"{BATCHES}.PATIENCE_SECONDS", 0)
    with place.open() as memory:
        succeed(memory.store("before", 1))
        die_at(place, commit, len(KEYS))
        assert place.pending() is not None
        in_part = len(place.documents("ltm_entries"))
        assert (in_part == 1) is (commit == 5)
        found: list[Any] = [None] * 3
        memories = [place.open() for _ in found]
        # Several at once do it, each from the beginning.
        calls = [
            lambda: len(succeed(memories[0].retrieve_batch(KEYS))["results"]),
            lambda: succeed(memories[1].search("key", limit=100))["count"],
            lambda: sum(1 for _ in memories[2].iterate_all("key")),
        ]

        def use(number: int) -> None:
            found[number] = calls[number]()

        in_threads(use, len(calls))
        for each in memories:
            each.close()
        assert found == [len(KEYS)] * 3
        assert {value for _, value, _ in memory.iterate_all("key")} == {"tea"}


def test_who_carries_a_batch_out_too_late_changes_nothing(
    place: FirestorePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{BATCHES}.PATIENCE_SECONDS", 0)
    begin, is_late, may_go_on = FirestoreClient.begin, threading.Event(), threading.Event()

    def begin_late(client: FirestoreClient) -> bytes:
        if threading.current_thread().name == "late":
            is_late.set()
            assert may_go_on.wait(PATIENCE)
        return begin(client)

    monkeypatch.setattr(FirestoreClient, "begin", begin_late)
    with place.open() as memory, place.open() as other:
        succeed(memory.store("before", 1))
        die_at(place, 5, len(KEYS))
        found: list[Any] = []
        late = threading.Thread(
            target=lambda: found.append(other.retrieve_batch(KEYS)), name="late", daemon=True
        )
        late.start()
        assert is_late.wait(PATIENCE)
        # By now it has read that there is a batch, and what is in it.
        newer = dict.fromkeys(KEYS, "newer")
        for key, value in newer.items():
            succeed(memory.store(key, value))
        may_go_on.set()
        late.join(PATIENCE)
        assert succeed(found[0])["results"] == newer
        assert memory.retrieve_batch(KEYS)["results"] == newer
    place.expect_sound()


def test_a_batch_of_too_many_documents_is_refused(
    place: FirestorePlace, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{BATCHES}.MAX_WRITES", 60)
    with place.open() as memory:
        succeed(memory.store("before", 1))
        answer = memory.store_batch([(f"k{number}", "x" * 2000) for number in range(31)])
        assert answer["success"] is False
        assert answer["error_type"] == "validation_error"
        assert "62 documents are to be written at once, at most 60" in answer["error"]
        assert memory.stats()["entries"] == 1
        assert place.files() == set()
        assert place.documents("ltm_batches") == {}
        entries = [(f"k{number}", "x" * 2000) for number in range(30)]
        assert succeed(memory.store_batch(entries))["stored"] == 30
        # Chunks stand alone where nobody asked for all or nothing.
        entries = [(f"n{number}", number) for number in range(50)]
        answer = memory.store_batch(entries, atomic=False, batch_size=25)
        assert succeed(answer)["stored"] == 50


def test_a_conflict_in_a_staged_batch_leaves_nothing(place: FirestorePlace, small: None) -> None:
    with place.catalog() as catalog:

        def put(key: str, **condition: Any) -> Put:
            return Put(
                id=catalog.entry_id(key),
                key=key,
                content_hash=compute_content_hash(1),
                byte_size=1,
                metadata={},
                inlined_text="1",
                **condition,
            )

        catalog.write([put("taken")], catalog.clock())
        puts = [put(f"k{number}") for number in range(30)]
        with pytest.raises(ConflictError):
            catalog.write([*puts, put("taken", if_absent=True)], catalog.clock())
        assert [entry["key"] for entry in catalog.list_entries()] == ["taken"]
    assert place.documents("ltm_batches") == {}


def test_two_staged_batches_of_the_same_keys_come_one_after_the_other(
    place: FirestorePlace, small: None
) -> None:
    with place.open() as one, place.open() as two:
        succeed(one.store("before", 1))
        in_threads(lambda number: store_round((one, two)[number], KEYS, number), 2)
        values = one.retrieve_batch(KEYS)["results"].values()
        assert len(values) == len(KEYS)
        assert len(set(values)) == 1
    place.expect_sound()
