"""Many writers at once, in threads and in processes."""

from __future__ import annotations

import multiprocessing
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any, Literal, NamedTuple, Protocol

import psycopg

from benchmarks.ours import Memory, open_postgres, open_sqlite
from benchmarks.postgres import make_database, running_postgres
from benchmarks.raw_postgres import RawPostgres
from benchmarks.raw_sqlite import RawSQLite
from benchmarks.rounds import Comparison, Contestant, Observed, Stopwatch, Target
from benchmarks.scale import Scale
from benchmarks.topics import Place, Topic, UnavailableError
from benchmarks.values import plain_entries
from ltm.errors import LTMError

PATIENCE = 120.0
"""Seconds after which a crowd is given up."""

LONGEST_WAIT = 0.5
"""Seconds that no write may wait for longer than."""

_ERRORS = (LTMError, sqlite3.Error, psycopg.Error)


class Address(NamedTuple):
    """Where a writer writes; it can be told to another process."""

    kind: Literal["ltm", "raw"]
    url: str
    """Of a PostgreSQL database, or empty."""
    directory: str
    durability: str = "normal"

    def open(self) -> Memory | RawPostgres | RawSQLite:
        """Open a connection, or a memory with as many as it likes."""
        if self.kind == "ltm":
            if self.url:
                return open_postgres(self.url, self.directory, enable_fts=False)
            return open_sqlite(self.directory, "ltm", durability=self.durability, enable_fts=False)
        if self.url:
            return RawPostgres(self.url)
        return RawSQLite(f"{self.directory}/raw.db", self.durability.upper())


class Done(NamedTuple):
    """What a writer tells: instants of a clock that all processes share, and seconds."""

    begin: float
    end: float
    worst: float
    """The longest wait for one write."""
    errors: list[str]


class Queue(Protocol):
    """That of threads or that of processes."""

    def put(self, item: Any) -> None: ...

    def get(self, block: bool = ..., timeout: float | None = ...) -> Any: ...


class Crowd:
    """A contestant whose writers all write at once.

    Args:
        address: Where to.
        scale: How many writers there are, and how many entries each writes in a round.
        in_processes: Whether each has a process of its own rather than a thread.
        shared: A memory that all threads share; without it each writer opens its own connection.
    """

    def __init__(
        self, address: Address, scale: Scale, *, in_processes: bool, shared: Any = None
    ) -> None:
        self._address, self._in_processes = address, in_processes
        self._writers, self._writes = scale.writers, scale.writes
        self._shared = shared
        self._worst = 0.0
        self._errors: list[str] = []

    def run(self, number: int, lap: Stopwatch) -> None:
        """Start the writers, let them write at one sign, and wait for the last of them."""
        answers, barrier, start = self._staff()
        kind = "process" if self._in_processes else "thread"
        for writer in range(self._writers):
            given = plain_entries(f"{number} {kind} {writer}", self._writes)
            start((self._shared or self._address, given, barrier, answers))
        barrier.wait(PATIENCE)
        done = [answers.get(timeout=PATIENCE) for _ in range(self._writers)]
        seconds = max(each.end for each in done) - min(each.begin for each in done)
        lap.note(seconds, self._writers * self._writes)
        if number >= 0:
            self._worst = max(self._worst, *(each.worst for each in done))
            self._errors += [error for each in done for error in each.errors]

    def observe(self) -> Observed:
        """Tell of the longest wait for one write, and how many writes have failed."""
        kinds = f" ({', '.join(sorted(set(self._errors)))})" if self._errors else ""
        text = f"worst wait {self._worst * 1000:.0f} ms, {len(self._errors)} errors{kinds}"
        return Observed(text, is_fine=self._worst <= LONGEST_WAIT and not self._errors)

    def _staff(self) -> tuple[Queue, Any, Callable[[tuple[Any, ...]], None]]:
        if self._in_processes:
            # Not forked: this process has threads, and connections that are its own.
            context = multiprocessing.get_context("spawn")
            return (
                context.Queue(),
                context.Barrier(self._writers + 1),
                lambda arguments: context.Process(target=write, args=arguments).start(),
            )
        return (
            queue.Queue(),
            threading.Barrier(self._writers + 1),
            lambda arguments: threading.Thread(target=write, args=arguments).start(),
        )


