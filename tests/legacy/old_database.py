"""Builds databases as the older ``SQLiteBackend`` left them, and looks at what became of them."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.clock import Clock
from ltm.testing.clock import FakeClock

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TIME = "2026-11-22 07:31:15"

SCHEMA = """
CREATE TABLE ltm_store (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    metadata TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE VIRTUAL TABLE ltm_fts USING fts5(
    key, value, metadata, content='ltm_store', content_rowid='rowid'
);
CREATE TRIGGER ltm_ai AFTER INSERT ON ltm_store BEGIN
    INSERT INTO ltm_fts(rowid, key, value, metadata)
    VALUES (new.rowid, new.key, new.value, new.metadata);
END;
CREATE TRIGGER ltm_ad AFTER DELETE ON ltm_store BEGIN
    INSERT INTO ltm_fts(ltm_fts, rowid, key, value, metadata)
    VALUES ('delete', old.rowid, old.key, old.value, old.metadata);
END;
CREATE TRIGGER ltm_au AFTER UPDATE ON ltm_store BEGIN
    INSERT INTO ltm_fts(ltm_fts, rowid, key, value, metadata)
    VALUES ('delete', old.rowid, old.key, old.value, old.metadata);
    INSERT INTO ltm_fts(rowid, key, value, metadata)
    VALUES (new.rowid, new.key, new.value, new.metadata);
END;
"""

ODD_VALUES = [
    None, True, False, 0, -0.0, 1, 1.0, 1e16, 10**16, 5e-324, 2**80, "", [], {}, "a\0b", "\ud83d",
    "🧠", [[1, [2, [3]]], {"": {"": 0}}], {"__x__": [None, {}]}, "x" * 5000,
    {"deep": [-0.0, 2**80]},
]  # fmt: skip

ODD_KEYS = ["%", "a_b", " ", "new\nline", "' OR 1=1 --", "日本 🧠", "k" * 1024, "{}", "\x7f"]

Row = tuple[Any, Any, Any, Any, Any]
"""Key, value, metadata, created_at and updated_at as they stand in the table."""


def row(
    key: Any, value: Any, metadata: Any = None, created: Any = TIME, updated: Any = TIME
) -> Row:
    """Return a row whose value and metadata are serialised as the old backend did."""
    text = None if metadata is None else json.dumps(metadata)
    return key, json.dumps(value), text, created, updated


def cached(key: str, expires_at: Any, *, size: int = 20) -> Row:
    """Return a cached result as the old cache wrote it."""
    metadata = {
        "_cache_type": "action_result",
        "_cache_action": "llm.call",
        "_cache_key": key,
        "_cache_created_at": "2026-01-15T00:00:00+00:00",
        "_cache_expires_at": expires_at,
    }
    return row(key, {"result": {"output": "x" * size}}, metadata)


def good_rows() -> list[Row]:
    """Return rows of every kind that can be carried: 10 of them have expired at ``NOW``."""
    rows = [
        row(f"docs:{n}", {"text": f"part {n} " * 300}, {"type": "document", "length": n}, TIME)
        for n in range(10)
    ]
    rows += [
        row(f"notes:{n}", {"note": f"remember {n}"}, {"type": "note", "index": n, "lang": "en"},
            "2024-02-29 23:59:59", "2025-06-30 12:00:00")
        for n in range(20)
    ]  # fmt: skip
    rows += [cached(f"cache:old:{n}", "2026-01-14T00:00:00+00:00", size=n * 400) for n in range(8)]
    rows += [cached(f"cache:new:{n}", "2040-01-14T00:00:00+00:00", size=n * 400) for n in range(8)]
    rows += [cached("cache:naive:old", "2029-12-31T23:59:59.999999")]
    rows += [cached("cache:naive:new", "2030-01-01T00:00:00.000001"), cached("cache:never", None)]
    rows += [cached("cache:at", "2030-01-01T00:00:00Z")]
    rows += [row(f"odd:value:{n}", value, {"type": "odd"}) for n, value in enumerate(ODD_VALUES)]
    rows += [row(key, "odd key") for key in ODD_KEYS]
    return rows


def bad_rows() -> list[Row]:
    """Return two broken rows and a NaN."""
    return [
        ("broken:value", "{not json", None, TIME, TIME),
        ("broken:metadata", '{"ok":1}', "[oops", TIME, TIME),
        ("odd:nan", "NaN", '{"type": "odd"}', TIME, TIME),
    ]


def build(path: Path, rows: Iterable[Row], *, wal: bool = False) -> Path:
    """Make an old database of *rows* at *path*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        if wal:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(SCHEMA)
        connection.executemany("INSERT INTO ltm_store VALUES (?, ?, ?, ?, ?)", rows)
        connection.commit()
    return path


def change(path: Path, statement: str, *parameters: Any) -> None:
    """Carry *statement* out and commit, as the old program would."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement, parameters)
        connection.commit()


class Target:
    """A new memory in a directory, opened at any instant, and its files seen from outside."""

    def __init__(self, directory: Path) -> None:
        self.catalog = directory / "catalog.db"
        self.storage = directory / "payloads"
        self.clock = FakeClock(NOW)
        self._opened: list[DuckDBLTMBackend] = []

    def open(self, *, clock: Clock | None = None, **options: Any) -> DuckDBLTMBackend:
        catalog = SQLiteCatalog(self.catalog, clock=clock or self.clock)
        options = {"storage_uri": str(self.storage), "owns_catalog": True, **options}
        self._opened.append(DuckDBLTMBackend(catalog, **options))
        return self._opened[-1]

    def open_before_all_expiries(self) -> DuckDBLTMBackend:
        return self.open(clock=FakeClock(datetime(1970, 1, 1, tzinfo=UTC)))

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every table that entries are kept in."""
        tables = ("ltm_tables", "ltm_entries", "ltm_entry_metadata", "ltm_entry_search",
                  "ltm_payload_deletions")  # fmt: skip
        with closing(sqlite3.connect(self.catalog)) as connection:
            return {
                table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr)
                for table in tables
            }

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.storage)): path.read_bytes()
            for path in self.storage.rglob("*")
            if path.is_file()
        }

    def close(self) -> None:
        for memory in self._opened:
            memory.close()


def assert_carried(target: Target, rows: Sequence[Row]) -> None:
    """Check that exactly *rows* are in *target*: values type for type, metadata and times."""
    memory = target.open_before_all_expiries()
    found = memory.retrieve_batch([key for key, *_ in rows])
    assert found["success"]
    assert found["missing"] == []
    assert memory.stats()["entries"] == len(rows)
    for key, value, metadata, created, updated in rows:
        entry = memory.catalog.get_entry(key)
        assert entry is not None
        assert as_text(found["results"][key]) == as_text(json.loads(value))
        assert as_text(entry["metadata"]) == as_text(json.loads(metadata or "{}"))
        assert entry["created_at"] == datetime.fromisoformat(created).replace(tzinfo=UTC)
        assert entry["updated_at"] == datetime.fromisoformat(updated).replace(tzinfo=UTC)
        expected = json.loads(metadata or "{}").get("_cache_expires_at")
        if expected is None:
            assert entry["expires_at"] is None
        else:
            instant = datetime.fromisoformat(expected)
            aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
            assert entry["expires_at"] == aware


def as_text(value: Any) -> str:
    """Return text that differs where values or their types do: ``1``, ``1.0`` and ``true``."""
    return json.dumps(value, sort_keys=True)


def listing(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return every file below *directory* with its time, inode and bytes."""
    return {
        str(path): (os.stat(path).st_mtime_ns, os.stat(path).st_ino, path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file()
    }
