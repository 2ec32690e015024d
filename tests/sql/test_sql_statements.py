"""What the verbs send to the database: how many statements, and along which indexes they run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.conditions import compile_driven
from ltm.catalog.database import Database
from ltm.catalog.sql import SQLCatalog
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.clock import utc_now
from ltm.search.filters import encode_value, parse_filter
from ltm.sql.execution import Session, Statement
from ltm.sql.sqlite import SQLitePool
from tests.sql.counting import CountingPool, counted_steps

LARGE = "a large value " * 200


class Counted:
    """A backend whose statements are counted."""

    def __init__(self, path: Path) -> None:
        self.pool = CountingPool(
            SQLitePool(str(path / "catalog.db"), durability="normal", busy_timeout=5)
        )
        catalog = SQLCatalog(Database(self.pool, "sqlite"))
        self.memory = DuckDBLTMBackend(catalog, str(path / "data"), owns_catalog=True)
        self.memory.store("warm", 1)

    def count(self, call: Any) -> list[str]:
        self.pool.calls.clear()
        assert call()["success"]
        return list(self.pool.calls)


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Counted]:
    counted = Counted(tmp_path)
    yield counted
    counted.memory.close()


def test_a_get_is_one_statement(counted: Counted) -> None:
    assert len(counted.count(lambda: counted.memory.retrieve("warm"))) == 1
    assert len(counted.count(lambda: counted.memory.retrieve("nobody"))) == 1


def test_an_unchanged_store_reads_once_and_begins_nothing(counted: Counted) -> None:
    assert len(counted.count(lambda: counted.memory.store("warm", 1))) == 1


def test_a_store_is_a_handful_of_statements(counted: Counted) -> None:
    calls = counted.count(lambda: counted.memory.store("k", "words", {"a": 1, "b": 2}))
    inside = calls[calls.index("BEGIN IMMEDIATE") + 1 : calls.index("COMMIT")]
    assert len(inside) == 3
    assert len(calls) == 6


def test_a_batch_of_a_thousand_is_a_handful_of_statements(counted: Counted) -> None:
    entries = [(f"k{i}", {"text": f"words {i}"}, {"type": "x", "i": i}) for i in range(1000)]
    first = counted.count(lambda: counted.memory.store_batch(entries))
    again = counted.count(lambda: counted.memory.store_batch(entries))
    changed = [(key, {**value, "new": 1}, metadata) for key, value, metadata in entries]
    replaced = counted.count(lambda: counted.memory.store_batch(changed))
    read = counted.count(lambda: counted.memory.retrieve_batch([key for key, _, _ in entries]))
    assert (len(first), len(again), len(replaced), len(read)) == (10, 2, 12, 1)
    assert counted.memory.stats()["entries"] == 1001


def test_replacing_a_thousand_payloads_is_a_handful_of_statements(counted: Counted) -> None:
    counted.memory.store_batch([(f"k{i}", [LARGE, i]) for i in range(1000)])
    calls = counted.count(
        lambda: counted.memory.store_batch([(f"k{i}", [LARGE, -i]) for i in range(1, 1001)])
    )
    assert len(calls) < 25


HUNDRED_THOUSAND = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
INSERT INTO ltm_entries
SELECT printf('%064x', i), '', 'default', 'k' || i, 'sha256:' || i, NULL, 1, '1',
       json_object('type', 'note', 'n', i, 'odd', i % 2), NULL, 0,
       printf('2030-01-01T00:%02d:%02d.%06d+00:00', i / 60000 % 60, i / 1000 % 60, i % 1000),
       printf('2030-01-01T00:%02d:%02d.%06d+00:00', i / 60000 % 60, i / 1000 % 60, i % 1000)
FROM n
"""

