"""Readers, snapshots and searches miss nothing of what others write meanwhile.

``LTM_RACE_SECONDS`` says how long the processes of the race go on: 3 if it is not set.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from firestore_place import FirestorePlace
from history_workers import KEYS, change
from outcomes import succeed
from starting import said, started
from test_history_writers import Follower, expect_equal, rounds

from ltm.backend.duckdb import DuckDBLTMBackend

SCRIPT = Path(__file__).with_name("firestore_workers.py")
RACE_SECONDS = float(os.environ.get("LTM_RACE_SECONDS", "3"))
DEADLINE = 90 + RACE_SECONDS
PAUSE_SECONDS = 0.1


@contextmanager
def written_to(memory: DuckDBLTMBackend, count: int, threads: int = 2) -> Iterator[list[Any]]:
    """Let threads make *count* changes each, or go on until the block ends; give their end."""
    stop = threading.Event()
    failures: list[Any] = []

    def write(worker: int) -> None:
        choice = random.Random(worker)
        number = 0
        while number < count and not stop.is_set():
            try:
                answer: Any = change(memory, choice, str(worker), number)
            except BaseException as error:
                failures.append(error)
                raise
            if not answer["success"]:
                failures.append(answer)
            number += 1
            # Where each waits for the other the emulator does nothing for two seconds.
            stop.wait(PAUSE_SECONDS)

    writers = [threading.Thread(target=write, args=(n,), daemon=True) for n in range(threads)]
    for writer in writers:
        writer.start()
    try:
        yield writers
    finally:
        stop.set()
        for writer in writers:
            writer.join(DEADLINE)
    assert not any(writer.is_alive() for writer in writers)
    assert failures == []


def test_a_reader_misses_no_change_of_two_threads(place: FirestorePlace) -> None:
    with place.open() as memory:
        follower = Follower(memory)
        for _ in rounds(follower):
            with written_to(memory, 15) as writers:
                while any(writer.is_alive() for writer in writers):
                    follower.follow()
        expect_equal(follower, memory)
    place.expect_sound()
    assert place.documents("ltm_entry_versions") == {}


def test_a_reader_misses_no_change_of_two_processes(place: FirestorePlace) -> None:
    with place.open() as memory:
        follower = Follower(memory)
        for number in rounds(follower):
            commands = [
                ("write", place.project, place.directory, f"{name}{number}", 15) for name in "ab"
            ]
            with started(SCRIPT, commands) as workers:
                while any(worker.poll() is None for worker in workers):
                    follower.follow()
                assert said(workers, DEADLINE) == [[]] * 2
        expect_equal(follower, memory)
    place.expect_sound()


def test_a_snapshot_counts_what_is_read_as_of_it(place: FirestorePlace) -> None:
    with place.open() as memory, place.open() as other:
        succeed(memory.store_batch([(key, "before") for key in KEYS[:6]]))
        seen: dict[str, Any] = {}
        with written_to(memory, 10**9):
            for number in range(4):
                taken = succeed(other.create_snapshot(f"s{number}"))
                rows = list(other.catalog.history.iterate_as_of(find(other, taken)))
                assert len(rows) == taken["entry_count"]
                assert sum(row.byte_size for row in rows) == taken["total_bytes"]
                seen[taken["snapshot_id"]] = {row.key: row.content_hash for row in rows}
        # Nothing was written behind it since.
        for snapshot, expected in seen.items():
            rows = list(other.catalog.history.iterate_as_of(find(other, {"snapshot_id": snapshot})))
            assert {row.key: row.content_hash for row in rows} == expected


def find(memory: DuckDBLTMBackend, taken: Any) -> Any:
    return memory.catalog.history.find(taken["snapshot_id"])


def test_a_snapshot_sees_batches_whole_while_they_are_written(place: FirestorePlace) -> None:
    stop = threading.Event()
    with place.open() as memory, place.open() as other:
        succeed(memory.store_batch([(key, -1) for key in KEYS]))

        def write() -> None:
            number = 0
            while not stop.wait(PAUSE_SECONDS):
                succeed(memory.store_batch([(key, number) for key in KEYS]))
                number += 1

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        try:
            values = []
            for number in range(4):
                snapshot = succeed(other.create_snapshot(f"s{number}"))["snapshot_id"]
                found = {value for _, value, _ in other.iterate_all(snapshot=snapshot)}
                assert len(found) == 1
                values += found
            assert values == sorted(values)
        finally:
            stop.set()
            writer.join(60)


@pytest.mark.parametrize("cut_after", [3, 200])
def test_a_search_finds_what_was_answered_before_it_and_nothing_that_is_gone(
    place: FirestorePlace, monkeypatch: pytest.MonkeyPatch, cut_after: int
) -> None:
    monkeypatch.setattr("ltm.catalog.firestore_search.CUT_AFTER", cut_after)
    stop, lock = threading.Event(), threading.Lock()
    stored: list[str] = []
    deleted: list[str] = []
    failures: list[Any] = []

    def write(memory: DuckDBLTMBackend, name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = f"{name}{number}"
            answers: list[Any] = [memory.store(key, f"tea {key}")]
            with lock:
                stored.append(key)
            if number % 4 == 0:
                with lock:
                    stored.remove(key)
                answers.append(memory.delete(key))
                with lock:
                    deleted.append(key)
            failures.extend(answer for answer in answers if not answer["success"])

    # One has an index of its own, one shares another's file.
    own = place.directory / "own"
    with place.open() as one, place.open() as two, place.open(index_directory=own) as three:
        threads = [
            threading.Thread(target=write, args=each, daemon=True)
            for each in ((one, "one"), (two, "two"))
        ]
        for thread in threads:
            thread.start()
        try:
            for number in range(24):
                memory = (one, two, three)[number % 3]
                with lock:
                    there, gone = set(stored), set(deleted)
                answer = succeed(memory.search("tea", limit=10_000))
                keys = {each["key"] for each in answer["results"]}
                with lock:
                    meanwhile = set(stored) | set(deleted)
                assert there - keys <= meanwhile - set(stored), "one is missed"
                assert not keys & gone
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        assert failures == []
        assert len(stored) > 20
        for memory in (one, two, three):
            found = succeed(memory.search("tea", limit=10_000))["results"]
            assert {each["key"] for each in found} == set(stored)
            assert memory.verify()["problems"] == []


def test_processes_that_share_an_index_find_at_once_what_they_store(
    place: FirestorePlace,
) -> None:
    commands = [
        ("write_words", place.project, place.directory, name, RACE_SECONDS) for name in "ab"
    ]
    with started(SCRIPT, commands) as workers:
        reports = said(workers, DEADLINE)
    assert [report["missed"] for report in reports] == [[], []], json.dumps(reports)
    assert min(report["rounds"] for report in reports) > 0
    with place.open() as memory:
        assert memory.verify()["problems"] == []


def test_a_check_amid_writers_finds_nothing_wrong(place: FirestorePlace) -> None:
    with place.open() as memory, place.open() as other:
        succeed(memory.store_batch([(key, "before") for key in KEYS]))
        with written_to(other, 10**9):
            for _ in range(3):
                assert succeed(memory.verify())["problems"] == []
