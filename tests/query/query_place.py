"""A memory on SQLite that counts what is read of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.clock import Clock
from ltm.entry import EntryRow
from ltm.payload.store import open_payload_store
from ltm.search.filters import Filter
from ltm.testing.payload_faults import WatchedPayloadStore

LARGE = "A large value that goes to a payload object. " * 40


class CountingCatalog(SQLiteCatalog):
    """Counts the rows that are read and the pages in which they come."""

    rows = 0
    pages = 0

    def bind(self, table: str, **_: Any) -> CountingCatalog:
        assert table == self.table_name
        return self

    def rows_by_key(
        self, prefix: str, after: str, limit: int, condition: Filter | None, now: datetime
    ) -> list[EntryRow]:
        found = super().rows_by_key(prefix, after, limit, condition, now)
        self.rows += len(found)
        self.pages += 1
        return found

    def read_many(self, keys: Sequence[str], now: datetime) -> dict[str, EntryRow]:
        found = super().read_many(keys, now)
        self.rows += len(found)
        self.pages += 1
        return found


class CountedMemory:
    """A memory, its catalog and its payload store.

    Attributes:
        memory: The backend.
        store: Its payload store, which can be told to fail.
    """

    def __init__(self, directory: Path, clock: Clock, **options: Any) -> None:
        self._catalog = CountingCatalog(directory / "catalog.db", clock=clock)
        self._payloads = open_payload_store(str(directory / "data"))
        self.store = WatchedPayloadStore(self._payloads)
        self.memory = DuckDBLTMBackend(
            self._catalog, store=self.store, clock=clock, raise_errors=True, **options
        )

    def ask(self, sql: str, **options: Any) -> tuple[list[dict[str, Any]], int, int]:
        """Return the answer, and how many rows and payloads were read for it."""
        self._catalog.rows = self._catalog.pages = 0
        self.store.calls.clear()
        answer = self.memory.query(sql, **options)
        return answer, self._catalog.rows, [call for call, _ in self.store.calls].count("read")

    @property
    def pages(self) -> int:
        """How many pages of rows the last question read."""
        return self._catalog.pages

    def close(self) -> None:
        self.memory.close()
        self._payloads.close()
        self._catalog.close()
