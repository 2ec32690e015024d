"""What somebody would write with ``sqlite3`` alone, on the very tables and pragmas of ``ltm``."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.rounds import Stopwatch
from benchmarks.values import Entry

_COLUMNS = (
    "id, tenant_id, table_name, key, content_hash, storage_uri, byte_size, inlined_value, "
    "metadata, expires_at, begin_seq, created_at, updated_at"
)
_UPSERT = (
    f"INSERT INTO ltm_entries ({_COLUMNS}) VALUES (?, '', 'default', ?, ?, ?, ?, ?, ?, NULL, 0, "
    "?, ?) ON CONFLICT (id) DO UPDATE SET content_hash = excluded.content_hash, "
    "storage_uri = excluded.storage_uri, byte_size = excluded.byte_size, "
    "inlined_value = excluded.inlined_value, metadata = excluded.metadata, "
    "expires_at = excluded.expires_at, updated_at = excluded.updated_at"
)
_WORDS = (
    "INSERT INTO ltm_entry_search (entry_id, tenant_id, table_name, length, text) "
    "VALUES (?, '', 'default', ?, ?) ON CONFLICT (entry_id) DO UPDATE SET "
    "length = excluded.length, text = excluded.text"
)
_METADATA = (
    "INSERT INTO ltm_entry_metadata (entry_id, path, value, tenant_id, table_name, updated_at) "
    "VALUES (?, ?, ?, '', 'default', ?) ON CONFLICT DO NOTHING"
)
_CURRENT = "SELECT content_hash, metadata, expires_at, begin_seq FROM ltm_entries WHERE id = ?"
_FIELDS = "content_hash, inlined_value, metadata, expires_at"
_GET = (
    f"SELECT {_FIELDS} FROM ltm_entries WHERE tenant_id = '' AND table_name = 'default' AND key = ?"
)
_GET_ALL = (
    f"SELECT {_FIELDS} FROM ltm_entries WHERE tenant_id = '' AND table_name = 'default' "
    "AND key IN (SELECT value FROM json_each(?))"
)


def connect(path: str, synchronous: str = "NORMAL") -> sqlite3.Connection:
    """Open a database as ``ltm`` opens its own."""
    connection = sqlite3.connect(
        path, timeout=30, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


class RawRow:
    """The parameters of the statements that store one entry; made within the measured time."""

    def __init__(self, entry: Entry, storage_uri: str | None = None) -> None:
        self.text = text = json.dumps(entry.value, sort_keys=True)
        content_hash = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
        metadata = json.dumps(entry.metadata, sort_keys=True)
        self.id = hashlib.sha256(entry.key.encode()).hexdigest()
        self.content_hash = content_hash
        inlined = text if storage_uri is None else None
        now = datetime.now(UTC).isoformat()
        self.row = (
            *(self.id, entry.key, content_hash, storage_uri, len(text), inlined, metadata),
            *(now, now),
        )
        self._entry, self._now = entry, now

    @property
    def words(self) -> tuple[Any, ...]:
        """The value's strings as they are: no stemming, no stop words."""
        text = f"{self._entry.key} {self._entry.value['note']}"
        return (self.id, text.count(" ") + 1, text)

    @property
    def metadata(self) -> list[tuple[Any, ...]]:
        """A row for each key of the metadata."""
        pairs = self._entry.metadata.items()
        return [(self.id, path, json.dumps(value), self._now) for path, value in pairs]


class RawSQLite:
    """Entries stored and read on one connection."""

    def __init__(self, path: str, synchronous: str = "NORMAL") -> None:
        self.connection = connect(path, synchronous)

    def upsert_each(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        """Replace what is there unseen: one statement, which is its own transaction."""
        for entry in given:
            self.connection.execute(_UPSERT, RawRow(entry).row)
            lap()

    def store_each(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        """Read the row that is there, then write, in one transaction."""
        for entry in given:
            self.store(RawRow(entry))
            lap()

    def store(self, row: RawRow) -> None:
        """Read the row that is there, then write, in one transaction."""
        self.connection.execute("BEGIN IMMEDIATE")
        found = self.connection.execute(_CURRENT, (row.id,)).fetchone()
        if found is None or found[0] != row.content_hash:
            self.connection.execute(_UPSERT, row.row)
        self.connection.execute("COMMIT")

    def index_each(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        """The same with words for the full-text index and rows for the metadata."""
        for entry in given:
            row = RawRow(entry)
            self.connection.execute("BEGIN IMMEDIATE")
            found = self.connection.execute(_CURRENT, (row.id,)).fetchone()
            if found is None or found[0] != row.content_hash:
                self.connection.execute(_UPSERT, row.row)
                self.connection.execute(_WORDS, row.words)
                self.connection.executemany(_METADATA, row.metadata)
            self.connection.execute("COMMIT")
            lap()

    def store_all(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        """Write entries in one transaction by ``executemany``."""
        rows = [RawRow(entry) for entry in given]
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(_UPSERT, [row.row for row in rows])
        self.connection.execute("COMMIT")
        lap()

    def index_all(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        """The same with words and metadata."""
        rows = [RawRow(entry) for entry in given]
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(_UPSERT, [row.row for row in rows])
        self.connection.executemany(_WORDS, [row.words for row in rows])
        self.connection.executemany(_METADATA, [each for row in rows for each in row.metadata])
        self.connection.execute("COMMIT")
        lap()

    def get_each(self, keys: Sequence[str], lap: Stopwatch) -> None:
        """Read entries one by one and verify them."""
        for key in keys:
            read_entry(self.connection.execute(_GET, (key,)).fetchone())
            lap()

    def get_all(self, keys: Sequence[str], lap: Stopwatch) -> None:
        """Read entries in one statement and verify them."""
        rows = self.connection.execute(_GET_ALL, (json.dumps(keys),))
        assert read_entries(rows) == len(keys)
        lap()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def read_entry(row: Sequence[Any]) -> tuple[Any, Any]:
    """Return value and metadata of a row after checking its hash and expiry."""
    content_hash, text, metadata, expires_at = row
    if "sha256:" + hashlib.sha256(text.encode()).hexdigest() != content_hash:
        raise ValueError(f"{content_hash}: the value is damaged")
    assert expires_at is None
    return json.loads(text), json.loads(metadata)


def read_entries(rows: Iterable[tuple[Any, ...]]) -> int:
    """Read and verify *rows*; return how many there are."""
    return len([read_entry(row) for row in rows])
