"""The schema: what the models make is what the migrations make, and both can be undone."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import SchemaOutOfDateError
from ltm.sql import migrate
from ltm.sql.engines import open_engine
from ltm.sql.models import Base

ROOT = Path(__file__).parents[2]


def engine_at(path: Path) -> Engine:
    return open_engine(f"sqlite:///{path}")


def by_models(path: Path) -> Engine:
    engine = engine_at(path)
    with engine.begin() as connection:
        migrate.create_schema(connection)
    return engine


def by_migrations(path: Path) -> Engine:
    engine = engine_at(path)
    with engine.begin() as connection:
        migrate.upgrade(connection)
    return engine


def reflect(connection: Connection) -> dict[str, Any]:
    """Return all that SQLAlchemy can see of every table, in an order of its own making."""
    inspector = inspect(connection)

    def ordered(found: Any) -> list[Any]:
        return sorted(found, key=repr)

    return {
        name: {
            "columns": [
                {**column, "type": repr(column["type"])} for column in inspector.get_columns(name)
            ],
            "primary key": inspector.get_pk_constraint(name),
            "foreign keys": ordered(inspector.get_foreign_keys(name)),
            "unique": ordered(inspector.get_unique_constraints(name)),
            "checks": ordered(inspector.get_check_constraints(name)),
            "indexes": [
                {**index, "dialect_options": _predicates(index.get("dialect_options", {}))}
                for index in ordered(inspector.get_indexes(name))
            ],
        }
        for name in inspector.get_table_names()
    }


def _predicates(options: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in options.items()}


def definitions(path: Path) -> dict[str, str]:
    """Return the SQL of every object that SQLite keeps, white space apart."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: re.sub(r"\s+", " ", sql).strip() for name, sql in rows}


def test_models_and_migrations_make_the_same_schema(tmp_path: Path) -> None:
    models, migrations = by_models(tmp_path / "models.db"), by_migrations(tmp_path / "alembic.db")
    with models.connect() as one, migrations.connect() as other:
        reflected = reflect(one)
        assert reflected == reflect(other)
        assert {"ltm_tables", "ltm_entries", "ltm_entry_versions", "ltm_snapshots"} < set(reflected)
    # Collations, WITHOUT ROWID, triggers and the full-text index show in the SQL alone.
    assert definitions(tmp_path / "models.db") == definitions(tmp_path / "alembic.db")


def test_alembic_sees_nothing_to_add(tmp_path: Path) -> None:
    with by_migrations(tmp_path / "alembic.db").connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_object": lambda _o, name, *_: "_fts" not in (name or "")},
        )
        changes = [repr(change) for change in compare_metadata(context, Base.metadata)]
    # The GIN index is PostgreSQL's alone and the version table is Alembic's.
    known = "ix_ltm_entries_metadata", migrate.VERSION_TABLE
    assert [change for change in changes if not any(name in change for name in known)] == []


def test_the_head_that_is_known_is_the_head_of_the_migrations() -> None:
    script = ScriptDirectory(migrate.migrations_directory())
    assert script.get_heads() == [migrate.HEAD]


def test_downgrading_to_base_leaves_nothing_of_ours_and_all_of_others(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    engine = engine_at(path)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE application (id INTEGER)")
        migrate.upgrade(connection)
    assert len(definitions(path)) > 20
    with engine.begin() as connection:
        migrate.downgrade(connection, "base")
    assert list(definitions(path)) == ["application"]
    with engine.begin() as connection:
        migrate.upgrade(connection)


def test_every_name_begins_with_ours(tmp_path: Path) -> None:
    by_models(tmp_path / "catalog.db")
    pattern = re.compile(r"(ix_|uq_)?ltm_")
    assert [name for name in definitions(tmp_path / "catalog.db") if not pattern.match(name)] == []


def test_a_catalog_works_on_what_alembic_made(tmp_path: Path) -> None:
    by_migrations(tmp_path / "catalog.db").dispose()
    catalog = SQLiteCatalog(tmp_path / "catalog.db")
    catalog.track_entry("k", "sha256:0", None, 1, {"type": "x"}, "found words")
    assert [hit["key"] for hit in catalog.search("find words", {"type": "x"})] == ["k"]
    catalog.close()


def test_a_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    with by_models(tmp_path / "catalog.db").begin() as connection:
        connection.exec_driver_sql("UPDATE ltm_alembic_version SET version_num = '9999'")
    catalog = SQLiteCatalog(tmp_path / "catalog.db")
    with pytest.raises(
        SchemaOutOfDateError, match=rf"revision '9999', needed is '{migrate.HEAD}'.*newer"
    ):
        catalog.get_entry("k")
    catalog.close()


def test_an_interrupted_creation_leaves_nothing(tmp_path: Path) -> None:
    engine = engine_at(tmp_path / "catalog.db")
    with engine.connect() as connection:
        connection.begin()
        migrate.create_schema(connection)
    assert definitions(tmp_path / "catalog.db") == {}


def test_the_sql_of_the_migrations_is_shown_without_a_database() -> None:
    shown = migrate.upgrade_sql("postgresql")
    assert "CREATE TABLE ltm_entries" in shown
    assert 'VARCHAR(1024) COLLATE "C"' in shown
    assert "USING gin (metadata jsonb_path_ops)" in shown
    assert "WITHOUT ROWID" not in shown


def test_alembic_upgrade_head_works_from_a_checkout(tmp_path: Path) -> None:
    def alembic(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=ROOT,
            env=os.environ | {"LTM_CATALOG_URL": f"sqlite:///{tmp_path}/new/catalog.db"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    alembic("upgrade", "head")
    assert migrate.HEAD in alembic("current")
    alembic("check")
    assert "ltm_entries" in definitions(tmp_path / "new/catalog.db")
    alembic("downgrade", "base")
    assert definitions(tmp_path / "new/catalog.db") == {}


def test_a_schema_at_head_is_opened_without_alembic(tmp_path: Path) -> None:
    script = """
import sys
from ltm.catalog.sqlite import SQLiteCatalog
for _ in range(2):
    catalog = SQLiteCatalog(sys.argv[1])
    catalog.track_entry("k", "sha256:0", None, 1, None, 1)
    catalog.close()
print(sorted(name for name in sys.modules if name.split(".")[0] in ("alembic", "fsspec")))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "catalog.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"
