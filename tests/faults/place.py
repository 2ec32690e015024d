"""A directory with a catalog file and payload files, as the tests of faults see it from outside."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.clock import Clock, utc_now


class Place:
    """Opens memories on one catalog file and one storage directory, and looks at the files.

    It reads the catalog through SQLite only: closing a descriptor that ``open()`` made would drop
    every lock that this process has on the file.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self.catalog = self.directory / "catalog.db"
        self.storage = self.directory / "payloads"

    def open(
        self, *, clock: Clock = utc_now, durability: str = "normal", **options: Any
    ) -> DuckDBLTMBackend:
        catalog = SQLiteCatalog(self.catalog, clock=clock, durability=durability)
        return DuckDBLTMBackend(catalog, str(self.storage), owns_catalog=True, **options)

    def files(self) -> set[str]:
        """Return the paths of all payload files, relative to the storage directory."""
        return set(_files_below(self.storage))

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return what *statement* answers, or carry it out and commit."""
        with closing(sqlite3.connect(self.catalog)) as connection, connection:
            return connection.execute(statement, parameters).fetchall()

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every table of ours."""
        names = self.rows(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'ltm%'"
            " AND name NOT LIKE 'ltm_entry_fts%'"
        )
        return {name: sorted(self.rows(f"SELECT * FROM {name}"), key=repr) for (name,) in names}

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
        """Return what is wrong with the catalog and between it and the files; [] if all is well."""
        found: list[str] = []
        for (line,) in self.rows("PRAGMA integrity_check"):
            if line != "ok":
                found.append(f"integrity check: {line}")
        found += [f"foreign key: {row}" for row in self.rows("PRAGMA foreign_key_check")]
        # Compares the full-text index with the texts it is made of; raises where they differ.
        self.rows("INSERT INTO ltm_entry_fts(ltm_entry_fts, rank) VALUES ('integrity-check', 1)")
        referenced = self.referenced()
        found += [f"no file for {uri}" for uri in sorted(referenced - self.files())]
        found += [f"live but scheduled: {uri}" for uri in sorted(referenced & self.scheduled())]
        return found


def _files_below(directory: Path) -> Iterator[str]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield path.relative_to(directory).as_posix()
