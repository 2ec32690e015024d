"""A reader that works from snapshot to snapshot while others write misses no change.

``LTM_RACE_SECONDS`` says how long the processes of the race go on: 6 if it is not set, 30 in a
long run.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from history_workers import KEYS, change
from place import Place
from starting import said, started

from ltm.backend.duckdb import DuckDBLTMBackend

SCRIPT = Path(__file__).with_name("history_workers.py")
RACE_SECONDS = float(os.environ.get("LTM_RACE_SECONDS", "6"))
DEADLINE = 90 + RACE_SECONDS
ENOUGH = 2 * len(KEYS)
"""Fewer changes may have been made between two snapshots alone, while the follower had no turn."""


class Follower:
    """Keeps a copy of a memory by replaying what changed from snapshot to snapshot."""

    def __init__(self, memory: DuckDBLTMBackend) -> None:
        self.memory = memory
        self.copy: dict[str, Any] = {}
        self.changes = 0
        self.snapshot = self._take()
        for key, value, metadata in memory.iterate_all(snapshot=self.snapshot):
            self.copy[key] = value, metadata

    def follow(self) -> None:
        """Replay what changed since the last snapshot, and forget that one."""
        following = self._take()
        for each in self.memory.diff(self.snapshot, following):
            self.changes += 1
            key = each["key"]
            assert (each["op"] == "added") == (key not in self.copy), each
            if each["op"] == "deleted":
                del self.copy[key]
            else:
                answer = self.memory.retrieve(key, snapshot=following)
                assert answer["found"], answer
                assert answer["content_hash"] == each["content_hash"]
                self.copy[key] = answer["value"], answer["metadata"]
        answer = self.memory.expire_snapshot(self.snapshot)
        assert answer["success"], answer
        self.snapshot = following

    def _take(self) -> str:
        answer = self.memory.create_snapshot("following")
        assert answer["success"], answer
        return answer["snapshot_id"]


def rounds(follower: Follower) -> Iterator[int]:
    """Yield a number for each round of writing, until enough was followed to prove something."""
    for number in range(10):
        yield number
        if follower.changes > ENOUGH:
            return


def expect_equal(follower: Follower, memory: DuckDBLTMBackend) -> None:
    follower.follow()
    present = {key: (value, metadata) for key, value, metadata in memory.iterate_all()}
    assert follower.copy == present
    assert follower.changes > ENOUGH, "hardly anything was followed"
    assert memory.expire_snapshot(follower.snapshot)["success"]


def expect_sound(place: Place) -> None:
    """Collect all garbage: rows, files and the schedule must fit, and all values be whole."""
    with place.open() as memory:
        collected = memory.gc(grace=0)
        assert collected["success"], collected
        verified = memory.verify()
        assert verified["success"], verified
        assert verified["unreferenced"] == 0
    assert place.faults() == []
    assert place.files() == place.referenced()
    assert place.rows("SELECT count(*) FROM ltm_entry_versions") == [(0,)]


def test_a_reader_misses_no_change_of_eight_threads(place: Place) -> None:
    failures: list[Any] = []

    def write(worker: int, round_number: int) -> None:
        choice = random.Random(f"{worker}/{round_number}")
        for number in range(40):
            try:
                answer = change(memory, choice, str(worker), number)
            except BaseException as error:
                failures.append(error)
                raise
            if not answer["success"]:
                failures.append(answer)

    with place.open() as memory:
        follower = Follower(memory)
        for number in rounds(follower):
            threads = [
                threading.Thread(target=write, args=(n, number), daemon=True) for n in range(8)
            ]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                follower.follow()
        assert failures == []
        expect_equal(follower, memory)
    expect_sound(place)


def test_a_reader_misses_no_change_of_four_processes(place: Place) -> None:
    with place.open() as memory:
        follower = Follower(memory)
        for number in rounds(follower):
            commands = [("write", place.directory, f"{name}{number}", 80) for name in "abcd"]
            with started(SCRIPT, commands) as workers:
                while any(worker.poll() is None for worker in workers):
                    follower.follow()
                assert said(workers, DEADLINE) == [[]] * 4
        expect_equal(follower, memory)
    expect_sound(place)


def test_processes_that_write_and_collect_garbage_lose_no_payload(place: Place) -> None:
    with place.open() as memory:
        assert memory.create_snapshot("beginning")["success"]
    with started(
        SCRIPT, [("race", place.directory, name, RACE_SECONDS) for name in "abcd"]
    ) as workers:
        reports = said(workers, DEADLINE)
    assert [report["failures"] for report in reports] == [[]] * 4
    assert min(report["verbs"] for report in reports) > 0
    with place.open() as memory:
        assert all(value is not None for _, value, _ in memory.iterate_all())
        assert memory.verify()["success"]
        assert memory.expire_snapshot("beginning")["success"]
    expect_sound(place)
