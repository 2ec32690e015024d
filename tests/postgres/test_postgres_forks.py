"""A process that forks after it has used a memory shares it with nobody, and loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from postgres_place import PostgresPlace
from starting import said, started

SCRIPT = Path(__file__).with_name("postgres_forking.py")


@pytest.mark.parametrize(
    ("kind", "first_done", "leaves"),
    [
        ("pool", "child", "exit"),
        ("pool", "parent", "sys.exit"),
        ("pool", "child", "collect"),
        ("engine", "child", "collect"),
        ("engine", "parent", "sys.exit"),
    ],
)
def test_parent_and_child_of_a_fork_talk_on_connections_of_their_own(
    place: PostgresPlace, kind: str, first_done: str, leaves: str
) -> None:
    command = ("fork", place.url, place.storage, kind, first_done, leaves)
    with started(SCRIPT, [command]) as workers:
        (report,) = said(workers, 60)
    assert report["status"] == 0
    assert report["failures"] == []
    assert report["warnings"] == ""
    # The parent goes on with the connections that it had.
    assert set(report["before"]) == set(report["after"])
    assert len(report["before"]) == 3
    assert not set(report["before"]) & set(report["child"])
    with place.open() as memory:
        keys = {key for key, _, _ in memory.iterate_all()}
    expected = {f"{name} {number}" for name in ("child", "parent") for number in range(10)}
    assert keys == expected | {"before", "after"}
    place.expect_sound()


@pytest.mark.parametrize("kind", ["pool", "engine"])
def test_a_forked_pool_of_processes_works_on(place: PostgresPlace, kind: str) -> None:
    with started(SCRIPT, [("fork_pool", place.url, place.storage, kind)]) as workers:
        (report,) = said(workers, 60)
    assert report == {"mine": [True] * 20, "theirs": [True] * 20, "warnings": ""}
    with place.open() as memory:
        assert memory.stats()["entries"] == 41
    place.expect_sound()


def test_threads_of_a_child_share_one_new_pool(place: PostgresPlace) -> None:
    with started(SCRIPT, [("fork_threads", place.url, place.storage)]) as workers:
        (report,) = said(workers, 60)
    assert report["status"] == 0
    assert report["most"] <= 3


def test_a_parent_killed_in_a_transaction_leaves_no_lock_to_its_children(
    place: PostgresPlace,
) -> None:
    with started(SCRIPT, [("die_in_transaction", place.url, place.storage)]) as workers:
        (report,) = said(workers, 60)
    assert report == {"stored": True}


def test_a_child_of_a_transaction_that_exits_leaves_it_to_its_parent(place: PostgresPlace) -> None:
    with started(SCRIPT, [("fork_in_transaction", place.url, place.storage)]) as workers:
        (report,) = said(workers, 60)
    assert report == {"status": 0, "value": "parent", "warnings": ""}
