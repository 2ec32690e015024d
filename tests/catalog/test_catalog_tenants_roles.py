"""Who counts as a tenant, as which one, and with what privileges; and what plans and views tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors
from tenants import KEYED, Connection, acting, claims_of, everything_of, fill, refused, value

from ltm.catalog.supabase import SupabaseCatalog
from ltm.keys import generate_entry_id
from ltm.sql import migrate
from ltm.sql.engines import open_engine
from ltm.testing.catalog_fixtures import keys_of, track
from tests.services.tokens import make_token

TABLES = (*KEYED, "ltm_tables", "ltm_alembic_version")
SEQUENCE = "ltm_entry_search_document_id_seq"
COUNT = "SELECT count(*) FROM ltm_entries"

LIKE_SUPABASE = """
    GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public
        GRANT ALL ON TABLES TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public
        GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public
        GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
"""
"""What a project does before anybody makes a table."""

FORGED_CLAIMS = """
    CREATE TYPE pg_temp.jsonb AS (claims text);
    CREATE FUNCTION pg_temp.take(text) RETURNS pg_temp.jsonb LANGUAGE sql
        AS 'SELECT ROW($1)::pg_temp.jsonb';
    CREATE FUNCTION pg_temp.forge(pg_temp.jsonb) RETURNS pg_catalog.jsonb LANGUAGE sql
        AS $$SELECT pg_catalog.jsonb '{"sub": "b"}'$$;
    CREATE CAST (text AS pg_temp.jsonb) WITH FUNCTION pg_temp.take(text);
    CREATE CAST (pg_temp.jsonb AS pg_catalog.jsonb) WITH FUNCTION pg_temp.forge(pg_temp.jsonb)
        AS IMPLICIT;
"""
"""A type of a tenant's own by the name of another, which is anything that the tenant likes."""


@pytest.fixture
def url(postgres_url: str) -> str:
    fill(postgres_url)
    return postgres_url


@pytest.fixture
def attacker(url: str) -> Iterator[Connection]:
    """A connection of tenant a's, within a transaction."""
    with acting(url, claims_of("a")) as connection:
        yield connection
        connection.rollback()


# Privileges


@pytest.fixture(params=["", LIKE_SUPABASE])
def granting_url(request: pytest.FixtureRequest, empty_postgres_url: str) -> str:
    """A database in which roles were given privileges before the migrations were run."""
    with psycopg.connect(empty_postgres_url) as connection:
        connection.execute(f"SELECT 1; {request.param}")
    with open_engine(empty_postgres_url).begin() as connection:
        migrate.upgrade(connection)
    return empty_postgres_url


def test_default_privileges_leave_tenants_with_no_more_than_they_need(granting_url: str) -> None:
    question = """
        SELECT relname::text, grantee::regrole::text, string_agg(privilege_type, ' '
            ORDER BY privilege_type)
        FROM pg_class CROSS JOIN aclexplode(relacl)
        WHERE relname ~ '^ltm_' AND grantee <> relowner
        GROUP BY relname, grantee
    """
    granted: dict[str, dict[str, str]] = {}
    with psycopg.connect(granting_url) as connection:
        for name, role, privileges in connection.execute(question):
            granted.setdefault(role, {})[name] = privileges
    expected = dict.fromkeys(KEYED, "DELETE INSERT SELECT UPDATE")
    expected |= {"ltm_entry_search": "DELETE SELECT", SEQUENCE: "USAGE"}
    expected |= {"ltm_tables": "INSERT SELECT", "ltm_alembic_version": "SELECT"}
    assert granted == {"authenticated": expected, "service_role": expected}


