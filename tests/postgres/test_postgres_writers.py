"""A reader that works from snapshot to snapshot while others write misses no change."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from history_workers import KEYS, change
from outcomes import is_outage, succeed
from postgres_place import PostgresPlace
from sqlalchemy import create_engine
from starting import said, started
from test_history_writers import Follower, expect_equal, rounds

from ltm.backend.duckdb import DuckDBLTMBackend

SCRIPT = Path(__file__).with_name("postgres_workers.py")
DEADLINE = 90


@contextmanager
def written_to(memory: DuckDBLTMBackend, count: int, threads: int = 8) -> Iterator[list[Any]]:
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


def expect_nothing_left(place: PostgresPlace) -> None:
    place.expect_sound()
    assert place.rows("SELECT count(*) FROM ltm_entry_versions") == [(0,)]


def test_a_reader_misses_no_change_of_eight_threads(place: PostgresPlace) -> None:
    with place.open() as memory:
        follower = Follower(memory)
        for _ in rounds(follower):
            with written_to(memory, 40) as writers:
                while any(writer.is_alive() for writer in writers):
                    follower.follow()
        expect_equal(follower, memory)
    expect_nothing_left(place)


def test_a_reader_misses_no_change_of_four_processes(place: PostgresPlace) -> None:
    with place.open() as memory:
        follower = Follower(memory)
        for number in rounds(follower):
            commands = [
                ("write", place.url, place.storage, f"{name}{number}", 30) for name in "abcd"
            ]
            with started(SCRIPT, commands) as workers:
                while any(worker.poll() is None for worker in workers):
                    follower.follow()
                assert said(workers, DEADLINE) == [[]] * 4
        expect_equal(follower, memory)
    expect_nothing_left(place)


def test_writers_without_pause_keep_no_snapshot_waiting(place: PostgresPlace) -> None:
    with place.open() as memory, place.open(statement_timeout=20) as other:
        with written_to(memory, 10**9) as writers:
            for number in range(20):
                succeed(other.create_snapshot(f"s{number}"))
                assert all(writer.is_alive() for writer in writers)
        assert len(memory.list_snapshots()["snapshots"]) == 20


def test_a_snapshot_sees_batches_whole_while_they_are_written(place: PostgresPlace) -> None:
    stop = threading.Event()
    with place.open() as memory, place.open() as other:
        succeed(memory.store_batch([(key, -1) for key in KEYS]))

        def write(thread: int) -> None:
            number = thread
            while not stop.is_set():
                succeed(memory.store_batch([(key, number) for key in KEYS]))
                number += 10

        writers = [threading.Thread(target=write, args=(n,), daemon=True) for n in range(4)]
        for writer in writers:
            writer.start()
        try:
            for number in range(15):
                snapshot = succeed(other.create_snapshot(f"s{number}"))["snapshot_id"]
                assert len({value for _, value, _ in other.iterate_all(snapshot=snapshot)}) == 1
        finally:
            stop.set()
            for writer in writers:
                writer.join(60)


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_no_application_writes_behind_a_snapshot_that_its_transaction_does_not_see(
    place: PostgresPlace, isolation: str
) -> None:
    url = place.url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url, isolation_level=isolation)
    with place.open() as memory:
        succeed(memory.store("k", "old"))
        with engine.connect() as connection:
            # Where it sees one state of the database to its end, it does so from here on.
            connection.exec_driver_sql("SELECT 1 FROM ltm_tables")
            snapshot = succeed(memory.create_snapshot("s"))["snapshot_id"]
            answer: Any = memory.using(connection).store("k", "new")
            if isolation == "READ COMMITTED":
                succeed(answer)
                connection.commit()
                assert [each["key"] for each in memory.changes(snapshot)] == ["k"]
            else:
                assert is_outage(answer)
                connection.rollback()
        assert memory.retrieve("k", snapshot=snapshot)["value"] == "old"
    engine.dispose()
