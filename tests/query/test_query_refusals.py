"""A query reaches nothing but the memory: what else it asks for is refused, and leaves no trace."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.backend.query_database import open_database
from ltm.errors import LTMError, ValidationError

SECRET = "a secret of somebody else"

STATEMENTS = """
INSERT INTO entries (key) VALUES ('x')
UPDATE entries SET key = 'x'
DELETE FROM entries
TRUNCATE entries
MERGE INTO entries USING snapshots ON false WHEN NOT MATCHED THEN INSERT (key) VALUES ('x')
CREATE TABLE t (a INT)
CREATE TABLE t AS SELECT 1
CREATE VIEW v AS SELECT 1
CREATE MACRO m(a) AS a
CREATE SECRET s (TYPE s3)
CREATE SEQUENCE s
CREATE TYPE t AS ENUM ('a')
DROP TABLE entries
ALTER TABLE entries ADD COLUMN a INT
COPY entries TO 'out.csv'
COPY (SELECT 1) TO 'out.parquet' (FORMAT parquet)
COPY entries FROM 'secret.csv'
COPY FROM DATABASE memory TO other
EXPORT DATABASE 'out'
IMPORT DATABASE 'out'
ATTACH 'out.db'
ATTACH ':memory:' AS other
DETACH memory
USE memory
PRAGMA version
PRAGMA database_list
PRAGMA table_info('entries')
PRAGMA enable_profiling
PRAGMA import_database('out')
PRAGMA memory_limit='100GB'
SET memory_limit='100GB'
SET enable_external_access=true
SET VARIABLE x = 1
RESET lock_configuration
INSTALL httpfs
LOAD httpfs
LOAD 'out.duckdb_extension'
FORCE INSTALL fts
UPDATE EXTENSIONS
CALL pragma_version()
CALL enable_logging()
CHECKPOINT
VACUUM
ANALYZE
BEGIN
COMMIT
ROLLBACK
PREPARE p AS SELECT 1
EXECUTE p
DEALLOCATE p
EXPLAIN SELECT 1
EXPLAIN ANALYZE SELECT 1
PIVOT entries ON key
SELECT 1; SELECT 2
SELECT 1; DROP TABLE entries
SELECT 1; COPY (SELECT 1) TO 'out.csv'
WITH x AS (INSERT INTO entries (key) VALUES ('x') RETURNING key) SELECT * FROM x
commit
register
register(?, ?)
show transaction isolation level
;
-- nothing
nonsense
SELECT 1 INTO x
FROM read_csv('secret.csv')
FROM read_csv(['secret.csv'])
FROM read_csv_auto('secret.csv')
FROM sniff_csv('secret.csv')
FROM read_text('secret.csv')
FROM read_text('*')
FROM read_blob('secret.csv')
FROM read_json('secret.json')
FROM read_json_auto('secret.json')
FROM read_ndjson('secret.json')
FROM read_json_objects('secret.json')
FROM read_parquet('secret.parquet')
FROM parquet_scan('secret.parquet')
FROM parquet_metadata('secret.parquet')
FROM parquet_schema('secret.parquet')
FROM read_duckdb('secret.db')
FROM 'secret.csv'
FROM 'secret.json'
FROM 'secret.parquet'
FROM "secret.csv"
FROM 'secret.db'
FROM '/etc/passwd'
FROM 'https://127.0.0.1:1/x.parquet'
FROM 's3://bucket/x.parquet'
FROM read_csv('https://127.0.0.1:1/x.csv')
FROM read_parquet('s3://bucket/x.parquet')
FROM glob('*')
FROM glob('/etc/*')
SELECT key FROM entries WHERE EXISTS (FROM read_text('secret.csv'))
SELECT (SELECT content FROM read_text('secret.csv'))
WITH x AS (FROM read_text('secret.csv')) FROM x
SELECT * FROM entries, LATERAL (FROM read_text('secret.csv'))
FROM (DESCRIBE FROM 'secret.csv')
SUMMARIZE 'secret.csv'
DESCRIBE 'secret.csv'
FROM query('FROM read_text(''secret.csv'')')
FROM query_table(['secret.csv'])
FROM query('SELECT 1')
FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''secret.csv'')'))
FROM sqlite_scan('secret.db', 'x')
FROM postgres_scan('', '', '')
FROM iceberg_scan('x')
FROM duckdb_secrets()
FROM duckdb_extensions()
FROM which_secret('s3://x', 's3')
FROM checkpoint()
FROM force_checkpoint()
FROM enable_logging('QueryLog', storage = 'file', storage_path = 'out')
FROM enable_profiling()
FROM arrow_scan(1, 2, 3)
FROM pandas_scan(1)
FROM python_map_function(1)
FROM seq_scan('entries')
FROM pragma_storage_info('entries')
FROM pragma_database_size()
FROM duckdb_logs()
FROM duckdb_temporary_files()
FROM main.read_text('secret.csv')
FROM system.main.read_text('secret.csv')
FROM READ_TEXT('secret.csv')
SELECT getenv('HOME')
SELECT nextval('s')
SELECT sql
FROM statement
FROM database
FROM os
SELECT 1 AS \x00
SELECT '\ud800'
""".strip().split("\n")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, memory: DuckDBLTMBackend, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in, with files of somebody else, and one for temporary files."""
    memory.store("k", 1, {"t": "x"})
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    for name in ("secret.csv", "secret.json", "secret.parquet", "secret.db"):
        (here / name).write_text(SECRET)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return tmp_path


