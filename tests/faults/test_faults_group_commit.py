"""Threads whose writes share a transaction are answered as if each had its own."""

from __future__ import annotations

import itertools
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from outcomes import PATIENCE, in_threads, wait_until
from place import Place

from ltm.catalog.commit import Outcome
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import CatalogUnavailableError, ClosedError
from ltm.testing.plain_suite import expect_indexed, make_put, row_of, store, write
from tests.sql.counting import CountingPool

SCRIPT = Path(__file__).with_name("group_workers.py")
THREADS = 9
"""One whose write is held up, and those that come to wait for it."""


def nothing(*_: object) -> None:
    """Do nothing."""


class Watched(list[str]):
    """Statements that were sent; each is shown to ``before`` first."""

    before: Callable[[str], object] = staticmethod(nothing)

    def append(self, sql: str) -> None:
        super().append(sql)
        self.before(sql)


class Group:
    """A catalog in which one write is held up until others have come to wait for it."""

    def __init__(self, catalog: SQLiteCatalog) -> None:
        self.catalog = catalog
        catalog.table()
        pool = CountingPool(catalog.database.pool)
        self.sent = pool.calls = Watched()
        catalog.database.pool = pool
        self.is_held = threading.Event()
        self.answers: dict[int, Any] = {}

    @property
    def transactions(self) -> int:
        return self.sent.count("BEGIN IMMEDIATE")

    def wait_for(self, count: int) -> None:
        """Return when so many writes wait."""
        queue = self.catalog.database._group_commit._queue
        wait_until(lambda: len(queue) == count, "they do not wait")

    def run(
        self,
        act: Callable[[int], Any],
        then: Callable[[str], object] = nothing,
        hold: Callable[[], object] = nothing,
    ) -> None:
        """Run *act* in threads, that of thread 0 held up within until all the others wait.

        Args:
            act: Writes, given the number of its thread; ``answers`` keeps what it returns or
                raises.
            then: Is shown each statement from then on, before it is sent.
            hold: Called before the first write goes on.
        """

        def hold_up(sql: str) -> None:
            if sql.startswith("INSERT INTO ltm_entries") and not self.is_held.is_set():
                self.is_held.set()
                self.wait_for(THREADS - 1)
                hold()
                self.sent.before = then

        def use(thread: int) -> None:
            if thread:
                assert self.is_held.wait(PATIENCE)
            try:
                self.answers[thread] = act(thread)
            except BaseException as error:  # noqa: BLE001 -- an answer, too
                self.answers[thread] = error

        self.sent.clear()
        self.sent.before = hold_up
        in_threads(use, THREADS)
        assert len(self.answers) == THREADS


@pytest.fixture(params=["normal", "full"])
def group(request: pytest.FixtureRequest, place: Place) -> Iterator[Group]:
    with SQLiteCatalog(place.catalog, durability=request.param, busy_timeout=20) as catalog:
        yield Group(catalog)
    assert place.faults() == []


@pytest.fixture
def hasty(place: Place) -> Iterator[Group]:
    """One whose statements wait for no other process."""
    with SQLiteCatalog(place.catalog, busy_timeout=0.05) as catalog:
        yield Group(catalog)


def expect_written(group: Group, threads: Any) -> None:
    for thread in threads:
        assert group.answers[thread] == Outcome(f"k{thread}", stored=True, created=True)
        assert row_of(group.catalog, f"k{thread}").inlined_text == str(thread)


@pytest.mark.parametrize("is_found", [True, False])
def test_writes_that_wait_for_another_share_a_transaction(group: Group, is_found: bool) -> None:
    group.run(lambda thread: store(group.catalog, f"k{thread}", thread, is_found=is_found))
    expect_written(group, range(THREADS))
    assert group.transactions == 1 + is_found
    for thread in range(THREADS):
        put = make_put(group.catalog, f"k{thread}", thread, is_found=is_found)
        expect_indexed(group.catalog, put)


