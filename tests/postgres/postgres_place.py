"""A database and a directory of payload files, as the tests see them from outside."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.postgres import PostgresCatalog
from ltm.clock import Clock, utc_now

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


def warm_up(memory: DuckDBLTMBackend, count: int) -> None:
    """Let the pool of *memory* open *count* connections and keep them."""
    pool = memory.catalog.database.pool  # type: ignore[attr-defined]  # a SQL catalog
    connections: Sequence[Any] = [pool.acquire() for _ in range(count)]
    for connection in connections:
        pool.release(connection)
