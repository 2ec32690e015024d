"""Who upgrades a PostgreSQL database, when, and what everybody else is told."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from ltm.catalog.postgres import PostgresCatalog
from ltm.cli import main
from ltm.errors import SchemaOutOfDateError
from ltm.sql import migrate
from ltm.sql.engines import open_engine
from tests.faults.starting import said, started
from tests.services.postgres import PASSWORDS, PostgresServer
from tests.sql.reflection import contents

WORKERS = Path(__file__).with_name("schema_workers.py")


def revisions(url: str, schema: str = "public") -> list[str]:
    """Return every row of the table that has one."""
    question = sql.SQL("SELECT version_num FROM {}.ltm_alembic_version").format(
        sql.Identifier(schema)
    )
    with psycopg.connect(url) as connection:
        return [revision for (revision,) in connection.execute(question)]


def set_revision(url: str, revision: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE ltm_alembic_version SET version_num = %s", [revision])


def test_ten_operators_at_once_upgrade_once_and_all_are_told_that_it_is_done(
    empty_postgres_url: str, postgres_url: str
) -> None:
    with started(WORKERS, [["upgrade", empty_postgres_url]] * 10) as workers:
        answers = said(workers, 60)
    assert [answer["revision"] for answer in answers] == [migrate.HEAD] * 10
    assert revisions(empty_postgres_url) == [migrate.HEAD]
    assert contents(empty_postgres_url) == contents(postgres_url)


def test_ten_agents_at_once_upgrade_once_and_all_work(
    empty_postgres_url: str, postgres_url: str
) -> None:
    commands = [["use", empty_postgres_url, "agents", f"k{number}"] for number in range(10)]
    with started(WORKERS, commands) as workers:
        assert said(workers, 60) == [True] * 10
    assert revisions(empty_postgres_url, "agents") == [migrate.HEAD]
    assert contents(empty_postgres_url, "agents") == contents(postgres_url)
    catalog = PostgresCatalog(empty_postgres_url, schema="agents")
    assert len(catalog.list_entries()) == 10
    catalog.close()


@pytest.mark.parametrize("schema", [None, "agents"])
def test_an_empty_database_is_refused_naming_the_command_and_left_empty(
    empty_postgres_url: str, schema: str | None
) -> None:
    catalog = PostgresCatalog(empty_postgres_url, schema=schema)
    message = f"revision None, needed is '{migrate.HEAD}': run 'ltm db upgrade'"
    with pytest.raises(SchemaOutOfDateError, match=message):
        catalog.get_entry("k")
    with pytest.raises(SchemaOutOfDateError, match=message):
        catalog.track_entry("k", "sha256:0", None, 1, None, 1)
    with (
        catalog.engine.begin() as connection,
        pytest.raises(SchemaOutOfDateError, match=message),
    ):
        catalog.using(connection)
    catalog.close()
    assert not any(contents(empty_postgres_url).values())
    with psycopg.connect(empty_postgres_url) as connection:
        assert connection.execute("SELECT to_regnamespace('agents')").fetchone() == (None,)


def test_a_catalog_that_was_refused_works_once_the_schema_is_there(
    empty_postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = PostgresCatalog(empty_postgres_url)
    with pytest.raises(SchemaOutOfDateError):
        catalog.get_entry("k")
    assert main(["--catalog", empty_postgres_url, "db", "upgrade"]) == 0
    assert f"brought to revision {migrate.HEAD}" in capsys.readouterr().out
    catalog.track_entry("k", "sha256:0", None, 1, None, 1)
    assert catalog.get_entry("k") is not None
    catalog.close()


@pytest.mark.parametrize("auto_migrate", [False, True])
def test_a_newer_schema_is_refused_and_left_alone(postgres_url: str, auto_migrate: bool) -> None:
    set_revision(postgres_url, "9999")
    catalog = PostgresCatalog(postgres_url, auto_migrate=auto_migrate)
    message = r"revision '9999'.*newer: upgrade ltm itself"
    with pytest.raises(SchemaOutOfDateError, match=message) as caught:
        catalog.get_entry("k")
    assert caught.value.found == "9999"
    with (
        catalog.engine.begin() as connection,
        pytest.raises(SchemaOutOfDateError, match=message),
    ):
        catalog.using(connection)
    catalog.close()
    assert revisions(postgres_url) == ["9999"]


def test_an_older_schema_is_refused_and_upgraded_where_that_is_asked_for(
    empty_postgres_url: str, postgres_url: str
) -> None:
    with open_engine(empty_postgres_url).begin() as connection:
        migrate.upgrade(connection, "0001")
    before = contents(empty_postgres_url)
    catalog = PostgresCatalog(empty_postgres_url)
    with pytest.raises(SchemaOutOfDateError, match=r"revision '0001'.*run 'ltm db upgrade'"):
        catalog.get_entry("k")
    assert contents(empty_postgres_url) == before
    willing = PostgresCatalog(empty_postgres_url, auto_migrate=True)
    willing.track_entry("k", "sha256:0", None, 1, None, 1)
    assert contents(empty_postgres_url) == contents(postgres_url)
    assert catalog.get_entry("k") is not None
    willing.close()
    catalog.close()


def test_an_upgrade_that_fails_changes_nothing_and_can_be_run_again(
    empty_postgres_url: str, postgres_url: str
) -> None:
    with psycopg.connect(empty_postgres_url) as connection:
        connection.execute("CREATE FUNCTION ltm_tenant() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    before = contents(empty_postgres_url)
    assert main(["--catalog", empty_postgres_url, "db", "upgrade"]) == 4
    assert contents(empty_postgres_url) == before
    with psycopg.connect(empty_postgres_url) as connection:
        connection.execute("DROP FUNCTION ltm_tenant()")
    assert main(["--catalog", empty_postgres_url, "db", "upgrade"]) == 0
    assert contents(empty_postgres_url) == contents(postgres_url)


def test_who_owns_a_schema_needs_no_privilege_on_the_database(
    postgres_server: PostgresServer, empty_postgres_url: str
) -> None:
    name = empty_postgres_url.rpartition("/")[2]
    postgres_server.execute("CREATE SCHEMA agents AUTHORIZATION app", name)
    url = postgres_server.url(name, "app", PASSWORDS["app"])
    catalog = PostgresCatalog(url, schema="agents", auto_migrate=True)
    catalog.track_entry("k", "sha256:0", None, 1, None, 1)
    assert catalog.get_entry("k") is not None
    catalog.close()
    assert revisions(empty_postgres_url, "agents") == [migrate.HEAD]


@pytest.mark.parametrize("schema", [None, "agents"])
def test_at_head_an_open_transaction_of_a_caller_keeps_no_other_waiting(
    empty_postgres_url: str, schema: str | None
) -> None:
    def catalog() -> PostgresCatalog:
        return PostgresCatalog(empty_postgres_url, schema=schema, auto_migrate=True)

    first = catalog()
    first.track_entry("k", "sha256:0", None, 1, None, 1)
    one, other = catalog(), catalog()
    with first.engine.connect() as connection, first.engine.connect() as second:
        one.using(connection).get_entry("k")
        second.exec_driver_sql("SET LOCAL lock_timeout = '3s'")
        assert other.using(second).get_entry("k") is not None
    for each in (first, one, other):
        each.close()
