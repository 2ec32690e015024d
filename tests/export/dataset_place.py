"""A memory with entries of every kind, and what other tools read out of its datasets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.hashing import canonical_json
from ltm.payload.store import open_payload_store
from ltm.testing.payload_faults import WatchedPayloadStore
from ltm.testing.strategies import AWKWARD

VALUES: dict[str, Any] = AWKWARD | {
    "a/large surrogate": ["\udfff"] * 500,
    "a/large text": "日本\0" * 1000,
    "a'b\"c\\d%e?f#g": "odd characters in a key",
    "new\nline\ttab": "control characters in a key",
    "x" * 1024: "a long key",
    "z/日本/\U0001f600": "last",
}

ODD: dict[str, Any] = {
    "plain": "note",
    "other": "task",
    "missing": ...,
    "null": None,
    "empty": "",
    "number": 7,
    "float": 0.5,
    "true": True,
    "list": [1, "a/b"],
    "object": {"b": 1, "a": None},
    "slashes": "a/b\\c",
    "equals": "k=v",
    "percent": "100%",
    "escaped": "%2F",
    "unicode": "日本 é \U0001f600",
    "dots": "..",
    "spaces": " a b ",
    "control": "a\nb\x7f",
    "marks": "#?*:'\"{}[]^",
    "null's": "__HIVE_DEFAULT_PARTITION__",
    "long": "é/" * 500,
    "longer": "é/" * 500 + "!",
}
"""What a field of the metadata may hold; ``...`` where it isn't there."""


class Row(NamedTuple):
    """One row of a dataset; instants are in UTC."""

    key: str
    value: str
    metadata: str
    content_hash: str
    byte_size: int
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


class Place:
    """A memory in a directory, and room for its datasets."""

    def __init__(self, directory: Path, clock: Callable[[], datetime], **options: Any) -> None:
        self.directory = directory
        self.catalog = SQLiteCatalog(str(directory / "catalog.db"), clock=clock)
        self._payloads = open_payload_store(str(directory / "payloads"))
        self.store = WatchedPayloadStore(self._payloads)
        self.memory = DuckDBLTMBackend(self.catalog, store=self.store, raise_errors=True, **options)
        self.out = directory / "out"
        self.out.mkdir()

    def fill(self) -> None:
        """Store :data:`VALUES`, each with metadata, every third with an expiry."""
        for number, (key, value) in enumerate(VALUES.items()):
            metadata = {"n": number, "type": ("note", "task")[number % 2], "user": {"id": "é"}}
            self.memory.store(key, value, metadata, ttl=3600 if number % 3 == 0 else None)

    def fill_odd(self) -> None:
        """Store an entry for each of :data:`ODD`, with that for its field ``f``."""
        for key, value in ODD.items():
            self.memory.store(key, 1, {} if value is ... else {"f": value})

    def rows(self, snapshot: str | None = None) -> list[Row]:
        """Return what the memory itself says that a dataset holds, in key order."""
        found = self.memory.query(
            "SELECT key, content_hash, byte_size, expires_at, created_at, updated_at "
            "FROM entries ORDER BY key",
            snapshot=snapshot,
        )
        rows = []
        for each in found:
            answer = self.memory.retrieve(each["key"], snapshot=snapshot)
            metadata = json.dumps(answer["metadata"], sort_keys=True)
            rows.append(Row(value=canonical_json(answer["value"]), metadata=metadata, **each))
        return rows

    def snapshots(self) -> list[str]:
        return [each["name"] for each in self.memory.list_snapshots()["snapshots"]]

    def leftovers(self) -> list[str]:
        """Return what is in the room for datasets."""
        return sorted(str(path.relative_to(self.out)) for path in self.out.rglob("*"))

    def close(self) -> None:
        self.memory.close()
        self.catalog.close()
        self._payloads.close()


@contextmanager
def opened(*extensions: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a DuckDB with *extensions* from their packages, which asks the network for nothing."""
    config = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    with duckdb.connect(":memory:", config=config) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name in extensions:
            directory = Path(import_module(f"duckdb_extension_{name}").__path__[0])
            (path,) = directory.rglob(f"{name}.duckdb_extension")
            connection.execute(f"LOAD '{path}'")
        yield connection


def read(connection: duckdb.DuckDBPyConnection, source: str, order: str = "key") -> list[Row]:
    """Return the rows that DuckDB finds in *source*."""
    found = connection.execute(
        f"SELECT {', '.join(Row._fields)} FROM {source} ORDER BY {order}"
    ).fetchall()
    return [Row(*(_in_utc(value) for value in row)) for row in found]


def read_arrow(table: pa.Table) -> list[Row]:
    """Return the rows of *table* in key order."""
    found = table.select(Row._fields).to_pylist()
    return sorted(Row(**{name: _in_utc(value) for name, value in row.items()}) for row in found)


def read_parquet(path: Path) -> list[Row]:
    with opened() as connection:
        return read(connection, f"read_parquet('{path}/**/*.parquet', hive_partitioning = true)")


def read_duckdb(path: Path) -> list[Row]:
    with opened() as connection:
        connection.execute(f"ATTACH '{path}' AS published (READ_ONLY)")
        return read(connection, "published.entries", "rowid")


def read_ducklake(path: Path) -> list[Row]:
    with opened("ducklake") as connection:
        connection.execute(f"ATTACH 'ducklake:{path}/catalog.ducklake' AS lake (READ_ONLY)")
        return read(connection, "lake.entries")


READERS = {"parquet": read_parquet, "duckdb": read_duckdb, "ducklake": read_ducklake}
"""By the format of the dataset."""


def _in_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
