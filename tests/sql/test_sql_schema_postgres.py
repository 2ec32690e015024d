"""The schema on PostgreSQL: every way to make it makes the same one, and it can be undone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text

from ltm.catalog.postgres import PostgresCatalog
from ltm.errors import CatalogUnavailableError, SchemaOutOfDateError
from ltm.sql import migrate
from ltm.sql.engines import open_engine
from tests.services.pgbouncer import PgBouncer
from tests.services.postgres import PASSWORDS, PostgresServer
from tests.sql.reflection import contents, names

ROOT = Path(__file__).parents[2]
ODD_NAME = '50% of "Agents", a:b :c.d'
OF_MODELS = ("columns", "constraints", "indexes", "types")
"""What the models say; policies, triggers and privileges are the migrations' alone."""


def upgrade(url: str, schema: str | None = None, revision: str = "head") -> None:
    with open_engine(url).begin() as connection, migrate.working_in(connection, schema):
        migrate.upgrade(connection, revision)


def downgrade(url: str, schema: str | None = None) -> None:
    with open_engine(url).begin() as connection, migrate.working_in(connection, schema):
        migrate.downgrade(connection, "base")


def is_working(catalog: PostgresCatalog) -> bool:
    """Write, read and search, and close *catalog*."""
    catalog.track_entry("k", "sha256:0", None, 1, {"type": "x"}, "found words")
    keys = [hit["key"] for hit in catalog.search("find words", {"type": "x"})]
    entry = catalog.get_entry("k")
    catalog.close()
    return keys == ["k"] and entry is not None


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


# Making it


def test_models_and_migrations_make_the_same_schema(
    postgres_url: str, empty_postgres_url: str
) -> None:
    with open_engine(empty_postgres_url).begin() as connection:
        migrate.create_schema(connection)
    models, migrations = contents(empty_postgres_url), contents(postgres_url)
    for kind in OF_MODELS:
        assert models[kind] == migrations[kind]
    shown = repr(migrations)
    for detail in (
        "'key', 'character varying(1024)', True, 'C'",
        "to_tsvector('simple'::regconfig, text)",
        "USING gin (metadata jsonb_path_ops)",
        "WHERE (expires_at IS NOT NULL)",
        "FOREIGN KEY (entry_id) REFERENCES ltm_entries(id) ON DELETE CASCADE",
        "CHECK (((storage_uri IS NULL) OR (inlined_value IS NULL)))",
    ):
        assert detail in shown


def test_every_name_begins_with_ours(postgres_url: str) -> None:
    ours = re.compile(r"((ix|uq|pk|fk|ck)_)?ltm_")
    found = names(contents(postgres_url))
    assert len(found) > 40
    assert [name for name in found if not ours.match(name)] == []


@pytest.mark.parametrize("schema", [None, "agents", ODD_NAME])
def test_the_sql_that_is_shown_makes_what_the_migrations_make(
    postgres_url: str, empty_postgres_url: str, schema: str | None
) -> None:
    execute(empty_postgres_url, migrate.upgrade_sql("postgresql", schema))
    assert contents(empty_postgres_url, schema or "public") == contents(postgres_url)
    assert is_working(PostgresCatalog(empty_postgres_url, schema=schema))


def test_the_sql_that_is_shown_is_undone_where_it_fails(empty_postgres_url: str) -> None:
    execute(empty_postgres_url, "CREATE TABLE ltm_entry_search (mine integer)")
    with (
        psycopg.connect(empty_postgres_url, autocommit=True) as connection,
        pytest.raises(psycopg.errors.DuplicateTable),
    ):
        connection.execute(migrate.upgrade_sql("postgresql"))
    assert names(contents(empty_postgres_url)) == {"ltm_entry_search"}


@pytest.mark.parametrize("schema", [None, ODD_NAME])
def test_migrations_go_through_a_pooler_and_leave_nothing_behind_in_it(
    postgres_url: str, empty_postgres_url: str, pgbouncer: PgBouncer, schema: str | None
) -> None:
    url = pgbouncer.url(empty_postgres_url.rpartition("/")[2])
    catalog = PostgresCatalog(url, schema=schema, pool_mode="transaction", auto_migrate=True)
    assert is_working(catalog)
    assert contents(empty_postgres_url, schema or "public") == contents(postgres_url)
    with psycopg.connect(url) as one, psycopg.connect(url) as other:
        for connection in (one, other):
            assert connection.execute("SHOW search_path").fetchone() == ('"$user", public',)


