"""The commands on a catalog in PostgreSQL and in Supabase, with real servers behind them."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from ltm.sql.migrate import HEAD
from tests.legacy.old_database import ODD_VALUES, build, row
from tests.services.postgres import PASSWORDS
from tests.services.tokens import SECRET, make_token

LITE = ("--catalog", "lite.db", "--storage", "lite_data")
PASSWORD = PASSWORDS["app"]


@pytest.fixture
def server(postgres_server, empty_postgres_url):
    """The URL of an empty database for a role with a password, which owns nothing yet."""
    name = empty_postgres_url.rpartition("/")[2]
    postgres_server.execute(f"GRANT CREATE ON DATABASE {name} TO app")
    postgres_server.execute("GRANT CREATE ON SCHEMA public TO app", name)
    return postgres_server.url(name, "app", PASSWORD)


@pytest.fixture
def quiet(ltm):
    """Run ``ltm``, and see to it that nothing it says holds the password."""

    def run(*arguments, **options):
        result = ltm(*arguments, **options)
        for secret in (PASSWORD, PASSWORD.replace("@", "%40")):
            assert secret not in result.out + result.err
        return result

    return run


def write_settings(name, url, kind="postgres", more="schema: Agents"):
    Path(name).write_text(
        f"ltm: {{catalog: {{type: {kind}, connection_string: '{url}', {more}}}, storage: data}}"
    )


def schemas(url):
    """Return the names of the schemas with tables of ours."""
    question = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'ltm%' ORDER BY 1"
    with psycopg.connect(url) as connection:
        return [name for (name,) in connection.execute(question)]


def test_a_whole_round(quiet, server, monkeypatch):
    monkeypatch.setenv("LTM_CATALOG_URL", server)
    assert quiet("store", "k", "1").status == 7
    assert quiet("db", "upgrade").out.endswith(f": brought to revision {HEAD}\n")
    assert (
        quiet("store", "note/1", "--text", "The disk is full.", "--metadata", '{"n": 1}').status
        == 0
    )
    assert quiet("store", "note/2", "--text", "big " * 1000).out.endswith("\n")
    assert quiet("store", "odd", '[-0.0, 1e16, 10000000000000000, "a\\u0000b"]').status == 0
    assert quiet("store", "odd", "1", "--if-absent").status == 3
    assert quiet("get", "odd", "--raw").out.split() == [
        "[", "-0.0,", "1e+16,", "10000000000000000,", '"a\\u0000b"', "]",
    ]  # fmt: skip
    assert quiet("search", "disks").out.startswith("note/1\t")
    assert [each["key"] for each in quiet("--json", "ls", "--where", "n=1").documents] == ["note/1"]
    assert quiet("snapshot", "create", "s").status == 0
    assert quiet("store", "note/1", "2").status == 0
    assert quiet("rm", "odd", "nowhere").status == 1
    assert quiet("changes", "s").out.count("\n") == 2
    assert quiet("restore", "s").status == 0
    assert quiet("get", "note/1").out == '"The disk is full."\n'
    assert quiet("snapshot", "expire", "s").status == 0
    assert quiet("gc").status == 0
    assert quiet("cleanup").status == 0
    assert quiet("verify").out.startswith("checked 3: 0 open problems")
    assert quiet("health").status == 0
    assert quiet("--json", "stats").document["entries"] == 3
    assert quiet("export", "all.jsonl").out.startswith("3 entries exported")
    assert quiet("copy", "--to", "lite.db", "--to-storage", "lite_data").out.startswith(
        "3 entries: 3 copied"
    )
    assert quiet("rm", "note/1", "note/2", "odd").status == 0
    assert quiet("ls").out == ""
    assert quiet(*LITE, "copy", "--to", server, "--to-storage", "ltm_data").out.startswith(
        "3 entries: 3 copied"
    )
    assert quiet("--json", "import", "all.jsonl").document["unchanged"] == 3
    hashes = [
        {each["key"]: each["content_hash"] for each in quiet(*where, "--json", "ls").documents}
        for where in ((), LITE)
    ]
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 3


def test_an_old_backend_moves_to_postgresql(quiet, server, tmp_path):
    rows = [row(f"k{number:02}", value) for number, value in enumerate(ODD_VALUES)]
    build(tmp_path / "old.db", rows)
    quiet("--catalog", server, "db", "upgrade")
    move = ("migrate", "sqlite-backend", "old.db", "--to", server, "--storage", "new_data")
    count = len(ODD_VALUES)
    assert quiet(*move, "--dry-run").out.startswith(f"{count} rows: {count} would be migrated")
    assert quiet(*move).out.startswith(f"{count} rows: {count} migrated, 0 unchanged, 0 rejected")
    assert quiet("--json", *move).document["unchanged"] == count
    new = ("--catalog", server, "--storage", "new_data")
    assert quiet(*new, "verify").out.startswith(f"checked {count}: 0 open problems")


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_the_schema_is_looked_at_and_upgraded_by_any_spelling_of_the_url(quiet, server, scheme):
    url = server.replace("postgresql:", f"{scheme}:")
    ltm = ("--catalog", url, "db")
    assert quiet(*ltm, "current").out == "none\n"
    checked = quiet(*ltm, "check")
    assert checked.status == 1
    assert f"without a schema, not at {HEAD}: run 'ltm db upgrade'" in checked.err
    assert schemas(server) == []
    first = quiet("--json", *ltm, "upgrade").document
    assert first == {"success": True, "revision": HEAD, "previous": None}
    assert quiet(*ltm, "upgrade").out.endswith(f": is at revision {HEAD}\n")
    assert quiet(*ltm, "current").out == f"{HEAD}\n"
    assert quiet(*ltm, "check").status == 0


def test_the_schema_that_the_settings_name_is_the_one(quiet, server):
    write_settings("agent.yaml", server)
    ltm = ("--config", "agent.yaml")
    assert quiet(*ltm, "db", "check").err.count("schema Agents: without a schema") == 1
    assert quiet(*ltm, "db", "upgrade").status == 0
    assert schemas(server) == ["Agents"]
    assert quiet(*ltm, "store", "k", "1").status == 0
    assert quiet("--catalog", server, "db", "current").out == "none\n"
    assert quiet("--catalog", server, "get", "k").status == 7
    # A flag takes the place of the address, not of the schema.
    assert quiet(*ltm, "--catalog", server, "get", "k").out == "1\n"


@pytest.mark.parametrize("more", ["pool_max: 1", "pool_mode: transaction", "schema: Agents"])
def test_the_sql_that_is_shown_makes_a_catalog_that_works(quiet, server, more):
    write_settings("agent.yaml", server, more=more)
    script = quiet("--config", "agent.yaml", "db", "sql").out
    assert schemas(server) == []
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(script)
    assert quiet("--config", "agent.yaml", "db", "check").status == 0
    assert quiet("--config", "agent.yaml", "store", "k", "1").status == 0


def test_what_looks_makes_nothing_even_where_settings_let_it_migrate(quiet, server):
    write_settings("agent.yaml", server, more="schema: Agents, auto_migrate: true")
    assert quiet("--config", "agent.yaml", "db", "current").out == "none\n"
    assert quiet("--config", "agent.yaml", "db", "check").status == 1
    assert schemas(server) == []
    assert quiet("--config", "agent.yaml", "store", "k", "1").status == 0
    assert schemas(server) == ["Agents"]


def test_a_tenants_token_reads_the_revision_that_its_login_may_not(
    quiet, postgres_server, postgres_url
):
    name = postgres_url.rpartition("/")[2]
    login = postgres_server.url(name, "authenticator", PASSWORDS["authenticator"])
    token = make_token("tenant-1")
    write_settings("agent.yaml", login, "supabase", f"access_token: {token}, jwt_secret: {SECRET}")
    ltm = ("--config", "agent.yaml")
    for result in (quiet(*ltm, "db", "current"), quiet(*ltm, "db", "check")):
        assert (result.status, result.err) == (0, "")
        assert token not in result.out
    assert quiet(*ltm, "store", "k", "1").status == 0
    assert quiet("--catalog", login, "get", "k").status == 4


def test_a_schema_newer_than_the_library_is_exit_status_7(quiet, postgres_url):
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE ltm_alembic_version SET version_num = '9999'")
    ltm = ("--catalog", postgres_url)
    assert quiet(*ltm, "db", "current").out == "9999\n"
    assert quiet(*ltm, "db", "check").status == 1
    assert quiet(*ltm, "db", "upgrade").status == 7
    assert quiet(*ltm, "ls").status == 7


@pytest.mark.parametrize(
    "command", [("db", "upgrade"), ("db", "current"), ("db", "check"), ("ls",)]
)
def test_a_server_that_lets_nobody_in_or_is_not_there_is_exit_status_4(
    quiet, postgres_server, command
):
    wrong = postgres_server.url("postgres", "app", f"{PASSWORD}!")
    for url in (wrong, f"postgresql://app:{PASSWORD}@127.0.0.1:1/none"):
        result = quiet("--catalog", url, *command)
        assert result.status == 4
        assert result.err.startswith("error: ")
        assert result.err.count("\n") == 1


def test_a_role_that_may_make_nothing_is_told_so(quiet, postgres_server, empty_postgres_url):
    url = postgres_server.url(empty_postgres_url.rpartition("/")[2], "app", PASSWORD)
    result = quiet("--catalog", url, "db", "upgrade")
    assert result.status == 4
    assert "permission denied" in result.err