def test_what_knows_no_policies_is_refused(granting_url: str) -> None:
    fill(granting_url)
    with acting(granting_url, claims_of("a")) as connection:
        for table in TABLES:
            refused(connection, f"TRUNCATE {table} CASCADE")
            refused(
                connection, f"CREATE TRIGGER spy BEFORE INSERT ON {table} EXECUTE FUNCTION now()"
            )
            refused(connection, f"CREATE POLICY mine ON {table} USING (true)")
            refused(connection, f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
            refused(connection, f"DROP TABLE {table} CASCADE")
        refused(connection, "CREATE INDEX spy ON ltm_entries (key)")
        refused(connection, f"SELECT setval('{SEQUENCE}', 1)")
        refused(connection, f"SELECT last_value FROM {SEQUENCE}")
        refused(
            connection,
            "CREATE OR REPLACE FUNCTION ltm_tenant() RETURNS text LANGUAGE sql AS 'SELECT ''b'''",
        )
        refused(connection, "ALTER FUNCTION ltm_tenant() RESET ALL")
        assert value(connection, COUNT) == 2


def test_whoever_may_make_tables_still_refers_to_none_of_ours(granting_url: str) -> None:
    with psycopg.connect(granting_url) as connection:
        connection.execute("CREATE SCHEMA own; GRANT ALL ON SCHEMA own TO authenticated")
    with acting(granting_url, claims_of("a")) as connection:
        # Such a table would tell which ids there are, and keep others from deleting them.
        refused(connection, "CREATE TABLE own.spy (id varchar(64) REFERENCES ltm_entries)")


def test_the_public_key_opens_nothing(granting_url: str) -> None:
    fill(granting_url)
    for claims in (None, '{"role": "anon"}', claims_of("a")):
        with acting(granting_url, claims, role="anon") as connection:
            for table in TABLES:
                refused(connection, f"SELECT FROM {table}")
                refused(connection, f"INSERT INTO {table} DEFAULT VALUES")
                refused(connection, f"DELETE FROM {table}")
            refused(connection, f"SELECT nextval('{SEQUENCE}')")


def test_what_all_roles_have_by_default_is_not_enough_either(empty_postgres_url: str) -> None:
    with psycopg.connect(empty_postgres_url) as connection:
        connection.execute("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC")
    with open_engine(empty_postgres_url).begin() as connection:
        migrate.upgrade(connection)
    fill(empty_postgres_url)
    for claims, role in [('{"role": "anon"}', "anon"), (claims_of("a"), "authenticated")]:
        with acting(empty_postgres_url, claims, role=role) as connection:
            refused(connection, "TRUNCATE ltm_entries CASCADE")
            refused(
                connection, "CREATE TRIGGER spy BEFORE INSERT ON ltm_entries EXECUTE FUNCTION now()"
            )
            assert value(connection, COUNT) == (0 if role == "anon" else 2)


def test_functions_that_are_nobodys_by_default_are_everybodys(empty_postgres_url: str) -> None:
    with psycopg.connect(empty_postgres_url) as connection:
        connection.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    with open_engine(empty_postgres_url).begin() as connection:
        migrate.upgrade(connection)
    fill(empty_postgres_url)
    with acting(empty_postgres_url, claims_of("a")) as connection:
        assert value(connection, COUNT) == 2


def test_a_schema_of_ones_own_is_as_well_guarded(empty_postgres_url: str) -> None:
    login = empty_postgres_url.replace("postgres@", "authenticator:secret@")
    with open_engine(empty_postgres_url).begin() as connection:
        migrate.ensure_schema_within(connection, 'Agent "memory"')
    for tenant in "ab":
        token = make_token(tenant)
        with SupabaseCatalog(login, access_token=token, schema='Agent "memory"') as catalog:
            track(catalog, "k", "some words", metadata={"type": "x"})
            assert keys_of(catalog.search("words", {"type": "x"})) == ["k"]
    with acting(empty_postgres_url, claims_of("a")) as connection:
        connection.execute("""SET LOCAL search_path = 'Agent "memory"'""")
        assert connection.execute("SELECT tenant_id FROM ltm_entries").fetchall() == [("a",)]
        refused(connection, "TRUNCATE ltm_entries CASCADE")


# Claims


@pytest.mark.parametrize(
    ("claims", "tenant"),
    [
        ({"app_metadata": {"tenant_id": "a"}, "tenant_id": "b", "sub": "b"}, "a"),
        ({"app_metadata": {"role": "x"}, "tenant_id": "a", "sub": "b"}, "a"),
        ({"app_metadata": "b", "sub": "a"}, "a"),
        ({"app_metadata": ["tenant_id"], "sub": "a"}, "a"),
        ({"sub": "a", "user_metadata": {"tenant_id": "b"}}, "a"),
        ({"user_metadata": {"tenant_id": "b"}}, None),
        ({"app_metadata": {"tenant_id": None}, "tenant_id": "b", "sub": "b"}, None),
        ({"app_metadata": {"tenant_id": ""}, "sub": "b"}, None),
        ({"app_metadata": {"tenant_id": ["b"]}, "sub": "b"}, None),
        ({"tenant_id": None, "sub": "b"}, None),
        ({"tenant_id": 7}, None),
        ({"sub": ""}, None),
        ({"sub": True}, None),
        ({}, None),
        ([], None),
        (["sub", "tenant_id"], None),
        ("b", None),
        ("tenant_id", None),
        (None, None),
    ],
)
def test_the_tenant_of_claims_is_the_one_that_the_library_takes(
    url: str, claims: Any, tenant: str | None
) -> None:
    with acting(url, json.dumps(claims)) as connection:
        assert value(connection, "SELECT ltm_tenant()") == tenant
        found = {row for (row,) in connection.execute("SELECT tenant_id FROM ltm_entries")}
        assert found == ({tenant} if tenant else set())
        assert (value(connection, "SELECT count(*) FROM ltm_tables") > 0) == bool(tenant)


@pytest.mark.parametrize("claims", ["{", "sub=b", '{"sub": "b"', '{"sub": "a\\u0000b"}', " "])
def test_claims_that_are_not_json_open_nothing(url: str, claims: str) -> None:
    with (
        acting(url, claims) as connection,
        pytest.raises((errors.InvalidTextRepresentation, errors.UntranslatableCharacter)),
        connection.transaction(),
    ):
        connection.execute(COUNT)


@pytest.mark.parametrize("claims", [None, "", "{}", '{"sub": ""}'])
def test_without_a_tenant_there_is_nothing_to_see_or_to_make(url: str, claims: str | None) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE ltm_snapshots SET tenant_id = '' WHERE tenant_id = 'a'")
    with acting(url, claims) as connection:
        for table in (*KEYED, "ltm_tables"):
            assert connection.execute(f"SELECT FROM {table}").fetchall() == []
        assert connection.execute("UPDATE ltm_tables SET snapshot_seq = 7").rowcount == 0
        refused(
            connection,
            "INSERT INTO ltm_tables VALUES ('new', 'memory', 'x', 1, 'english', 0, now())",
        )


def test_names_of_a_tenants_own_do_not_change_what_its_claims_mean(attacker: Connection) -> None:
    attacker.execute(FORGED_CLAIMS)
    attacker.execute("""
        CREATE FUNCTION pg_temp.current_setting(text, boolean) RETURNS text LANGUAGE sql
            AS $$SELECT '{"sub": "b"}'$$;
        CREATE FUNCTION pg_temp.pg_has_role(regrole, text) RETURNS boolean LANGUAGE sql
            AS 'SELECT false';
        CREATE TEMP TABLE ltm_entries_of_mine (tenant_id text);
        SET LOCAL search_path = pg_temp, public, pg_catalog
    """)
    assert value(attacker, "SELECT public.ltm_tenant()") == "a"
    assert value(attacker, "SELECT public.ltm_sees_all_tenants()") is False
    rows = attacker.execute("SELECT tenant_id FROM public.ltm_entries").fetchall()
    assert {row for (row,) in rows} == {"a"}


# Other roles


@pytest.mark.parametrize("claims", [None, "", '{"role": "service_role"}', claims_of("a")])
def test_the_service_role_sees_all_tenants(url: str, claims: str | None) -> None:
    with psycopg.connect(url) as connection:
        # Supabase's has it. Without it the policies say the same.
        for attribute in ("BYPASSRLS", "NOBYPASSRLS"):
            connection.execute(f"ALTER ROLE service_role {attribute}")
            connection.commit()
            with acting(url, claims, role="service_role") as service:
                assert value(service, COUNT) == 4
        connection.execute("ALTER ROLE service_role BYPASSRLS")


@pytest.fixture
def app(url: str) -> Iterator[Connection]:
    """A connection of an application's role with ordinary privileges on all of ltm's tables."""
    with psycopg.connect(url) as connection:
        names = ", ".join(TABLES)
        connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {names} TO app")
        connection.execute(f"GRANT USAGE ON SEQUENCE {SEQUENCE} TO app")
    login = url.replace("postgres@", "app:s3cret-p%40ss@")
    with psycopg.connect(login) as connection:
        yield connection


def test_an_ordinary_role_without_claims_sees_and_changes_what_it_is_granted(
    url: str, app: Connection
) -> None:
    everything = everything_of(url, "a"), everything_of(url, "b")
    for table in KEYED:
        assert value(app, f"SELECT count(*) FROM {table}") == sum(
            len(rows[table]) for rows in everything
        )
    app.execute("UPDATE ltm_snapshots SET tenant_id = '' WHERE tenant_id = 'b'")
    assert app.execute("DELETE FROM ltm_entries").rowcount == 4


def test_an_ordinary_role_with_claims_is_a_tenant(app: Connection) -> None:
    app.execute("SELECT set_config('request.jwt.claims', %s, true)", [claims_of("b")])
    rows = app.execute("SELECT tenant_id FROM ltm_entries").fetchall()
    assert {row for (row,) in rows} == {"b"}
    app.execute("SELECT set_config('request.jwt.claims', '{}', true)")
    assert value(app, COUNT) == 0


def test_a_role_that_inherits_from_authenticated_is_a_tenant_too(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE ROLE heir LOGIN IN ROLE authenticated")
    try:
        with psycopg.connect(url.replace("postgres@", "heir@")) as connection:
            assert value(connection, COUNT) == 0
            connection.execute(
                "SELECT set_config('request.jwt.claims', %s, true)", [claims_of("a")]
            )
            assert value(connection, COUNT) == 2
    finally:
        with psycopg.connect(url) as connection:
            connection.execute("DROP ROLE heir")


def test_the_owner_and_superusers_are_above_the_policies(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE ltm_entries OWNER TO app")
        assert value(connection, COUNT) == 4
        connection.execute("SET LOCAL ROLE app")
        connection.execute("SELECT set_config('request.jwt.claims', %s, true)", [claims_of("a")])
        assert value(connection, COUNT) == 4
        connection.rollback()


# Statistics and plans


def test_the_samples_of_the_planner_are_not_shown(url: str, attacker: Connection) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("ANALYZE")
        question = "SELECT count(*) FROM pg_stats WHERE tablename ~ '^ltm_entr'"
        assert value(connection, question) > 0
    assert value(attacker, question) == 0


def plan_of(connection: Connection, statement: str) -> str:
    return "\n".join(line for (line,) in connection.execute(f"EXPLAIN {statement}"))


def test_policies_are_evaluated_once_a_query_and_leave_the_indexes_in_use(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE ltm_entries DISABLE TRIGGER ALL")
        connection.execute("""
            INSERT INTO ltm_entries (id, tenant_id, table_name, key, content_hash, byte_size,
                metadata, begin_seq, created_at, updated_at)
            SELECT encode(sha256(number::text::bytea), 'hex'), 'c' || number % 50, 'default',
                'key ' || number, 'sha256:0', 1, '{}', 0, now(), now()
            FROM generate_series(1, 20000) AS number
        """)
        connection.execute("ANALYZE ltm_entries")
    by_key = "tenant_id = 'c7' AND table_name = 'default' AND key >= 'key 1' AND key < 'key 3'"
    with acting(url, claims_of("c7")) as connection:
        for index, condition in [
            ("pk_ltm_entries", f"id = '{generate_entry_id('k', tenant='a')}'"),
            ("pk_ltm_entries", "id = ANY (ARRAY['x', 'y'])"),
            ("uq_ltm_entries_tenant_id_table_name_key", f"{by_key} ORDER BY key LIMIT 10"),
        ]:
            plan = plan_of(connection, f"SELECT * FROM ltm_entries WHERE {condition}")
            assert f"{index} " in plan, plan
            assert plan.count("  InitPlan") == 2, plan
            # Asked beforehand: what is compared with each row are the answers.
            assert not [line for line in plan.splitlines() if "Filter" in line and "ltm_" in line]
