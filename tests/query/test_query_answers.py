"""What a query answers: columns, types, order, and whose entries."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from query_place import LARGE, CountedMemory

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.errors import (
    ClosedError,
    IntegrityError,
    PayloadError,
    PayloadNotFoundError,
    SnapshotNotFoundError,
    ValidationError,
)
from ltm.hashing import canonical_json, compute_content_hash
from ltm.testing.clock import FakeClock

VALUES: list[Any] = [
    None,
    True,
    0,
    1,
    1.0,
    -0.0,
    5e-324,
    1e16,
    1.7976931348623157e308,
    2**80,
    -(2**63) - 1,
    "",
    "é\U0001f600",
    "nul \0 in it",
    "lone \ud800 surrogate",
    [],
    {},
    [[1], {"": None, "__x__": [{}]}],
    {"b": 1, "a": [1.50, "x"]},
    LARGE,
    {"large": [LARGE, "\ud800", 2**80, "\0"]},
]


def test_a_row_has_every_column(memory: DuckDBLTMBackend, clock: FakeClock) -> None:
    begun = clock()
    memory.store("k", {"a": 1}, {"type": "note", "n": 1.0}, ttl=60)
    clock.advance(1)
    memory.store("k", {"a": 2}, {"type": "note", "n": 1.0}, ttl=60)
    assert memory.query("FROM entries") == [
        {
            "key": "k",
            "value": {"a": 2},
            "metadata": {"type": "note", "n": 1.0},
            "content_hash": compute_content_hash({"a": 2}),
            "byte_size": 8,
            "expires_at": begun + timedelta(seconds=61),
            "created_at": begun,
            "updated_at": begun + timedelta(seconds=1),
        }
    ]


def test_values_are_read_as_they_were_written(memory: DuckDBLTMBackend) -> None:
    for number, value in enumerate(VALUES):
        memory.store(f"k{number:02}", value)
    rows = memory.query("SELECT value, CAST(value AS VARCHAR) AS text FROM entries")
    assert [row["text"] for row in rows] == [canonical_json(value) for value in VALUES]
    assert [canonical_json(row["value"]) for row in rows] == [
        canonical_json(value) for value in VALUES
    ]
    assert [type(row["value"]) for row in rows] == [type(value) for value in VALUES]


def test_metadata_is_put_in_as_it_is(memory: DuckDBLTMBackend) -> None:
    metadata = {"n": 1.0, "big": 2**80, "é": ["\U0001f600", 1e16], "a.b": {"c": None}}
    memory.store("k", 1, metadata)
    (row,) = memory.query("SELECT metadata, CAST(metadata AS VARCHAR) AS text FROM entries")
    assert row == {"metadata": metadata, "text": canonical_json(metadata)}


def test_value_and_metadata_are_json(memory: DuckDBLTMBackend) -> None:
    memory.store("k", {"user": {"name": "Ada"}, "tags": ["x", "y"]}, {"type": "note"})
    (row,) = memory.query(
        "SELECT typeof(value) AS v, typeof(metadata) AS m, metadata->>'type' AS type,"
        " (value->'user')->>'name' AS name, value->>'$.tags[1]' AS tag, value->'tags' AS tags"
        " FROM entries"
    )
    assert row == {
        "v": "JSON",
        "m": "JSON",
        "type": "note",
        "name": "Ada",
        "tag": "y",
        "tags": ["x", "y"],
    }


def test_rows_come_in_the_order_of_the_result(memory: DuckDBLTMBackend) -> None:
    memory.store_batch([(f"k{number}", number) for number in range(50)])
    rows = memory.query("SELECT key FROM entries ORDER BY CAST(value AS INT) DESC LIMIT 3")
    assert rows == [{"key": "k49"}, {"key": "k48"}, {"key": "k47"}]
    keys = [row["key"] for row in memory.query("SELECT key FROM entries")]
    assert keys == sorted(keys)
    assert len(keys) == 50


def test_types_of_duckdb_are_those_of_python(memory: DuckDBLTMBackend) -> None:
    (row,) = memory.query(
        "SELECT 1 AS i, 2::HUGEINT ** 1 AS p, 170141183460469231731687303715884105727 AS h,"
        " 1.50 AS d, 'nan'::DOUBLE AS f, DATE '2024-02-29' AS day, INTERVAL 90 MINUTE AS span,"
        " '\\x00\\xFF'::BLOB AS b, [1, NULL] AS l, {'a': 'x'} AS s, NULL AS n,"
        " TIMESTAMPTZ '2024-01-01 12:00:00+02' AS t"
    )
    assert math.isnan(row.pop("f"))
    assert row.pop("p") == 2
    assert row == {
        "i": 1,
        "h": 2**127 - 1,
        "d": Decimal("1.50"),
        "day": date(2024, 2, 29),
        "span": timedelta(minutes=90),
        "b": b"\x00\xff",
        "l": [1, None],
        "s": {"a": "x"},
        "n": None,
        "t": datetime(2024, 1, 1, 10, tzinfo=UTC),
    }
    assert row["t"].tzinfo is UTC


def test_a_name_that_stood_before_gets_a_number(memory: DuckDBLTMBackend) -> None:
    sql = "SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a, 5 AS A"
    expected = {"a": 1, "a_2": 2, "a_1": 3, "a_3": 4, "A": 5}
    assert memory.query(sql) == [expected]
    assert memory.query(sql, as_arrow=True).to_pylist() == [expected]


def test_an_arrow_table_is_answered_where_asked_for(memory: DuckDBLTMBackend) -> None:
    memory.store("a", {"x": 1})
    memory.store("b", LARGE, ttl=5)
    table = memory.query("SELECT key, value, byte_size, expires_at FROM entries", as_arrow=True)
    assert isinstance(table, pa.Table)
    assert table.column("key").to_pylist() == ["a", "b"]
    assert table.column("value").to_pylist() == ['{"x": 1}', canonical_json(LARGE)]
    assert table.schema.field("byte_size").type == pa.int64()
    assert table.schema.field("expires_at").type == pa.timestamp("us", "UTC")
    empty = memory.query("SELECT key FROM entries WHERE false", as_arrow=True)
    assert (empty.num_rows, empty.column_names) == (0, ["key"])


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT key FROM entries WHERE key = ? OR key = ? ORDER BY key", ["a", "c"]),
        ("SELECT key FROM entries WHERE key = $1 OR key = $2 ORDER BY key", ("a", "c")),
        ("SELECT key FROM entries WHERE key = $x OR key = $y ORDER BY 1", {"x": "a", "y": "c"}),
        ("SELECT key FROM entries WHERE key IN ($x, $y) ORDER BY 1", {"y": "a", "x": "c"}),
        ("SELECT key FROM entries WHERE list_contains(?, key) ORDER BY key", [["a", "c"]]),
    ],
)
def test_parameters_are_bound(memory: DuckDBLTMBackend, sql: str, parameters: Any) -> None:
    memory.store_batch([("a", 1), ("b", 2), ("c", 3)])
    assert memory.query(sql, parameters=parameters) == [{"key": "a"}, {"key": "c"}]


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT ?", []),
        ("SELECT ?", [1, 2]),
        ("SELECT $a", {"b": 1}),
        ("SELECT ?", "x"),
        ("SELECT ?", {1}),
        ("SELECT ?", [object()]),
        ("SELECT ?", ["\ud800"]),
    ],
)
def test_parameters_that_do_not_fit_are_refused(
    memory: DuckDBLTMBackend, sql: str, parameters: Any
) -> None:
    with pytest.raises(ValidationError):
        memory.query(sql, parameters=parameters)


def test_expired_entries_are_not_seen(counted: CountedMemory, clock: FakeClock) -> None:
    memory = counted.memory
    memory.store("brief", LARGE, {"t": "x"}, ttl=10)
    memory.store("lasting", LARGE, {"t": "x"})
    clock.advance(10)
    for condition in ("", "WHERE key = 'brief'", "WHERE metadata->>'t' = 'x'", "WHERE key < 'c'"):
        rows, _, reads = counted.ask(f"SELECT key, value FROM entries {condition}")
        assert [row["key"] for row in rows] in ([], ["lasting"])
        assert reads == len(rows)
    assert memory.query("SELECT count(*) AS n FROM entries") == [{"n": 1}]


def test_a_snapshot_is_asked_as_it_was(memory: DuckDBLTMBackend, clock: FakeClock) -> None:
    memory.store("a", {"n": 1}, {"type": "x"})
    memory.store("b", LARGE, {"type": "x"})
    memory.store("c", 3, {"type": "y"}, ttl=60)
    taken = memory.create_snapshot("then")
    memory.store("a", {"n": 2}, {"type": "y"})
    memory.delete("b")
    memory.store("d", 4, {"type": "x"})
    clock.advance(100)
    for snapshot in ("then", taken["snapshot_id"]):
        rows = memory.query("SELECT key, value FROM entries", snapshot=snapshot)
        assert rows == [
            {"key": "a", "value": {"n": 1}},
            {"key": "b", "value": LARGE},
            {"key": "c", "value": 3},
        ]
        narrowed = "SELECT key FROM entries WHERE metadata->>'type' = 'x' AND key < 'c'"
        assert memory.query(narrowed, snapshot=snapshot) == [{"key": "a"}, {"key": "b"}]
        looked_up = "SELECT key FROM entries WHERE key IN ('b', 'c', 'd')"
        assert memory.query(looked_up, snapshot=snapshot) == [{"key": "b"}, {"key": "c"}]
    assert memory.query("SELECT key FROM entries") == [{"key": "a"}, {"key": "d"}]


def test_an_unknown_snapshot_is_an_error(memory: DuckDBLTMBackend) -> None:
    with pytest.raises(SnapshotNotFoundError, match="nowhere"):
        memory.query("SELECT 1", snapshot="nowhere")


def test_snapshots_are_a_table(memory: DuckDBLTMBackend, clock: FakeClock) -> None:
    assert memory.query("FROM snapshots") == []
    memory.store("a", "x")
    first = memory.create_snapshot("first")
    clock.advance(5)
    memory.create_snapshot("second")
    rows = memory.query("FROM snapshots ORDER BY created_at")
    assert [row["name"] for row in rows] == ["first", "second"]
    assert rows[0] == {name: part for name, part in first.items() if name != "success"}
    joined = "SELECT count(*) AS n FROM entries, snapshots WHERE entries.created_at <= now()"
    assert memory.query(joined.replace("now()", "snapshots.created_at")) == [{"n": 2}]


def test_a_transaction_sees_its_own_writes(memory: DuckDBLTMBackend) -> None:
    memory.store("a", 1, {"t": "x"})
    sql = "SELECT key, value FROM entries WHERE metadata->>'t' = 'x'"
    with suppress(RuntimeError), memory.transaction() as block:
        block.store("b", LARGE, {"t": "x"})
        block.delete("a")
        for backend in (block, memory):
            assert backend.query(sql) == [{"key": "b", "value": LARGE}]
        raise RuntimeError
    assert memory.query(sql) == [{"key": "a", "value": 1}]


def test_a_mistake_in_a_query_leaves_a_transaction_alone(memory: DuckDBLTMBackend) -> None:
    with memory.transaction() as block:
        block.store("a", 1)
        with pytest.raises(ValidationError):
            memory.query("SELECT nothing FROM entries")
    assert memory.retrieve("a")["found"]


def test_each_logical_table_is_asked_alone(tmp_path: Path) -> None:
    from ltm import create_ltm_backend

    for table in ("one", "two"):
        with create_ltm_backend(
            catalog_config={"path": f"{tmp_path}/c.db"}, storage_uri=f"{tmp_path}/d", table=table
        ) as memory:
            memory.store("k", table)
            assert memory.query("SELECT value FROM entries") == [{"value": table}]


def test_a_lost_payload_is_an_error_and_no_null(counted: CountedMemory, tmp_path: Path) -> None:
    memory = counted.memory
    memory.store("a", 1)
    stored = memory.store("b", LARGE)
    path = Path(stored["storage_uri"].removeprefix("file://"))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"large", b"small"))
    with pytest.raises(IntegrityError, match="'b'"):
        memory.query("SELECT value FROM entries")
    path.unlink()
    with pytest.raises(PayloadNotFoundError, match="'b'"):
        memory.query("SELECT count(value) FROM entries")
    # What does not need it does not miss it.
    assert memory.query("SELECT key, byte_size > 9 AS big FROM entries WHERE key = 'b'") == [
        {"key": "b", "big": True}
    ]


def test_a_store_that_fails_is_an_error(counted: CountedMemory) -> None:
    counted.memory.store("b", LARGE)
    counted.store.fail("read")
    with pytest.raises(PayloadError):
        counted.memory.query("FROM entries")


def test_a_closed_memory_answers_no_query(memory: DuckDBLTMBackend) -> None:
    with memory.transaction() as block:
        pass
    with pytest.raises(ClosedError):
        block.query("SELECT 1")
    memory.close()
    with pytest.raises(ClosedError):
        memory.query("SELECT 1")


def test_a_memory_closed_during_a_query_ends_it(counted: CountedMemory) -> None:
    counted.memory.store_batch([(f"k{number}", LARGE) for number in range(20)])
    counted.store.before_read = counted.memory.close  # type: ignore[method-assign]
    with pytest.raises(ClosedError):
        counted.memory.query("SELECT key, value FROM entries")


def test_failures_are_raised_whatever_the_backend_does_elsewhere(tmp_path: Path) -> None:
    from ltm import create_ltm_backend

    with (
        create_ltm_backend(
            catalog_config={"path": f"{tmp_path}/c.db"},
            storage_uri=f"{tmp_path}/d",
            raise_errors=False,
        ) as memory,
        pytest.raises(ValidationError),
    ):
        memory.query("nonsense")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT foo FROM entries", 'Referenced column "foo" not found'),
        ("SELECT 1 +", "syntax error at end of input"),
        (
            "SELECT key\nFROM entries\nWHERE nothing = 1",
            "LINE 3: WHERE nothing = 1\n              ^",
        ),
        ("SELECT CAST(key AS INT) FROM entries", "Could not convert string 'k' to INT32"),
        ("FROM nowhere", "Table with name nowhere does not exist"),
    ],
)
def test_a_mistake_is_told_in_the_words_of_duckdb(
    memory: DuckDBLTMBackend, sql: str, message: str
) -> None:
    memory.store("k", 1)
    with pytest.raises(ValidationError) as caught:
        memory.query(sql)
    assert message in str(caught.value)
