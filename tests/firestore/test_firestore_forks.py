"""A process that forks after it has used a memory shares it with nobody, and loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from firestore_place import FirestorePlace
from starting import said, started

SCRIPT = Path(__file__).with_name("firestore_forking.py")
DEADLINE = 110


@pytest.mark.parametrize(("threads", "times"), [(0, 2), (3, 4)])
def test_parent_and_child_of_a_fork_both_go_on(
    place: FirestorePlace, threads: int, times: int
) -> None:
    command = ("fork", place.project, place.directory, threads, times)
    with started(SCRIPT, [command]) as workers:
        (report,) = said(workers, DEADLINE)
    assert report["statuses"] == [0] * times
    assert report["failures"] == []
    with place.open() as memory:
        keys = {key for key, _, _ in memory.iterate_all("child")}
    assert keys == {f"child {number} {name}" for number in range(times) for name in "ab19"}
    place.expect_sound()


def test_a_fork_waits_for_the_requests_of_other_threads(place: FirestorePlace) -> None:
    with started(SCRIPT, [("fork_amid_a_request", place.project, place.directory)]) as workers:
        assert said(workers, DEADLINE) == [{"status": 0, "value": 1}]


def test_children_forked_while_threads_are_in_grpc_read(place: FirestorePlace) -> None:
    times = 200
    command = ("fork_amid_calls", place.project, place.directory, times)
    with started(SCRIPT, [command]) as workers:
        (report,) = said(workers, DEADLINE)
    assert report == {"statuses": [0] * times, "answers": [1]}


def test_a_forked_pool_of_processes_works_on(place: FirestorePlace) -> None:
    with started(SCRIPT, [("fork_pool", place.project, place.directory)]) as workers:
        (report,) = said(workers, DEADLINE)
    assert report == {"mine": [], "theirs": [[]] * 6}
    with place.open() as memory:
        assert memory.stats()["entries"] == 32
    place.expect_sound()


def test_children_forked_right_after_a_close_go_on(place: FirestorePlace) -> None:
    times = 150
    command = ("fork_after_close", place.project, place.directory, times)
    with started(SCRIPT, [command]) as workers:
        (report,) = said(workers, DEADLINE)
    assert report["statuses"] == [0] * times
    with place.open() as memory:
        assert memory.retrieve_batch(["parent", "child"])["results"] == {
            "parent": times - 1,
            "child": times - 1,
        }
