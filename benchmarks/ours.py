"""``ltm`` as a contestant: its public calls, and nothing but these."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from benchmarks.rounds import Contestant, Stopwatch
from benchmarks.values import Entry
from ltm import DuckDBLTMBackend, PostgresCatalog, SQLiteCatalog


class Memory:
    """A memory whose every answer is looked at."""

    def __init__(self, backend: DuckDBLTMBackend) -> None:
        self.backend = backend

    def store_each(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        """Store entries one by one."""
        for entry in given:
            assert self.backend.store(*entry)["stored"]
            lap()

    def store_unchanged(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        """Store entries that are there already."""
        for entry in given:
            assert self.backend.store(*entry)["deduplicated"]
            lap()

    def store_all(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        """Store entries in one call."""
        assert self.backend.store_batch(given)["stored"] == len(given)
        lap()

    def get_each(self, keys: Sequence[str], lap: Stopwatch) -> None:
        """Read entries one by one."""
        for key in keys:
            assert self.backend.retrieve(key)["found"]
            lap()

    def get_all(self, keys: Sequence[str], lap: Stopwatch) -> None:
        """Read entries in one call."""
        assert self.backend.retrieve_batch(keys)["found"] == len(keys)
        lap()

    def contestant(self, verb: str, remark: str = "") -> Contestant:
        """Return ``ltm`` doing *verb*, a method of this class."""
        return Contestant("ltm", getattr(self, verb), remark)

    def fill(self, given: Sequence[Entry], size: int = 1000) -> None:
        """Store many entries; nothing is measured."""
        for start in range(0, len(given), size):
            self.backend.store_batch(given[start : start + size])

    def close(self) -> None:
        """Close catalog and payload store."""
        self.backend.close()


def open_sqlite(
    directory: str,
    name: str,
    *,
    durability: Any = "normal",
    storage: str | None = None,
    **options: Any,
) -> Memory:
    """Open a memory on a SQLite file, and make its schema."""
    catalog = SQLiteCatalog(os.path.join(directory, f"{name}.db"), durability=durability)
    return _opened(catalog, storage or os.path.join(directory, name), options)


def open_postgres(url: str, directory: str, *, pool_max: int = 10, **options: Any) -> Memory:
    """Open a memory in a PostgreSQL database, and make its schema."""
    catalog = PostgresCatalog(url, auto_migrate=True, pool_max=pool_max)
    return _opened(catalog, os.path.join(directory, "payloads"), options)


def _opened(catalog: Any, storage: str, options: dict[str, Any]) -> Memory:
    backend = DuckDBLTMBackend(
        catalog, storage, owns_catalog=True, raise_errors=True, lazy=False, **options
    )
    return Memory(backend)