def write(where: Address | Memory, given: list[Any], barrier: Any, answers: Queue) -> None:
    """Write *given* entries one by one when all writers are there; tell how it went."""
    target = where.open() if isinstance(where, Address) else where
    try:
        target.store_each(plain_entries(f"warm {given[0].key}", 1), Stopwatch())
    except BaseException:
        barrier.abort()  # or all others wait in vain
        raise
    barrier.wait(PATIENCE)
    worst, errors = 0.0, []
    begin = end = time.monotonic()
    for entry in given:
        start = end
        try:
            target.store_each([entry], Stopwatch())
        except _ERRORS as error:
            errors.append(type(error).__name__)
        end = time.monotonic()
        worst = max(worst, end - start)
    answers.put(Done(begin, end, worst, errors))
    if target is not where:
        target.close()


def _contestants(
    place: Place, ours: Address, raw: Address, shared: Any, *, in_processes: bool
) -> list[Contestant]:
    apart = Crowd(raw, place.scale, in_processes=in_processes)
    together = Crowd(ours, place.scale, in_processes=in_processes, shared=shared)
    remark = "one memory that all share" if shared else "a memory for each"
    return [
        Contestant("raw", apart.run, "a connection for each", apart.observe),
        Contestant("ltm", together.run, remark, together.observe),
    ]


def _on_sqlite(place: Place) -> Iterator[Comparison]:
    directory = place.directory
    ours, raw = (Address(kind, "", directory) for kind in ("ltm", "raw"))
    open_sqlite(directory, "raw").close()
    with closing(ours.open()) as memory:
        for crowd, shared in (("threads", memory), ("processes", None)):
            yield Comparison(
                title=f"{place.scale.writers} {crowd} writing, SQLite",
                contestants=_contestants(place, ours, raw, shared, in_processes=shared is None),
                target=Target(0.8, is_floor=True),
                rounds=place.scale.crowds,
            )


def _on_full_durability(place: Place) -> Iterator[Comparison]:
    directory = f"{place.directory}/full"
    ours, raw = (Address(kind, "", directory, "full") for kind in ("ltm", "raw"))
    open_sqlite(directory, "raw").close()
    with closing(ours.open()) as memory:
        yield Comparison(
            title=f"{place.scale.writers} threads writing, SQLite, durability full",
            contestants=_contestants(place, ours, raw, memory, in_processes=False),
            target=Target(1.5, is_floor=True),
            rounds=place.scale.crowds,
        )


def _on_postgres(place: Place) -> Iterator[Comparison]:
    with ExitStack() as stack:
        server = stack.enter_context(running_postgres())
        ours = Address("ltm", make_database(server), place.directory)
        raw = Address("raw", make_database(server), place.directory)
        memory = stack.enter_context(closing(ours.open()))
        open_postgres(raw.url, place.directory).close()
        for crowd, shared in (("threads", memory), ("processes", None)):
            yield Comparison(
                title=f"{place.scale.writers} {crowd} writing, PostgreSQL",
                contestants=_contestants(place, ours, raw, shared, in_processes=shared is None),
                target=Target(0.8, is_floor=True),
                rounds=place.scale.crowds,
            )


def _compare(place: Place) -> Iterator[Comparison]:
    yield from _on_sqlite(place)
    yield from _on_full_durability(place)
    try:
        yield from _on_postgres(place)
    except UnavailableError as error:
        place.missing.append(f"writers on PostgreSQL: {error}")


CROWDS = Topic(
    "crowds",
    "Many writers",
    "Each writes entries of its own, one by one, search off: a thousand of them in a full run.\n"
    "All begin at one sign. Ratios are of throughput: more is better. No write is to wait for\n"
    "more than half a second, and none to fail. On SQLite the raw side reads the old row first,\n"
    "on PostgreSQL it does not.",
    _compare,
)
