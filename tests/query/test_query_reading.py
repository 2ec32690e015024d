"""What a query reads: no column that it does not use, and few rows that it does not want."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from query_place import LARGE, CountedMemory

from ltm.testing.clock import FakeClock

ENTRIES = 1200
PAYLOADS = 30


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountedMemory]:
    """1,200 entries, of which the last 30 are payloads; read, and never written."""
    place = CountedMemory(Path(tmp_path_factory.mktemp("reading")), FakeClock(), enable_fts=False)
    place.memory.store_batch(
        {
            "key": f"note:{number:04}",
            "value": LARGE if number >= ENTRIES - PAYLOADS else number,
            "metadata": {
                "type": "rare" if number % 100 == 0 else "common",
                "user": {"id": number % 7},
                "score": number / 2,
                "a.b": number % 10,
                "big": number >= ENTRIES - PAYLOADS,
            }
            | ({"odd": None} if number == 77 else {}),
        }
        for number in range(ENTRIES)
    )
    place.memory.create_snapshot("all")
    yield place
    place.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) AS n FROM entries",
        "SELECT key, metadata, byte_size FROM entries",
        "SELECT * EXCLUDE (value) FROM entries",
        "SELECT k FROM (SELECT key AS k, value AS v FROM entries)",
        "WITH e AS (FROM entries) SELECT a.key FROM e a JOIN e b USING (key)",
        "SELECT key AS value FROM entries ORDER BY value",
        "SELECT (metadata->>'value') AS v FROM entries",
    ],
)
def test_payloads_are_not_read_where_values_are_not_used(counted: CountedMemory, sql: str) -> None:
    answer, rows, reads = counted.ask(sql)
    assert answer
    assert (rows, reads) == (ENTRIES, 0)


@pytest.mark.parametrize(
    "sql",
    [
        "FROM entries",
        "SELECT e FROM entries e",
        "SELECT COLUMNS('val.*') FROM entries",
        "SELECT x FROM entries AS e(k, x)",
        "SELECT key FROM entries WHERE value IS NOT NULL",
        "SELECT count(value) AS n FROM entries",
        "SELECT key FROM entries ORDER BY CAST(value AS VARCHAR)",
        "SELECT a.key FROM entries a JOIN entries b ON CAST(a.value AS VARCHAR) = b.key",
        "SELECT a.key FROM entries a JOIN entries b ON CAST(b.value AS VARCHAR) = a.key",
        "SELECT count(*) OVER (PARTITION BY CAST(value AS VARCHAR)) AS n FROM entries",
        "UNPIVOT entries ON key, content_hash",
        "SUMMARIZE entries",
    ],
)
def test_payloads_are_read_where_values_are_used(counted: CountedMemory, sql: str) -> None:
    _, rows, reads = counted.ask(sql)
    assert (rows, reads) == (ENTRIES, PAYLOADS)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS x",
        "FROM snapshots",
        "DESCRIBE entries",
        "SELECT entries FROM range(3) AS entries",
        "WITH entries AS (SELECT 'x' AS key) SELECT key FROM entries WHERE key = 'x'",
    ],
)
def test_no_entry_is_read_where_none_is_asked_for(counted: CountedMemory, sql: str) -> None:
    answer, rows, reads = counted.ask(sql)
    assert answer
    assert (rows, reads) == (0, 0)


LAST = f"note:{ENTRIES - 1:04}"


@pytest.mark.parametrize(
    ("where", "matching", "read"),
    [
        ("key = 'note:0007'", 1, 1),
        (f"key = '{LAST}'", 1, 1),
        ("'note:0007' = key", 1, 1),
        ("entries.key = 'note:0007'", 1, 1),
        ("main.entries.key = 'note:0007'", 1, ENTRIES),
        ("key IN ('note:0007', 'note:0008', 'nowhere')", 2, 2),
        ("key = 'note:0007' OR key = 'note:0009'", 2, 2),
        ("key = 'nowhere'", 0, 0),
        ("key = ''", 0, 0),
        ("key = 'note:0007' AND key = 'note:0008'", 0, 0),
        ("key = 'note:0007' AND byte_size > 100", 0, 1),
        ("key LIKE 'note:000%'", 10, 10),
        ("key LIKE 'note:000_'", 10, 10),
        ("key LIKE 'note:%7'", 120, ENTRIES),
        ("starts_with(key, 'note:00')", 100, 100),
        ("prefix(key, 'note:00')", 100, 100),
        ("key ^@ 'note:00'", 100, 100),
        ("key LIKE 'note:00%' AND key LIKE '%7'", 10, 100),
        ("key LIKE 'note:110%' OR key LIKE 'note:111%'", 20, 100),
        ("key >= 'note:1190'", 10, 10),
        ("key > 'note:1190'", 9, 9),
        ("'note:1190' < key", 9, 9),
        ("key >= 'note:1190' AND key LIKE 'note:119%'", 10, 10),
        ("key < 'note:0010'", 10, 500),
        ("key BETWEEN 'note:0100' AND 'note:0110'", 11, 500),
        ("(metadata->>'type') = 'rare'", 12, 12),
        ("'rare' = (metadata->>'type')", 12, 12),
        ("(metadata->>'$.type') = 'rare'", 12, 12),
        ("json_extract_string(metadata, 'type') = 'rare'", 12, 12),
        ("(metadata->>'type') IN ('rare', 'other')", 12, 12),
        ("(metadata->>'type') = 'rare' AND key LIKE 'note:01%'", 1, 1),
        ("(metadata->>'type') = 'rare' OR (metadata->>'score') = '0.5'", 13, 13),
        ("(metadata->>'type') = 'rare' OR key = 'note:0001'", 13, ENTRIES),
        ("(metadata->>'score') = '17.0'", 1, 1),
        ("(metadata->>'score') = '17'", 0, 1),
        ("(metadata->>'a.b') = '3'", 120, 120),
        ("(metadata->>'big') = 'true'", 30, 30),
        ("(metadata->>'$.user.id') = '3'", 171, ENTRIES),
        ("(metadata->>'$.nobody.id') = '3'", 0, 0),
        ("(metadata->>'nothing') = 'x'", 0, 0),
        ("(metadata->>'odd') IS NOT NULL", 0, 1),
        ("NOT (metadata->>'type' = 'common')", 12, ENTRIES),
        ("(metadata->>'type') <> 'common'", 12, ENTRIES),
        ("lower(metadata->>'type') = 'rare'", 12, ENTRIES),
    ],
)
def test_a_plain_condition_is_asked_of_the_catalog(
    counted: CountedMemory, where: str, matching: int, read: int
) -> None:
    answer, rows, _ = counted.ask(f"SELECT key FROM entries WHERE {where}")
    assert (len(answer), rows) == (matching, read)


def test_payloads_of_other_rows_are_not_read(counted: CountedMemory) -> None:
    where = "(metadata->>'type') = 'rare' OR (metadata->>'score') = '599.5'"
    sql = f"SELECT value FROM entries WHERE {where}"
    answer, rows, reads = counted.ask(sql)
    assert (len(answer), rows, reads) == (13, 13, 1)
    assert counted.ask(f"SELECT value FROM entries WHERE key = '{LAST}'")[1:] == (1, 1)


@pytest.mark.parametrize(
    ("sql", "read"),
    [
        ("SELECT e.key FROM entries AS e WHERE e.key = 'note:0007'", 1),
        ("FROM entries AS key WHERE key.key = 'note:0007'", ENTRIES),
        ("SELECT KEY FROM ENTRIES WHERE Key = 'note:0007'", 1),
        ("SELECT 'x' AS key FROM entries WHERE key = 'note:0007'", 1),
        ("WITH e AS (FROM entries WHERE key = 'note:0007') FROM e a, e b", 1),
        (
            "WITH e AS NOT MATERIALIZED (FROM entries WHERE key = 'note:0007') FROM e a, e b",
            1,
        ),
        ("WITH e AS (FROM entries WHERE key = 'note:0007') SELECT key FROM entries", ENTRIES),
        ("SELECT key FROM entries AS e(a, b, c, key) WHERE key LIKE 'sha256:%'", ENTRIES),
        ("SELECT * FROM (SELECT key FROM entries WHERE key = 'note:0007') WHERE true", 1),
        ("SELECT (SELECT byte_size FROM entries WHERE key = 'note:0007') AS n", 1),
        ("SELECT count(*) AS n FROM entries WHERE key = 'note:0007' GROUP BY byte_size", 1),
        ("SELECT key FROM (FROM entries) WHERE key = 'note:0007'", ENTRIES),
        ("SELECT k FROM entries AS e(k, key) WHERE k = 'note:0007'", ENTRIES),
        ("SELECT key FROM entries WHERE key = 'note:0007' USING SAMPLE 100%", ENTRIES),
        ("SELECT key FROM entries TABLESAMPLE 100% WHERE key = 'note:0007'", ENTRIES),
        ("SELECT a.key FROM entries a, entries b WHERE a.key = 'note:0007'", ENTRIES),
        (
            "SELECT key FROM entries WHERE key = 'note:0007' UNION FROM (SELECT key FROM entries"
            " WHERE key = 'note:0008')",
            ENTRIES,
        ),
        (
            "SELECT key FROM entries WHERE key = 'note:0007'"
            " AND EXISTS (SELECT 1 FROM entries AS e WHERE e.key = 'note:1000')",
            ENTRIES,
        ),
    ],
)
def test_one_select_from_entries_is_understood(counted: CountedMemory, sql: str, read: int) -> None:
    answer, rows, _ = counted.ask(sql)
    assert answer
    assert rows == read


@pytest.mark.parametrize(
    ("sql", "parameters", "read"),
    [
        ("SELECT key FROM entries WHERE key = ?", ["note:0007"], 1),
        ("SELECT key FROM entries WHERE key BETWEEN $b AND $a", {"a": "z", "b": "note:1190"}, 10),
        ("SELECT key FROM entries WHERE (metadata->>'type') = $type", {"type": "rare"}, 12),
        ("SELECT key FROM entries WHERE (metadata->>$path) = 'rare'", {"path": "type"}, 12),
        ("SELECT key FROM entries WHERE (metadata->>'a.b') = $n", {"n": 3}, ENTRIES),
        ("SELECT key FROM entries LIMIT $n", {"n": 3}, 3),
    ],
)
def test_a_parameter_is_as_good_as_a_literal(
    counted: CountedMemory, sql: str, parameters: Any, read: int
) -> None:
    answer, rows, _ = counted.ask(sql, parameters=parameters)
    assert answer
    assert rows == read


@pytest.mark.parametrize(
    ("sql", "count", "read"),
    [
        ("FROM entries LIMIT 3", 3, 3),
        ("SELECT value, upper(key) AS k FROM entries LIMIT 3 OFFSET 2", 3, 5),
        ("FROM entries LIMIT 0", 0, 0),
        ("SELECT key FROM entries LIMIT 700", 700, 1000),
        ("FROM entries ORDER BY key LIMIT 3", 3, ENTRIES),
        ("SELECT DISTINCT (metadata->>'type') AS t FROM entries LIMIT 2", 2, ENTRIES),
        ("SELECT count(*) AS n FROM entries LIMIT 1", 1, ENTRIES),
        ("SELECT key FROM entries WHERE byte_size > 1000 LIMIT 3", 3, ENTRIES),
        ("SELECT key, row_number() OVER (ORDER BY key DESC) AS n FROM entries LIMIT 1", 1, ENTRIES),
        ("SELECT key FROM (SELECT key FROM entries ORDER BY key DESC) LIMIT 1", 1, ENTRIES),
        ("SELECT key FROM entries LIMIT 1%", 12, ENTRIES),
        ("SELECT key, unnest([1, 2]) AS n FROM entries LIMIT 1", 1, ENTRIES),
    ],
)
def test_a_bare_limit_reads_no_more_than_it_needs(
    counted: CountedMemory, sql: str, count: int, read: int
) -> None:
    answer, rows, reads = counted.ask(sql)
    assert (len(answer), rows) == (count, read)
    if read < ENTRIES:
        assert reads == 0


def test_a_bare_limit_gives_the_first_rows(counted: CountedMemory) -> None:
    rows, _, _ = counted.ask("SELECT key, value FROM entries LIMIT 2 OFFSET 1")
    assert rows == [{"key": "note:0001", "value": 1}, {"key": "note:0002", "value": 2}]


def test_payloads_in_a_snapshot_are_read_where_they_are_wanted(counted: CountedMemory) -> None:
    sql = "SELECT value FROM entries WHERE (metadata->>'a.b') = '3' AND key >= 'note:1150'"
    answer, _, reads = counted.ask(sql, snapshot="all")
    assert (len(answer), reads) == (5, 3)
    assert counted.ask("SELECT count(*) AS n FROM entries", snapshot="all")[2] == 0
    assert counted.ask("FROM entries LIMIT 3", snapshot="all")[2] == 0


def test_many_keys_are_looked_up_in_pages(counted: CountedMemory) -> None:
    keys = ", ".join(f"'note:{number:04}'" for number in range(0, ENTRIES, 2))
    answer, rows, _ = counted.ask(f"SELECT key FROM entries WHERE key IN ({keys})")
    assert (len(answer), rows, counted.pages) == (600, 600, 2)
