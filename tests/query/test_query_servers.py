"""The same question has the same answer on every catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from query_place import LARGE

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.base import Catalog
from ltm.catalog.firestore import FirestoreCatalog
from ltm.catalog.postgres import PostgresCatalog
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import CatalogUnavailableError
from ltm.testing.clock import FakeClock

ENTRIES: list[dict[str, Any]] = [
    {"key": "note:1", "value": {"n": 1, "é": "\ud800"}, "metadata": {"type": "note", "n": 1}},
    {"key": "note:2", "value": LARGE, "metadata": {"type": "note", "b": {"c": 2**53}, "a": "é"}},
    {"key": "note:3", "value": 1e16, "metadata": {"type": "draft", "n": 1.5, "long name": None}},
    {"key": "user:1", "value": "Ada", "metadata": {"type": "user", "user": {"id": "7"}}},
    {"key": "user:2", "value": None, "metadata": {}},
    {"key": "brief", "value": "gone", "metadata": {"type": "note"}, "ttl": 5},
]

QUESTIONS = [
    "SELECT key, value, metadata, CAST(metadata AS VARCHAR) AS text, byte_size FROM entries",
    "SELECT key FROM entries WHERE key LIKE 'note:%'",
    "SELECT key FROM entries WHERE key > 'note:1' AND key <= 'user:1'",
    "SELECT key FROM entries WHERE key >= 'note:2'",
    "SELECT key, value FROM entries WHERE key IN ('note:2', 'user:2', 'brief', 'nowhere')",
    "SELECT key FROM entries WHERE metadata->>'type' = 'note'",
    "SELECT key FROM entries WHERE (metadata->>'type') IN ('note', 'user') AND key < 'u'",
    "SELECT key FROM entries WHERE (metadata->>'type') = 'draft' OR (metadata->>'n') = '1'",
    "SELECT key FROM entries WHERE metadata->>'$.user.id' = '7'",
    "SELECT key FROM entries WHERE metadata->>'b' IS NOT NULL",
    "SELECT metadata->>'type' AS t, count(*) AS n FROM entries GROUP BY t ORDER BY t",
    "SELECT key FROM entries LIMIT 2",
    "SELECT name, entry_count FROM snapshots",
]


def answers(catalog: Catalog, directory: Path, clock: FakeClock) -> list[Any]:
    """Return the answers to all questions, about the present and about a snapshot."""
    with DuckDBLTMBackend(
        catalog, str(directory), clock=clock, raise_errors=True, owns_catalog=True
    ) as memory:
        memory.store_batch(ENTRIES)
        memory.create_snapshot("full")
        clock.advance(5)
        memory.store("user:1", "Grace", {"type": "note"})
        memory.delete("note:1")
        found = [memory.query(sql) for sql in QUESTIONS]
        found += [memory.query(sql, snapshot="full") for sql in QUESTIONS]
        with memory.transaction() as block:
            block.store("new", 1, {"type": "note"})
            found.append(block.query(QUESTIONS[5]))
        return found


def expected(tmp_path: Path) -> list[Any]:
    clock = FakeClock()
    return answers(SQLiteCatalog(tmp_path / "c.db", clock=clock), tmp_path / "reference", clock)


def test_sqlite_answers(tmp_path: Path) -> None:
    found = expected(tmp_path)
    assert [row["key"] for row in found[0]] == ["note:2", "note:3", "user:1", "user:2"]
    assert found[4] == [{"key": "note:2", "value": LARGE}, {"key": "user:2", "value": None}]
    assert [row["key"] for row in found[len(QUESTIONS) + 1]] == ["note:1", "note:2", "note:3"]
    assert found[-1] == [{"key": "new"}, {"key": "note:2"}, {"key": "user:1"}]


def test_postgres_answers_the_same(tmp_path: Path, postgres_url: str) -> None:
    clock = FakeClock()
    catalog = PostgresCatalog(postgres_url, clock=clock)
    assert answers(catalog, tmp_path / "data", clock) == expected(tmp_path)


def test_firestore_answers_the_same(tmp_path: Path, firestore_project: str) -> None:
    clock = FakeClock()
    catalog = FirestoreCatalog(firestore_project, clock=clock)
    assert answers(catalog, tmp_path / "data", clock) == expected(tmp_path)


def test_a_catalog_that_is_not_there_is_an_outage(tmp_path: Path) -> None:
    catalog = PostgresCatalog("postgresql://nobody@127.0.0.1:1/nothing")
    with (
        DuckDBLTMBackend(catalog, str(tmp_path), owns_catalog=True) as memory,
        pytest.raises(CatalogUnavailableError),
    ):
        memory.query("FROM entries")
