"""Processes that share one catalog file and one storage directory lose nothing of each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from place import Place
from starting import said, started
from workers import numbered

SCRIPT = Path(__file__).with_name("workers.py")
SECONDS = 100


def run_together(*commands: Sequence[object]) -> list[Any]:
    """Run workers that begin at the same moment, and return what each of them printed."""
    with started(SCRIPT, commands) as workers:
        return said(workers, SECONDS)


def expect_whole(place: Place) -> None:
    """Check that rows, files and the schedule of deletions fit, with no file left over."""
    assert place.faults() == []
    assert place.files() == place.referenced()
    assert place.scheduled() == set()


def test_eight_processes_lose_no_write(tmp_path: Path) -> None:
    failures = run_together(*(("write_many", tmp_path, worker, 1, 200) for worker in range(8)))
    assert failures == [[]] * 8
    place = Place(tmp_path / "catalog0")
    expect_whole(place)
    with place.open() as memory:
        found = {key: value for key, value, _ in memory.iterate_all()}
        assert memory.search(metadata_filter={}, limit=10)["count"] == 10
    expected = {
        f"w{worker}-{index:04}": f"{worker}/{index}" for worker in range(8) for index in range(200)
    }
    assert {key: value.strip() for key, value in found.items()} == expected


def test_processes_may_make_a_catalog_at_the_same_moment(tmp_path: Path) -> None:
    failures = run_together(*(("write_many", tmp_path, worker, 8, 2) for worker in range(6)))
    assert failures == [[]] * 6
    for number in range(8):
        place = Place(tmp_path / f"catalog{number}")
        expect_whole(place)
        assert len(place.rows("SELECT 1 FROM ltm_entries")) == 12
        assert len(place.rows("SELECT 1 FROM ltm_tables")) == 1
        assert len(place.rows("SELECT 1 FROM ltm_alembic_version")) == 1


def test_exactly_one_process_is_the_first(place: Place) -> None:
    names = "abcd"
    said = run_together(*(("claim", place.directory, name, 50) for name in names))
    expect_whole(place)
    with place.open() as memory:
        values = {key: value for key, value, _ in memory.iterate_all()}
    assert len(values) == 50
    for key, value in values.items():
        words = {name: answers[key] for name, answers in zip(names, said, strict=True)}
        winner = value[0]
        assert set(value) == {winner}
        assert words.pop(winner) == "stored"
        assert set(words.values()) == {"conflict"}


def test_processes_count_together(place: Place) -> None:
    assert run_together(*[("count_up", place.directory, 25)] * 4) == [[]] * 4
    with place.open() as memory:
        assert memory.retrieve("counter")["value"] == 100
    expect_whole(place)


def test_readers_of_a_large_entry_that_is_overwritten_see_whole_values_in_order(
    place: Place,
) -> None:
    with place.open() as memory:
        memory.store("k", numbered(0), {"number": 0})
        memory.store("still", "x" * 2000)
    failures, *readers = run_together(
        ("overwrite", place.directory, 150),
        ("read_steadily", place.directory, "retrieve"),
        ("read_steadily", place.directory, "retrieve_batch", "search", "newest", "iterate_all"),
    )
    assert failures == []
    for report in readers:
        assert report["wrong"] == []
        assert set(report["last"].values()) == {150}
    expect_whole(place)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@needs_fork
@pytest.mark.parametrize("first_done", ["child", "parent"])
def test_parent_and_child_of_a_fork_both_keep_what_they_store(
    place: Place, first_done: str
) -> None:
    (report,) = run_together(("use_after_fork", place.directory, first_done))
    assert report == {"status": 0, "failures": []}
    expect_whole(place)
    names = ["child", "parent", "late"] + (["after"] if first_done == "child" else [])
    expected = {f"{name} {index}": name[0] * index * 100 for name in names for index in range(20)}
    with place.open() as memory:
        found = {key: value for key, value, _ in memory.iterate_all()}
    assert found == expected | {"before": "x" * 2000}


@needs_fork
def test_a_forked_pool_of_processes_works_on(place: Place) -> None:
    (report,) = run_together(("fork_in_pool", place.directory, 4))
    assert report == {"mine": [True] * 20, "theirs": [True] * 20}
    expect_whole(place)
    with place.open() as memory:
        keys = {key for key, _, _ in memory.iterate_all()}
    expected = {f"pool {number} {index}" for number in range(20) for index in range(10)}
    expected |= {f"batch {number} {index}" for number in range(20) for index in range(4)}
    expected |= {f"parent {index}" for index in range(20)}
    assert keys == expected | {"before"}
