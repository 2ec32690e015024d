"""``db upgrade``, ``current``, ``check`` and ``sql``."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest

from ltm.cli.schema import DIALECT_NAMES
from ltm.sql.dialects import DIALECTS
from ltm.sql.migrate import HEAD


def _set_revision(revision: str) -> None:
    connection = sqlite3.connect("ltm_catalog.db")
    with connection:
        connection.execute("UPDATE ltm_alembic_version SET version_num = ?", (revision,))
    connection.close()


def test_upgrade_makes_the_schema_and_then_finds_it_made(ltm):
    first = ltm("--json", "db", "upgrade").document
    assert first == {"success": True, "revision": HEAD, "previous": None}
    assert ltm("db", "upgrade").out == f"ltm_catalog.db: is at revision {HEAD}\n"
    assert ltm("db", "current").out == f"{HEAD}\n"
    assert ltm("store", "k", "1").status == 0


def test_looking_makes_no_file(ltm):
    assert ltm("db", "current").out == "none\n"
    assert ltm("db", "check").status == 1
    assert not Path("ltm_catalog.db").exists()


def test_looking_changes_no_byte_of_a_file(ltm):
    connection = sqlite3.connect("other #1?.db")
    with connection:
        connection.execute("CREATE TABLE mine (id INTEGER)")
    connection.close()
    before = Path("other #1?.db").read_bytes()
    assert ltm("--catalog", "other #1?.db", "db", "current").out == "none\n"
    assert Path("other #1?.db").read_bytes() == before


def test_check_names_the_upgrade_command_unless_the_schema_is_newest(ltm):
    result = ltm("db", "check")
    assert result.status == 1
    assert "run 'ltm --catalog ltm_catalog.db db upgrade'" in result.err
    answer = ltm("--json", "db", "check")
    assert answer.status == 1
    assert answer.document["up_to_date"] is False
    ltm("db", "upgrade")
    assert ltm("db", "check").status == 0
    assert ltm("--json", "db", "check").document["up_to_date"] is True


def test_a_schema_newer_than_the_library_is_exit_status_7(ltm):
    ltm("db", "upgrade")
    _set_revision("9999")
    checked = ltm("db", "check")
    assert checked.status == 1
    assert checked.err.endswith(f"not at {HEAD}: it is newer: upgrade ltm itself\n")
    assert ltm("db", "upgrade").status == 7
    answer = ltm("--json", "ls")
    assert answer.status == 7
    assert answer.document["error_type"] == "schema_out_of_date"


def test_the_sql_of_all_migrations_makes_a_catalog_that_works(ltm):
    script = ltm("db", "sql").out
    connection = sqlite3.connect("ltm_catalog.db")
    connection.executescript(script)
    connection.close()
    assert ltm("db", "check").status == 0
    assert ltm("store", "k", "1").status == 0
    assert ltm("--json", "db", "sql").document["sql"] == script


@pytest.mark.parametrize("command", ["current", "check", "upgrade"])
def test_a_file_that_is_no_database_is_exit_status_4(ltm, command):
    Path("ltm_catalog.db").write_text("no database " * 100)
    assert ltm("db", command).status == 4


def test_a_catalog_in_memory_has_no_schema_to_manage(ltm):
    assert ltm("--catalog", ":memory:", "db", "current").status == 2


SERVER = "ltm: {catalog: {type: TYPE, connection_string: '${NOWHERE}', schema: Agents}}"


def test_the_dialects_that_can_be_named_are_those_there_are():
    assert set(DIALECT_NAMES) == set(DIALECTS)


@pytest.mark.parametrize("kind", ["postgres", "supabase"])
def test_the_sql_is_that_of_the_catalog_and_nothing_is_connected(ltm, monkeypatch, kind):
    monkeypatch.setenv("NOWHERE", "postgresql://me:hunter2@nowhere.invalid/db")
    # Nor is the driver needed.
    monkeypatch.setitem(sys.modules, "psycopg", None)
    Path("agent.yaml").write_text(SERVER.replace("TYPE", kind))
    shown = ltm("--config", "agent.yaml", "db", "sql").out
    assert 'SET LOCAL search_path = "Agents"' in shown
    assert "JSONB" in shown
    assert "hunter2" not in shown
    assert "%%" not in shown
    other = ltm("--config", "agent.yaml", "db", "sql", "--schema", "other").out
    assert 'SET LOCAL search_path = "other"' in other
    assert "Agents" not in other
    lite = ltm("--config", "agent.yaml", "db", "sql", "--dialect", "sqlite").out
    assert lite == ltm("db", "sql").out


def test_the_sql_can_be_had_for_another_database_than_the_catalogs(ltm):
    shown = ltm("db", "sql", "--dialect", "postgresql").out
    assert shown == ltm("--catalog", "postgresql://nowhere.invalid/db", "db", "sql").out
    assert "CREATE SCHEMA" not in shown
    assert not Path("ltm_catalog.db").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--dialect", "mysql"),
        ("--schema", "agents"),
        ("--dialect", "sqlite", "--schema", "agents"),
        ("--dialect", "postgresql", "--schema", ""),
        ("--dialect", "postgresql", "--schema", "x" * 201),
    ],
)
def test_sql_that_there_is_not_is_refused(ltm, arguments):
    result = ltm("db", "sql", *arguments)
    assert (result.status, result.out) == (2, "")


@pytest.mark.parametrize("command", ["upgrade", "current", "check", "sql"])
def test_a_catalog_of_another_kind_has_no_schema_to_manage(ltm, command):
    Path("agent.yaml").write_text("ltm: {catalog: {type: other, password: hunter2}}")
    result = ltm("--config", "agent.yaml", "db", command)
    assert result.status == 2
    assert result.err == (
        "error: catalog 'other' has no schema to manage here (validation_error)\n"
    )


def test_a_missing_driver_is_exit_status_8(ltm, monkeypatch):
    monkeypatch.setitem(sys.modules, "ltm.sql.postgres", None)
    result = ltm("--catalog", "postgresql://nowhere.invalid/db", "db", "current")
    assert result.status == 8
    assert "pip install 'ltm[postgres]'" in result.err