def files_below(directory: Path) -> list[str]:
    return sorted(
        os.path.join(parent, name)
        for parent, directories, names in os.walk(directory)
        for name in [*directories, *names]
        if "data.search" not in parent and not name.startswith("catalog.db")
    )


@pytest.mark.parametrize("sql", STATEMENTS)
def test_what_is_no_plain_question_is_refused(
    memory: DuckDBLTMBackend, place: Path, sql: str
) -> None:
    sql = sql.replace("\\x00", "\0").replace("\\ud800", "\ud800")
    before = files_below(place)
    with pytest.raises(ValidationError) as caught:
        memory.query(sql)
    assert SECRET not in str(caught.value)
    assert files_below(place) == before
    assert memory.query("SELECT key FROM entries") == [{"key": "k"}]


@pytest.mark.parametrize(
    "condition",
    [
        "metadata->>'t' = 'x' OR metadata->>'t' = 'y'",
        "metadata->>'t' = 'x' OR metadata->'t' IS NULL",
        "key = 'k' AND metadata->>'t' = 'x'",
        "NOT metadata->>'t' = 'x'",
        "'x' = metadata->>'t'",
        "key BETWEEN 'a' AND metadata->>'t'",
        "key IS NULL OR key IN ('k') AND value->'t' IS NULL",
    ],
)
def test_a_condition_is_not_taken_for_json(memory: DuckDBLTMBackend, condition: str) -> None:
    # DuckDB takes a OR b ->> c for (a OR b) ->> c, and would find nothing.
    with pytest.raises(ValidationError, match="put parentheses around them"):
        memory.query(f"SELECT key FROM entries WHERE {condition}")


@pytest.mark.parametrize("sql", [None, 1, b"SELECT 1", ["SELECT 1"], ""])
def test_what_is_no_text_is_refused(memory: DuckDBLTMBackend, sql: object) -> None:
    with pytest.raises(ValidationError, match=r"^sql: "):
        memory.query(sql)  # type: ignore[call-overload]


def test_nesting_without_end_is_refused(memory: DuckDBLTMBackend) -> None:
    for sql in ("SELECT " + "1+" * 5000 + "1", "SELECT " + "[" * 900 + "1" + "]" * 900):
        with pytest.raises(ValidationError):
            memory.query(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS x",
        "  SELECT 1 AS x ;  -- that is all",
        "(SELECT 1 AS x)",
        "VALUES (1)",
        "FROM entries",
        "TABLE entries",
        "WITH x AS (FROM entries) FROM x",
        "DESCRIBE entries",
        "SUMMARIZE entries",
        "SHOW TABLES",
        "PIVOT entries ON key IN ('k') USING count(*)",
        "FROM range(3)",
        "SELECT unnest([1, 2]) AS n",
        "FROM entries, json_each(metadata) AS j",
        "FROM duckdb_settings()",
        "FROM information_schema.tables",
        "SELECT list_filter([1, 2], x -> x > 1 AND x < 3) AS l",
        "SELECT ';' AS x, 'read_text(''secret.csv'')' AS y",
        "SELECT key FROM entries WHERE key LIKE '%k%' AND (metadata->>'t') = 'x'",
    ],
)
def test_other_questions_are_answered(memory: DuckDBLTMBackend, place: Path, sql: str) -> None:
    before = files_below(place)
    assert memory.query(sql)
    assert files_below(place) == before


def test_no_setting_can_be_changed_by_what_is_asked(memory: DuckDBLTMBackend) -> None:
    found = memory.query("SELECT name, value FROM duckdb_settings()")
    values = {row["name"]: row["value"] for row in found}
    assert values["enable_external_access"] == "false"
    assert values["lock_configuration"] == "true"
    assert values["autoload_known_extensions"] == "false"
    assert values["autoinstall_known_extensions"] == "false"
    assert values["disabled_optimizers"] == ""
    assert values["TimeZone"] == "UTC"


def test_what_memory_does_not_hold_goes_through_temporary_files(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = (
        "SELECT count(*) AS n FROM (SELECT s FROM (SELECT md5(i::VARCHAR) || md5((i + 1)::VARCHAR)"
        " AS s FROM range(1500000) t(i)) ORDER BY s)"
    )
    with open_database(memory_limit="60MB") as database:
        assert list((place / "temporary").iterdir()) != []
        assert database.run(database.prepare(sql)) == [{"n": 1_500_000}]
    assert list((place / "temporary").iterdir()) == []
    # Where there can be none, memory is all there is, and the proof that they were needed.
    monkeypatch.setattr(tempfile, "tempdir", str(place / "nowhere"))
    with open_database(memory_limit="60MB") as database, pytest.raises(LTMError) as caught:
        database.run(database.prepare(sql))
    assert caught.value.error_type == "error"
    assert "Out of Memory" in str(caught.value)
