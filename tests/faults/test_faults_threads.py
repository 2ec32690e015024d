"""Threads that share one memory lose nothing of each other and leave nothing behind."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from outcomes import in_threads, succeed
from place import Place

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog

THREADS = 8
SECONDS = 100
"""After which threads are taken to hang."""


@pytest.fixture(params=["file", ":memory:"])
def memory(request: pytest.FixtureRequest, place: Place) -> Iterator[DuckDBLTMBackend]:
    path = place.catalog if request.param == "file" else ":memory:"
    with DuckDBLTMBackend(
        SQLiteCatalog(path), str(place.storage), owns_catalog=True, max_workers=4
    ) as memory:
        yield memory


def test_eight_threads_lose_no_write(memory: DuckDBLTMBackend) -> None:
    def write(thread: int) -> None:
        for number in range(200):
            size = 2000 if number % 20 == 0 else 10
            succeed(memory.store(f"t{thread}-{number:03}", f"{thread}/{number}".rjust(size)))

    in_threads(write, THREADS, SECONDS)
    found = {key: value.strip() for key, value, _ in memory.iterate_all()}
    assert found == {
        f"t{thread}-{number:03}": f"{thread}/{number}"
        for thread in range(THREADS)
        for number in range(200)
    }


def test_threads_that_mix_all_verbs_get_no_failure(memory: DuckDBLTMBackend) -> None:
    def use(thread: int) -> None:
        for number in range(12):
            size = 2000 if number % 3 == 0 else 10
            key = f"k{number % 5}"
            succeed(memory.store(key, f"{thread}/{number}".rjust(size), {"thread": thread}))
            succeed(memory.retrieve(key))
            succeed(memory.search("k", {"thread": thread}))
            succeed(memory.store_batch([(f"b{number % 4}", "b" * size), (key, number)]))
            succeed(memory.retrieve_batch(["k0", "k1", "b0"]))
            succeed(memory.update(f"u{number % 3}", lambda _: [thread], retries=1000))
            succeed(memory.delete(key))
            for _, value, _ in memory.iterate_all():
                assert value is not None
            succeed(memory.store("expiring", "e" * size, ttl=0.001))
            succeed(memory.cleanup_expired())

    in_threads(use, THREADS, SECONDS)


def test_a_counter_that_threads_update_is_exact(memory: DuckDBLTMBackend) -> None:
    def count(_: int) -> None:
        for _ in range(25):
            succeed(memory.update("counter", lambda value: value + 1, default=0, retries=10_000))

    in_threads(count, THREADS, SECONDS)
    assert memory.retrieve("counter")["value"] == THREADS * 25


def test_a_list_that_threads_append_to_outside_of_the_row_keeps_every_item(place: Place) -> None:
    with place.open(inline_threshold=0) as memory:

        def append(thread: int) -> None:
            for number in range(8):
                item = f"{thread}/{number}"
                succeed(
                    memory.update(
                        "list", lambda value, item=item: [*value, item], default=[], retries=10_000
                    )
                )

        in_threads(append, THREADS, SECONDS)
        value = memory.retrieve("list")["value"]
    expected = {f"{thread}/{number}" for thread in range(THREADS) for number in range(8)}
    assert len(value) == len(expected)
    assert set(value) == expected
    assert place.faults() == []
    assert place.files() == place.referenced()


def test_one_key_written_by_all_with_same_and_different_values_leaves_one_payload(
    place: Place,
) -> None:
    values = [letter * 3000 for letter in "abcd"]
    with place.open() as memory:

        def overwrite(thread: int) -> None:
            for number in range(15):
                # The same value for all in even rounds, different ones in odd rounds.
                value = values[number % 4 if number % 2 == 0 else thread % 4]
                succeed(memory.store("k", value, {"round": number // 3}))
                answer = memory.retrieve("k")
                succeed(answer)
                assert answer["value"] in values

        in_threads(overwrite, THREADS, SECONDS)
        assert memory.retrieve("k")["value"] in values
    assert place.faults() == []
    assert len(place.files()) == 1
    assert place.files() == place.referenced()
    assert place.scheduled() == set()


def test_batches_of_the_same_keys_by_all_leave_one_payload_for_each_row(place: Place) -> None:
    with place.open() as memory:

        def write(thread: int) -> None:
            for number in range(5):
                keys = [f"k{index}" for index in range(12)]
                if thread % 2:
                    keys.reverse()
                value = f"{(thread + number) % 3}" * 2000
                succeed(memory.store_batch([(key, value) for key in keys]))

        in_threads(write, THREADS, SECONDS)
        answer = memory.retrieve_batch([f"k{index}" for index in range(12)])
        succeed(answer)
        # Each batch is one transaction: all keys are of the one that came last.
        assert len(set(answer["results"].values())) == 1
    assert place.faults() == []
    assert len(place.files()) == 12
    assert place.files() == place.referenced()
    assert place.scheduled() == set()


needs_proc = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="open descriptors cannot be counted here"
)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@needs_proc
def test_threads_that_come_and_go_leave_no_connections(place: Place) -> None:
    def use(thread: int) -> None:
        succeed(memory.store(f"k{thread}", "x" * 2000))
        succeed(memory.retrieve_batch([f"k{thread}", "k0"]))

    with place.open() as memory:
        use(0)
        before = open_descriptors()
        for thread in range(50):
            in_threads(lambda _, thread=thread: use(thread), 1, SECONDS)
        assert open_descriptors() <= before
    assert open_descriptors() < before


@needs_proc
def test_connections_are_as_many_as_were_used_at_once(place: Place) -> None:
    with place.open() as memory:
        succeed(memory.store("k", 1))
        before = open_descriptors()
        for wave in range(6):
            in_threads(
                lambda thread, wave=wave: succeed(memory.store(f"k{thread}", wave)),
                THREADS,
                SECONDS,
            )
        # A connection has the catalog and its log open.
        assert open_descriptors() <= before + 2 * THREADS
    assert open_descriptors() < before


def test_a_fresh_file_that_somebody_writes_to_is_waited_for(place: Place) -> None:
    answers: list[Any] = []
    with (
        place.open() as memory,
        closing(
            sqlite3.connect(place.catalog, isolation_level=None, check_same_thread=False)
        ) as other,
    ):
        other.execute("CREATE TABLE theirs (x)")
        other.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=lambda: answers.append(memory.store("k", 1)), daemon=True)
        thread.start()
        # It ends only when it gives up; otherwise it is waiting by now.
        thread.join(0.5)
        other.execute("COMMIT")
        thread.join(60)
        succeed(*answers)
