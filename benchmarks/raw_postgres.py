"""What somebody would write with ``psycopg`` alone, on the very tables of ``ltm``.

Statements are prepared at their first use, and one that stores or reads is one round trip.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg

from benchmarks.raw_sqlite import read_entry
from benchmarks.rounds import Observed, Stopwatch
from benchmarks.values import Entry

_UPSERT = (
    "INSERT INTO ltm_entries (id, tenant_id, table_name, key, content_hash, byte_size, "
    "inlined_value, metadata, begin_seq, created_at, updated_at) VALUES (%(id)s, '', 'default', "
    "%(key)s, %(content_hash)s, %(byte_size)s, %(text)s::text::json, %(metadata)s::text::jsonb, "
    "0, %(now)s, %(now)s) ON CONFLICT (id) DO UPDATE SET content_hash = excluded.content_hash, "
    "byte_size = excluded.byte_size, inlined_value = excluded.inlined_value, "
    "metadata = excluded.metadata, updated_at = excluded.updated_at"
)
_WORDS = (
    "INSERT INTO ltm_entry_search (entry_id, tenant_id, table_name, length, text) "
    "VALUES (%(id)s, '', 'default', %(length)s, %(words)s) ON CONFLICT (entry_id) DO UPDATE "
    "SET length = excluded.length, text = excluded.text"
)
_METADATA = (
    "INSERT INTO ltm_entry_metadata (entry_id, path, value, tenant_id, table_name, updated_at) "
    "VALUES (%(id)s, %(path)s, %(code)s, '', 'default', %(now)s) ON CONFLICT DO NOTHING"
)
# Foreign keys are checked when all of it is done.
_INDEXED = (
    f"WITH entry AS ({_UPSERT}), words AS ({_WORDS}) "
    "INSERT INTO ltm_entry_metadata (entry_id, path, value, tenant_id, table_name, updated_at) "
    "SELECT %(id)s, key, value, '', 'default', %(now)s "
    "FROM jsonb_each_text(%(metadata)s::text::jsonb) ON CONFLICT DO NOTHING"
)
_FIELDS = "content_hash, inlined_value::text, metadata::text, expires_at"
# Asked for tenant, table and key, the planner may take an index that knows the first two only.
_GET = f"SELECT {_FIELDS} FROM ltm_entries WHERE id = %s"
_GET_ALL = f"SELECT {_FIELDS} FROM ltm_entries WHERE id = ANY(%s)"


class RawPostgres:
    """Entries stored and read on one connection."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)

    def store_each(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        """Replace what is there unseen: one statement, which is its own transaction."""
        for entry in given:
            self.connection.execute(_UPSERT, row_of(entry))
            lap()

    def index_each(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        """The same with words for the full-text index and rows for the metadata."""
        for entry in given:
            self.connection.execute(_INDEXED, row_of(entry))
            lap()

    def store_all(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        """Write entries in one transaction by ``executemany``."""
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.executemany(_UPSERT, [row_of(entry) for entry in given])
        lap()

    def index_all(self, given: Sequence[Entry], lap: Stopwatch) -> None:
        """Write entries with words and metadata in one transaction by ``executemany``."""
        rows = [row_of(entry) for entry in given]
        metadata = [
            {"id": row["id"], "path": path, "code": json.dumps(value), "now": row["now"]}
            for row, entry in zip(rows, given, strict=True)
            for path, value in entry.metadata.items()
        ]
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.executemany(_UPSERT, rows)
            cursor.executemany(_WORDS, rows)
            cursor.executemany(_METADATA, metadata)
        lap()

    def get_each(self, keys: Sequence[str], lap: Stopwatch) -> None:
        """Read entries one by one and verify them."""
        for key in keys:
            row = self.connection.execute(_GET, (id_of(key),)).fetchone()
            assert row is not None
            read_entry(row)
            lap()

    def get_all(self, keys: Sequence[str], lap: Stopwatch) -> None:
        """Read entries in one statement and verify them."""
        rows = self.connection.execute(_GET_ALL, ([id_of(key) for key in keys],)).fetchall()
        assert len([read_entry(row) for row in rows]) == len(keys)
        lap()

    def describe(self) -> Observed:
        """Tell what the server is."""
        version = self.connection.info.parameter_status("server_version") or ""
        return Observed(f"PostgreSQL {version.partition(' ')[0]}")

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def id_of(key: str) -> str:
    """Return the primary key of an entry."""
    return hashlib.sha256(key.encode()).hexdigest()


def row_of(entry: Entry) -> dict[str, Any]:
    """Return the parameters of the statements that store *entry*; made in the measured time."""
    text = json.dumps(entry.value, sort_keys=True)
    words = f"{entry.key} {entry.value['note']}"
    return {
        "id": id_of(entry.key),
        "key": entry.key,
        "content_hash": "sha256:" + hashlib.sha256(text.encode()).hexdigest(),
        "byte_size": len(text),
        "text": text,
        "metadata": json.dumps(entry.metadata, sort_keys=True),
        "now": datetime.now(UTC),
        "words": words,
        "length": words.count(" ") + 1,
    }