def test_the_grants_that_the_page_names_are_enough_for_an_agent(
    postgres_server: PostgresServer, empty_postgres_url: str
) -> None:
    page = (ROOT / "docs/schema.md").read_text(encoding="utf-8")
    (grants,) = re.findall(r"^```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    upgrade(empty_postgres_url, "agents")
    name = empty_postgres_url.rpartition("/")[2]
    url = postgres_server.url(name, "app", PASSWORDS["app"])
    refused = PostgresCatalog(url, schema="agents")
    with pytest.raises(CatalogUnavailableError, match="permission denied"):
        refused.get_entry("k")
    refused.close()
    execute(empty_postgres_url, grants.replace("TO agent", "TO app"))
    catalog = PostgresCatalog(url, schema="agents")
    before = catalog.create_snapshot("before")
    catalog.track_entry("k", "sha256:0", None, 1, {"type": "x"}, "found words")
    assert catalog.delete_entry("k")
    assert catalog.get_changed_entries(before) == []
    assert is_working(catalog)


# Undoing it


@pytest.mark.parametrize("schema", [None, ODD_NAME])
def test_downgrading_to_base_leaves_nothing_of_ours_and_all_of_others(
    empty_postgres_url: str, schema: str | None
) -> None:
    execute(
        empty_postgres_url,
        "CREATE TABLE application (id serial PRIMARY KEY, at timestamptz, data jsonb)",
        "GRANT SELECT ON application TO anon",
    )
    upgrade(empty_postgres_url)
    execute(empty_postgres_url, "CREATE INDEX ix_application ON application (at)")
    downgrade(empty_postgres_url)
    before = contents(empty_postgres_url)
    assert {name for name in names(before) if not name.startswith("application")} == {
        "ix_application"
    }
    upgrade(empty_postgres_url, schema)
    whole = contents(empty_postgres_url, schema or "public")
    assert len(names(whole)) > 40
    downgrade(empty_postgres_url, schema)
    assert contents(empty_postgres_url) == before
    if schema is not None:
        assert not any(contents(empty_postgres_url, schema).values())
    upgrade(empty_postgres_url, schema)
    assert contents(empty_postgres_url, schema or "public") == whole


def test_downgrading_takes_back_what_roles_were_let_do(empty_postgres_url: str) -> None:
    def privileges() -> set[str]:
        question = """
            SELECT nspname, grantee::regrole, privilege_type FROM pg_namespace
            CROSS JOIN aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
        """
        with psycopg.connect(empty_postgres_url) as connection:
            return {repr(row) for row in connection.execute(question)}

    execute(empty_postgres_url, 'CREATE SCHEMA "agents"')
    before = privileges()
    for schema in (None, "agents"):
        upgrade(empty_postgres_url, schema)
        downgrade(empty_postgres_url, schema)
    assert privileges() == before


# A schema of one's own


def test_schemas_of_one_database_never_meet(empty_postgres_url: str) -> None:
    catalogs = [
        PostgresCatalog(empty_postgres_url, schema=name, auto_migrate=True)
        for name in (ODD_NAME, "agents", "Agents")
    ]
    for number, catalog in enumerate(catalogs):
        catalog.track_entry("same", f"sha256:{number}", None, 1, None, 1)
        catalog.track_entry(f"own {number}", "sha256:0", None, 1, None, 1)
    for number, catalog in enumerate(catalogs):
        found = {entry["key"]: entry["content_hash"] for entry in catalog.list_entries()}
        assert found == {"same": f"sha256:{number}", f"own {number}": "sha256:0"}
        catalog.close()
    assert not any(contents(empty_postgres_url).values())


PATH = 'application, "Odd ""one""", "$user"'


def test_a_callers_search_path_is_as_it_was(empty_postgres_url: str) -> None:
    engine = create_engine(empty_postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    show, choose = text("SHOW search_path"), text("SELECT set_config('search_path', :path, true)")
    catalog = PostgresCatalog(engine=engine, schema=ODD_NAME, auto_migrate=True)
    with engine.begin() as connection:
        connection.execute(choose, {"path": PATH})
        catalog.using(connection).track_entry("k", "sha256:0", None, 1, None, 1)
        assert connection.scalar(show) == PATH
    with engine.begin() as connection:
        assert connection.scalar(show) == '"$user", public'
    assert catalog.get_entry("k") is not None
    quoted = ODD_NAME.replace('"', '""')
    execute(empty_postgres_url, f"UPDATE \"{quoted}\".ltm_alembic_version SET version_num = '9999'")
    late = PostgresCatalog(engine=engine, schema=ODD_NAME, auto_migrate=True)
    with engine.begin() as connection:
        connection.execute(choose, {"path": PATH})
        with pytest.raises(SchemaOutOfDateError):
            late.using(connection)
        assert connection.scalar(show) == PATH
    assert not any(contents(empty_postgres_url).values())
    engine.dispose()


# From a checkout, and imports


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_alembic_upgrade_head_works_from_a_checkout(
    empty_postgres_url: str, postgres_url: str, scheme: str
) -> None:
    url = empty_postgres_url.replace("postgresql:", f"{scheme}:")
    alembic(url, "upgrade", "head")
    assert contents(empty_postgres_url) == contents(postgres_url)
    assert migrate.HEAD in alembic(url, "current")
    alembic(url, "check")
    execute(empty_postgres_url, "ALTER TABLE ltm_snapshots DROP COLUMN total_bytes")
    assert run_alembic(url, "check").returncode != 0
    alembic(url, "downgrade", "base")
    assert not any(contents(empty_postgres_url).values())


@pytest.mark.parametrize("schema", ["agents", ODD_NAME])
def test_alembic_works_in_a_schema_that_is_named(
    empty_postgres_url: str, postgres_url: str, schema: str
) -> None:
    argument = ("-x", f"schema={schema}")
    alembic(empty_postgres_url, *argument, "upgrade", "head")
    assert contents(empty_postgres_url, schema) == contents(postgres_url)
    assert not any(contents(empty_postgres_url).values())
    assert migrate.HEAD in alembic(empty_postgres_url, *argument, "current")
    alembic(empty_postgres_url, *argument, "check")
    assert migrate.HEAD not in alembic(empty_postgres_url, "current")


def test_alembic_shows_the_sql_for_a_url_without_connecting(
    empty_postgres_url: str, postgres_url: str
) -> None:
    nowhere = "postgresql://nobody:hunter2@nowhere.invalid/none"
    shown = alembic(nowhere, "-x", "schema=agents", "upgrade", "head", "--sql")
    assert "hunter2" not in shown
    execute(empty_postgres_url, shown)
    assert contents(empty_postgres_url, "agents") == contents(postgres_url)


def test_alembic_does_not_show_the_password_of_a_server_that_is_not_there(
    postgres_server: PostgresServer,
) -> None:
    url = postgres_server.url("none", "app", "wr0ng hunter2").replace("wr0ng%20", "")
    done = run_alembic(url, "current")
    assert done.returncode != 0
    assert "hunter2" not in done.stdout + done.stderr


def alembic(url: str, *arguments: str) -> str:
    done = run_alembic(url, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_alembic(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "alembic", *arguments],
        cwd=ROOT,
        env=os.environ | {"LTM_CATALOG_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def loaded_after(script: str, *arguments: str) -> set[str]:
    """Return which of the packages that are slow to load *script* has loaded."""
    report = "import sys; print(*{'alembic', 'psycopg', 'sqlalchemy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"{script}\n{report}", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


def test_a_schema_at_head_is_used_without_alembic(postgres_url: str) -> None:
    script = """
import sys, ltm
for migrates in (False, True):
    catalog = ltm.PostgresCatalog(sys.argv[1], auto_migrate=migrates)
    catalog.track_entry("k", "sha256:0", None, 1, None, 1)
    with catalog.engine.begin() as connection:
        catalog.using(connection).get_entry("k")
    catalog.close()
"""
    assert loaded_after(script, postgres_url) == {"psycopg", "sqlalchemy"}


def test_the_driver_is_loaded_only_where_postgresql_is_asked_for() -> None:
    assert loaded_after("import ltm") == set()
    script = "import ltm; ltm.create_catalog_backend('sqlite', path=':memory:').get_entry('k')"
    assert loaded_after(script) == set()
