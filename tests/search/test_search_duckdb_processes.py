"""Threads, processes, kills and forks don't tear the file of a local index."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from duckdb_words import START, TEA, ids, words
from starting import started

from ltm.search.duckdb_index import DuckDBIndex, IndexState

duckdb = pytest.importorskip("duckdb")
pytest.importorskip("duckdb_extension_fts")

SCRIPT = Path(__file__).with_name("duckdb_indexing.py")
SECONDS = 90
NO_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def run_all(targets: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.usefixtures("hasty_threads")
def test_threads_that_ask_see_all_of_a_change_or_nothing(tmp_path: Path) -> None:
    index = DuckDBIndex(tmp_path / "index", rebuild_after=60)
    together = [f"{number:02d}" for number in range(50)]
    index.apply([words("always", "tea")], position=0, at=START)
    failures: list[Any] = []
    done = threading.Event()

    def change() -> None:
        for position in range(1, 100):
            text = "tea" if position % 2 else "milk"
            further = words(f"further {position}", "water")
            pairs = [words(entry_id, text) for entry_id in together]
            index.apply([*pairs, further], position=position, at=START)
        done.set()

    def ask() -> None:
        while not done.is_set():
            try:
                hits = set(ids(index.find(TEA, START)))
                if hits not in ({"always"}, {"always", *together}):
                    failures.append(sorted(hits))
            except Exception as error:  # noqa: BLE001 reported below
                failures.append(repr(error))

    run_all([change, ask, ask, ask])
    assert failures == []
    assert index.state.position == 99


@pytest.mark.usefixtures("hasty_threads")
def test_threads_that_change_lose_nothing_of_each_other(tmp_path: Path) -> None:
    index = DuckDBIndex(tmp_path / "index", rebuild_after=100)

    def add(worker: int) -> None:
        for number in range(50):
            index.apply([words(f"{worker} {number}", "tea")], position=0, at=START)

    run_all([partial(add, worker) for worker in range(6)])
    assert len(index.find(TEA, START)) == 300


def test_what_was_forgotten_stays_forgotten(tmp_path: Path) -> None:
    index = DuckDBIndex(tmp_path / "index", rebuild_after=0)
    index.apply([words("a", "tea")], position=5, at=START)
    index.reset()
    index.apply([words("b", "tea")], position=1, at=START)
    assert ids(index.find(TEA, START)) == ["b"]
    index.reset()
    index.close()
    assert DuckDBIndex(tmp_path / "index").state == IndexState(-1, None)


def said(*commands: Sequence[object]) -> list[Any]:
    """Return what processes that run *commands* at once print; None for one that was killed."""
    with started(SCRIPT, commands) as workers:
        printed = [worker.communicate(timeout=SECONDS) for worker in workers]
        for worker, (_, errors) in zip(workers, printed, strict=True):
            assert worker.returncode in (0, -9), errors
        return [json.loads(output) if output else None for output, _ in printed]


def expect_whole(path: Path) -> int:
    """Check that the file at *path* has what belongs to its position, and return that."""
    from duckdb_indexing import faults

    index = DuckDBIndex(path)
    assert faults(index) == []
    position = index.state.position
    index.close()
    return position


def test_processes_that_open_change_and_close_at_once_see_whole_states(tmp_path: Path) -> None:
    path = tmp_path / "index"
    assert said(*(("share", path, worker) for worker in range(4))) == [[]] * 4
    assert expect_whole(path) == 40
    assert os.listdir(tmp_path) == ["index"]


def test_a_process_killed_at_any_step_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "index"
    position, seen = -1, set()
    for step in range(1, 40):
        (report,) = said(("die", path, step))
        if report is not None:
            break
        now = expect_whole(path) if path.exists() else -1
        assert now in (position, position + 11)
        seen.add(now - position)
        position = now
    assert seen == {0, 11}
    # Whole on the disk before it has its name, and the name as well before it counts.
    published = report.index("replace")
    assert "fsync" in report[:published]
    assert "fsync" in report[published:]
    assert expect_whole(path) == position + 11


def test_a_process_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "index"
    chosen = random.Random(1)
    position = -1
    for _ in range(6):
        with started(SCRIPT, [("publish", path)]) as (worker,):
            assert worker.stdout is not None
            said_last = int(worker.stdout.readline())
            timer = threading.Timer(chosen.uniform(0, 0.5), worker.kill)
            timer.start()
            # The pipe is whole but for its last line.
            lines = worker.stdout.read().split("\n")
            timer.join()
            said_last = max([said_last, *map(int, lines[:-1])])
        now = expect_whole(path)
        # What a call has returned of is durable; one more may be.
        assert now in (said_last, said_last + 1)
        assert now >= position
        position = now


@pytest.mark.parametrize(
    ("blocked", "expected"),
    [
        (["duckdb"], ["duckdb is not installed: pip install 'ltm[firestore]'"]),
        (["duckdb_extensions"], ["works"]),
        (
            ["duckdb_extension_fts", "duckdb_extensions"],
            ["DuckDB's extension fts", "duckdb-extension-fts", "LOAD fts", "INSTALL fts", "pip"],
        ),
    ],
)
def test_what_is_not_installed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocked: list[str], expected: list[str]
) -> None:
    # A home in which nothing is installed, and where the network would put what it has.
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (report,) = said(("without", *blocked))
    assert all(part in report for part in expected)


def test_no_home_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    assert said(("without",), ("without",)) == ["works", "works"]


@NO_FORK
@pytest.mark.parametrize("kind", ["file", "no file", "memory"])
def test_children_of_a_fork_go_on_by_themselves(tmp_path: Path, kind: str) -> None:
    path = "" if kind == "memory" else tmp_path / "index"
    has_file = "file" if kind == "memory" else kind
    (report,) = said(("fork", path, has_file))
    assert report == {"statuses": [0] * 6, "faults": []}


@NO_FORK
def test_a_child_keeps_the_changes_that_its_parent_had_in_memory(tmp_path: Path) -> None:
    (report,) = said(("fork_keeping_changes", tmp_path / "index"))
    status, child, position = report
    assert (status, child, position) == (0, [30, 10], 30)
