"""What is wrong with a PostgreSQL catalog is told apart, on a real server and poolers before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from findings import Findings, clock_ahead

from ltm.catalog.postgres import PostgresCatalog
from ltm.errors import CatalogUnavailableError
from ltm.sql import migrate
from ltm.sql.engines import open_engine
from ltm.sql.refusals import explain_refusal
from tests.services.fixtures import MakeProxy, running
from tests.services.pgbouncer import PgBouncer
from tests.services.postgres import PASSWORDS, PostgresServer, through
from tests.services.processes import free_port

Examine = Callable[..., Findings]


def postgres(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "postgres", "connection_string": url, "connect_timeout": 2, **more}


def value(url: str, question: str) -> Any:
    with psycopg.connect(url, prepare_threshold=None) as connection:
        row = connection.execute(question).fetchone()
        assert row is not None
        return row[0]


def test_a_healthy_catalog_has_neither_problems_nor_warnings(
    examine: Examine, postgres_url: str
) -> None:
    found = examine(postgres(postgres_url))
    assert (found.problems, found.warnings) == ([], [])
    assert found.states("schema") == found.states("pooler") == found.states("clock") == ["ok"]
    assert found.states("round_trip") == ["ok", "ok"]


# The way in


def test_a_server_that_is_not_there_is_one_plain_finding(examine: Examine) -> None:
    port = free_port()
    found = examine(postgres(f"postgresql://agent:hidden@127.0.0.1:{port}/memory"))
    assert found.problems == ["catalog"]
    assert found.only("catalog").message == f"nobody answers at 127.0.0.1:{port}"
    assert found.only("catalog").error_type == "catalog_unavailable"
    assert found.states("storage") == ["ok"]
    assert "hidden" not in found.text


def test_a_server_that_is_silent_is_given_up(
    examine: Examine, postgres_server: PostgresServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(postgres_server.host, postgres_server.port)
    proxy.blackhole()
    found = examine(postgres(through(postgres_server.url(), proxy)))
    assert "does not answer within connect_timeout" in found.only("catalog").message


def test_a_server_that_falls_silent_in_the_middle_is_given_up_too(
    postgres_url: str, postgres_server: PostgresServer, make_proxy: MakeProxy
) -> None:
    proxy = make_proxy(postgres_server.host, postgres_server.port)
    with PostgresCatalog(through(postgres_url, proxy), connect_timeout=2) as catalog:
        steps = catalog.diagnose()
        assert next(steps).state == "ok"
        proxy.blackhole()
        (last,) = steps
        assert (last.check, last.state) == ("catalog", "problem")
        assert "no answer within 5 s" in last.message


@pytest.mark.parametrize("password", ["wr0ng-p@ss", ""])
def test_a_wrong_password_is_told_and_not_shown(
    examine: Examine, postgres_server: PostgresServer, password: str
) -> None:
    found = examine(postgres(postgres_server.url("postgres", "app", password)))
    assert "refuses the user name or the password" in found.only("catalog").message
    assert not password or password not in found.text


def test_a_role_that_does_not_exist_is_told(
    examine: Examine, postgres_server: PostgresServer
) -> None:
    found = examine(postgres(postgres_server.url("postgres", "nobody_here")))
    assert 'knows no role "nobody_here"' in found.only("catalog").message


def test_a_database_that_does_not_exist_is_told(
    examine: Examine, postgres_server: PostgresServer
) -> None:
    found = examine(postgres(postgres_server.url("missing")))
    assert 'there is no database "missing"' in found.only("catalog").message
    assert "createdb" in str(found.only("catalog").remedy)


def test_a_server_without_a_connection_left_is_told(
    examine: Examine, postgres_server: PostgresServer
) -> None:
    postgres_server.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
    try:
        found = examine(postgres(postgres_server.url("postgres", "crowded")))
    finally:
        postgres_server.execute("DROP ROLE crowded")
    assert "has no connection left" in found.only("catalog").message


def test_behind_a_pooler_the_same_is_told(examine: Examine, pgbouncer: PgBouncer) -> None:
    found = examine(postgres(pgbouncer.url("missing"), pool_mode="transaction"))
    assert 'there is no database "missing"' in found.only("catalog").message
    found = examine(postgres(pgbouncer.url("postgres", "stranger"), pool_mode="transaction"))
    assert "refuses the user name" in found.only("catalog").message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # What Supabase's pooler answers, which can't be had here.
        ("FATAL:  Tenant or user not found", "pooler at db.example:6543 knows no such project"),
        ("failed: Network is unreachable\n\tIs the server running", "no way from this machine to"),
        ("FATAL:  the database system is starting up", "starting or stopping"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1"', "lets nobody in from this machine"),
    ],
)
def test_refusals_that_no_server_here_makes_are_told_too(text: str, words: str) -> None:
    error = CatalogUnavailableError("catalog: failed")
    error.__cause__ = psycopg.OperationalError(text)
    refusal = explain_refusal(error, "postgresql://agent@db.example:6543/memory")
    assert refusal is not None
    assert words in refusal.message


def test_a_host_without_an_address_is_told(examine: Examine) -> None:
    found = examine(postgres("postgresql://host.invalid/memory"))
    assert "host.invalid:5432 is not known to this machine" in found.only("catalog").message


def test_a_server_that_refuses_tls_is_told(examine: Examine, postgres_url: str) -> None:
    found = examine(postgres(f"{postgres_url}?sslmode=require"))
    assert "no way to encrypt" in found.only("catalog").message


def test_a_database_in_which_nothing_can_be_written_is_told(
    examine: Examine, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    found = examine(postgres(postgres_url))
    assert "nothing can be written" in found.only("catalog").message
    assert found.states("schema") == ["ok"]


# The schema


@pytest.mark.parametrize(
    ("revision", "words"),
    [(None, "there is no schema yet"), ("0001", "at revision '0001', behind")],
)
def test_a_schema_that_is_missing_or_behind_names_the_command(
    examine: Examine, empty_postgres_url: str, revision: str | None, words: str
) -> None:
    if revision is not None:
        engine = open_engine(empty_postgres_url)
        with engine.begin() as connection:
            migrate.upgrade(connection, revision)
        engine.dispose()
    found = examine(postgres(empty_postgres_url))
    assert found.problems == ["schema"]
    assert words in found.only("schema").message
    assert found.only("schema").remedy == "run 'ltm db upgrade'"
    assert found.only("schema").error_type == "schema_out_of_date"
    assert found.states("round_trip") == ["skipped"]


def test_a_schema_ahead_of_the_library_asks_for_a_newer_library(
    examine: Examine, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE ltm_alembic_version SET version_num = '9999'")
    found = examine(postgres(postgres_url))
    assert found.problems == ["schema"]
    assert "'9999', which is ahead" in found.only("schema").message
    assert "upgrade ltm" in str(found.only("schema").remedy)


def test_a_schema_that_first_use_would_make_is_not_made_by_looking(
    examine: Examine, empty_postgres_url: str
) -> None:
    found = examine(postgres(empty_postgres_url, auto_migrate=True))
    assert found.problems == []
    assert found.states("schema") == found.states("round_trip") == ["skipped"]
    tables = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'ltm%'"
    assert value(empty_postgres_url, tables) == 0


def test_a_role_without_rights_is_told(
    examine: Examine, postgres_server: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    found = examine(postgres(postgres_server.url(name, "app", PASSWORDS["app"])))
    assert found.problems == ["schema"]
    assert "permission denied" in found.only("schema").message
    postgres_server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO app", name)
    found = examine(postgres(postgres_server.url(name, "app", PASSWORDS["app"])))
    assert found.problems == ["round_trip"]
    assert "permission denied" in found.of("round_trip")[0].message


# Poolers


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("mode", ["direct", "session"])
def test_a_pooler_in_transaction_mode_is_seen_where_the_settings_deny_it(
    examine: Examine, postgres_server: PostgresServer, postgres_url: str, size: int, mode: str
) -> None:
    with running(PgBouncer(postgres_server, default_pool_size=size)) as pooler:
        url = through(postgres_url, pooler)
        found = examine(postgres(url, pool_mode=mode))
        assert found.problems == ["pooler"]
        assert "transaction" in str(found.only("pooler").remedy)
        # Nothing is left on a connection that somebody else is lent next.
        assert value(url, "SELECT count(*) FROM pg_prepared_statements") == 0


def test_a_pooler_that_takes_turns_among_its_servers_is_seen(
    examine: Examine, pgbouncer: PgBouncer, postgres_url: str
) -> None:
    url = through(postgres_url, pgbouncer)
    with (
        psycopg.connect(url, prepare_threshold=None) as one,
        psycopg.connect(url, prepare_threshold=None) as other,
    ):
        # Both of its servers are in use, and then idle.
        pids = [each.execute("SELECT pg_backend_pid()").fetchone() for each in (one, other)]
        assert pids[0] != pids[1]
    assert examine(postgres(url)).problems == ["pooler"]


def test_a_pooler_in_transaction_mode_is_well_where_the_settings_say_so(
    examine: Examine, pgbouncer: PgBouncer, postgres_url: str
) -> None:
    found = examine(postgres(through(postgres_url, pgbouncer), pool_mode="transaction"))
    assert (found.problems, found.warnings) == ([], [])


@pytest.mark.parametrize("mode", ["direct", "session"])
def test_a_pooler_in_session_mode_is_no_problem(
    examine: Examine, postgres_server: PostgresServer, postgres_url: str, mode: str
) -> None:
    with running(PgBouncer(postgres_server, pool_mode="session")) as pooler:
        found = examine(postgres(through(postgres_url, pooler), pool_mode=mode))
        assert (found.problems, found.warnings) == ([], [])
        assert "in between" in found.only("pooler").message


def test_a_pooler_that_serves_one_connection_at_a_time_holds_nobody_up(
    examine: Examine, postgres_server: PostgresServer, postgres_url: str
) -> None:
    pooler = PgBouncer(
        postgres_server, default_pool_size=1, pool_mode="session", query_wait_timeout=1
    )
    with running(pooler):
        found = examine(postgres(through(postgres_url, pooler)))
        assert found.states("pooler") == ["skipped"]


def test_no_pooler_where_the_settings_say_one_costs_connections(
    examine: Examine, postgres_url: str
) -> None:
    found = examine(postgres(postgres_url, pool_mode="transaction"))
    assert (found.problems, found.warnings) == ([], ["pooler"])
    assert "every call opens a connection" in found.only("pooler").message


# Clocks


@pytest.mark.parametrize(
    ("seconds", "state", "words"),
    [
        (0, "ok", "agree"),
        (20, "warning", "20 seconds behind"),
        (-20, "warning", "20 seconds ahead"),
        (3600, "problem", "3,600 seconds behind"),
        (-90, "problem", "seconds ahead"),
    ],
)
def test_a_clock_that_differs_from_the_servers_is_told(
    examine: Examine, postgres_url: str, seconds: float, state: str, words: str
) -> None:
    found = examine(postgres(postgres_url), clock=clock_ahead(seconds))
    assert found.only("clock").state == state
    assert words in found.only("clock").message