THEIR_METADATA = """
INSERT INTO ltm_entry_metadata
SELECT e.id, p.path, CASE p.path WHEN 'type' THEN :note WHEN 'n' THEN 's' || e.rowid
       ELSE CASE e.rowid % 2 WHEN 0 THEN :even ELSE :odd END END, '', 'default', e.updated_at
FROM ltm_entries e, (SELECT 'type' path UNION SELECT 'n' UNION SELECT 'odd') p
"""


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SQLiteCatalog]:
    """A catalog of 100,000 entries with three metadata rows each."""
    catalog = SQLiteCatalog(tmp_path_factory.mktemp("crowded") / "catalog.db")
    catalog.table()
    codes = {"note": encode_value("note"), "even": encode_value(0), "odd": encode_value(1)}
    with catalog.engine.begin() as connection:
        connection.exec_driver_sql(HUNDRED_THOUSAND)
        connection.exec_driver_sql(THEIR_METADATA, codes)
    yield catalog
    catalog.close()


def examine(
    catalog: SQLiteCatalog, statement: Statement, parameters: dict[str, Any]
) -> tuple[str, int, int]:
    """Return a statement's plan, how many rows it answers and the steps SQLite's machine took."""
    connection = catalog.database.pool.acquire()
    arguments = statement.bind(parameters)
    plan = connection.execute("EXPLAIN QUERY PLAN " + statement.text, arguments).fetchall()
    with counted_steps(connection) as steps:
        rows = Session(connection, catalog.database.dialect).rows(statement, parameters)
    catalog.database.pool.release(connection)
    return " | ".join(row[3] for row in plan), len(rows), steps[0]


@pytest.mark.parametrize(
    ("wanted", "answers"),
    [
        ({"type": "note"}, 10),
        ({"odd": 1}, 10),
        ({"odd": 1, "type": "note"}, 10),
        ({"type": "nothing like it"}, 0),
        ({"never.declared": "x"}, 0),
        ({"type": "note", "odd": {"$gt": -5}}, 10),
    ],
    ids=str,
)
def test_metadata_equality_walks_an_index_at_a_hundred_thousand_entries(
    crowded: SQLiteCatalog, wanted: dict[str, Any], answers: int
) -> None:
    compiled = compile_driven(parse_filter(wanted), crowded.database.idiom)
    statement = crowded.database.statements.select_newest(compiled.condition, compiled.driver)
    parameters = compiled.parameters | {
        "tenant": "",
        "table": "default",
        "now": utc_now(),
        "before_at": utc_now().replace(year=9999),
        "before_id": "g",
        "limit": 10,
    }
    plan, rows, steps = examine(crowded, statement, parameters)
    assert "USING COVERING INDEX ix_ltm_entry_metadata_filter" in plan
    assert "SCAN" not in plan
    assert "TEMP B-TREE" not in plan, "the index has the order already"
    assert rows == answers
    assert steps < 3000, "the work does not grow with the table"
    found = crowded.search(None, wanted)
    assert len(found) == answers
    assert all(hit["updated_at"] >= found[-1]["updated_at"] for hit in found)


def test_listing_in_key_order_walks_the_unique_index(crowded: SQLiteCatalog) -> None:
    statement = crowded.database.statements.select_between
    parameters = {
        "tenant": "",
        "table": "default",
        "now": utc_now(),
        "start": "k500",
        "prefix_end": "k501",
        "after": "",
        "limit": 100,
    }
    plan, rows, steps = examine(crowded, statement, parameters)
    assert "uq_ltm_entries" in plan or "sqlite_autoindex_ltm_entries" in plan
    assert (rows, "SCAN" in plan, "TEMP B-TREE" in plan) == (100, False, False)
    assert steps < 5000


def test_clean_up_walks_the_index_of_expiring_entries(crowded: SQLiteCatalog) -> None:
    statement = crowded.database.statements.select_expired
    parameters = {"tenant": "", "table": "default", "now": utc_now(), "limit": 100}
    plan, rows, steps = examine(crowded, statement, parameters)
    assert "ix_ltm_entries_expiry" in plan
    assert (rows, steps < 500) == (0, True)
