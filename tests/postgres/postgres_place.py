"""A database and a directory of payload files, as the tests see them from outside."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.postgres import PostgresCatalog
from ltm.clock import Clock, utc_now

PATIENCE = 60.0
"""Seconds after which what should have happened is taken not to happen."""

SESSIONS = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'ltm' ORDER BY pid"
)

Rows = list[tuple[Any, ...]]


def rows_on(connection: psycopg.Connection[Any], statement: str, *parameters: Any) -> Rows:
    """Return what *statement* answers on *connection*, [] where that is nothing."""
    cursor = connection.execute(statement, parameters)
    return cursor.fetchall() if cursor.description else []


class PostgresPlace:
    """Opens memories on one database and one storage directory, and looks at both."""

    def __init__(self, url: str, storage: str | os.PathLike[str]) -> None:
        self.url = url
        self.storage = Path(storage)
        self.database = urlsplit(url).path[1:]

    def catalog(
        self, url: str | None = None, *, clock: Clock = utc_now, **options: Any
    ) -> PostgresCatalog:
        """Return a catalog on the database, by way of *url* where that is given."""
        return PostgresCatalog(url or self.url, clock=clock, **options)

    def memory(self, catalog: PostgresCatalog, **options: Any) -> DuckDBLTMBackend:
        return DuckDBLTMBackend(catalog, str(self.storage), owns_catalog=True, **options)

    def open(self, url: str | None = None, **options: Any) -> DuckDBLTMBackend:
        return self.memory(self.catalog(url, **options))

    def rows(self, statement: str, *parameters: Any) -> Rows:
        """Return what *statement* answers, or carry it out and commit; on no connection of ours."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return rows_on(connection, statement, *parameters)

    def sessions(self) -> list[int]:
        """Return the ids of the server's processes that serve connections of the library."""
        return [pid for (pid,) in self.rows(SESSIONS)]

    def files(self) -> set[str]:
        """Return the paths of all payload files, relative to the storage directory."""
        paths = self.storage.rglob("*")
        return {path.relative_to(self.storage).as_posix() for path in paths if path.is_file()}

    def referenced(self) -> set[str]:
        """Return the payloads that rows and versions name."""
        statement = (
            "SELECT storage_uri FROM ltm_entries WHERE storage_uri IS NOT NULL"
            " UNION SELECT storage_uri FROM ltm_entry_versions WHERE storage_uri IS NOT NULL"
        )
        return {uri for (uri,) in self.rows(statement)}

    def scheduled(self) -> set[str]:
        """Return the payloads that are scheduled for deletion."""
        return {uri for (uri,) in self.rows("SELECT storage_uri FROM ltm_payload_deletions")}

    def faults(self) -> list[str]:
        """Return what is wrong between rows and files; [] if all is well."""
        found = [f"no file for {uri}" for uri in sorted(self.referenced() - self.files())]
        statement = (
            "SELECT storage_uri FROM ltm_entries JOIN ltm_payload_deletions USING (storage_uri)"
        )
        return found + [f"live but scheduled: {uri}" for (uri,) in self.rows(statement)]

    def expect_sound(self) -> None:
        """Collect all garbage: rows, files and the schedule must fit, and all values be whole."""
        with self.open() as memory:
            collected = memory.gc(grace=0)
            assert collected["success"], collected
            verified = memory.verify()
            assert verified["success"], verified
            assert verified["unreferenced"] == 0
        assert self.faults() == []
        assert self.files() == self.referenced()
        assert self.scheduled() == set()


def in_threads(task: Callable[[int], object], count: int) -> None:
    """Run *task* in *count* threads that begin together, and raise what they raise."""
    barrier = threading.Barrier(count)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait(PATIENCE)
            task(number)
        except BaseException as error:  # noqa: BLE001 -- raised again below, in the test's thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(deadline - time.monotonic())
        assert not thread.is_alive(), "a thread does not end"
    if errors:
        raise errors[0]


def in_time(call: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Return what *call* answers; fail if it takes longer than *seconds*."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert answers, "no answer in time"
    return answers[0]


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Return when *is_so* says so; fail, naming *what*, when it never does."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def succeed(answer: Any) -> Any:
    assert answer["success"], answer
    return answer


def is_outage(answer: Any) -> bool:
    """Return whether *answer* is the one for a catalog that can't be reached, and nothing else."""
    return answer["success"] is False and answer["error_type"] == "catalog_unavailable"


def warm_up(memory: DuckDBLTMBackend, count: int) -> None:
    """Let the pool of *memory* open *count* connections and keep them."""
    pool = memory.catalog.database.pool  # type: ignore[attr-defined]  # a SQL catalog
    connections: Sequence[Any] = [pool.acquire() for _ in range(count)]
    for connection in connections:
        pool.release(connection)
