"""Memories in directories, and all that their files hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.entry import EntryRow
from ltm.testing.strategies import AWKWARD


class Memory:
    """A SQLite catalog and a directory of payloads."""

    def __init__(self, directory: Path, clock: Callable[[], datetime]) -> None:
        directory.mkdir(exist_ok=True)
        self.path = directory / "catalog.db"
        self.storage = directory / "payloads"
        self.catalog = SQLiteCatalog(str(self.path), clock=clock)
        self.backend = DuckDBLTMBackend(self.catalog, str(self.storage), raise_errors=True)

    def fill(self, values: dict[str, Any] | None = None) -> None:
        """Store *values*, each with metadata, every third with an expiry."""
        for number, (key, value) in enumerate((AWKWARD if values is None else values).items()):
            metadata = {"n": number, "minus": -0.0, "big": 1e16}
            ttl = 3600 if number % 3 == 0 else None
            self.backend.store(key, value, metadata, ttl=ttl)

    def rows(self) -> dict[str, EntryRow]:
        """Return every live row by key."""
        return {row.key: row for row in self.catalog.iterate("", self.catalog.clock)}

    def carried(self) -> dict[str, tuple[object, ...]]:
        """Return what is to be equal in two memories: all but ids, places and numbers."""
        return {
            key: (
                repr(self.backend.retrieve(key)["value"]),
                row.content_hash,
                repr(row.metadata),
                row.expires_at,
                row.created_at,
                row.updated_at,
            )
            for key, row in self.rows().items()
        }

    def dump(self) -> list[object]:
        """Return all rows of all tables, and all payload files."""
        with closing(sqlite3.connect(self.path)) as connection:
            tables = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
            ).fetchall()
            rows: list[object] = [
                (name, connection.execute(f'SELECT * FROM "{name}"').fetchall())
                for (name,) in tables
            ]
        files = sorted(path for path in self.storage.rglob("*") if path.is_file())
        return rows + [(path, path.read_bytes()) for path in files]

    def close(self) -> None:
        self.backend.close()
        self.catalog.close()


NOW = datetime(2030, 1, 1, tzinfo=UTC)
