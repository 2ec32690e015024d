"""Threads that wait for one another's connections: none is lost, none too many, none left out."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from outcomes import PATIENCE, in_threads, wait_until
from postgres_place import PostgresPlace

from ltm.errors import ClosedError
from ltm.sql.postgres_pool import PostgresPool

THREADS = 8


@pytest.fixture
def hurry() -> Iterator[None]:
    """Let threads get in one another's way wherever they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def pool_of(place: PostgresPlace, pool_max: int) -> PostgresPool:
    catalog: Any = place.catalog(pool_max=pool_max, pool_timeout=10 * PATIENCE)
    pool = catalog.database.pool
    assert isinstance(pool, PostgresPool)
    return pool


class Borrowers:
    """Threads that use connections of a pool; counts those that are lent."""

    def __init__(self, pool: PostgresPool) -> None:
        self.pool = pool
        self.most = 0
        self._lent: set[int] = set()
        self._counting = threading.Lock()

    def borrow(self) -> Any:
        connection = self.pool.acquire()
        with self._counting:
            assert id(connection) not in self._lent, "lent twice"
            self._lent.add(id(connection))
            self.most = max(self.most, len(self._lent))
        return connection

    def give_back(self, connection: Any, *, is_sound: bool = True) -> None:
        with self._counting:
            self._lent.remove(id(connection))
        (self.pool.release if is_sound else self.pool.discard)(connection)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("pool_max", [1, 3])
def test_threads_in_a_hurry_never_have_more_connections_than_there_may_be(
    place: PostgresPlace, pool_max: int
) -> None:
    pool = pool_of(place, pool_max)
    borrowers = Borrowers(pool)

    def use(thread: int) -> None:
        choice = random.Random(thread)
        for _ in range(4000):
            connection = borrowers.borrow()
            if choice.random() < 0.01:
                connection.execute("")
            time.sleep(0)  # others come to wait for it meanwhile
            borrowers.give_back(connection, is_sound=choice.random() > 0.001)

    in_threads(use, THREADS)
    assert borrowers.most <= pool_max
    # All of them are free again, and no others are open.
    connections = [pool.acquire() for _ in range(pool_max)]
    assert len(place.sessions()) == pool_max
    for connection in connections:
        pool.release(connection)
    pool.close()
    wait_until(lambda: place.sessions() == [], "a connection is left open")


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("pool_max", [1, 3])
def test_a_pool_that_is_closed_among_threads_in_a_hurry_leaves_nothing_open(
    place: PostgresPlace, pool_max: int
) -> None:
    for number in range(5):
        pool = pool_of(place, pool_max)
        borrowers = Borrowers(pool)

        def use(thread: int, borrowers: Borrowers = borrowers, close_at: int = 20 * number) -> None:
            choice = random.Random(thread)
            for turn in count():
                if thread == 0 and turn == close_at:
                    borrowers.pool.close()
                try:
                    connection = borrowers.borrow()
                except ClosedError:
                    return
                borrowers.give_back(connection, is_sound=choice.random() > 0.05)

        in_threads(use, THREADS)
        wait_until(lambda: place.sessions() == [], "a connection is left open")


def test_whoever_waits_for_a_connection_gets_it_before_those_that_come_later(
    place: PostgresPlace,
) -> None:
    pool = pool_of(place, 1)
    served = threading.Event()

    def use(thread: int) -> None:
        if thread == 0:
            # It comes back for the connection as soon as it has given it back.
            for turn in range(10_000):
                connection = pool.acquire()
                connection.execute("")
                pool.release(connection)
                if served.is_set() and turn > 200:
                    return
            raise AssertionError("nobody else had a turn")
        for _ in range(20):
            pool.release(pool.acquire())
        served.set()

    in_threads(use, 2)
    pool.close()


def test_a_connection_that_is_thrown_away_makes_room_for_one_that_waits(
    place: PostgresPlace,
) -> None:
    pool = pool_of(place, 1)
    first = pool.acquire()
    got: list[Any] = []
    waiter = threading.Thread(target=lambda: got.append(pool.acquire()), daemon=True)
    waiter.start()
    wait_until(lambda: bool(pool._waiting), "it does not wait")
    pool.discard(first)
    waiter.join(PATIENCE)
    (second,) = got
    assert second is not first
    assert second.execute("SELECT 1").fetchone() == (1,)
    pool.release(second)
    pool.close()


def test_whoever_waits_for_a_connection_of_a_pool_that_is_closed_is_told_so(
    place: PostgresPlace,
) -> None:
    pool = pool_of(place, 1)
    first = pool.acquire()
    told: list[str] = []

    def wait() -> None:
        try:
            pool.acquire()
        except ClosedError as error:
            told.append(str(error))

    waiters = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    wait_until(lambda: bool(pool._waiting), "nobody waits")
    pool.close()
    for waiter in waiters:
        waiter.join(PATIENCE)
    assert len(told) == 3
    pool.release(first)
    wait_until(lambda: place.sessions() == [], "a connection is left open")


@pytest.mark.parametrize("moment", ["sign of life", "opening"])
def test_an_interrupt_costs_the_pool_no_connection(
    place: PostgresPlace, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    pool = pool_of(place, 1)
    monkeypatch.setattr("ltm.sql.postgres_pool.IDLE_SECONDS", 0)

    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if moment == "opening":
            patched.setattr(pool, "_connect", interrupt)
        else:
            connection = pool.acquire()
            patched.setattr(connection, "execute", interrupt)
            pool.release(connection)
        with pytest.raises(KeyboardInterrupt):
            pool.acquire()
    connection = pool.acquire()
    assert connection.execute("SELECT 1").fetchone() == (1,)
    pool.release(connection)
    assert len(place.sessions()) == 1
    pool.close()