def test_a_write_in_the_midst_of_one_of_the_same_thread_does_not_wait_for_it(hasty: Group) -> None:
    answers: list[Any] = []

    def interrupt(sql: str) -> None:
        if sql.startswith("INSERT INTO ltm_entries") and len(answers) == 0:
            answers.append(None)
            try:
                answers[0] = store(hasty.catalog, "inner", 1)
            except CatalogUnavailableError as error:
                answers[0] = error

    hasty.sent.before = interrupt

    def use(_: int) -> None:
        answers.append(store(hasty.catalog, "outer", 1))

    in_threads(use, 1)
    inner, outer = answers
    assert "locked" in str(inner)  # as by any other writer
    assert outer.stored
    assert row_of(hasty.catalog, "outer").inlined_text == "1"


def test_a_write_that_fails_fails_alone(group: Group, place: Place) -> None:
    place.rows(
        "CREATE TRIGGER refuse BEFORE INSERT ON ltm_entries WHEN new.key = 'k5'"
        " BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )
    group.run(lambda thread: store(group.catalog, f"k{thread}", thread))
    expect_written(group, set(range(THREADS)) - {5})
    assert isinstance(group.answers[5], CatalogUnavailableError)
    assert "refused" in str(group.answers[5])
    assert group.catalog.read("k5", group.catalog.clock()) is None


@pytest.mark.parametrize("is_new", [True, False])
def test_writes_of_one_key_are_decided_one_after_the_other(group: Group, is_new: bool) -> None:
    if not is_new:
        store(group.catalog, "k", "old", {"old": 1})
    puts = [make_put(group.catalog, "k", f"tea{n}", {"n": n}) for n in range(THREADS)]
    group.run(lambda thread: write(group.catalog, puts[thread]))
    outcomes = list(group.answers.values())
    assert all(each.stored for each in outcomes)
    assert sum(each.created for each in outcomes) == is_new
    row = row_of(group.catalog, "k")
    (last,) = [put for put in puts if put.inlined_text == row.inlined_text]
    assert row.metadata == last.metadata
    expect_indexed(group.catalog, last)


def test_each_thread_is_told_what_became_of_its_own_write(group: Group) -> None:
    store(group.catalog, "shared", "old")
    keys = ["first", *("shared" if thread % 2 else f"k{thread}" for thread in range(1, THREADS))]
    puts = [make_put(group.catalog, key, f"tea{n}") for n, key in enumerate(keys)]
    group.run(lambda thread: group.catalog.write_plain(puts[thread], group.catalog.clock()))
    written = {n for n, each in group.answers.items() if each[0] is not None}
    winners = {n for n in written if keys[n] == "shared"}
    assert written == {*winners, *range(0, THREADS, 2)}
    for thread in written:
        assert group.answers[thread][0].key == keys[thread]
    for thread in written - winners:
        assert row_of(group.catalog, keys[thread]).inlined_text == puts[thread].inlined_text
    # One wrote over the old value, and each of the others over that of another one.
    assert row_of(group.catalog, "shared").inlined_text in {puts[n].inlined_text for n in winners}


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT INTO ltm_entries", "COMMIT"])
@pytest.mark.parametrize("is_found", [True, False])
def test_an_interrupt_of_the_thread_that_commits_costs_no_other_its_write(
    group: Group, statement: str, is_found: bool
) -> None:
    left = 3 if statement.startswith("INSERT") else 1

    def interrupt(sql: str) -> None:
        nonlocal left
        if sql.startswith(statement):
            left -= 1
            if left == 0:
                raise KeyboardInterrupt

    group.run(
        lambda thread: store(group.catalog, f"k{thread}", thread, is_found=is_found), interrupt
    )
    errors = {n: each for n, each in group.answers.items() if isinstance(each, BaseException)}
    ((interrupted, error),) = errors.items()
    assert isinstance(error, KeyboardInterrupt)
    expect_written(group, set(range(THREADS)) - {interrupted})
    store(group.catalog, "another", 1)
    assert group.catalog.read(f"k{interrupted}", group.catalog.clock()) is None


def test_an_interrupt_is_for_the_thread_it_meets_whosever_write_it_is_at(
    group: Group, place: Place
) -> None:
    place.rows(
        "CREATE TRIGGER refuse BEFORE INSERT ON ltm_entries WHEN new.key = 'k5'"
        " BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )

    def interrupt(_: str) -> None:
        # One for all that failed, one for the write of the thread itself, one for another's.
        if group.transactions == 4:
            group.sent.before = nothing
            met.append(threading.get_ident())
            raise KeyboardInterrupt

    def act(thread: int) -> Outcome:
        idents[thread] = threading.get_ident()
        return store(group.catalog, f"k{thread}", thread)

    met: list[int] = []
    idents: dict[int, int] = {}
    group.run(act, interrupt)
    (interrupted,) = (n for n, each in group.answers.items() if isinstance(each, KeyboardInterrupt))
    assert met == [idents[interrupted]]
    assert interrupted == 5 or isinstance(group.answers[5], CatalogUnavailableError)
    expect_written(group, group.answers.keys() - {5, interrupted})


def test_a_write_whose_thread_is_interrupted_while_it_waits_is_not_done_later(
    group: Group,
) -> None:
    main = threading.main_thread().ident
    assert threading.get_ident() == main
    assert main is not None

    def hold_up(sql: str) -> None:
        if sql.startswith("INSERT INTO ltm_entries"):
            group.sent.before = nothing
            held.set()
            group.wait_for(1)
            signal.pthread_kill(main, signal.SIGINT)
            assert interrupted.wait(PATIENCE)

    held, interrupted = threading.Event(), threading.Event()
    group.sent.before = hold_up
    other = threading.Thread(target=store, args=(group.catalog, "held up", 1), daemon=True)
    other.start()
    assert held.wait(PATIENCE)
    with pytest.raises(KeyboardInterrupt):
        store(group.catalog, "k", 1)
    interrupted.set()
    other.join(PATIENCE)
    store(group.catalog, "another", 1)
    assert [row.key for row in group.catalog.iterate("", group.catalog.clock)] == [
        "another",
        "held up",
    ]


def test_writes_that_wait_together_fail_together_where_no_transaction_begins(
    hasty: Group, place: Place
) -> None:
    with closing(
        sqlite3.connect(place.catalog, isolation_level=None, check_same_thread=False)
    ) as other:
        hasty.run(
            lambda thread: store(hasty.catalog, f"k{thread}", thread, is_found=False),
            hold=lambda: other.execute("BEGIN IMMEDIATE"),
        )
        for each in hasty.answers.values():
            assert isinstance(each, CatalogUnavailableError)
        # Not once for each of them: the time that the first one waits is what all of them wait.
        tried = [sql for sql in hasty.sent if sql.startswith(("BEGIN", "INSERT INTO ltm_entries"))]
        assert len(list(itertools.groupby(tried))) == 2
        other.execute("ROLLBACK")
    hasty.sent.before = nothing
    assert store(hasty.catalog, "k1", 1) == Outcome("k1", stored=True, created=True)


def test_writes_that_wait_when_the_catalog_is_closed_are_told_so(group: Group) -> None:
    group.run(lambda thread: store(group.catalog, f"k{thread}", thread), hold=group.catalog.close)
    assert group.answers.pop(0) == Outcome("k0", stored=True, created=True)
    assert {type(each) for each in group.answers.values()} == {ClosedError}


@pytest.mark.parametrize("durability", ["normal", "full"])
@pytest.mark.parametrize("count", [1, 60, 300])
def test_whatever_was_answered_to_many_threads_survives_their_process(
    place: Place, durability: str, count: int
) -> None:
    command = [sys.executable, "-W", "error", str(SCRIPT), str(place.directory), durability, "8"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(count)]
        process.kill()
        lines += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    answered = {}
    for line in lines:
        if line.endswith("\n"):
            key, number = line.split()
            answered[key] = int(number)
    assert len(answered) > count // 3
    with place.open() as memory:
        for key, number in answered.items():
            found = memory.retrieve(key)["value"]
            # Another write of it may have been done that nobody was told of any more.
            assert found == number or ("-" not in key and found == number + 1)
        assert memory.verify()["problems"] == []
    assert place.faults() == []
